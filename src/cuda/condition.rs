//! Time and label to the modulation of every layer; see `kernels/condition.cu` and `kernels/linear.cu`.

use super::linear::{self, input_gradient, weight_gradient};
use super::{THREADS, count, stride};
use crate::base::Accumulate;
use crate::base::condition::{FEATURES, Params, Saved};
use crate::device::cuda::{Cuda, Grid, Typed};
use crate::kernels;
use crate::tensor::Tensor;

const TIME_FEATURES: Typed = kernels!("condition", "condition_features");
const ACTIVATE: Typed = kernels!("condition", "condition_activate");
const SLOPE: Typed = kernels!("condition", "condition_slope");
const SCATTER: Typed = kernels!("condition", "condition_scatter");

/// Writes the modulation of a batch of times `t` and labels `y`.
pub fn forward(
    card: &Cuda,
    t: &Tensor,
    y: &Tensor,
    p: &Params<&Tensor>,
    saved: &mut Saved<Tensor>,
    modulation: &mut Tensor,
) {
    let Saved { features, hidden, sum, active } = saved;
    let (kernel, grid) = (TIME_FEATURES.of(features.dtype()), stride(card, t.len() * FEATURES / 2));
    card.launch(kernel, grid, &[t.into(), (&mut *features).into(), t.len().into()]);
    linear::forward(card, features, p.w0, p.b0, hidden);
    activate(card, hidden, None, active);
    linear::forward(card, active, p.w2, p.b2, sum);
    activate(card, sum, p.table.map(|table| (table, y)), active);
    linear::forward(card, active, p.modulation_w, p.modulation_b, modulation);
}

/// Writes every gradient from `dmodulation`; that of the table, `dtable`, is added to.
pub fn backward(
    card: &Cuda,
    y: &Tensor,
    p: &Params<&Tensor>,
    saved: &mut Saved<Tensor>,
    dmodulation: &Tensor,
    d: &mut Params<(Tensor, Accumulate)>,
    dtable: Option<&mut Tensor>,
) {
    let Saved { features, hidden, sum, active } = saved;
    let workspace = || Tensor::workspace(card, *sum.shape(), sum.dtype());
    let gradients = |dy: &Tensor, x: &Tensor, w: &mut (Tensor, Accumulate), b: &mut (Tensor, Accumulate)| {
        weight_gradient(card, dy, x, (&mut w.0, w.1), (&mut b.0, b.1));
    };
    gradients(dmodulation, active, &mut d.modulation_w, &mut d.modulation_b);
    let mut dc = workspace();
    input_gradient(card, dmodulation, p.modulation_w, &mut dc, Accumulate::Set);
    slope(card, sum, &mut dc);
    if let Some(dtable) = dtable {
        let (batch, width) = (sum.shape().rows(), sum.shape().width());
        let grid = Grid::volume([width.div_ceil(THREADS), batch, 1], THREADS);
        card.launch(SCATTER.of(dc.dtype()), grid, &[(&dc).into(), y.into(), dtable.into(), width.into(), batch.into()]);
    }
    activate(card, hidden, None, active);
    gradients(&dc, active, &mut d.w2, &mut d.b2);
    let mut dh = workspace();
    input_gradient(card, &dc, p.w2, &mut dh, Accumulate::Set);
    slope(card, hidden, &mut dh);
    gradients(&dh, features, &mut d.w0, &mut d.b0);
}

/// Adds to each row of `c` that of its label in a table, and writes `silu(c)` into `active`.
fn activate(card: &Cuda, c: &mut Tensor, label: Option<(&Tensor, &Tensor)>, active: &mut Tensor) {
    let (width, elements) = (c.shape().width(), c.len());
    let (kernel, [table, y]) = (ACTIVATE.of(c.dtype()), [label.map(|(table, _)| table), label.map(|(_, y)| y)]);
    let arguments = [c.into(), table.into(), y.into(), active.into(), width.into(), count(elements)];
    card.launch(kernel, stride(card, elements), &arguments);
}

/// `d *= silu'(c)`.
fn slope(card: &Cuda, c: &Tensor, d: &mut Tensor) {
    let elements = c.len();
    card.launch(SLOPE.of(c.dtype()), stride(card, elements), &[c.into(), d.into(), count(elements)]);
}
