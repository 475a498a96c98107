use super::{count, stride};
use crate::base::PatchGrid;
use crate::device::cuda::{Cuda, Kernel};
use crate::kernel;
use crate::tensor::Tensor;

const ADVANCE: Kernel = kernel!("solver", "advance");
const GUIDE: Kernel = kernel!("solver", "guide");

/// `out = z + step v`.
pub fn advance(card: &Cuda, z: &Tensor, v: &Tensor, step: f32, out: &mut Tensor) {
    let elements = z.len();
    card.launch(ADVANCE, stride(card, elements), &[z.into(), v.into(), step.into(), out.into(), count(elements)]);
}

/// `v = u + weight (c - u)` in the first `channels` channels of each image, with c and u the halves of `pair`.
pub fn guide(card: &Cuda, pair: &Tensor, weight: f32, channels: usize, grid: PatchGrid, v: &mut Tensor) {
    let elements = v.len();
    let guided = channels * grid.height * grid.width;
    let arguments = [pair.into(), weight.into(), guided.into(), grid.image().into(), v.into(), count(elements)];
    card.launch(GUIDE, stride(card, elements), &arguments);
}
