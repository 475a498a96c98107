//! From a model to images: its velocity, guidance, samplers.

mod guidance;
mod sample;
mod sampler;
mod velocity;

pub use guidance::Guidance;
pub use sample::{Request, sample};
pub use sampler::Sampler;
pub use velocity::{ModelVelocity, Velocity, predict};
