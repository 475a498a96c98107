//! Where memory lives and operations run.
//!
//! This floor holds the engine's `unsafe` code outside the SIMD kernels and the C API: raw memory, and threads that
//! write disjoint parts of one slice.

mod arena;
mod buffer;
mod choice;
mod cpu;
pub mod cuda;
mod isa;
mod map;
mod memory;
mod parts;
mod reading;
mod recording;
mod replay;
mod threads;

pub use arena::{Arena, Holding, Plan};
pub use buffer::Buffer;
pub use choice::Choice;
pub use cpu::Cpu;
pub use isa::Isa;
pub use map::Map;
pub use parts::{Chunks, Columns, Group, Panel, Parts, Triples};
pub use reading::Reading;
pub use recording::Recording;
pub use replay::Replay;
pub use threads::Threads;

use crate::base::{DType, Result};
use cuda::Cuda;
use std::sync::Arc;

/// A device that runs the engine's operations. It is passed by handle and is never a global: two may live side by side.
#[derive(Clone)]
pub enum Device {
    Cpu(Arc<Cpu>),
    Cuda(Arc<Cuda>),
}

impl Device {
    /// The processor, with a fixed number of threads.
    pub fn cpu(cpu: Cpu) -> Device {
        Device::Cpu(Arc::new(cpu))
    }

    /// A CUDA card.
    pub fn cuda(cuda: Cuda) -> Device {
        Device::Cuda(Arc::new(cuda))
    }

    /// The device in words: what decides the bits, and the speed.
    pub fn describe(&self) -> String {
        match self {
            Device::Cpu(cpu) => {
                let threads = cpu.threads.count();
                format!("cpu, {threads} thread{}, {}", if threads == 1 { "" } else { "s" }, cpu.isa())
            }
            Device::Cuda(cuda) => cuda.card().name.clone(),
        }
    }

    /// Whether the host runs ahead: what is asked for may happen later, in order.
    pub fn runs_later(&self) -> bool {
        matches!(self, Device::Cuda(_))
    }

    /// The kernels that `work` launches on a card, in their order, and the seconds of each; `None` on the processor.
    pub fn profile(&self, work: impl FnOnce()) -> Result<Option<Vec<(&'static str, f64)>>> {
        match self {
            Device::Cpu(_) => Ok(None),
            Device::Cuda(card) => card.profile(work).map(Some),
        }
    }

    fn profiles(&self) -> bool {
        matches!(self, Device::Cuda(card) if card.profiles())
    }

    /// The memory of the device.
    pub fn arena(&self) -> &Arena {
        match self {
            Device::Cpu(cpu) => &cpu.arena,
            Device::Cuda(cuda) => &cuda.arena,
        }
    }

    /// The type that matrix products read.
    pub fn products(&self) -> DType {
        match self {
            Device::Cpu(cpu) => cpu.products,
            Device::Cuda(cuda) => cuda.activations,
        }
    }

    /// The type of activations and of their gradients.
    pub fn activations(&self) -> DType {
        match self {
            Device::Cpu(_) => DType::F32,
            Device::Cuda(cuda) => cuda.activations,
        }
    }

    /// `bytes` of uninitialised memory, accounted under `label`.
    pub fn alloc(&self, label: &'static str, bytes: usize) -> Result<Buffer> {
        self.arena().alloc(label, bytes)
    }
}
