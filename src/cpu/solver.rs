//! The elementwise steps of samplers.

use crate::base::PatchGrid;
use crate::device::{Chunks, Cpu};

const BLOCK: usize = 16 * 1024;

/// `out = z + step v`.
pub fn advance(cpu: &Cpu, z: &[f32], v: &[f32], step: f32, out: &mut [f32]) {
    cpu.threads.each(Chunks::new(out, BLOCK), 1, |i, out| {
        let at = i * BLOCK..i * BLOCK + out.len();
        advance_block(cpu.isa(), &z[at.clone()], &v[at], step, out);
    });
}

/// Classifier-free guidance: `v = u + weight (c - u)` in the first `channels` channels of each image, c in the others, with c
/// and u the halves of `pair`.
pub fn guide(cpu: &Cpu, pair: &[f32], weight: f32, channels: usize, grid: PatchGrid, v: &mut [f32]) {
    let guided = channels * grid.height * grid.width;
    let (c, u) = pair.split_at(v.len());
    cpu.threads.each(Chunks::new(v, grid.image()), 1, |i, v| {
        let at = i * grid.image();
        let (moved, kept) = v.split_at_mut(guided);
        guide_block(cpu.isa(), &c[at..][..guided], &u[at..][..guided], weight, moved);
        kept.copy_from_slice(&c[at + guided..at + grid.image()]);
    });
}

vectorised! {
    fn advance_block(z: &[f32], v: &[f32], step: f32, out: &mut [f32]) {
        for ((out, &z), &v) in out.iter_mut().zip(z).zip(v) {
            *out = z + step * v;
        }
    }

    fn guide_block(c: &[f32], u: &[f32], weight: f32, v: &mut [f32]) {
        for ((v, &c), &u) in v.iter_mut().zip(c).zip(u) {
            *v = u + weight * (c - u);
        }
    }
}
