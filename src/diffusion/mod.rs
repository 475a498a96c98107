//! From a model to images: what it predicts, guidance, samplers.

mod field;
mod guidance;
mod sample;
mod sampler;

pub use field::{Field, ModelField, predict};
pub use guidance::Guidance;
pub use sample::{Request, sample};
pub use sampler::{Course, Sampler};
