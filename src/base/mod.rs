//! The plain vocabulary of the engine: errors, shapes, random numbers, the mathematics of the process.

mod accumulate;
mod cost;
mod dtype;
mod error;
pub mod rng;
mod shape;

pub use accumulate::Accumulate;
pub use cost::Cost;
pub use dtype::{DType, Element};
pub use error::{Error, Result};
pub use shape::Shape;
