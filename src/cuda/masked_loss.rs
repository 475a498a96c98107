use super::grid_arguments;
use crate::base::{DType, PatchGrid};
use crate::device::cuda::{Argument, Cuda, Grid, Kernel, Typed};
use crate::tensor::Tensor;
use crate::{kernel, kernels};

const MASKED_LOSS: Typed = kernels!("masked_loss", "masked_loss");
const SUM_ROWS: Kernel = kernel!("masked_loss", "sum_rows");

/// Warps of a block, one for each token.
const WARPS: usize = 8;

/// Writes the gradient over the prediction `v` (B, N, P P Cv), and the `loss` (1).
///
/// `kept` (B, N) names the patch of each token; `None` means all patches in order. `weight` (B) is the factor of an image's
/// squared errors.
pub fn masked_loss(
    card: &Cuda,
    v: &mut Tensor,
    target: &Tensor,
    mask: Option<&Tensor>,
    kept: Option<&Tensor>,
    weight: &Tensor,
    grid: PatchGrid,
    loss: &mut Tensor,
) {
    let (rows, outputs) = (v.shape().rows(), v.shape().width() / grid.area());
    let tokens = v.shape().extents()[1];
    let mut sums = Tensor::workspace(card, [rows], DType::F32);
    let kernel = MASKED_LOSS.of(v.dtype());
    let tensors = [v.into(), target.into(), mask.into(), kept.into(), weight.into(), (&mut sums).into()];
    let extents = [outputs, tokens, rows].map(Argument::from);
    let arguments = [&tensors[..], &grid_arguments(grid), &extents].concat();
    card.launch(kernel, Grid::new(rows.div_ceil(WARPS), 32 * WARPS), &arguments);
    card.launch(SUM_ROWS, Grid::new(1, 256), &[(&sums).into(), loss.into(), rows.into()]);
}
