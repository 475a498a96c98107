use crate::base::{DType, Error, Result};
use crate::device::{Cpu, Device};
use std::num::NonZero;

/// Where a verb runs.
#[derive(clap::Args)]
pub struct Machine {
    /// Device to run on; auto takes the best one there is
    #[arg(long, value_enum, default_value = "auto")]
    device: Choice,
    /// Threads of the processor [default: all cores]; any number gives the same bits
    #[arg(long, value_name = "N")]
    threads: Option<NonZero<usize>>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Choice {
    Auto,
    Cpu,
    #[value(hide = true)]
    Cuda,
}

impl Machine {
    /// The device, with matrix products on `products`.
    pub fn open(&self, products: DType) -> Result<Device> {
        match self.device {
            Choice::Auto | Choice::Cpu => Ok(Device::cpu(Cpu::new(self.threads, products)?)),
            Choice::Cuda => {
                Err(Error::Device("--device cuda: this build has no CUDA device; give --device cpu".into()))
            }
        }
    }
}

/// What matrix products read, for verbs that have no recipe to say it.
#[derive(clap::Args)]
pub struct Products {
    /// What matrix products read; everything else is f32
    #[arg(long, value_enum, default_value = "f32")]
    precision: Precision,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Precision {
    F32,
    Bf16,
}

impl Products {
    pub fn dtype(&self) -> DType {
        match self.precision {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::BF16,
        }
    }

    /// The name that the flag takes.
    pub fn name(&self) -> &'static str {
        match self.precision {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        }
    }
}
