//! The masked squared error and its gradient, in one pass.
//!
//! ```text
//! e    = v[b, n, (p q c)] - u[b, c, i P + p, j P + q]      token n keeps the patch (i, j); c < C
//! loss = sum_b,n,p,q,c  w[b] m e^2
//! v   <- 2 w[b] m e                                        the gradient, over v; 0 in the columns c >= C
//! ```
//! `v` (B, N, P * P * Cv) has Cv >= C channels for each pixel: with a learned sigma the upper half is not trained here.
//! `u` and the mask `m` (1 = supervised) are images (B, C, H, W), `w` the weights (B).

use crate::base::PatchGrid;
use crate::device::{Chunks, Cpu, Parts};

/// Most blocks of tokens whose sums are added in order; their number depends on the tokens alone.
const BLOCKS: usize = 256;

/// Writes the gradient over `v` and returns the loss.
///
/// `kept` (B, N) names the patch of each token; `None` means all patches in order. `weight` (B) is the factor of an image's
/// squared errors.
pub fn masked_loss(
    cpu: &Cpu,
    v: &mut [f32],
    target: &[f32],
    mask: Option<&[f32]>,
    kept: Option<&[u32]>,
    weight: &[f32],
    grid: PatchGrid,
    tokens: usize,
) -> f32 {
    let outputs = v.len() / (target.len() / grid.image() * tokens * grid.area());
    let width = grid.area() * outputs;
    let rows = (v.len() / width).div_ceil(BLOCKS).max(16);
    let mut sums = [0.0f64; BLOCKS];
    let blocks = Chunks::new(v, rows * width);
    let sums = &mut sums[..blocks.count()];
    cpu.threads.each((blocks, Chunks::new(sums, 1)), 1, |block, (v, total)| {
        for (row, v) in (block * rows..).zip(v.chunks_exact_mut(width)) {
            let (image, weight) = (row / tokens * grid.image(), weight[row / tokens]);
            let patch = kept.map_or(row % tokens, |kept| kept[row] as usize);
            let mut sum = 0.0f32;
            for (pixel, v) in v.chunks_exact_mut(outputs).enumerate() {
                let (trained, rest) = v.split_at_mut(grid.channels);
                for (channel, v) in trained.iter_mut().enumerate() {
                    let at = image + grid.element(patch, pixel, channel);
                    let m = mask.map_or(weight, |mask| mask[at] * weight);
                    let e = *v - target[at];
                    sum += m * e * e;
                    *v = 2.0 * m * e;
                }
                rest.fill(0.0);
            }
            total[0] += f64::from(sum);
        }
    });
    sums.iter().sum::<f64>() as f32
}
