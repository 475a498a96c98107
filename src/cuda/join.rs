//! A stream after its branch beside a long skip; see `kernels/join.cu`.

use super::{count, stride};
use crate::device::cuda::{Cuda, Typed};
use crate::kernels;
use crate::tensor::Tensor;

const FORWARD: Typed = kernels!("join", "join_forward");
const BACKWARD: Typed = kernels!("join", "join_backward");

/// Writes `y` (.., 2 D) from `stream`, `branch` and `skip` (.., D).
pub fn forward(card: &Cuda, [stream, branch, skip]: [&Tensor; 3], y: &mut Tensor) {
    let (elements, width) = (stream.len(), stream.shape().width());
    let kernel = FORWARD.of(stream.dtype());
    let arguments = [stream.into(), branch.into(), skip.into(), y.into(), width.into(), count(elements)];
    card.launch(kernel, stride(card, elements), &arguments);
}

/// Writes the gradients of stream, branch and skip from `dy` (.., 2 D).
pub fn backward(card: &Cuda, dy: &Tensor, [stream, branch, skip]: [&mut Tensor; 3]) {
    let (elements, width) = (stream.len(), stream.shape().width());
    let kernel = BACKWARD.of(dy.dtype());
    let arguments = [dy.into(), stream.into(), branch.into(), skip.into(), width.into(), count(elements)];
    card.launch(kernel, stride(card, elements), &arguments);
}
