//! The operations on the processor, one file each, on slices.

#[macro_use]
mod vectorised;

pub mod attention;
pub mod condition;
pub mod extra_tokens;
pub mod gated_norm;
pub mod join;
pub mod layer_norm;
pub mod mask;
pub mod masked_loss;
pub mod math;
pub mod matmul;
pub mod noise;
pub mod patch_embed;
pub mod peak;
pub mod score;
pub mod scratch;
pub mod solver;
mod sums;
pub mod unpatchify;
pub mod update;

pub use sums::{add, column_sums};
