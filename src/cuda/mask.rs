//! What a step leaves out; see `kernels/mask.cu`. `place` (2) is which draws: the step, and the batch's first sample.

use super::{THREADS, grid_arguments};
use crate::base::{DType, LossMask, LossNorm, PatchGrid, Windows};
use crate::device::cuda::{Cuda, Grid, Kernel};
use crate::kernel;
use crate::tensor::Tensor;

const KEEP_TOKENS: Kernel = kernel!("mask", "keep_tokens");
const THIN_LOSS: Kernel = kernel!("mask", "thin_loss");
const COUNT_LOSS: Kernel = kernel!("mask", "count_loss");
const WEIGH: Kernel = kernel!("mask", "weigh");

/// Draws which windows of patches stay; `kept` is (B, N), ascending within an image.
pub fn keep_tokens(card: &Cuda, (seed, place): (u64, &Tensor), windows: Windows, grid: PatchGrid, kept: &mut Tensor) {
    let (patches, (_, columns), batch) = (grid.tokens(), grid.sides(), kept.shape().rows());
    // A word for each window in whole blocks of four, and a mark for each patch.
    let shared = 4 * (windows.count().next_multiple_of(4) + patches);
    let Windows { side, stride, across, chosen, .. } = windows;
    let choice = [side, stride, windows.count(), across, chosen, patches, columns].map(Into::into);
    let arguments = [&[seed.into(), place.into()], &choice[..], &[kept.into()]].concat();
    card.launch(KEEP_TOKENS, Grid::new(batch, THREADS).shared(shared), &arguments);
}

/// Writes `supervised` (B, C, H, W) from the `threshold` (1).
pub fn thin_loss(
    card: &Cuda,
    (seed, place): (u64, &Tensor),
    mask: LossMask,
    threshold: &Tensor,
    grid: PatchGrid,
    supervised: &mut Tensor,
) {
    let (side, alone) = (mask.side(grid), usize::from(mask == LossMask::Element));
    let batch = supervised.len() / grid.image();
    let extents = [side, alone, grid.height, grid.width, grid.image()].map(Into::into);
    let tensors = [seed.into(), place.into(), threshold.into()];
    let blocks = Grid::volume([grid.image().div_ceil(THREADS), batch, 1], THREADS);
    card.launch(THIN_LOSS, blocks, &[&tensors[..], &extents, &[supervised.into()]].concat());
}

/// Writes `weight` (B) for `tokens` kept patches of each image; `supervised` is (B, C, H, W), `None` for everything, `importance` (B).
pub fn weigh(
    card: &Cuda,
    norm: LossNorm,
    grid: PatchGrid,
    tokens: usize,
    kept: Option<&Tensor>,
    supervised: Option<&Tensor>,
    importance: &Tensor,
    weight: &mut Tensor,
) {
    let batch = weight.len();
    let counts = supervised.filter(|_| norm != LossNorm::All).map(|supervised| {
        let counts = Tensor::workspace(card, [batch], DType::U32);
        let tensors = [supervised.into(), kept.into()];
        let arguments = [&tensors[..], &grid_arguments(grid), &[tokens.into(), (&counts).into()]].concat();
        card.launch(COUNT_LOSS, Grid::new(batch, THREADS), &arguments);
        counts
    });
    let (all, by_sample) = (tokens * grid.area() * grid.channels, usize::from(norm == LossNorm::SampleActive));
    let extents = [all, by_sample, batch].map(Into::into);
    let arguments = [&[counts.as_ref().into(), importance.into()], &extents[..], &[weight.into()]].concat();
    card.launch(WEIGH, Grid::new(1, THREADS), &arguments);
}
