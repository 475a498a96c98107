//! The operations of the tape, one file each: forward, launch, backward, cost.
//!
//! An operation checks shapes (a wrong one is a bug and panics with both), allocates its outputs, launches the kernel of
//! the tape's device and records its undo.

pub mod attention;
pub mod condition;
pub mod extra_tokens;
pub mod gated_norm;
pub mod join;
pub mod layer_norm;
pub mod linear;
pub mod mask;
pub mod masked_loss;
pub mod mlp;
pub mod noise;
pub mod patch_embed;
pub mod score;
pub mod solver;
pub mod unpatchify;
pub mod update;

use crate::cpu;
use crate::cuda;
use crate::device::Device;

/// The most FLOP/s that `device` was found to reach in `rounds` rounds of about a millisecond: what speeds are compared
/// with. On a busy machine take many rounds, right beside what is compared.
pub fn peak_flops(device: &Device, rounds: usize) -> f64 {
    match device {
        Device::Cpu(cpu) => cpu::peak::flops(cpu, rounds),
        Device::Cuda(card) => cuda::peak::flops(card, rounds),
    }
}

/// The bytes/s at which `device` was found to read its memory, the best of `rounds` passes over half a GiB, of which no cache
/// holds much.
pub fn read_rate(device: &Device, rounds: usize) -> f64 {
    const BYTES: usize = 512 << 20;
    match device {
        Device::Cpu(cpu) => cpu::peak::read_rate(device, cpu, BYTES, rounds),
        Device::Cuda(card) => cuda::peak::read_rate(card, BYTES, rounds),
    }
}
