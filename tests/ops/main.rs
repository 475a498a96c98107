//! Every operation against an f64 oracle, one module each.

mod matmul;
mod sums;
