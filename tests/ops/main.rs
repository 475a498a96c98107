//! Every operation against its oracle, one module each.

#[path = "../common/mod.rs"]
mod common;

mod attention;
mod gated_norm;
mod linear;
mod matmul;
mod mlp;
mod sums;
