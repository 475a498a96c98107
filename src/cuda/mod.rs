//! The operations on a CUDA card, one file each: the launches of `kernels/`.
//!
//! A launch returns at once; what is asked for happens in order. Workspace taken from the arena may be dropped as soon as its
//! last kernel was launched, since whoever gets the memory next asks later.

pub mod attention;
pub mod condition;
pub mod extra_tokens;
pub mod gated_norm;
pub mod join;
pub mod layer_norm;
pub mod linear;
pub mod mask;
mod masked_loss;
pub mod mlp;
pub mod noise;
pub mod patch_embed;
pub mod peak;
pub mod score;
mod solver;
mod sums;
mod unpatchify;
pub mod update;

pub use masked_loss::masked_loss;
pub use solver::{advance, denoise, guide};
pub use sums::add;
pub use unpatchify::unpatchify;

use crate::base::PatchGrid;
use crate::device::cuda::{Argument, Cuda, Grid};

/// Threads of a block that works element by element.
const THREADS: usize = 256;

/// A grid for a loop over `count` elements, of which a thread takes one after another: enough blocks to fill the card, and
/// no more than there is work for.
fn stride(card: &Cuda, count: usize) -> Grid {
    let resident = 8 * card.card().multiprocessors;
    Grid::new(count.div_ceil(THREADS).clamp(1, resident), THREADS)
}

fn count(elements: usize) -> Argument {
    Argument::U64(elements as u64)
}

/// A grid of patches, as kernels take it.
fn grid_arguments(grid: PatchGrid) -> [Argument; 4] {
    [grid.channels, grid.height, grid.width, grid.patch].map(Argument::from)
}
