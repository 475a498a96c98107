//! Gather of the kept patches and their embedding; see `kernels/patch_embed.cu`.

use super::{THREADS, count, grid_arguments, stride};
use crate::base::{DType, PatchGrid};
use crate::device::cuda::{Argument, Cuda, Grid, Kernel, Typed};
use crate::tensor::Tensor;
use crate::{kernel, kernels};

const GATHER: Typed = kernels!("patch_embed", "patch_embed_gather");
const FORWARD: Typed = kernels!("patch_embed", "patch_embed_forward");
const FORWARD_PACKED: Kernel = kernel!("patch_embed", "patch_embed_forward_bf16_packed");

/// Copies the patches that `kept` (B, N) names, or all in order, from `z` (B, C, H, W) into `patches` (B, N, C P P).
pub fn gather(card: &Cuda, grid: PatchGrid, z: &Tensor, kept: Option<&Tensor>, patches: &mut Tensor) {
    let (tokens, elements) = (patches.shape().extents()[1], patches.len());
    let kernel = GATHER.of(patches.dtype());
    let tensors = [z.into(), kept.into(), patches.into()];
    let arguments = [&tensors[..], &grid_arguments(grid), &[tokens.into(), count(elements)]].concat();
    card.launch(kernel, stride(card, elements), &arguments);
}

/// `x` (B, N, D) from the gathered patches; `position` is (T, D).
pub fn forward(
    card: &Cuda,
    patches: &Tensor,
    [weight, bias, position]: [&Tensor; 3],
    kept: Option<&Tensor>,
    x: &mut Tensor,
) {
    let (tokens, rows) = (x.shape().extents()[1], x.shape().rows());
    let (inner, width) = (patches.shape().width(), x.shape().width());
    // Of the tensor cores' kernel 32 tokens by 256 columns, of the other 64 by 64.
    let (kernel, [down, across]) = if x.dtype() == DType::BF16 && inner.is_multiple_of(2) && width.is_multiple_of(8) {
        (FORWARD_PACKED, [32, 256])
    } else {
        (FORWARD.of(x.dtype()), [64, 64])
    };
    let tensors = [patches.into(), weight.into(), bias.into(), position.into(), kept.into(), x.into()];
    let extents = [tokens, rows, inner, width].map(Argument::from);
    let blocks = rows.div_ceil(down) * width.div_ceil(across);
    card.launch(kernel, Grid::new(blocks, THREADS), &[&tensors[..], &extents].concat());
}
