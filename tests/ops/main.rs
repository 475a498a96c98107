//! Every operation against its oracle, one module each.

#[path = "../common/mod.rs"]
mod common;

mod attention;
mod condition;
mod extra_tokens;
mod gated_norm;
mod join;
mod layer_norm;
mod linear;
mod mask;
mod masked_loss;
mod matmul;
mod mlp;
mod noise;
mod patch_embed;
mod score;
mod solver;
mod sums;
mod unpatchify;
mod update;
