use super::THREADS;
use crate::device::cuda::{Argument, Cuda, Grid, Kernel};
use crate::kernel;
use crate::tensor::Tensor;

const NOISE: Kernel = kernel!("noise", "noise");
const DROP_LABELS: Kernel = kernel!("noise", "drop_labels");

/// Writes the times `t` (B) that the network is told, `z` and `target` (B, image) from the data `x` (B, image); `place` (2) says
/// which draws, `along` (B, 5) what follows from each sample's time.
pub fn noise(
    card: &Cuda,
    (seed, place): (u64, &Tensor),
    along: &Tensor,
    x: &Tensor,
    t: &mut Tensor,
    z: &mut Tensor,
    target: &mut Tensor,
) {
    let (batch, image) = (t.len(), x.len() / t.len());
    let grid = Grid::volume([image.div_ceil(4 * THREADS), batch, 1], THREADS);
    let draws: [Argument; 3] = [seed.into(), place.into(), along.into()];
    let arguments = [&draws[..], &[x.into(), t.into(), z.into(), target.into(), image.into()]].concat();
    card.launch(NOISE, grid, &arguments);
}

/// Writes the labels `y` (B), those of `from` or, with probability `rate`, `null`.
pub fn drop_labels(card: &Cuda, (seed, place): (u64, &Tensor), rate: f32, null: u32, from: &Tensor, y: &mut Tensor) {
    let batch = from.len();
    let arguments = [seed.into(), place.into(), rate.into(), null.into(), from.into(), y.into(), batch.into()];
    card.launch(DROP_LABELS, Grid::new(batch.div_ceil(THREADS), THREADS), &arguments);
}
