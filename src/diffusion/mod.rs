//! From a model to images: what it predicts, guidance, samplers.

mod dopri5;
mod field;
mod guidance;
mod integrate;
mod sample;
mod sampler;

pub use dopri5::{Dopri5, Norm, Steps};
pub use field::{Field, ModelField, predict};
pub use guidance::Guidance;
pub use sample::{Request, sample};
pub use sampler::{Course, Sampler};
