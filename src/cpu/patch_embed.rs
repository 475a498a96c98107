//! Gather of the kept patches, and their embedding.
//!
//! ```text
//! x[b, n] = W patch(z[b], kept[b, n]) + bias + position[kept[b, n]]     W: (D, C P P), patch elements in (c, p, q)
//! ```
//! The embedding acts on each token alone, so gathering before it is exact and only what is kept is computed.

use super::column_sums;
use super::matmul::{Bias, Epilogue, Matrix, product};
use crate::base::{Accumulate, PatchGrid};
use crate::device::{Chunks, Cpu};

/// Copies the patches that `kept` (B, `tokens`) names, or all in order, into `patches` (B, `tokens`, C P P).
pub fn gather(cpu: &Cpu, grid: PatchGrid, z: &[f32], kept: Option<&[u32]>, tokens: usize, patches: &mut [f32]) {
    let area = grid.area();
    cpu.threads.each(Chunks::new(patches, grid.channels * area), 64, |row, out| {
        let image = &z[row / tokens * grid.image()..][..grid.image()];
        let patch = kept.map_or(row % tokens, |kept| kept[row] as usize);
        for (channel, out) in out.chunks_exact_mut(area).enumerate() {
            for (p, out) in out.chunks_exact_mut(grid.patch).enumerate() {
                let start = grid.element(patch, p * grid.patch, channel);
                out.copy_from_slice(&image[start..][..grid.patch]);
            }
        }
    });
}

/// `x` (B, `tokens`, D) from the gathered patches; `position` is (T, D), or nothing is added.
pub fn forward(
    cpu: &Cpu,
    patches: &[f32],
    weight: &[f32],
    bias: &[f32],
    position: Option<&[f32]>,
    kept: Option<&[u32]>,
    tokens: usize,
    x: &mut [f32],
) {
    let width = bias.len();
    let rows = x.len() / width;
    let inner = weight.len() / width;
    let weight = Matrix::new(weight, width, inner).transposed();
    let patches = Matrix::new(patches, rows, inner);
    match position {
        Some(position) => product(cpu, patches, weight, x, Place { bias, position, kept, tokens }),
        None => product(cpu, patches, weight, x, Bias(bias)),
    }
}

/// Adds the bias and the position of the token.
struct Place<'a> {
    bias: &'a [f32],
    position: &'a [f32],
    kept: Option<&'a [u32]>,
    tokens: usize,
}

impl Epilogue for Place<'_> {
    #[inline(always)]
    fn write(&self, row: usize, col: usize, sums: &[f32], out: &mut [f32]) {
        let patch = self.kept.map_or(row % self.tokens, |kept| kept[row] as usize);
        let position = &self.position[patch * self.bias.len() + col..];
        for (((out, &sum), &bias), &position) in out.iter_mut().zip(sums).zip(&self.bias[col..]).zip(position) {
            *out = sum + (bias + position);
        }
    }
}

/// The gradients of weight and bias.
pub fn backward(
    cpu: &Cpu,
    dx: &[f32],
    patches: &[f32],
    (dweight, weight_accumulate): (&mut [f32], Accumulate),
    (dbias, bias_accumulate): (&mut [f32], Accumulate),
) {
    let width = dbias.len();
    let rows = dx.len() / width;
    let inner = dweight.len() / width;
    let dx_transposed = Matrix::new(dx, rows, width).transposed();
    product(cpu, dx_transposed, Matrix::new(patches, rows, inner), dweight, weight_accumulate);
    column_sums(cpu, dx, rows, width, dbias, bias_accumulate);
}
