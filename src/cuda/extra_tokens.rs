//! Tokens of label and time before those of the patches; see `kernels/extra_tokens.cu`.

use super::{THREADS, count, stride};
use crate::base::Accumulate;
use crate::device::cuda::{Argument, Cuda, Grid, Typed};
use crate::kernels;
use crate::tensor::Tensor;

const PREPEND: Typed = kernels!("extra_tokens", "extra_tokens_prepend");
const STRIP: Typed = kernels!("extra_tokens", "extra_tokens_strip");
const PAD: Typed = kernels!("extra_tokens", "extra_tokens_pad");
const POSITIONS: Typed = kernels!("extra_tokens", "extra_tokens_positions");
const SCATTER: Typed = kernels!("extra_tokens", "extra_tokens_scatter");

/// Writes `y` (B, E + N, D) from the patches `x` (B, N, D), times `t` and labels; `position` is (E + T, D).
pub fn prepend(
    card: &Cuda,
    x: &Tensor,
    (t, scale): (&Tensor, f64),
    table: Option<(&Tensor, &Tensor)>,
    kept: Option<&Tensor>,
    position: &Tensor,
    y: &mut Tensor,
) {
    let (tokens, width, elements) = (x.shape().extents()[1], x.shape().width(), y.len());
    let (table, labels): (Argument, Argument) = match table {
        Some((table, labels)) => (table.into(), labels.into()),
        None => (Argument::NULL, Argument::NULL),
    };
    let tensors = [x.into(), t.into(), (scale as f32).into(), table, labels, kept.into(), position.into(), y.into()];
    let extents = [tokens.into(), width.into(), count(elements)];
    card.launch(PREPEND.of(x.dtype()), stride(card, elements), &[&tensors[..], &extents].concat());
}

/// Writes `x` (B, N, D), the last tokens of each image of `y` (B, all, D).
pub fn strip(card: &Cuda, y: &Tensor, x: &mut Tensor) {
    let ([tokens, all], width, elements) = ([&*x, y].map(|t| t.shape().extents()[1]), x.shape().width(), x.len());
    let arguments = [y.into(), x.into(), all.into(), tokens.into(), width.into(), count(elements)];
    card.launch(STRIP.of(y.dtype()), stride(card, elements), &arguments);
}

/// Writes `y` (B, all, D), whose last tokens are `x` (B, N, D), the others zero.
pub fn pad(card: &Cuda, x: &Tensor, y: &mut Tensor) {
    let ([all, tokens], width, elements) = ([&*y, x].map(|t| t.shape().extents()[1]), x.shape().width(), y.len());
    let arguments = [x.into(), y.into(), all.into(), tokens.into(), width.into(), count(elements)];
    card.launch(PAD.of(x.dtype()), stride(card, elements), &arguments);
}

/// Writes the gradient of the positions from `dy` (B, E + N, D), and adds to that of the table.
pub fn backward(
    card: &Cuda,
    dy: &Tensor,
    labels: &Tensor,
    dtable: Option<&mut Tensor>,
    kept: Option<&Tensor>,
    (dposition, accumulate): (&mut Tensor, Accumulate),
) {
    let (batch, all, width) = (labels.len(), dy.shape().extents()[1], dy.shape().width());
    let (extras, elements) = (1 + usize::from(dtable.is_some()), dposition.len());
    let tensors = [dy.into(), kept.into(), dposition.into()];
    let extents = [batch, extras, all - extras, width].map(Argument::from);
    let rest = [count(elements), (accumulate == Accumulate::Add).into()];
    card.launch(POSITIONS.of(dy.dtype()), stride(card, elements), &[&tensors[..], &extents, &rest].concat());
    if let Some(dtable) = dtable {
        let grid = Grid::volume([width.div_ceil(THREADS), batch, 1], THREADS);
        let arguments = [dy.into(), labels.into(), dtable.into(), all.into(), width.into(), batch.into()];
        card.launch(SCATTER.of(dy.dtype()), grid, &arguments);
    }
}
