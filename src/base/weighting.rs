use super::{Path, Prediction};
use std::fmt;
use std::str::FromStr;

/// How the squared error of a prediction at t counts in the loss.
///
/// Two predictions that answer the same z differ from each other as their conversions do, `a z + b p`: an error of p is an error
/// of b times as much of the other. So a loss that is written for one prediction is a weight for every other.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Weighting {
    /// As it is.
    None,
    /// As that of the noise: what a network that predicts a score is trained by.
    Noise,
    /// As that of the velocity: SiT's `velocity`.
    Velocity,
    /// As the error of the score times `g^2 / 2`, whose integral bounds the likelihood (Song, Durkan, Murray, Ermon, 2021, theorem
    /// 1), with the diffusion `g^2 = 2 sigma sigma' - 2 alpha' / alpha sigma^2` of the path: SiT's `likelihood`.
    Likelihood,
    /// As that of the data times `min(alpha^2 / sigma^2, gamma)` (Hang et al., *Efficient Diffusion Training via Min-SNR*, 2023).
    MinSnr(f64),
}

impl Weighting {
    /// Says what is wrong where errors of `prediction` along `path` cannot be weighted like this.
    pub fn check(self, path: Path, prediction: Prediction) -> Result<(), String> {
        match self {
            Weighting::Velocity | Weighting::Likelihood if path.steps().is_some() => {
                Err(format!("{path} has steps and no velocity; give none, noise or min-snr:GAMMA"))
            }
            Weighting::Likelihood if prediction.interval(path)[0] == 0.0 => {
                Err(format!("at t = 0 a {prediction} of {path} would count without end; predict x, eps or score"))
            }
            Weighting::Noise if prediction.interval(path)[0] == 0.0 => {
                Err(format!("at t = 0 a {prediction} of {path} says nothing of the noise; predict x, eps or score"))
            }
            Weighting::None if prediction == Prediction::Score => {
                Err("a score grows as 1 / sigma, and at small t would alone count; give noise or another".into())
            }
            _ => Ok(()),
        }
    }

    /// The weight of a squared error of `prediction` at t.
    pub fn at(self, path: Path, prediction: Prediction, t: f64) -> f64 {
        let of = |other| prediction.convert(other, path, t)[1].powi(2);
        match self {
            Weighting::None => 1.0,
            Weighting::Noise => of(Prediction::Eps),
            Weighting::Velocity => of(Prediction::V),
            Weighting::Likelihood => 0.5 * path.diffusion(t) * of(Prediction::Score),
            Weighting::MinSnr(gamma) => (path.alpha(t) / path.sigma(t)).powi(2).min(gamma) * of(Prediction::X),
        }
    }
}

impl fmt::Display for Weighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Weighting::None => f.write_str("none"),
            Weighting::Noise => f.write_str("noise"),
            Weighting::Velocity => f.write_str("velocity"),
            Weighting::Likelihood => f.write_str("likelihood"),
            Weighting::MinSnr(gamma) => write!(f, "min-snr:{gamma}"),
        }
    }
}

impl FromStr for Weighting {
    type Err = String;

    fn from_str(name: &str) -> Result<Weighting, String> {
        let known = [Weighting::None, Weighting::Noise, Weighting::Velocity, Weighting::Likelihood];
        let gamma = |text: &str| text.parse().ok().filter(|gamma: &f64| gamma.is_finite() && *gamma > 0.0);
        match name.split_once(':') {
            None => known.into_iter().find(|weighting| weighting.to_string() == name),
            Some(("min-snr", text)) => gamma(text).map(Weighting::MinSnr),
            Some(_) => None,
        }
        .ok_or_else(|| "expected none, noise, velocity, likelihood, or min-snr:GAMMA with a gamma above 0".into())
    }
}

impl TryFrom<String> for Weighting {
    type Error = String;

    fn try_from(name: String) -> Result<Weighting, String> {
        name.parse()
    }
}

impl From<Weighting> for String {
    fn from(weighting: Weighting) -> String {
        weighting.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATHS: [Path; 3] = [Path::Linear, Path::Gvp, Path::Vp];

    #[test]
    fn sits_weights_of_noise_and_score_are_ours() {
        for path in PATHS {
            for t in [0.002, 0.3, 0.8, 0.998] {
                let (alpha, sigma) = (path.alpha(t), path.sigma(t));
                // SiT's drift_var, with its data at 1: there the rates have the other sign.
                let variance = -path.alpha_rate(t) / alpha * sigma * sigma + sigma * path.sigma_rate(t);
                for (weighting, of_noise) in [
                    (Weighting::Noise, 1.0),
                    (Weighting::Velocity, (variance / sigma).powi(2)),
                    (Weighting::Likelihood, variance / (sigma * sigma)),
                ] {
                    // Its loss of a score is that of sigma s.
                    for (prediction, expected) in
                        [(Prediction::Eps, of_noise), (Prediction::Score, sigma * sigma * of_noise)]
                    {
                        let ours = weighting.at(path, prediction, t);
                        assert!(
                            (ours / expected - 1.0).abs() < 1e-12,
                            "{weighting} of {prediction} along {path} at {t}"
                        );
                    }
                }
            }
        }
        assert!((Path::Vp.diffusion(0.25) - (0.1 + 0.25 * 19.9)).abs() < 1e-12, "g^2 of the VP SDE is beta");
    }

    #[test]
    fn min_snr_has_the_weights_of_its_paper() {
        for path in PATHS.into_iter().chain([Path::DdpmCosine]) {
            for t in [0.004, 0.3, 0.9] {
                let snr = (path.alpha(t) / path.sigma(t)).powi(2);
                let ours = |prediction| Weighting::MinSnr(5.0).at(path, prediction, t);
                for (ours, expected) in
                    [(ours(Prediction::X), snr.min(5.0)), (ours(Prediction::Eps), snr.min(5.0) / snr)]
                {
                    assert!((ours / expected - 1.0).abs() < 1e-12, "{path} at {t}");
                }
            }
        }
        // Where alpha^2 + sigma^2 = 1 and v = alpha eps - sigma x, as the velocity over pi / 2 of GVP is.
        let (t, snr) = (0.3, (Path::Gvp.alpha(0.3) / Path::Gvp.sigma(0.3)).powi(2));
        let ours = Weighting::MinSnr(5.0).at(Path::Gvp, Prediction::V, t) * (std::f64::consts::FRAC_PI_2).powi(2);
        assert!((ours * (snr + 1.0) / snr.min(5.0) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_weighting_that_would_not_end_is_refused() {
        for (weighting, path, prediction) in [
            (Weighting::Likelihood, Path::Linear, Prediction::V),
            (Weighting::Noise, Path::Gvp, Prediction::V),
            (Weighting::Velocity, Path::DdpmCosine, Prediction::Eps),
            (Weighting::None, Path::Linear, Prediction::Score),
        ] {
            weighting.check(path, prediction).unwrap_err();
        }
        for name in ["none", "noise", "velocity", "likelihood", "min-snr:5"] {
            assert_eq!(name.parse::<Weighting>().unwrap().to_string(), name);
            for path in PATHS {
                let (weighting, prediction) = (name.parse::<Weighting>().unwrap(), Prediction::Eps);
                weighting.check(path, prediction).unwrap();
                let ends = prediction.interval(path).map(|t| weighting.at(path, prediction, t));
                assert!(
                    ends.into_iter().all(|weight| weight.is_finite() && weight > 0.0),
                    "{name} along {path}: {ends:?}"
                );
            }
        }
        for name in ["", "snr", "min-snr", "min-snr:0", "min-snr:inf", "noise:1"] {
            name.parse::<Weighting>().unwrap_err();
        }
    }
}
