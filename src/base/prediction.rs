use super::Path;
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
}

impl Prediction {
    /// Says what is wrong where a network cannot predict this of `path`, whose samplers begin at t = 1.
    pub fn check(self, path: Path) -> Result<(), String> {
        match self {
            Prediction::V if path.steps().is_some() => Err(format!("{path} has steps and no velocity; give eps or x")),
            Prediction::Eps if path.alpha(1.0) == 0.0 => {
                Err(format!("at t = 1 of {path} all is noise, which says nothing of the data; give v or x"))
            }
            _ => Ok(()),
        }
    }

    /// `[a, b]` with which the prediction is `a x + b eps`.
    pub fn of_data_and_noise(self, path: Path, t: f64) -> [f64; 2] {
        match self {
            Prediction::V => [path.alpha_rate(t), path.sigma_rate(t)],
            Prediction::X => [1.0, 0.0],
            Prediction::Eps => [0.0, 1.0],
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
        })
    }
}

impl FromStr for Prediction {
    type Err = String;

    fn from_str(name: &str) -> Result<Prediction, String> {
        let all = [Prediction::V, Prediction::X, Prediction::Eps];
        let found = all.into_iter().find(|prediction| prediction.to_string() == name);
        found.ok_or_else(|| format!("expected {}", all.map(|prediction| prediction.to_string()).join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prediction_converts_to_every_other() {
        let kinds = [Prediction::V, Prediction::X, Prediction::Eps];
        let (x, eps) = (0.7, -1.3);
        for path in [Path::Linear, Path::DdpmLinear, Path::DdpmCosine] {
            for t in [0.004, 0.3, 0.75, 0.996] {
                let z = path.alpha(t) * x + path.sigma(t) * eps;
                let known = |kind: &Prediction| *kind != Prediction::V || path == Path::Linear;
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
        assert!(Prediction::V.check(Path::DdpmCosine).unwrap_err().contains("no velocity"));
        assert!(Prediction::Eps.check(Path::Linear).unwrap_err().contains("all is noise"));
        for (kind, path) in [
            (Prediction::V, Path::Linear),
            (Prediction::X, Path::Linear),
            (Prediction::Eps, Path::DdpmLinear),
            (Prediction::X, Path::DdpmCosine),
        ] {
            kind.check(path).unwrap();
        }
    }
}
