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

/// Classifier-free guidance: `v = u + weight (v - u)` in the first `channels` channels of each image; the others keep v.
pub fn guide(cpu: &Cpu, v: &mut [f32], u: &[f32], weight: f32, channels: usize, grid: PatchGrid) {
    let guided = channels * grid.height * grid.width;
    cpu.threads.each(Chunks::new(v, grid.image()), 1, |i, v| {
        guide_block(cpu.isa(), &mut v[..guided], &u[i * grid.image()..][..guided], weight);
    });
}

vectorised! {
    fn advance_block(z: &[f32], v: &[f32], step: f32, out: &mut [f32]) {
        for ((out, &z), &v) in out.iter_mut().zip(z).zip(v) {
            *out = z + step * v;
        }
    }

    fn guide_block(v: &mut [f32], u: &[f32], weight: f32) {
        for (v, &u) in v.iter_mut().zip(u) {
            *v = u + weight * (*v - u);
        }
    }
}
