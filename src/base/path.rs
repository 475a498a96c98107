/// The path from data to noise: `z_t = alpha(t) x + sigma(t) eps`, data at t = 0 and noise at t = 1.
///
/// The network predicts its velocity, `v = alpha'(t) x + sigma'(t) eps`. All coefficients are f64, since users of a path
/// divide by sigma.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// `alpha = 1 - t`, `sigma = t`: rectified flow (Liu, Gong, Liu, 2022), the linear interpolant of SiT.
    Linear,
}

impl Path {
    /// The weight of the data at t.
    pub fn alpha(self, t: f64) -> f64 {
        match self {
            Path::Linear => 1.0 - t,
        }
    }

    /// The weight of the noise at t.
    pub fn sigma(self, t: f64) -> f64 {
        match self {
            Path::Linear => t,
        }
    }

    /// d alpha / dt.
    pub fn alpha_rate(self, _t: f64) -> f64 {
        match self {
            Path::Linear => -1.0,
        }
    }

    /// d sigma / dt.
    pub fn sigma_rate(self, _t: f64) -> f64 {
        match self {
            Path::Linear => 1.0,
        }
    }
}
