use super::{count, grid_arguments, stride};
use crate::base::PatchGrid;
use crate::device::cuda::{Argument, Cuda, Typed};
use crate::kernels;
use crate::tensor::Tensor;

const UNPATCHIFY: Typed = kernels!("unpatchify", "unpatchify");

/// Writes `out` (B, C, H, W) from `x` (B, T, P P Cv).
pub fn unpatchify(card: &Cuda, grid: PatchGrid, x: &Tensor, out: &mut Tensor) {
    let [channels, height, width, patch] = grid_arguments(grid);
    let outputs = Argument::from(x.shape().width() / grid.area());
    let arguments = [x.into(), out.into(), channels, height, width, patch, outputs, count(x.len())];
    card.launch(UNPATCHIFY.of(x.dtype()), stride(card, x.len()), &arguments);
}
