//! The random part of a training step: noise and dropped labels, and what follows from them.
//!
//! ```text
//! z   = alpha x + sigma eps        eps ~ N(0, 1)
//! u   = a x + b eps                the target: velocity, data, noise or score
//! y   = null class with probability p
//! ```
//! `along` (B, 5) says of each sample what the network is told of its time, alpha, sigma, a and b. Sample `i` of the batch draws
//! from the streams of its place in the global batch, so the draws do not depend on how a batch is split.

use crate::base::rng::{Draw, Purpose, Stream, uniform};
use crate::device::{Chunks, Cpu};

/// Writes the times `t` (B) that the network is told, `z` and `target` (B, image) from the data `x` (B, image).
pub fn noise(cpu: &Cpu, draw: Draw, along: &[f32], x: &[f32], t: &mut [f32], z: &mut [f32], target: &mut [f32]) {
    let image = x.len() / t.len();
    t.iter_mut().zip(along.chunks_exact(5)).for_each(|(t, row)| *t = row[0]);
    // Blocks of four normals must not straddle two tasks.
    let width = image.next_multiple_of(4).min(4096);
    let blocks = image.div_ceil(width);
    let parts = (Chunks::grouped(z, image, width), Chunks::grouped(target, image, width));
    cpu.threads.each(parts, 1, |i, (z, u)| {
        let (sample, offset) = (i / blocks, i % blocks * width);
        let &[_, alpha, sigma, of_x, of_eps] = &along[5 * sample..][..5] else { unreachable!("rows of five") };
        let stream = draw.stream(sample, Purpose::Noise);
        let x = &x[sample * image + offset..][..z.len()];
        mix(cpu.isa(), stream, (offset / 4) as u32, [alpha, sigma], [of_x, of_eps], x, z, u);
    });
}

vectorised! {
    /// z and u, from the weights of data and noise in each, with the normals of `stream` from `block` on.
    fn mix(
        stream: Stream,
        block: u32,
        at: [f32; 2],
        target: [f32; 2],
        x: &[f32],
        z: &mut [f32],
        u: &mut [f32],
    ) {
        for (block, ((x, z), u)) in (block..).zip(x.chunks(4).zip(z.chunks_mut(4)).zip(u.chunks_mut(4))) {
            for (((&x, z), u), eps) in x.iter().zip(z).zip(u).zip(stream.normals(block)) {
                *z = at[0] * x + at[1] * eps;
                *u = target[0] * x + target[1] * eps;
            }
        }
    }
}

/// Replaces each label by `null` with probability `rate`.
pub fn drop_labels(draw: Draw, rate: f32, null: u32, labels: &mut [u32]) {
    for (sample, label) in labels.iter_mut().enumerate() {
        if uniform(draw.stream(sample, Purpose::LabelDropout).words(0)[0]) < rate {
            *label = null;
        }
    }
}
