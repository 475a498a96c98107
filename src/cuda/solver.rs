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

/// `v = u + weight (v - u)` in the first `channels` channels of each image.
pub fn guide(card: &Cuda, v: &mut Tensor, u: &Tensor, weight: f32, channels: usize, grid: PatchGrid) {
    let elements = u.len();
    let guided = channels * grid.height * grid.width;
    let arguments = [v.into(), u.into(), weight.into(), guided.into(), grid.image().into(), count(elements)];
    card.launch(GUIDE, stride(card, elements), &arguments);
}
