use super::THREADS;
use crate::base::{Path, Times};
use crate::device::cuda::{Argument, Cuda, Grid, Kernel};
use crate::kernel;
use crate::tensor::Tensor;

const NOISE: Kernel = kernel!("noise", "noise");
const DROP_LABELS: Kernel = kernel!("noise", "drop_labels");
const KEEP_TOKENS: Kernel = kernel!("noise", "keep_tokens");

/// Writes `t` (B), `z` and `target` (B, image) from the data `x` (B, image), and the number of `supervised` elements into
/// `count` (1); `place` (2) says which draws.
pub fn noise(
    card: &Cuda,
    (seed, place): (u64, &Tensor),
    path: Path,
    times: Times,
    x: &Tensor,
    t: &mut Tensor,
    z: &mut Tensor,
    target: &mut Tensor,
    (count, supervised): (&mut Tensor, usize),
) {
    let path: u32 = match path {
        Path::Linear => 0,
    };
    let (times, mean, deviation): (u32, _, _) = match times {
        Times::Uniform => (0, 0.0, 1.0),
        Times::LogitNormal { mean, deviation } => (1, mean, deviation),
    };
    let (batch, image) = (t.len(), x.len() / t.len());
    let grid = Grid::volume([image.div_ceil(4 * THREADS), batch, 1], THREADS);
    let arguments: [Argument; 13] = [
        seed.into(),
        place.into(),
        path.into(),
        times.into(),
        mean.into(),
        deviation.into(),
        x.into(),
        t.into(),
        z.into(),
        target.into(),
        count.into(),
        (supervised as f32).into(),
        image.into(),
    ];
    card.launch(NOISE, grid, &arguments);
}

/// Writes the labels `y` (B), those of `from` or, with probability `rate`, `null`.
pub fn drop_labels(card: &Cuda, (seed, place): (u64, &Tensor), rate: f32, null: u32, from: &Tensor, y: &mut Tensor) {
    let batch = from.len();
    let arguments = [seed.into(), place.into(), rate.into(), null.into(), from.into(), y.into(), batch.into()];
    card.launch(DROP_LABELS, Grid::new(batch.div_ceil(THREADS), THREADS), &arguments);
}

/// Draws which of the `patches` of each image stay; `kept` is (B, tokens), ascending within an image.
pub fn keep_tokens(card: &Cuda, (seed, place): (u64, &Tensor), patches: usize, kept: &mut Tensor) {
    let (batch, tokens) = (kept.shape().rows(), kept.shape().width());
    // A word for each patch in whole blocks of four, and a mark for each.
    let shared = 4 * (patches.next_multiple_of(4) + patches);
    let arguments = [seed.into(), place.into(), patches.into(), tokens.into(), kept.into()];
    card.launch(KEEP_TOKENS, Grid::new(batch, THREADS).shared(shared), &arguments);
}
