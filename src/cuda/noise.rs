use super::THREADS;
use crate::base::{Path, Times};
use crate::device::cuda::{Argument, Cuda, Grid, Kernel};
use crate::kernel;
use crate::tensor::Tensor;

const NOISE: Kernel = kernel!("noise", "noise");
const DROP_LABELS: Kernel = kernel!("noise", "drop_labels");

/// Writes `t` (B), `z` and `target` (B, image) from the data `x` (B, image); `place` (2) says which draws.
pub fn noise(
    card: &Cuda,
    (seed, place): (u64, &Tensor),
    path: Path,
    times: Times,
    x: &Tensor,
    t: &mut Tensor,
    z: &mut Tensor,
    target: &mut Tensor,
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
    let arguments: [Argument; 11] = [
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
