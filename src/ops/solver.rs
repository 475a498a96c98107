//! The elementwise steps of samplers.

use crate::base::rng::Draw;
use crate::base::{Cost, Denoise, PatchGrid};
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

/// Classifier-free guidance of images of `grid`: `v = u + weight (c - u)` in the first `channels` channels of each with its
/// `weight` (B), c in the others and where the weight is 1.
/// `pair` (2 B, C, H, W) holds the conditional c, then the unconditional u.
pub fn guide(device: &Device, pair: &Tensor, weight: &Tensor, channels: usize, grid: PatchGrid, v: &mut Tensor) {
    assert!(
        pair.len() == 2 * v.len() && v.len() == weight.len() * grid.image() && channels <= grid.channels,
        "guide: a pair {pair:?}, weights {weight:?}, v {v:?}, {channels} channels of {grid:?}"
    );
    match device {
        Device::Cpu(cpu) => cpu::solver::guide(cpu, pair.f32(), weight.f32(), channels, grid, v.f32_mut()),
        Device::Cuda(card) => cuda::guide(card, pair, weight, channels, grid, v),
    }
}

/// `out` (B, image) from `z` and the prediction `p`; sample i draws from its own stream of `draw`.
pub fn denoise(device: &Device, z: &Tensor, p: &Tensor, step: Denoise, draw: Draw, out: &mut Tensor) {
    assert!(z.len() == p.len() && z.len() == out.len(), "denoise: z {:?}, p {:?}, out {:?}", z, p, out);
    let image = z.len() / z.shape().extents()[0];
    match device {
        Device::Cpu(cpu) => cpu::solver::denoise(cpu, z.f32(), p.f32(), step, draw, image, out.f32_mut()),
        Device::Cuda(card) => cuda::denoise(card, z, p, step, draw, image, out),
    }
}

/// An advance, a guidance or a denoising of `elements`: two arrays read, one written.
pub fn cost(elements: usize) -> Cost {
    Cost::new(3 * elements, 3 * elements)
}
