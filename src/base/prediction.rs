use super::Path;
use super::named::named;
use std::fmt;
use std::str::FromStr;

/// What a network predicts of a path at (z, t), as a combination of the data x and the noise eps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prediction {
    /// The velocity `alpha' x + sigma' eps` of a continuous path.
    V,
    /// The data x.
    X,
    /// The noise eps.
    Eps,
    /// The score of z given the data, `-eps / sigma`.
    Score,
}

/// How far from an end of a path a time is at which one divides by what is 0 there: SiT's `sample_eps`.
const MARGIN: f64 = 1e-3;

impl Prediction {
    /// Says what is wrong where a network cannot predict this of `path`.
    pub fn check(self, path: Path) -> Result<(), String> {
        match self {
            Prediction::V if path.steps().is_some() => {
                Err(format!("{path} has steps and no velocity; give eps, x or score"))
            }
            _ => Ok(()),
        }
    }

    /// The first and the last time at which a network can be trained and asked: between them every prediction says what the
    /// data are, and what every other prediction is.
    ///
    /// At t = 1 of a path that ends in noise alone, noise and score say nothing of the data. At t = 0 data and noise say nothing
    /// of the velocity, the score is infinite, and so is the velocity of [`Path::Vp`].
    pub fn interval(self, path: Path) -> [f64; 2] {
        let first = match (self, path, path.steps()) {
            (_, _, Some(steps)) => 1.0 / steps as f64,
            (Prediction::V, Path::Linear | Path::Gvp, _) => 0.0,
            _ => MARGIN,
        };
        let blind = matches!(self, Prediction::Eps | Prediction::Score) && path.alpha(1.0) == 0.0;
        [first, if blind { 1.0 - MARGIN } else { 1.0 }]
    }

    /// The time that training takes for a draw of (0, 1), within [`Prediction::interval`].
    pub fn time(self, path: Path, drawn: f64) -> f64 {
        let [first, last] = self.interval(path);
        match path.steps() {
            None => first + (last - first) * drawn,
            Some(_) => path.time(drawn),
        }
    }

    /// `[a, b]` with which the prediction is `a x + b eps`.
    pub fn of_data_and_noise(self, path: Path, t: f64) -> [f64; 2] {
        match self {
            Prediction::V => [path.alpha_rate(t), path.sigma_rate(t)],
            Prediction::X => [1.0, 0.0],
            Prediction::Eps => [0.0, 1.0],
            Prediction::Score => [0.0, -1.0 / path.sigma(t)],
        }
    }

    /// `[a, b]` with which `other` is `a z + b p`, for a prediction p of this kind at (z, t).
    ///
    /// z and p are two equations for x and eps: by Cramer's rule they solve to `(c_eps z - sigma p) / d` and `(alpha p - c_x z) / d`
    /// with `p = c_x x + c_eps eps` and `d = alpha c_eps - sigma c_x`.
    pub fn convert(self, other: Prediction, path: Path, t: f64) -> [f64; 2] {
        if self == other {
            return [0.0, 1.0];
        }
        let (alpha, sigma) = (path.alpha(t), path.sigma(t));
        let [x, eps] = self.of_data_and_noise(path, t);
        let [of_x, of_eps] = other.of_data_and_noise(path, t);
        let d = alpha * eps - sigma * x;
        [(of_x * eps - of_eps * x) / d, (of_eps * alpha - of_x * sigma) / d]
    }
}

impl fmt::Display for Prediction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Prediction::V => "v",
            Prediction::X => "x",
            Prediction::Eps => "eps",
            Prediction::Score => "score",
        })
    }
}

impl FromStr for Prediction {
    type Err = String;

    fn from_str(name: &str) -> Result<Prediction, String> {
        named(&[Prediction::V, Prediction::X, Prediction::Eps, Prediction::Score], name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prediction_converts_to_every_other() {
        let kinds = [Prediction::V, Prediction::X, Prediction::Eps, Prediction::Score];
        let (x, eps) = (0.7, -1.3);
        for path in [Path::Linear, Path::Gvp, Path::Vp, Path::DdpmLinear, Path::DdpmCosine] {
            for t in [0.004, 0.3, 0.75, 0.996] {
                let z = path.alpha(t) * x + path.sigma(t) * eps;
                let known = |kind: &Prediction| *kind != Prediction::V || path.steps().is_none();
                let of = |kind: Prediction| {
                    let [a, b] = kind.of_data_and_noise(path, t);
                    a * x + b * eps
                };
                for from in kinds.into_iter().filter(known) {
                    for to in kinds.into_iter().filter(known) {
                        let [a, b] = from.convert(to, path, t);
                        let ours = a * z + b * of(from);
                        // What a division by the smaller of alpha and sigma makes of a rounding.
                        let small = path.alpha(t).min(path.sigma(t));
                        assert!((ours - of(to)).abs() < 1e-14 / small, "{from} to {to} along {path} at {t}: {ours}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_a_path_does_not_have_is_refused() {
        for path in [Path::DdpmCosine, Path::DdpmLinear] {
            assert!(Prediction::V.check(path).unwrap_err().contains("no velocity"));
            Prediction::Score.check(path).unwrap();
        }
        Prediction::V.check(Path::Vp).unwrap();
    }

    #[test]
    fn within_its_interval_a_prediction_says_what_every_other_is() {
        let kinds = [Prediction::V, Prediction::X, Prediction::Eps, Prediction::Score];
        for path in [Path::Linear, Path::Gvp, Path::Vp, Path::DdpmLinear, Path::DdpmCosine] {
            for kind in kinds.into_iter().filter(|kind| kind.check(path).is_ok()) {
                let [first, last] = kind.interval(path);
                for t in [first, last] {
                    let known = |other: &Prediction| {
                        other.check(path).is_ok() && (*other == kind || other.interval(path)[0] <= t)
                    };
                    for other in kinds.into_iter().filter(known) {
                        let weights = kind.convert(other, path, t);
                        assert!(weights.into_iter().all(f64::is_finite), "{kind} to {other} along {path} at {t}");
                    }
                }
                assert_eq!((kind.time(path, 0.0), kind.time(path, 1.0)), (first, last), "{kind} along {path}");
            }
        }
        assert_eq!(Prediction::V.interval(Path::Gvp), [0.0, 1.0]);
        assert_eq!(Prediction::Eps.interval(Path::Gvp), [1e-3, 0.999]);
        assert_eq!(Prediction::V.interval(Path::Vp), [1e-3, 1.0]);
    }
}
