use super::{count, stride};
use crate::device::cuda::{Cuda, Typed};
use crate::kernels;
use crate::tensor::Tensor;

const ADD: Typed = kernels!("sums", "add");

/// `sum += x`.
pub fn add(card: &Cuda, sum: &mut Tensor, x: &Tensor) {
    let elements = x.len();
    card.launch(ADD.of(x.dtype()), stride(card, elements / 4), &[sum.into(), x.into(), count(elements)]);
}
