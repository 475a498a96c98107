//! The conditioning of DiT: time and label become the modulation of every layer, in one product.
//!
//! ```text
//! f = [cos(t w_i), sin(t w_i)]        w_i = 10000^(-i / 128), i < 128                 (B, 256)
//! h = W0 f + b0      e = W2 silu(h) + b2      c = e + table[y]      m = Wm silu(c) + bm      (B, chunks * D)
//! ```
//! `Wm` stacks the rows of every layer's adaLN, so a batch reads them once in one product.

use super::column_sums;
use super::math::{silu, silu_derivative};
use super::matmul::{Bias, Matrix, product};
use crate::base::condition::{FEATURES, Params, Saved};
use crate::base::{Accumulate, DType};
use crate::device::{Chunks, Cpu, Isa};
use crate::tensor::Tensor;

/// Writes the modulation of a batch of times `t` and labels `y`.
pub fn forward(
    cpu: &Cpu,
    t: &[f32],
    y: &[u32],
    p: &Params<&[f32]>,
    saved: &mut Saved<&mut [f32]>,
    modulation: &mut [f32],
) {
    let (batch, width) = (t.len(), p.b0.len());
    time_features(t, saved.features);
    let linear = |x: &[f32], w, b, out: &mut [f32]| linear(cpu, x, w, b, out, batch);
    linear(saved.features, p.w0, p.b0, saved.hidden);
    each(cpu, saved.active, saved.hidden, silu_into);
    linear(saved.active, p.w2, p.b2, saved.sum);
    if let Some(table) = p.table {
        for (c, &label) in saved.sum.chunks_exact_mut(width).zip(y) {
            for (c, &e) in c.iter_mut().zip(&table[label as usize * width..][..width]) {
                *c += e;
            }
        }
    }
    each(cpu, saved.active, saved.sum, silu_into);
    linear(saved.active, p.modulation_w, p.modulation_b, modulation);
}

/// Writes every gradient from `dmodulation`; that of the table, `dtable`, is added to.
pub fn backward(
    cpu: &Cpu,
    y: &[u32],
    p: &Params<&[f32]>,
    saved: &Saved<&[f32]>,
    dmodulation: &[f32],
    d: &mut Params<(&mut [f32], Accumulate)>,
    dtable: Option<&mut [f32]>,
) {
    let width = p.b0.len();
    let batch = saved.sum.len() / width;
    weight_gradients(cpu, dmodulation, saved.active, &mut d.modulation_w, &mut d.modulation_b, batch);
    let [mut dc, mut dh, mut active] = [(); 3].map(|()| Tensor::workspace(cpu, [batch, width], DType::F32));
    let [dc, dh, active] = [&mut dc, &mut dh, &mut active].map(|workspace| workspace.f32_mut());
    input_gradient(cpu, dmodulation, p.modulation_w, dc, batch);
    each(cpu, dc, saved.sum, silu_backward);
    if let Some(dtable) = dtable {
        for (dc, &label) in dc.chunks_exact(width).zip(y) {
            for (d, &dc) in dtable[label as usize * width..][..width].iter_mut().zip(dc) {
                *d += dc;
            }
        }
    }
    each(cpu, active, saved.hidden, silu_into);
    weight_gradients(cpu, dc, active, &mut d.w2, &mut d.b2, batch);
    input_gradient(cpu, dc, p.w2, dh, batch);
    each(cpu, dh, saved.hidden, silu_backward);
    weight_gradients(cpu, dh, saved.features, &mut d.w0, &mut d.b0, batch);
}

/// `[cos(t w_i), sin(t w_i)]` for each time, in f64 and rounded once.
fn time_features(t: &[f32], features: &mut [f32]) {
    const HALF: usize = FEATURES / 2;
    for (&t, features) in t.iter().zip(features.chunks_exact_mut(FEATURES)) {
        for i in 0..HALF {
            let frequency = (-(10_000f64.ln()) * i as f64 / HALF as f64).exp();
            let (sin, cos) = (f64::from(t) * frequency).sin_cos();
            features[i] = cos as f32;
            features[HALF + i] = sin as f32;
        }
    }
}

fn linear(cpu: &Cpu, x: &[f32], w: &[f32], b: &[f32], out: &mut [f32], rows: usize) {
    let inner = x.len() / rows;
    product(cpu, Matrix::new(x, rows, inner), Matrix::new(w, b.len(), inner).transposed(), out, Bias(b));
}

fn input_gradient(cpu: &Cpu, dy: &[f32], w: &[f32], dx: &mut [f32], rows: usize) {
    let (outer, inner) = (dy.len() / rows, dx.len() / rows);
    product(cpu, Matrix::new(dy, rows, outer), Matrix::new(w, outer, inner), dx, Accumulate::Set);
}

fn weight_gradients(
    cpu: &Cpu,
    dy: &[f32],
    x: &[f32],
    dw: &mut (&mut [f32], Accumulate),
    db: &mut (&mut [f32], Accumulate),
    rows: usize,
) {
    let (outer, inner) = (dy.len() / rows, x.len() / rows);
    product(cpu, Matrix::new(dy, rows, outer).transposed(), Matrix::new(x, rows, inner), dw.0, dw.1);
    column_sums(cpu, dy, rows, outer, db.0, db.1);
}

/// `f` on equal blocks of `out` and `x`.
fn each(cpu: &Cpu, out: &mut [f32], x: &[f32], f: impl Fn(Isa, &mut [f32], &[f32]) + Sync) {
    const BLOCK: usize = 4096;
    cpu.threads.each(Chunks::new(out, BLOCK), 1, |i, out| f(cpu.isa(), out, &x[i * BLOCK..][..out.len()]));
}

vectorised! {
    fn silu_into(out: &mut [f32], x: &[f32]) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = silu(x);
        }
    }

    fn silu_backward(dy: &mut [f32], x: &[f32]) {
        for (dy, &x) in dy.iter_mut().zip(x) {
            *dy *= silu_derivative(x);
        }
    }
}
