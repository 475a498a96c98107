//! Residual and layer norm with weights; see `kernels/layer_norm.cu`.

use super::THREADS;
use super::linear::reduce;
use crate::base::{Accumulate, DType};
use crate::device::cuda::{Argument, Cuda, Grid, Typed};
use crate::kernels;
use crate::tensor::Tensor;

const FORWARD: Typed = kernels!("layer_norm", "layer_norm_forward");
const ROWS: Typed = kernels!("layer_norm", "layer_norm_rows");
const SUMS: Typed = kernels!("layer_norm", "layer_norm_sums");

/// Rows of a block, a warp each.
const WARPS: usize = THREADS / 32;
/// Rows whose columns a thread sums, and the most such stretches.
const STRETCH: usize = 64;
const MOST_STRETCHES: usize = 128;

/// Writes `normed` and `stats` (rows, 2) from the stream `s`; with a branch also their sum.
pub fn forward(
    card: &Cuda,
    s: &Tensor,
    [w, b]: [&Tensor; 2],
    residual: Option<(&Tensor, &mut Tensor)>,
    normed: &mut Tensor,
    stats: &mut Tensor,
) {
    let (rows, width) = (s.shape().rows(), w.len());
    let (branch, sum): (Argument, Argument) = match residual {
        Some((branch, sum)) => (branch.into(), sum.into()),
        None => (Argument::NULL, Argument::NULL),
    };
    let arguments = [s.into(), branch, w.into(), b.into(), sum, normed.into(), stats.into(), rows.into(), width.into()];
    card.launch(FORWARD.of(s.dtype()), Grid::new(rows.div_ceil(WARPS), THREADS), &arguments);
}

/// `dnormed` holds dy, `dstream` ds' where `accumulate` is `Add`; both become ds. `stream` is s'.
pub fn backward(
    card: &Cuda,
    dnormed: &mut Tensor,
    (dstream, accumulate): (&mut Tensor, Accumulate),
    stream: &Tensor,
    stats: &Tensor,
    w: &Tensor,
    (dw, set_w): (&mut Tensor, Accumulate),
    (db, set_b): (&mut Tensor, Accumulate),
) {
    let (rows, width, dtype) = (stream.shape().rows(), w.len(), stream.dtype());
    let stretch = rows.div_ceil(MOST_STRETCHES).max(STRETCH);
    let stretches = rows.div_ceil(stretch);
    let [weight, bias] = [(); 2].map(|()| Tensor::workspace(card, [stretches, width], DType::F32));
    let tensors = [(&*dnormed).into(), stream.into(), stats.into(), (&weight).into(), (&bias).into()];
    let extents = [rows, width, stretch].map(Argument::from);
    let grid = Grid::volume([width.div_ceil(THREADS), stretches, 1], THREADS);
    card.launch(SUMS.of(dtype), grid, &[&tensors[..], &extents].concat());
    reduce(card, &weight, dw, set_w);
    reduce(card, &bias, db, set_b);
    let tensors = [dnormed.into(), dstream.into(), stream.into(), stats.into(), w.into()];
    let extents = [rows.into(), width.into(), (accumulate == Accumulate::Add).into()];
    card.launch(ROWS.of(dtype), Grid::new(rows.div_ceil(WARPS), THREADS), &[&tensors[..], &extents].concat());
}
