//! The plain vocabulary of the engine: errors, shapes, random numbers, the mathematics of the process.

mod accumulate;
mod adamw;
mod bytes;
pub mod condition;
mod cost;
mod denoise;
mod dtype;
mod error;
mod exp;
mod gelu;
mod mask;
mod patch;
mod path;
mod prediction;
pub mod rng;
mod shape;
pub mod shell;
mod times;
mod weighting;

pub use accumulate::Accumulate;
pub use adamw::AdamW;
pub use bytes::Bytes;
pub use cost::Cost;
pub use denoise::Denoise;
pub use dtype::{DType, Element};
pub use error::{Error, Result};
pub use exp::exp;
pub use gelu::Gelu;
pub use mask::{LossMask, LossNorm, Mask, Rate, TokenMask, TokenMasks, Windows};
pub use patch::PatchGrid;
pub use path::Path;
pub use prediction::Prediction;
pub use shape::Shape;
pub use times::{Law, Times};
pub use weighting::Weighting;
