use super::Path;
use super::named::named;
use std::fmt;
use std::str::FromStr;

/// How much noise a stochastic sampler adds, and takes away again: w(t) in
///
/// ```text
/// dz = (v - w s) dt + sqrt(2 w) dW        from t = 1 to t = 0, where dt is negative
/// ```
/// whose marginals are those of the path for every w (Ma et al., *SiT*, 2024, section 2.3). All end in w = O(sigma), without
/// which steps of a fixed length do not follow the score at small t.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Diffusion {
    /// `w = sigma`, what SiT draws with.
    Sigma,
    /// `w = t`, REPA's.
    Linear,
    /// `w = (1 - cos(pi t))^2 / 4`: little at the data.
    Decreasing,
    /// `w = sin^2(pi t)`: little at both ends.
    IncreasingDecreasing,
    /// `w = g^2 / 2` of [`Path::diffusion`]: the reverse of the process that makes the path (Song et al., 2021), SiT's SBDM.
    Reverse,
}

impl Diffusion {
    const ALL: [Diffusion; 5] = [
        Diffusion::Sigma,
        Diffusion::Linear,
        Diffusion::Decreasing,
        Diffusion::IncreasingDecreasing,
        Diffusion::Reverse,
    ];

    /// w at t of a path.
    pub fn at(self, path: Path, t: f64) -> f64 {
        let turn = std::f64::consts::PI * t;
        match self {
            Diffusion::Sigma => path.sigma(t),
            Diffusion::Linear => t,
            Diffusion::Decreasing => 0.25 * (1.0 - turn.cos()).powi(2),
            Diffusion::IncreasingDecreasing => turn.sin().powi(2),
            Diffusion::Reverse => 0.5 * path.diffusion(t),
        }
    }

    /// The names, for messages.
    pub fn names() -> String {
        Diffusion::ALL.map(|diffusion| diffusion.to_string()).join(", ")
    }
}

impl fmt::Display for Diffusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Diffusion::Sigma => "sigma",
            Diffusion::Linear => "linear",
            Diffusion::Decreasing => "decreasing",
            Diffusion::IncreasingDecreasing => "increasing-decreasing",
            Diffusion::Reverse => "reverse",
        })
    }
}

impl FromStr for Diffusion {
    type Err = String;

    fn from_str(name: &str) -> Result<Diffusion, String> {
        named(&Diffusion::ALL, name)
    }
}
