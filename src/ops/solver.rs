//! The elementwise steps of samplers.

use crate::base::{Cost, PatchGrid};
use crate::cpu;
use crate::cuda;
use crate::device::Device;
use crate::tensor::Tensor;

/// `out = z + step v`.
pub fn advance(device: &Device, z: &Tensor, v: &Tensor, step: f32, out: &mut Tensor) {
    assert!(z.len() == v.len() && z.len() == out.len(), "advance: z {:?}, v {:?}, out {:?}", z, v, out);
    match device {
        Device::Cpu(cpu) => cpu::solver::advance(cpu, z.f32(), v.f32(), step, out.f32_mut()),
        Device::Cuda(card) => cuda::advance(card, z, v, step, out),
    }
}

/// Classifier-free guidance: `v = u + weight (v - u)` in the first `channels` channels of images of `grid`.
pub fn guide(device: &Device, v: &mut Tensor, u: &Tensor, weight: f32, channels: usize, grid: PatchGrid) {
    assert!(
        v.len() == u.len() && channels <= grid.channels,
        "guide: v {v:?}, u {u:?}, {channels} channels of {grid:?}"
    );
    match device {
        Device::Cpu(cpu) => cpu::solver::guide(cpu, v.f32_mut(), u.f32(), weight, channels, grid),
        Device::Cuda(card) => cuda::guide(card, v, u, weight, channels, grid),
    }
}

/// An advance of `elements`, or the guidance of as many: two arrays read, one written.
pub fn cost(elements: usize) -> Cost {
    Cost::new(3 * elements, 3 * elements)
}
