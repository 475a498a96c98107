//! Gate, residual, layer norm and modulation of the DiT block, in one pass over the rows.
//!
//! ```text
//! s' = s + gate[b] * branch                            stream  (B, N, D)
//! y  = (s' - mean) * rstd * (1 + scale[b]) + shift[b]  normed  (B, N, D)
//! ```
//! Mean and variance run over D; epsilon is 1e-6. Forward reads s, branch and writes s', y; backward reads dy, ds', s',
//! branch and writes d branch over dy and ds over ds'.

use super::sums::sum_of;
use crate::base::{Accumulate, DType};
use crate::device::{Chunks, Cpu};
use crate::tensor::Tensor;

/// The constant of DiT's norms.
const EPSILON: f32 = 1e-6;

/// Rows of one image whose column sums one task keeps; fixed, so that sums do not depend on the threads.
const ROWS: usize = 32;

/// The modulation of a batch, (B, chunks * D), and the chunks that one norm uses.
#[derive(Clone, Copy)]
pub struct Modulation<'a> {
    pub values: &'a [f32],
    /// Vectors of width D for each image.
    pub chunks: usize,
    pub shift: usize,
    pub scale: usize,
}

impl<'a> Modulation<'a> {
    fn chunk(&self, image: usize, chunk: usize, width: usize) -> &'a [f32] {
        &self.values[(image * self.chunks + chunk) * width..][..width]
    }
}

/// The norm alone: `normed` and `stats` (B, N, 2: mean, rstd) from `stream` (B, `tokens`, `width`).
pub fn norm(
    cpu: &Cpu,
    stream: &[f32],
    modulation: Modulation,
    normed: &mut [f32],
    stats: &mut [f32],
    tokens: usize,
    width: usize,
) {
    cpu.threads.each((Chunks::new(normed, width), Chunks::new(stats, 2)), ROWS, |row, (y, stats)| {
        let s = &stream[row * width..][..width];
        let shift = modulation.chunk(row / tokens, modulation.shift, width);
        let scale = modulation.chunk(row / tokens, modulation.scale, width);
        norm_row(cpu.isa(), s, shift, scale, y, stats);
    });
}

/// Gate, residual and norm: also writes `gated`, which is s'.
pub fn gated_norm(
    cpu: &Cpu,
    stream: &[f32],
    branch: &[f32],
    modulation: Modulation,
    gate: usize,
    gated: &mut [f32],
    normed: &mut [f32],
    stats: &mut [f32],
    tokens: usize,
    width: usize,
) {
    let parts = (Chunks::new(gated, width), Chunks::new(normed, width), Chunks::new(stats, 2));
    cpu.threads.each(parts, ROWS, |row, (gated, y, stats)| {
        let [s, branch] = [stream, branch].map(|x| &x[row * width..][..width]);
        let [gate, shift, scale] =
            [gate, modulation.shift, modulation.scale].map(|chunk| modulation.chunk(row / tokens, chunk, width));
        gate_row(cpu.isa(), s, branch, gate, gated);
        norm_row(cpu.isa(), gated, shift, scale, y, stats);
    });
}

vectorised! {
    fn gate_row(s: &[f32], branch: &[f32], gate: &[f32], gated: &mut [f32]) {
        for (((out, &s), &b), &g) in gated.iter_mut().zip(s).zip(branch).zip(gate) {
            *out = s + g * b;
        }
    }

    fn norm_row(s: &[f32], shift: &[f32], scale: &[f32], y: &mut [f32], stats: &mut [f32]) {
        let width = s.len() as f32;
        let mean = sum_of(s.len(), |i| s[i]) / width;
        let variance = sum_of(s.len(), |i| (s[i] - mean) * (s[i] - mean)) / width;
        let rstd = 1.0 / (variance + EPSILON).sqrt();
        stats.copy_from_slice(&[mean, rstd]);
        for (((y, &s), &shift), &scale) in y.iter_mut().zip(s).zip(shift).zip(scale) {
            *y = (s - mean) * rstd * (1.0 + scale) + shift;
        }
    }
}

/// The branch of a backward: its value, (B, N, D), and the chunk of its gate.
#[derive(Clone, Copy)]
pub struct Branch<'a> {
    pub value: &'a [f32],
    pub gate: usize,
}

/// `dnormed` holds dy and becomes the gradient of the branch; `dstream` holds ds' where `accumulate` is `Add`, and becomes
/// ds, the gradient of s.
///
/// `stream` is s'. The gradients of gate, shift and scale are *added* to their chunks of `dmodulation`.
pub fn backward(
    cpu: &Cpu,
    dnormed: &mut [f32],
    (dstream, accumulate): (&mut [f32], Accumulate),
    stream: &[f32],
    branch: Option<Branch>,
    stats: &[f32],
    modulation: Modulation,
    dmodulation: &mut [f32],
    tokens: usize,
    width: usize,
) {
    let images = stream.len() / (tokens * width);
    let blocks = tokens.div_ceil(ROWS);
    let mut sums = Tensor::workspace(cpu, [images * blocks, 3 * width], DType::F32);
    let parts = (
        Chunks::grouped(dnormed, tokens * width, ROWS * width),
        Chunks::grouped(dstream, tokens * width, ROWS * width),
        Chunks::new(sums.f32_mut(), 3 * width),
    );
    cpu.threads.each(parts, 1, |i, (dy, ds, sums)| {
        let image = i / blocks;
        let first = image * tokens + i % blocks * ROWS;
        let scale = modulation.chunk(image, modulation.scale, width);
        sums.fill(0.0);
        let (norm_sums, dgate) = sums.split_at_mut(2 * width);
        for (j, (dy, ds)) in dy.chunks_exact_mut(width).zip(ds.chunks_exact_mut(width)).enumerate() {
            let row = first + j;
            let s = &stream[row * width..][..width];
            norm_row_backward(cpu.isa(), dy, ds, accumulate, s, &stats[2 * row..][..2], scale, norm_sums);
            if let Some(branch) = branch {
                let value = &branch.value[row * width..][..width];
                gate_row_backward(cpu.isa(), ds, value, modulation.chunk(image, branch.gate, width), dy, dgate);
            }
        }
    });
    let sums = sums.f32();
    let chunks = [Some(modulation.shift), Some(modulation.scale), branch.map(|branch| branch.gate)];
    cpu.threads.each(Chunks::new(dmodulation, modulation.chunks * width), 1, |image, dmodulation| {
        for sums in sums[image * blocks * 3 * width..][..blocks * 3 * width].chunks_exact(3 * width) {
            for (sums, chunk) in sums.chunks_exact(width).zip(chunks) {
                let Some(chunk) = chunk else { continue };
                for (d, &sum) in dmodulation[chunk * width..][..width].iter_mut().zip(sums) {
                    *d += sum;
                }
            }
        }
    });
}

vectorised! {
    /// One row; its terms of dshift and dscale are added to the two vectors of `sums`.
    fn norm_row_backward(
        dy: &[f32],
        ds: &mut [f32],
        accumulate: Accumulate,
        s: &[f32],
        stats: &[f32],
        scale: &[f32],
        sums: &mut [f32],
    ) {
        let width = s.len();
        let (mean, rstd) = (stats[0], stats[1]);
        let (dy, ds, scale) = (&dy[..width], &mut ds[..width], &scale[..width]);
        let (dshift, dscale) = sums.split_at_mut(width);
        let dscale = &mut dscale[..width];
        for i in 0..width {
            dshift[i] += dy[i];
            dscale[i] += dy[i] * ((s[i] - mean) * rstd);
        }
        // With h = (s - mean) rstd and g = dy (1 + scale): ds = rstd (g - mean(g) - h mean(g h)).
        let mean_g = sum_of(width, |i| dy[i] * (1.0 + scale[i])) / width as f32;
        let mean_gh = sum_of(width, |i| dy[i] * (1.0 + scale[i]) * ((s[i] - mean) * rstd)) / width as f32;
        for i in 0..width {
            let h = (s[i] - mean) * rstd;
            accumulate.put(&mut ds[i], rstd * (dy[i] * (1.0 + scale[i]) - mean_g - h * mean_gh));
        }
    }

    /// One row: `dbranch = gate ds`, and `ds branch` is added to `dgate`.
    fn gate_row_backward(ds: &[f32], branch: &[f32], gate: &[f32], dbranch: &mut [f32], dgate: &mut [f32]) {
        let width = ds.len();
        let (branch, gate) = (&branch[..width], &gate[..width]);
        let (dbranch, dgate) = (&mut dbranch[..width], &mut dgate[..width]);
        for i in 0..width {
            dgate[i] += ds[i] * branch[i];
            dbranch[i] = gate[i] * ds[i];
        }
    }
}
