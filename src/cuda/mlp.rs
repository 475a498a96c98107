use super::linear::{Contiguous, Plan};
use super::{count, stride};
use crate::device::cuda::{Argument, Cuda, Kernel, Typed};
use crate::tensor::Tensor;
use crate::{kernel, kernels};

const FORWARD: Typed = kernels!("mlp", "mlp_forward");
const FORWARD_TILES: [Kernel; 4] = [
    kernel!("mlp", "mlp_forward_bf16_128x192"),
    kernel!("mlp", "mlp_forward_bf16_256x128"),
    kernel!("mlp", "mlp_forward_bf16_128x128"),
    kernel!("mlp", "mlp_forward_bf16_32x128"),
];
const BACKWARD: Typed = kernels!("mlp", "mlp_backward");
const BACKWARD_TILES: [Kernel; 4] = [
    kernel!("mlp", "mlp_backward_bf16_128x192"),
    kernel!("mlp", "mlp_backward_bf16_256x128"),
    kernel!("mlp", "mlp_backward_bf16_128x128"),
    kernel!("mlp", "mlp_backward_bf16_32x128"),
];
const GELU_ERF: Typed = kernels!("gelu", "gelu_erf");

/// Writes gelu and its derivative at `x W1ᵀ + b1`: `active` and `slope` (.., F), from `x` (.., D), `w1` (F, D) and `b1` (F).
pub fn forward(card: &Cuda, x: &Tensor, w1: &Tensor, b1: &Tensor, active: &mut Tensor, slope: &mut Tensor) {
    let (rows, inner, width) = (x.shape().rows(), x.shape().width(), b1.len());
    let plan = Plan::new(card, x.dtype(), [inner, width], [rows, width, inner], 3, false);
    let factors = [plan.left(x, Contiguous::Sum), plan.right(w1, Contiguous::Sum)];
    let tensors = [factors[0], factors[1], b1.into(), active.into(), slope.into()];
    let extents = [rows, inner, width].map(Argument::from);
    let kernel = plan.kernel(&FORWARD_TILES, FORWARD, x.dtype());
    card.launch(kernel, plan.grid(), &[&tensors[..], &extents].concat());
}

/// Writes over GELU's argument `active` (.., F) its value, in the form of the error function, and its derivative to `slope`.
pub fn evaluate_erf(card: &Cuda, active: &mut Tensor, slope: &mut Tensor) {
    let elements = active.len();
    let arguments = [active.into(), slope.into(), count(elements)];
    card.launch(GELU_ERF.of(slope.dtype()), stride(card, elements), &arguments);
}

/// Writes the gradient `dp` (.., F) of GELU's argument, from `dy` (.., D), `w2` (D, F) and `slope` (.., F).
pub fn backward(card: &Cuda, dy: &Tensor, w2: &Tensor, slope: &Tensor, dp: &mut Tensor) {
    let (rows, inner, width) = (dy.shape().rows(), dy.shape().width(), slope.shape().width());
    let plan = Plan::new(card, dy.dtype(), [inner, width], [rows, width, inner], 3, false);
    let factors = [plan.left(dy, Contiguous::Sum), plan.right(w2, Contiguous::Output)];
    let tensors = [factors[0], factors[1], slope.into(), dp.into()];
    let extents = [rows, inner, width].map(Argument::from);
    let kernel = plan.kernel(&BACKWARD_TILES, BACKWARD, dy.dtype());
    card.launch(kernel, plan.grid(), &[&tensors[..], &extents].concat());
}
