//! Tokens back to images: `out[b, c, i P + p, j P + q] = x[b, (i j), (p q c)]` for the first C of the Cv channels.

use crate::base::PatchGrid;
use crate::device::{Chunks, Cpu};

/// Writes `out` (B, C, H, W) from `x` (B, T, P P Cv).
pub fn unpatchify(cpu: &Cpu, grid: PatchGrid, x: &[f32], out: &mut [f32]) {
    let tokens = grid.tokens();
    let width = x.len() / (out.len() / grid.image() * tokens);
    let outputs = width / grid.area();
    cpu.threads.each(Chunks::new(out, grid.image()), 1, |image, out| {
        for (patch, token) in x[image * tokens * width..][..tokens * width].chunks_exact(width).enumerate() {
            for (pixel, values) in token.chunks_exact(outputs).enumerate() {
                for (channel, &value) in values[..grid.channels].iter().enumerate() {
                    out[grid.element(patch, pixel, channel)] = value;
                }
            }
        }
    });
}
