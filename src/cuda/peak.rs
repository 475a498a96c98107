//! The peaks of a card, measured: the denominators of every share of a peak that is printed.

use crate::base::DType;
use crate::device::cuda::{Cuda, Grid, Kernel, Typed};
use crate::tensor::Tensor;
use crate::{kernel, kernels};

const PEAK: Typed = kernels!("peak", "peak");
const READ: Kernel = kernel!("peak", "peak_read");

/// Threads of a block, and its blocks that a multiprocessor holds at once, whatever their registers.
const THREADS: usize = 256;
const RESIDENT: usize = 2;

/// The shortest launch that is believed: its beginning and its end are not at the peak.
const SECONDS: f64 = 2e-3;

/// The most FLOP/s that the card reaches on multiply-adds that no memory feeds, `card.activations` in and f32 out: the best of
/// `rounds` launches of some milliseconds.
pub fn flops(card: &Cuda, rounds: usize) -> f64 {
    let mut loops = 1;
    while seconds(card, loops) < SECONDS {
        loops *= 2;
    }
    let best = (0..rounds).map(|_| seconds(card, loops)).fold(f64::INFINITY, f64::min);
    (blocks(card) * loops * of_a_loop(card)) as f64 / best
}

fn blocks(card: &Cuda) -> usize {
    RESIDENT * card.card().multiprocessors
}

/// The flops of a block in one loop, as the kernel's file counts them.
fn of_a_loop(card: &Cuda) -> usize {
    match (card.activations, card.card().capability) {
        (DType::BF16, (9, 0)) => THREADS / 128 * 1_572_864,
        (DType::BF16, _) => THREADS / 32 * 32_768,
        _ => THREADS * 32,
    }
}

/// One launch.
fn seconds(card: &Cuda, loops: usize) -> f64 {
    let blocks = blocks(card);
    let out = Tensor::workspace(card, [blocks * THREADS], DType::F32);
    let launch = || card.launch(PEAK.of(card.activations), Grid::new(blocks, THREADS), &[loops.into(), (&out).into()]);
    card.seconds(launch).unwrap_or_else(|error| error.throw())
}

/// The bytes/s at which the card reads `bytes` of its memory, many times what its caches hold: the best of `rounds` passes.
pub fn read_rate(card: &Cuda, bytes: usize, rounds: usize) -> f64 {
    let grid = super::stride(card, bytes / 16);
    let mut x = Tensor::workspace(card, [bytes / 4], DType::F32);
    x.zero();
    let out = Tensor::workspace(card, [grid.blocks[0] as usize * THREADS], DType::F32);
    let launch = || card.launch(READ, grid, &[(&x).into(), super::count(bytes / 16), (&out).into()]);
    let seconds = |_| card.seconds(launch).unwrap_or_else(|error| error.throw());
    // The first launch is not believed: it is waited for.
    bytes as f64 / (0..=rounds).map(seconds).skip(1).fold(f64::INFINITY, f64::min)
}
