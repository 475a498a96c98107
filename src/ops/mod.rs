//! The operations of the tape, one file each: forward, launch, backward, cost.
//!
//! An operation checks shapes (a wrong one is a bug and panics with both), allocates its outputs, launches the kernel of
//! the tape's device and records its undo.

pub mod attention;
pub mod condition;
pub mod gated_norm;
pub mod linear;
pub mod masked_loss;
pub mod mlp;
pub mod noise;
pub mod patch_embed;
pub mod score;
pub mod solver;
pub mod unpatchify;
pub mod update;

use crate::cpu;
use crate::device::Device;

/// The most FLOP/s that `device` was found to reach in `rounds` rounds of about a millisecond: what speeds are compared
/// with. On a busy machine take many rounds, right beside what is compared. `None` where it is not measured: on a card.
pub fn peak_flops(device: &Device, rounds: usize) -> Option<f64> {
    match device {
        Device::Cpu(cpu) => Some(cpu::peak::flops(cpu, rounds)),
        Device::Cuda(_) => None,
    }
}

/// The most bytes/s that the memory of `device` was found to give in `rounds` passes.
pub fn peak_bandwidth(device: &Device, rounds: usize) -> f64 {
    match device {
        Device::Cpu(cpu) => {
            let mut memory = cpu::peak::Memory::new(device);
            (0..rounds).map(|_| memory.pass(cpu)).fold(0.0, f64::max)
        }
        Device::Cuda(_) => f64::NAN,
    }
}
