use super::THREADS;
use crate::base::{Prediction, Times};
use crate::device::cuda::{Argument, Cuda, Grid, Kernel};
use crate::kernel;
use crate::tensor::Tensor;

const NOISE: Kernel = kernel!("noise", "noise");
const DROP_LABELS: Kernel = kernel!("noise", "drop_labels");

/// Writes the times `t` (B) that the network is told, `z` and `target` (B, image) from the data `x` (B, image); `place` (2) says
/// which draws, `schedule` (T, 5) the steps of a path that has them, and without it the path is the linear one.
pub fn noise(
    card: &Cuda,
    (seed, place): (u64, &Tensor),
    prediction: Prediction,
    schedule: Option<&Tensor>,
    times: Times,
    x: &Tensor,
    t: &mut Tensor,
    z: &mut Tensor,
    target: &mut Tensor,
) {
    let prediction: u32 = match prediction {
        Prediction::V => 0,
        Prediction::X => 1,
        Prediction::Eps => 2,
    };
    let steps = schedule.map_or(0, |rows| rows.shape().rows());
    let (times, mean, deviation): (u32, _, _) = match times {
        Times::Uniform => (0, 0.0, 1.0),
        Times::LogitNormal { mean, deviation } => (1, mean, deviation),
    };
    let (batch, image) = (t.len(), x.len() / t.len());
    let grid = Grid::volume([image.div_ceil(4 * THREADS), batch, 1], THREADS);
    let arguments: [Argument; 13] = [
        seed.into(),
        place.into(),
        prediction.into(),
        schedule.into(),
        steps.into(),
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
