//! Gate, residual, layer norm and modulation; see `kernels/gated_norm.cu`.

use crate::base::{Accumulate, DType};
use crate::device::cuda::{Argument, Cuda, Grid, Kernel, Typed};
use crate::tensor::Tensor;
use crate::{kernel, kernels};

const FORWARD: Typed = kernels!("gated_norm", "gated_norm_forward");
const FORWARD_PACKED: Kernel = kernel!("gated_norm", "gated_norm_forward_bf16_packed");
const BACKWARD: Typed = kernels!("gated_norm", "gated_norm_backward");
const BACKWARD_PACKED: Kernel = kernel!("gated_norm", "gated_norm_backward_bf16_packed");
const SUMS: Typed = kernels!("gated_norm", "gated_norm_sums");

/// Threads of a block, and rows of a block of the forward.
const THREADS: usize = 256;
const WARPS: usize = 8;

/// The widest rows that the packed kernels hold in registers, forward and backward.
const PACKED_FORWARD: usize = 1280;
const PACKED_BACKWARD: usize = 2048;

/// Rows of an image whose column sums one block of the backward keeps: with 32 the sums are a sixteenth of the traffic; with 8
/// a small batch reaches more multiprocessors.
const HEIGHTS: [usize; 2] = [32, 8];

/// The modulation of a batch, (B, chunks D), and the chunks that one norm uses.
#[derive(Clone, Copy)]
pub struct Modulation<'a> {
    pub values: &'a Tensor,
    pub shift: usize,
    pub scale: usize,
}

/// A branch that joins the stream: its value, (B, N, D), and the chunk of its gate.
#[derive(Clone, Copy)]
pub struct Branch<'a> {
    pub value: &'a Tensor,
    pub gate: usize,
}

/// The norm alone: `normed` and `stats` (B, N, 2: mean, rstd) from `stream` (B, N, D).
pub fn norm(card: &Cuda, stream: &Tensor, modulation: Modulation, normed: &mut Tensor, stats: &mut Tensor) {
    forward(card, stream, None, modulation, None, normed, stats);
}

/// Gate, residual and norm: also writes `gated`, which is s'.
pub fn gated_norm(
    card: &Cuda,
    stream: &Tensor,
    branch: Branch,
    modulation: Modulation,
    gated: &mut Tensor,
    normed: &mut Tensor,
    stats: &mut Tensor,
) {
    forward(card, stream, Some(branch), modulation, Some(gated), normed, stats);
}

fn forward(
    card: &Cuda,
    stream: &Tensor,
    branch: Option<Branch>,
    modulation: Modulation,
    gated: Option<&mut Tensor>,
    normed: &mut Tensor,
    stats: &mut Tensor,
) {
    let (images, tokens, width) = extents(stream);
    let rows = images * tokens;
    let kernel = if packed(stream, PACKED_FORWARD) { FORWARD_PACKED } else { FORWARD.of(stream.dtype()) };
    let value = branch.map(|branch| branch.value);
    let gated = gated.map(|gated| &*gated);
    let tensors = [stream.into(), value.into(), modulation.values.into(), gated.into(), normed.into(), stats.into()];
    let chunks = chunks(modulation, branch, width);
    let extents = [tokens, width, rows].map(Argument::from);
    card.launch(kernel, Grid::new(rows.div_ceil(WARPS), THREADS), &[&tensors[..], &chunks, &extents].concat());
}

/// `dnormed` holds dy and becomes the gradient of the branch; `dstream` holds ds' where `accumulate` is `Add`, and becomes
/// ds, the gradient of s.
///
/// `stream` is s'. The gradients of gate, shift and scale are *added* to their chunks of `dmodulation`.
pub fn backward(
    card: &Cuda,
    dnormed: &mut Tensor,
    (dstream, accumulate): (&mut Tensor, Accumulate),
    stream: &Tensor,
    branch: Option<Branch>,
    stats: &Tensor,
    modulation: Modulation,
    dmodulation: &mut Tensor,
) {
    let (images, tokens, width) = extents(stream);
    let blocks = |height: &usize| tokens.div_ceil(*height);
    let fills = |height: &usize| images * blocks(height) >= 2 * card.card().multiprocessors;
    let height = HEIGHTS.into_iter().find(fills).unwrap_or(HEIGHTS[1]);
    let blocks = blocks(&height);
    let (kernel, threads) = if packed(stream, PACKED_BACKWARD) {
        (BACKWARD_PACKED, width.div_ceil(8).next_multiple_of(32))
    } else {
        (BACKWARD.of(stream.dtype()), THREADS)
    };
    let sums = Tensor::workspace(card, [images * blocks, 3 * width], DType::F32);
    let [all, gate, shift, scale] = chunks(modulation, branch, width);
    let value = branch.map(|branch| branch.value);
    let gradients = [dnormed.into(), dstream.into()];
    let tensors = [stream.into(), value.into(), stats.into(), modulation.values.into(), (&sums).into()];
    let extents = [tokens, width, height].map(Argument::from);
    let add = (accumulate == Accumulate::Add).into();
    let arguments = [&gradients[..], &tensors, &[all, gate, scale], &extents, &[add]].concat();
    card.launch(kernel, Grid::volume([blocks, images, 1], threads), &arguments);

    let parts = if branch.is_some() { 3 } else { 2 };
    let grid = Grid::volume([width.div_ceil(THREADS), parts, images], THREADS);
    let arguments = [(&sums).into(), dmodulation.into(), all, gate, shift, scale, width.into(), blocks.into()];
    card.launch(SUMS.of(stream.dtype()), grid, &arguments);
}

/// Whether the packed kernels take the rows of a stream.
fn packed(stream: &Tensor, widest: usize) -> bool {
    let width = stream.shape().width();
    stream.dtype() == DType::BF16 && width.is_multiple_of(8) && width <= widest
}

/// (B, N, D) of a stream.
fn extents(stream: &Tensor) -> (usize, usize, usize) {
    let [images, tokens, width] = *stream.shape().extents() else {
        panic!("gated_norm: the stream is {:?}", stream.shape())
    };
    (images, tokens, width)
}

/// How many chunks an image's modulation has, and those of gate, shift and scale.
fn chunks(modulation: Modulation, branch: Option<Branch>, width: usize) -> [Argument; 4] {
    let all = modulation.values.shape().width() / width;
    [all, branch.map_or(0, |branch| branch.gate), modulation.shift, modulation.scale].map(Argument::from)
}
