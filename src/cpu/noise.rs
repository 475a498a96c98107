//! The random part of a training step: times, noise and dropped labels, and what follows from them.
//!
//! ```text
//! t   ~ uniform (0, 1), or sigmoid(mean + deviation n) with n ~ N(0, 1); on a path with steps the end of the step it is in
//! z   = alpha(t) x + sigma(t) eps        eps ~ N(0, 1)
//! u   = alpha'(t) x + sigma'(t) eps, or x, or eps
//! y   = null class with probability p
//! ```
//! Sample `i` of the batch draws from the streams of its place in the global batch, so the draws do not depend on how a
//! batch is split.

use crate::base::rng::{Draw, Purpose, Stream, uniform};
use crate::base::{Path, Prediction, Times};
use crate::device::{Chunks, Cpu};

/// Writes the times `t` (B) that the network is told, `z` and `target` (B, image) from the data `x` (B, image).
pub fn noise(
    cpu: &Cpu,
    draw: Draw,
    (path, prediction): (Path, Prediction),
    times: Times,
    x: &[f32],
    t: &mut [f32],
    z: &mut [f32],
    target: &mut [f32],
) {
    let image = x.len() / t.len();
    for (sample, t) in t.iter_mut().enumerate() {
        *t = times.draw(draw.stream(sample, Purpose::Time));
    }
    let drawn = &*t;
    // Blocks of four normals must not straddle two tasks.
    let width = image.next_multiple_of(4).min(4096);
    let blocks = image.div_ceil(width);
    let parts = (Chunks::grouped(z, image, width), Chunks::grouped(target, image, width));
    cpu.threads.each(parts, 1, |i, (z, u)| {
        let (sample, offset) = (i / blocks, i % blocks * width);
        let time = path.time(drawn[sample]);
        let at = [path.alpha(time), path.sigma(time)].map(|weight| weight as f32);
        let target = prediction.of_data_and_noise(path, time).map(|weight| weight as f32);
        let stream = draw.stream(sample, Purpose::Noise);
        let x = &x[sample * image + offset..][..z.len()];
        mix(cpu.isa(), stream, (offset / 4) as u32, at, target, x, z, u);
    });
    t.iter_mut().for_each(|t| *t = path.told(path.time(*t)) as f32);
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
