use super::Velocity;
use crate::base::DType;
use crate::ops::solver::advance;
use crate::tensor::Tensor;
use std::fmt;
use std::str::FromStr;

/// A solver of `dz/dt = v(z, t)` from t = 1 (noise) to t = 0 (data) on equal steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampler {
    /// First order; N steps cost N evaluations.
    Euler,
    /// Second order: the trapezium rule on an Euler predictor, with an Euler step at the end, where the velocity at t = 0
    /// was never trained; N steps cost 2 N - 1 evaluations (Karras et al., 2022, algorithm 1).
    Heun,
}

impl Sampler {
    const NAMES: [(&'static str, Sampler); 2] = [("euler", Sampler::Euler), ("heun", Sampler::Heun)];

    /// Integrates `z` in place and returns the number of evaluations of the velocity.
    pub fn integrate(self, velocity: &mut impl Velocity, z: &mut Tensor, steps: usize) -> usize {
        let time = |step: usize| 1.0 - step as f64 / steps as f64;
        let device = velocity.device().clone();
        let new = || Tensor::new(&device, "sampler", *z.shape(), DType::F32);
        // All of it from the beginning: a card that records an evaluation must find the same memory free each time.
        let (mut v, mut next) = (new(), new());
        let mut second = (self == Sampler::Heun && steps > 1).then(|| [new(), new()]);
        let mut evaluations = 0;
        for step in 0..steps {
            if !velocity.wanted() {
                break;
            }
            let (t, t_next) = (time(step), time(step + 1));
            velocity.velocity(z, t, &mut v);
            advance(&device, z, &v, (t_next - t) as f32, &mut next);
            evaluations += 1;
            if let Some([v_next, half]) = &mut second
                && step + 1 < steps
            {
                velocity.velocity(&next, t_next, v_next);
                evaluations += 1;
                advance(&device, z, &v, (0.5 * (t_next - t)) as f32, half);
                advance(&device, half, v_next, (0.5 * (t_next - t)) as f32, &mut next);
            }
            std::mem::swap(z, &mut next);
        }
        evaluations
    }

    /// The names that a flag takes.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Sampler::NAMES.iter().map(|row| row.0)
    }
}

impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Sampler::NAMES.iter().find(|row| row.1 == *self).map_or("", |row| row.0))
    }
}

impl FromStr for Sampler {
    type Err = String;

    fn from_str(name: &str) -> Result<Sampler, String> {
        let row = Sampler::NAMES.iter().find(|row| row.0 == name);
        let names = || Sampler::names().collect::<Vec<_>>().join(", ");
        row.map(|row| row.1).ok_or_else(|| format!("{name}: no sampler of this name; there are {}", names()))
    }
}
