use super::Field;
use crate::base::rng::Draw;
use crate::base::{DType, Denoise, Path, Prediction};
use crate::ops::solver::{advance, denoise};
use crate::tensor::Tensor;
use std::fmt;
use std::str::FromStr;

/// A way from t = 1 (noise), or from the last time at which the network can be asked, to t = 0 (data) in equal steps, each one
/// evaluation of the velocity, or of what else is predicted, unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Sampler {
    /// First order, for `dz/dt = v(z, t)`. Where there is no velocity at t = 0, the last step goes to the predicted data.
    Euler,
    /// Second order: the trapezium rule on an Euler predictor, with an Euler step at the end, where the velocity at t = 0
    /// was never trained; N steps cost 2 N - 1 evaluations (Karras et al., 2022, algorithm 1).
    Heun,
    /// [`Denoise::ddim`] with this eta, 0 for no noise and 1 for that of ancestral sampling; `ddim:0.5` in a recipe.
    Ddim(f64),
    /// [`Denoise::ancestral`].
    Ancestral,
}

/// How far a sampler goes in a step, and what else decides it.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    pub steps: usize,
    /// The largest value that predicted data may have, for samplers that predict them.
    pub bound: Option<f32>,
    /// The seed of the noise that steps add, and the number of the first image, each of which has its own.
    pub seed: u64,
    pub first: u32,
}

impl Course {
    /// So many steps, without a bound, with the noise of seed 0.
    pub fn of(steps: usize) -> Course {
        Course { steps, bound: None, seed: 0, first: 0 }
    }
}

impl Sampler {
    /// Says what is wrong where this sampler cannot follow `path` in so many steps.
    pub fn check(self, path: Path, steps: usize) -> Result<(), String> {
        match (self, path.steps()) {
            (Sampler::Euler | Sampler::Heun, Some(_)) => {
                Err(format!("{path} has steps and no velocity; give ddim, ddim:ETA or ancestral"))
            }
            (_, Some(most)) if steps > most => {
                Err(format!("{steps} steps are more than {path} has; give at most {most}"))
            }
            _ => Ok(()),
        }
    }

    /// Takes `z` (B, C, H, W) from t = 1 to t = 0 in place and returns the number of evaluations of the field.
    ///
    /// # Panics
    /// Where [`Sampler::check`] refuses the path of the field.
    pub fn integrate(self, field: &mut impl Field, z: &mut Tensor, course: &Course) -> usize {
        let device = field.device().clone();
        let new = || Tensor::new(&device, "sampler", *z.shape(), DType::F32);
        let (path, prediction) = field.process();
        let [first, last] = prediction.interval(path);
        let times = path.times(last, course.steps);
        // All of it from the beginning: a card that records an evaluation must find the same memory free each time.
        let (mut p, mut next) = (new(), new());
        let mut second = (self == Sampler::Heun && course.steps > 1).then(|| [new(), new()]);
        let mut converted = (prediction != Prediction::V).then(new);
        let mut evaluations = 0;
        for (step, ends) in times.windows(2).enumerate() {
            if !field.wanted() {
                break;
            }
            let &[t, t_next] = ends else { unreachable!("windows of two") };
            evaluations += 1;
            match self {
                Sampler::Euler | Sampler::Heun if first == 0.0 || t_next > 0.0 => {
                    velocity(field, z, t, &mut p, &mut converted);
                    advance(&device, z, &p, (t_next - t) as f32, &mut next);
                    if let Some([v_next, half]) = &mut second
                        && step + 1 < course.steps
                    {
                        velocity(field, &next, t_next, v_next, &mut converted);
                        evaluations += 1;
                        advance(&device, z, &p, (0.5 * (t_next - t)) as f32, half);
                        advance(&device, half, v_next, (0.5 * (t_next - t)) as f32, &mut next);
                    }
                }
                _ => {
                    field.predict(z, t, &mut p);
                    let how = match self {
                        Sampler::Ddim(eta) => Denoise::ddim(path, prediction, [t, t_next], eta, course.bound),
                        Sampler::Ancestral => Denoise::ancestral(path, prediction, [t, t_next], course.bound),
                        Sampler::Euler | Sampler::Heun => Denoise::ddim(path, prediction, [t, t_next], 0.0, None),
                    };
                    let draw = Draw { seed: course.seed, step: step as u32, first: course.first };
                    denoise(&device, z, &p, how, draw, &mut next);
                }
            }
            std::mem::swap(z, &mut next);
        }
        evaluations
    }
}

/// Writes the velocity, by way of `converted` where the field predicts another quantity.
fn velocity(field: &mut impl Field, z: &Tensor, t: f64, v: &mut Tensor, converted: &mut Option<Tensor>) {
    field.predict(z, t, v);
    if let Some(converted) = converted {
        let (path, prediction) = field.process();
        let step = Denoise::conversion(prediction, Prediction::V, path, t);
        denoise(field.device(), z, v, step, Draw { seed: 0, step: 0, first: 0 }, converted);
        std::mem::swap(v, converted);
    }
}

/// What a flag takes.
const NAMES: &str = "euler, heun, ddim, ddim:ETA, ancestral";

impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sampler::Euler => f.write_str("euler"),
            Sampler::Heun => f.write_str("heun"),
            Sampler::Ddim(0.0) => f.write_str("ddim"),
            Sampler::Ddim(eta) => write!(f, "ddim:{eta}"),
            Sampler::Ancestral => f.write_str("ancestral"),
        }
    }
}

impl FromStr for Sampler {
    type Err = String;

    fn from_str(name: &str) -> Result<Sampler, String> {
        let eta = |text: &str| text.parse().ok().filter(|eta| (0.0..=1.0).contains(eta));
        match name.split_once(':') {
            None if name == "euler" => Some(Sampler::Euler),
            None if name == "heun" => Some(Sampler::Heun),
            None if name == "ddim" => Some(Sampler::Ddim(0.0)),
            None if name == "ancestral" => Some(Sampler::Ancestral),
            Some(("ddim", text)) => eta(text).map(Sampler::Ddim),
            _ => None,
        }
        .ok_or_else(|| format!("expected {NAMES}, an eta from 0 to 1"))
    }
}

impl TryFrom<String> for Sampler {
    type Error = String;

    fn try_from(name: String) -> Result<Sampler, String> {
        name.parse()
    }
}

impl From<Sampler> for String {
    fn from(sampler: Sampler) -> String {
        sampler.to_string()
    }
}
