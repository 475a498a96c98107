//! A prediction by tokens (B, T, P P Cv) as images (B, C, H, W): the first C of the Cv channels.

use crate::base::{Cost, DType, PatchGrid};
use crate::cpu;
use crate::cuda;
use crate::device::Device;
use crate::tensor::Tensor;

/// Writes `out` (B, C, H, W) from all T tokens of each image.
pub fn unpatchify(device: &Device, grid: PatchGrid, tokens: &Tensor, out: &mut Tensor) {
    let [batch, count, width] = *tokens.shape().extents() else {
        panic!("unpatchify: tokens are {:?}", tokens.shape())
    };
    let fits = count == grid.tokens() && width >= grid.channels * grid.area() && width.is_multiple_of(grid.area());
    assert!(fits, "unpatchify: tokens are {:?}, the grid {grid:?}", tokens.shape());
    assert_eq!(out.len(), batch * grid.image(), "unpatchify: the output is {:?}", out.shape());
    match device {
        Device::Cpu(cpu) => cpu::unpatchify::unpatchify(cpu, grid, tokens.f32(), out.f32_mut()),
        Device::Cuda(card) => cuda::unpatchify(card, grid, tokens, out),
    }
}

/// Memory for `batch` images of `grid`.
pub fn images(device: &Device, label: &'static str, batch: usize, grid: PatchGrid) -> Tensor {
    Tensor::new(device, label, [batch, grid.channels, grid.height, grid.width], DType::F32)
}

/// `elements` of the images, read and written.
pub fn cost(elements: usize) -> Cost {
    Cost::new(2 * elements, 0)
}
