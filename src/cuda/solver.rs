use super::{THREADS, count, stride};
use crate::base::rng::Draw;
use crate::base::{Denoise, PatchGrid};
use crate::device::cuda::{Argument, Cuda, Grid, Kernel};
use crate::kernel;
use crate::tensor::Tensor;

const ADVANCE: Kernel = kernel!("solver", "advance");
const DENOISE: Kernel = kernel!("solver", "denoise");
const GUIDE: Kernel = kernel!("solver", "guide");

/// `out = z + step v`.
pub fn advance(card: &Cuda, z: &Tensor, v: &Tensor, step: f32, out: &mut Tensor) {
    let elements = z.len();
    card.launch(ADVANCE, stride(card, elements), &[z.into(), v.into(), step.into(), out.into(), count(elements)]);
}

/// `v = u + weight (c - u)` in the first `channels` channels of each image with its `weight` (B) unless that is 1, with c and u
/// the halves of `pair`.
pub fn guide(card: &Cuda, pair: &Tensor, weight: &Tensor, channels: usize, grid: PatchGrid, v: &mut Tensor) {
    let elements = v.len();
    let guided = channels * grid.height * grid.width;
    let arguments = [pair.into(), weight.into(), guided.into(), grid.image().into(), v.into(), count(elements)];
    card.launch(GUIDE, stride(card, elements), &arguments);
}

/// A step `Denoise` from `z` and the prediction `p`, images of `image` elements.
pub fn denoise(card: &Cuda, z: &Tensor, p: &Tensor, step: Denoise, draw: Draw, image: usize, out: &mut Tensor) {
    let grid = Grid::volume([image.div_ceil(4 * THREADS), z.len() / image, 1], THREADS);
    let Denoise { x_of: [x_z, x_p], bound, x, z: of_z, p: of_p, noise } = step;
    let weights = [x_z, x_p, bound, x, of_z, of_p, noise].map(Argument::from);
    let (inputs, draws) = ([z.into(), p.into()], [draw.seed.into(), draw.step.into(), draw.first.into()]);
    card.launch(DENOISE, grid, &[&inputs[..], &weights, &draws, &[out.into(), image.into()]].concat());
}
