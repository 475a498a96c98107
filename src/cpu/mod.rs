//! The operations on the processor, one file each, on slices.

#[macro_use]
mod vectorised;

pub mod math;
pub mod matmul;
mod sums;

pub use sums::column_sums;
