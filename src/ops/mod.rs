//! The operations of the tape, one file each: forward, launch, backward, cost.
//!
//! An operation checks shapes (a wrong one is a bug and panics with both), allocates its outputs, launches the kernel of
//! the tape's device and records its undo.

pub mod attention;
pub mod condition;
pub mod gated_norm;
pub mod linear;
pub mod masked_loss;
pub mod mlp;
pub mod noise;
pub mod patch_embed;
pub mod solver;
pub mod unpatchify;
pub mod update;
