//! Residual and layer norm with weights, in one pass over the rows.
//!
//! ```text
//! s' = s + branch                            stream  (rows, D)
//! y  = (s' - mean) * rstd * w + b            normed  (rows, D)
//! ```
//! Mean and variance run over D; epsilon is 1e-5, PyTorch's. Backward reads dy, ds', s' and writes ds over both: the
//! gradients of stream and branch are the same.

use super::sums::{column_sums, sum_of};
use crate::base::{Accumulate, DType};
use crate::device::{Chunks, Cpu};
use crate::tensor::Tensor;

/// The constant of PyTorch's norms.
const EPSILON: f32 = 1e-5;

/// Rows whose column sums one task keeps; fixed, so that sums do not depend on the threads.
const ROWS: usize = 32;

/// The norm alone: `normed` and `stats` (rows, 2: mean, rstd) from `stream`.
pub fn norm(cpu: &Cpu, stream: &[f32], [w, b]: [&[f32]; 2], normed: &mut [f32], stats: &mut [f32]) {
    let width = w.len();
    cpu.threads.each((Chunks::new(normed, width), Chunks::new(stats, 2)), ROWS, |row, (y, stats)| {
        norm_row(cpu.isa(), &stream[row * width..][..width], w, b, y, stats);
    });
}

/// Residual and norm: also writes `sum`, which is s'.
pub fn residual_norm(
    cpu: &Cpu,
    [stream, branch]: [&[f32]; 2],
    [w, b]: [&[f32]; 2],
    sum: &mut [f32],
    normed: &mut [f32],
    stats: &mut [f32],
) {
    let width = w.len();
    let parts = (Chunks::new(sum, width), Chunks::new(normed, width), Chunks::new(stats, 2));
    cpu.threads.each(parts, ROWS, |row, (sum, y, stats)| {
        let [s, branch] = [stream, branch].map(|x| &x[row * width..][..width]);
        sum.iter_mut().zip(s.iter().zip(branch)).for_each(|(sum, (s, branch))| *sum = s + branch);
        norm_row(cpu.isa(), sum, w, b, y, stats);
    });
}

vectorised! {
    fn norm_row(s: &[f32], w: &[f32], b: &[f32], y: &mut [f32], stats: &mut [f32]) {
        let width = s.len() as f32;
        let mean = sum_of(s.len(), |i| s[i]) / width;
        let variance = sum_of(s.len(), |i| (s[i] - mean) * (s[i] - mean)) / width;
        let rstd = 1.0 / (variance + EPSILON).sqrt();
        stats.copy_from_slice(&[mean, rstd]);
        for (((y, &s), &w), &b) in y.iter_mut().zip(s).zip(w).zip(b) {
            *y = (s - mean) * rstd * w + b;
        }
    }
}

/// `dnormed` holds dy, `dstream` ds' where `accumulate` is `Add`; both become ds. `stream` is s'.
pub fn backward(
    cpu: &Cpu,
    dnormed: &mut [f32],
    (dstream, accumulate): (&mut [f32], Accumulate),
    stream: &[f32],
    stats: &[f32],
    w: &[f32],
    (dw, set_w): (&mut [f32], Accumulate),
    (db, set_b): (&mut [f32], Accumulate),
) {
    let width = w.len();
    let blocks = (stream.len() / width).div_ceil(ROWS);
    let mut sums = Tensor::workspace(cpu, [blocks, 2 * width], DType::F32);
    let parts = (
        Chunks::new(dnormed, ROWS * width),
        Chunks::new(dstream, ROWS * width),
        Chunks::new(sums.f32_mut(), 2 * width),
    );
    cpu.threads.each(parts, 1, |block, (dy, ds, sums)| {
        sums.fill(0.0);
        let rows = dy.chunks_exact_mut(width).zip(ds.chunks_exact_mut(width));
        for (row, (dy, ds)) in (block * ROWS..).zip(rows) {
            let s = &stream[row * width..][..width];
            norm_row_backward(cpu.isa(), dy, ds, accumulate, s, &stats[2 * row..][..2], w, sums);
        }
    });
    let mut total = Tensor::workspace(cpu, [2 * width], DType::F32);
    column_sums(cpu, sums.f32(), blocks, 2 * width, total.f32_mut(), Accumulate::Set);
    let (bias, weight) = total.f32().split_at(width);
    db.iter_mut().zip(bias).for_each(|(d, &sum)| set_b.put(d, sum));
    dw.iter_mut().zip(weight).for_each(|(d, &sum)| set_w.put(d, sum));
}

vectorised! {
    /// One row; its terms of db and dw are added to the two vectors of `sums`.
    fn norm_row_backward(
        dy: &mut [f32],
        ds: &mut [f32],
        accumulate: Accumulate,
        s: &[f32],
        stats: &[f32],
        w: &[f32],
        sums: &mut [f32],
    ) {
        let width = s.len();
        let (mean, rstd) = (stats[0], stats[1]);
        let (dy, ds, w) = (&mut dy[..width], &mut ds[..width], &w[..width]);
        let (db, dw) = sums.split_at_mut(width);
        let dw = &mut dw[..width];
        for i in 0..width {
            db[i] += dy[i];
            dw[i] += dy[i] * ((s[i] - mean) * rstd);
        }
        // With h = (s - mean) rstd and g = dy w: ds = rstd (g - mean(g) - h mean(g h)).
        let mean_g = sum_of(width, |i| dy[i] * w[i]) / width as f32;
        let mean_gh = sum_of(width, |i| dy[i] * w[i] * ((s[i] - mean) * rstd)) / width as f32;
        for i in 0..width {
            let h = (s[i] - mean) * rstd;
            accumulate.put(&mut ds[i], rstd * (dy[i] * w[i] - mean_g - h * mean_gh));
            dy[i] = ds[i];
        }
    }
}
