//! The elementwise steps of samplers.

use crate::base::rng::{Draw, Purpose, Stream};
use crate::base::{Denoise, PatchGrid};
use crate::device::{Chunks, Cpu};

const BLOCK: usize = 16 * 1024;

/// `out = z + step v`.
pub fn advance(cpu: &Cpu, z: &[f32], v: &[f32], step: f32, out: &mut [f32]) {
    cpu.threads.each(Chunks::new(out, BLOCK), 1, |i, out| {
        let at = i * BLOCK..i * BLOCK + out.len();
        advance_block(cpu.isa(), &z[at.clone()], &v[at], step, out);
    });
}

/// A step [`Denoise`] from `z` and the prediction `p`, images of `image` elements.
pub fn denoise(cpu: &Cpu, z: &[f32], p: &[f32], step: Denoise, draw: Draw, image: usize, out: &mut [f32]) {
    // Blocks of four normals must not straddle two tasks.
    let width = image.next_multiple_of(4).min(4096);
    let blocks = image.div_ceil(width);
    cpu.threads.each(Chunks::grouped(out, image, width), 1, |i, out| {
        let (sample, offset) = (i / blocks, i % blocks * width);
        let at = sample * image + offset..sample * image + offset + out.len();
        let stream = draw.stream(sample, Purpose::Sampling);
        denoise_block(cpu.isa(), &z[at.clone()], &p[at], step, stream, (offset / 4) as u32, out);
    });
}

/// Classifier-free guidance: `v = u + weight (c - u)` in the first `channels` channels of each image with its `weight` (B), c in the
/// others and where the weight is 1, with c and u the halves of `pair`.
pub fn guide(cpu: &Cpu, pair: &[f32], weight: &[f32], channels: usize, grid: PatchGrid, v: &mut [f32]) {
    let guided = channels * grid.height * grid.width;
    let (c, u) = pair.split_at(v.len());
    cpu.threads.each(Chunks::new(v, grid.image()), 1, |i, v| {
        let at = i * grid.image();
        let guided = if weight[i] == 1.0 { 0 } else { guided };
        let (moved, kept) = v.split_at_mut(guided);
        guide_block(cpu.isa(), &c[at..][..guided], &u[at..][..guided], weight[i], moved);
        kept.copy_from_slice(&c[at + guided..at + grid.image()]);
    });
}

vectorised! {
    fn advance_block(z: &[f32], v: &[f32], step: f32, out: &mut [f32]) {
        for ((out, &z), &v) in out.iter_mut().zip(z).zip(v) {
            *out = z + step * v;
        }
    }

    /// With the normals of `stream` from `block` on.
    fn denoise_block(z: &[f32], p: &[f32], step: Denoise, stream: Stream, block: u32, out: &mut [f32]) {
        let Denoise { x_of, bound, x: of_x, z: of_z, p: of_p, noise } = step;
        for (block, ((z, p), out)) in (block..).zip(z.chunks(4).zip(p.chunks(4)).zip(out.chunks_mut(4))) {
            let normals = if noise == 0.0 { [0.0; 4] } else { stream.normals(block) };
            for (((out, &z), &p), n) in out.iter_mut().zip(z).zip(p).zip(normals) {
                let x = x_of[0] * z + x_of[1] * p;
                let clipped = x.clamp(-bound, bound);
                *out = of_x * clipped + of_z * z + of_p * p + noise * n;
            }
        }
    }

    fn guide_block(c: &[f32], u: &[f32], weight: f32, v: &mut [f32]) {
        for ((v, &c), &u) in v.iter_mut().zip(c).zip(u) {
            *v = u + weight * (c - u);
        }
    }
}
