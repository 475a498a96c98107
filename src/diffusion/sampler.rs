use super::dopri5::{Dopri5, Norm};
use crate::base::{Diffusion, Path, Prediction};
use std::fmt;
use std::str::FromStr;

/// A way from t = 1 (noise), or from the last time at which the network can be asked, to t = 0 (data), in equal steps unless
/// it says otherwise, each one evaluation of the velocity, or of what else is predicted.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Sampler {
    /// First order, for `dz/dt = v(z, t)`. Where there is no velocity at t = 0, the last step goes to the predicted data.
    Euler,
    /// Second order: the trapezium rule on an Euler predictor, with an Euler step at the end, where the velocity at t = 0
    /// was never trained; N steps cost 2 N - 1 evaluations (Karras et al., 2022, algorithm 1).
    Heun,
    /// Fifth order, in steps that follow the error of each image; `dopri5:RTOL,ATOL`. Where there is no velocity at t = 0 it
    /// goes to the first time that has one, and from there to the predicted data.
    Dopri5(Dopri5),
    /// [`Denoise::ddim`](crate::base::Denoise::ddim) with this eta, 0 for no noise and 1 for that of ancestral sampling;
    /// `ddim:0.5` in a recipe.
    Ddim(f64),
    /// [`Denoise::ancestral`](crate::base::Denoise::ancestral).
    Ancestral,
    /// [`Denoise::euler_maruyama`](crate::base::Denoise::euler_maruyama), and at the end a step to the predicted data.
    EulerMaruyama(Diffusion),
    /// DPM-Solver++ (2M) (Lu et al., 2022, algorithm 2): second order in the logarithm of alpha / sigma, from the data predicted at
    /// this step and at the one before. The first step and the last are of first order.
    DpmSolver,
}

/// The times between which a sampler goes, and what else decides it.
#[derive(Clone, Debug)]
pub struct Course {
    /// Where it begins and where its state is wanted: from noise to data, or the other way, as far as it is without noise of
    /// its own. Steps go from one to the next, but for [`Sampler::Dopri5`], which finds its own.
    pub times: Vec<f64>,
    /// The largest value that predicted data may have, for samplers that predict them.
    pub bound: Option<f32>,
    /// The seed of the noise that steps add, and the number of the first image, each of which has its own.
    pub seed: u64,
    pub first: u32,
}

impl Sampler {
    /// dopri5 as SiT draws with it.
    const DOPRI5: Dopri5 = Dopri5 { rtol: 1e-3, atol: 1e-6, norm: Norm::Image };

    /// From noise to data in so many steps, where the sampler has steps of a fixed length; without a bound, with the noise of
    /// seed 0.
    pub fn course(self, path: Path, prediction: Prediction, steps: usize) -> Course {
        let [_, last] = prediction.interval(path);
        let steps = if let Sampler::Dopri5(_) = self { 1 } else { steps };
        Course { times: path.times(last, steps), bound: None, seed: 0, first: 0 }
    }

    /// Says what is wrong where this sampler cannot follow `path` in so many steps, by what a network predicts of it.
    pub fn check(self, path: Path, prediction: Prediction, steps: usize) -> Result<(), String> {
        let along_velocity =
            matches!(self, Sampler::Euler | Sampler::Heun | Sampler::Dopri5(_) | Sampler::EulerMaruyama(_));
        let [first, last] = prediction.interval(path);
        let most = (last / first.max(f64::MIN_POSITIVE)).round();
        if along_velocity && path.steps().is_some() {
            return Err(format!("{path} has steps and no velocity; give ddim, ddim:ETA, ancestral or dpm-solver++"));
        }
        if self == Sampler::EulerMaruyama(Diffusion::Reverse) && path.alpha(1.0) == 0.0 {
            return Err(format!("at t = 1 of {path} reverse is infinite; give {}", Diffusion::names()));
        }
        if let Sampler::Dopri5(_) = self {
            return Ok(());
        }
        if steps as f64 > most {
            let what = if path.steps().is_some() { "has" } else { "has a prediction for" };
            return Err(format!("{steps} steps are more than {path} {what}; give at most {most}"));
        }
        Ok(())
    }
}

/// What a flag takes.
const NAMES: &str = "euler, heun, dopri5, dopri5:RTOL,ATOL, ddim, ddim:ETA, ancestral, euler-maruyama, euler-maruyama:DIFFUSION, \
                     dpm-solver++";

impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sampler::Euler => f.write_str("euler"),
            Sampler::Heun => f.write_str("heun"),
            Sampler::Dopri5(how) if *how == Sampler::DOPRI5 => f.write_str("dopri5"),
            Sampler::Dopri5(Dopri5 { rtol, atol, .. }) => write!(f, "dopri5:{rtol},{atol}"),
            Sampler::Ddim(0.0) => f.write_str("ddim"),
            Sampler::Ddim(eta) => write!(f, "ddim:{eta}"),
            Sampler::Ancestral => f.write_str("ancestral"),
            Sampler::EulerMaruyama(Diffusion::Sigma) => f.write_str("euler-maruyama"),
            Sampler::EulerMaruyama(diffusion) => write!(f, "euler-maruyama:{diffusion}"),
            Sampler::DpmSolver => f.write_str("dpm-solver++"),
        }
    }
}

impl FromStr for Sampler {
    type Err = String;

    fn from_str(name: &str) -> Result<Sampler, String> {
        let (method, given) = name.split_once(':').map_or((name, None), |(method, given)| (method, Some(given)));
        let found = match (method, given) {
            ("euler", None) => Some(Sampler::Euler),
            ("heun", None) => Some(Sampler::Heun),
            ("dopri5", None) => Some(Sampler::Dopri5(Sampler::DOPRI5)),
            ("dopri5", Some(text)) => tolerances(text).map(Sampler::Dopri5),
            ("ddim", None) => Some(Sampler::Ddim(0.0)),
            ("ddim", Some(text)) => text.parse().ok().filter(|eta| (0.0..=1.0).contains(eta)).map(Sampler::Ddim),
            ("ancestral", None) => Some(Sampler::Ancestral),
            ("euler-maruyama", None) => Some(Sampler::EulerMaruyama(Diffusion::Sigma)),
            ("euler-maruyama", Some(text)) => text.parse().ok().map(Sampler::EulerMaruyama),
            ("dpm-solver++", None) => Some(Sampler::DpmSolver),
            _ => None,
        };
        let diffusions = Diffusion::names();
        found.ok_or_else(|| {
            format!("expected {NAMES}, an ETA from 0 to 1, tolerances above 0, a DIFFUSION of {diffusions}")
        })
    }
}

/// `RTOL,ATOL`.
fn tolerances(text: &str) -> Option<Dopri5> {
    let above_0 = |text: &str| text.parse().ok().filter(|tolerance: &f64| tolerance.is_finite() && *tolerance > 0.0);
    let (rtol, atol) = text.split_once(',')?;
    Some(Dopri5 { rtol: above_0(rtol)?, atol: above_0(atol)?, norm: Norm::Image })
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
