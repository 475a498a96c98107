use super::exp::exp;
use super::rng::{Stream, uniform};

/// How training draws the time of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Times {
    Uniform,
    /// `sigmoid(mean + deviation n)` (Esser et al., *Scaling Rectified Flow Transformers*, 2024, section 3.1).
    LogitNormal {
        mean: f32,
        deviation: f32,
    },
}

impl Times {
    /// The time of one sample, in the open interval (0, 1).
    pub fn draw(self, stream: Stream) -> f32 {
        match self {
            Times::Uniform => uniform(stream.words(0)[0]),
            Times::LogitNormal { mean, deviation } => {
                let n = deviation.mul_add(stream.normals(0)[0], mean);
                (1.0 / (1.0 + exp(-n))).clamp(f32::EPSILON, 1.0 - f32::EPSILON)
            }
        }
    }
}
