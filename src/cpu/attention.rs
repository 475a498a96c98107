//! Softmax attention of every head of every image.
//!
//! ```text
//! S = q k^T / sqrt(K)      P = softmax_rows(S)      o = P v          q, k, v: (N, K) of one head
//! dv = P^T do              dP = do v^T              dS = P (dP - rowsum(do o))
//! dq = dS k / sqrt(K)      dk = dS^T q / sqrt(K)
//! ```
//! `qkv` is (B, N, 3, H, K), `out` (B, N, H, K). Forward saves `lse` (B, H, N), the logarithm of each row's sum, and
//! backward computes P from it again, so no (N, N) matrix outlives its task. One task is one head of one image; it works
//! through blocks of queries whose scores fit the second-level cache.

use super::matmul::{Matrix, product_in_task};
use super::scratch::Scratch;
use super::sums::{max_of, sum_of};
use crate::base::{Accumulate, exp};
use crate::device::{Chunks, Columns, Cpu, Panel, Triples};

/// Scores that one block of queries may have.
const SCORES: usize = 64 * 1024;

/// The extents of one call: N tokens, H heads of width K.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    pub tokens: usize,
    pub heads: usize,
    pub width: usize,
}

impl Heads {
    /// q, k or v (`part` 0, 1, 2) of head `task % heads` of image `task / heads`.
    fn part<'a>(&self, qkv: &'a [f32], task: usize, part: usize) -> Matrix<'a> {
        let stride = 3 * self.heads * self.width;
        let start = task / self.heads * self.tokens * stride + (part * self.heads + task % self.heads) * self.width;
        Matrix::strided(&qkv[start..], self.tokens, self.width, stride)
    }

    /// A head's columns of an (B, N, H, K) array.
    fn columns<'a>(&self, x: &'a [f32], task: usize) -> Matrix<'a> {
        let stride = self.heads * self.width;
        let start = task / self.heads * self.tokens * stride + task % self.heads * self.width;
        Matrix::strided(&x[start..], self.tokens, self.width, stride)
    }

    fn queries(&self) -> usize {
        (SCORES / self.tokens).clamp(32, 512).min(self.tokens)
    }

    fn scale(&self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }
}

/// Writes `out` and `lse`.
pub fn forward(cpu: &Cpu, heads: Heads, qkv: &[f32], out: &mut [f32], lse: &mut [f32]) {
    let (n, k) = (heads.tokens, heads.width);
    let parts = (Columns::new(out, n, heads.heads * k, k), Chunks::new(lse, n));
    cpu.threads.each(parts, 1, |task, (mut out, lse)| {
        let [q, keys, v] = [0, 1, 2].map(|part| heads.part(qkv, task, part));
        let block = heads.queries();
        let [mut scores, mut o, mut inverse] = [block * n, block * k, block].map(Scratch::<f32>::new);
        for start in (0..n).step_by(block) {
            let rows = block.min(n - start);
            let scores = &mut scores[..rows * n];
            product_in_task(cpu, q.rows_from(start, rows), keys.transposed(), scores, n, Accumulate::Set);
            for ((row, lse), inverse) in scores.chunks_exact_mut(n).zip(&mut lse[start..]).zip(inverse.iter_mut()) {
                let (max, sum) = exponentials(cpu.isa(), row, heads.scale());
                *lse = max + sum.ln();
                *inverse = 1.0 / sum;
            }
            product_in_task(cpu, Matrix::new(scores, rows, n), v, &mut o[..rows * k], k, Accumulate::Set);
            for (i, (o, &inverse)) in o.chunks_exact(k).zip(&inverse[..]).enumerate().take(rows) {
                store(cpu.isa(), o, inverse, out.row_mut(start + i));
            }
        }
    });
}

/// Writes `dqkv` from `dout`; `out` and `lse` are forward's.
pub fn backward(cpu: &Cpu, heads: Heads, qkv: &[f32], out: &[f32], lse: &[f32], dout: &[f32], dqkv: &mut [f32]) {
    let (n, k) = (heads.tokens, heads.width);
    cpu.threads.each(Triples::new(dqkv, n, heads.heads, k), 1, |task, [mut dq, mut dk, mut dv]| {
        let [q, keys, v] = [0, 1, 2].map(|part| heads.part(qkv, task, part));
        let (o, d) = (heads.columns(out, task), heads.columns(dout, task));
        let lse = &lse[task * n..][..n];
        let block = heads.queries();
        let [mut p, mut dp, mut dq_sum, mut dk_sum, mut dv_sum] =
            [block * n, block * n, block * k, n * k, n * k].map(Scratch::<f32>::new);
        for start in (0..n).step_by(block) {
            let rows = block.min(n - start);
            let add = if start == 0 { Accumulate::Set } else { Accumulate::Add };
            let (p, dp, dq_sum) = (&mut p[..rows * n], &mut dp[..rows * n], &mut dq_sum[..rows * k]);
            let [q, d] = [q, d].map(|x| x.rows_from(start, rows));
            product_in_task(cpu, q, keys.transposed(), p, n, Accumulate::Set);
            product_in_task(cpu, d, v.transposed(), dp, n, Accumulate::Set);
            for (i, (p, dp)) in p.chunks_exact_mut(n).zip(dp.chunks_exact_mut(n)).enumerate() {
                softmax_backward(cpu.isa(), p, dp, heads.scale(), lse[start + i], o.row(start + i), d.row(i));
            }
            let (p, ds) = (Matrix::new(p, rows, n), Matrix::new(dp, rows, n));
            product_in_task(cpu, p.transposed(), d, &mut dv_sum, k, add);
            product_in_task(cpu, ds.transposed(), q, &mut dk_sum, k, add);
            product_in_task(cpu, ds, keys, dq_sum, k, Accumulate::Set);
            store_rows(cpu, dq_sum, heads.scale(), &mut dq, start);
        }
        store_rows(cpu, &dk_sum, heads.scale(), &mut dk, 0);
        store_rows(cpu, &dv_sum, 1.0, &mut dv, 0);
    });
}

/// Copies the rows of `values` times `scale` into the rows of `panel` from `start` on.
fn store_rows(cpu: &Cpu, values: &[f32], scale: f32, panel: &mut Panel<f32>, start: usize) {
    for (i, values) in values.chunks_exact(panel.width()).enumerate() {
        store(cpu.isa(), values, scale, panel.row_mut(start + i));
    }
}

vectorised! {
    /// Turns a row of scores into exponentials, the largest being one; returns the scaled maximum and their sum.
    fn exponentials(row: &mut [f32], scale: f32) -> (f32, f32) {
        let max = max_of(row) * scale;
        for x in row.iter_mut() {
            *x = exp(*x * scale - max);
        }
        (max, sum_of(row.len(), |i| row[i]))
    }

    /// Turns scores into probabilities, and the gradient of the probabilities into that of the scores.
    fn softmax_backward(p: &mut [f32], dp: &mut [f32], scale: f32, lse: f32, out: &[f32], dout: &[f32]) {
        let dout = &dout[..out.len()];
        let delta = sum_of(out.len(), |i| out[i] * dout[i]);
        for (p, dp) in p.iter_mut().zip(dp) {
            *p = exp(*p * scale - lse);
            *dp = *p * (*dp - delta);
        }
    }

    fn store(values: &[f32], scale: f32, out: &mut [f32]) {
        for (out, &x) in out.iter_mut().zip(values) {
            *out = x * scale;
        }
    }
}
