use super::tridiagonal::Tridiagonal;
use crate::base::{Path, Prediction, Result};
use crate::data::Store;
use crate::device::Device;
use crate::diffusion::Field;
use crate::ops::score::{covariance, mean};
use crate::tensor::Tensor;

/// The score of the normal distribution with the data's mean and covariance: what a linear denoiser, Wiener's filter, can
/// know of them.
///
/// ```text
/// s(z, t) = (alpha^2 Sigma + sigma^2 I)^-1 (alpha mu - z)
/// m(z, t) = mu + alpha Sigma (alpha^2 Sigma + sigma^2 I)^-1 (z - alpha mu)
/// ```
/// One decomposition `Sigma = Q T Q^T` with a tridiagonal T serves every time.
pub struct GaussianScore {
    mean: Vec<f64>,
    covariance: Tridiagonal,
    path: Path,
}

impl GaussianScore {
    /// Of all rows of `store`: `M d^2` operations for the covariance (divided by M) and `4/3 d^3` for its decomposition,
    /// and `8 d^2` bytes.
    ///
    /// # Errors
    /// `Memory` if the covariance does not fit; `Data` if a row cannot be read.
    pub fn new(device: &Device, store: &Store, path: Path) -> Result<GaussianScore> {
        let mean = mean(store)?;
        let covariance = covariance(device, store, &mean)?;
        Ok(GaussianScore { covariance: Tridiagonal::new(covariance, mean.len()), mean, path })
    }

    /// The score at the points `z` (B, d), all at time t, where sigma is not 0 unless the covariance has full rank.
    pub fn score(&self, z: &[f64], t: f64) -> Vec<f64> {
        let mut out = self.shifted(z, t);
        let (alpha, sigma) = (self.path.alpha(t), self.path.sigma(t));
        for out in out.chunks_exact_mut(self.mean.len()) {
            self.covariance.solve([alpha * alpha, sigma * sigma], out);
            out.iter_mut().for_each(|x| *x = -*x);
        }
        out
    }

    /// The posterior mean of the data at the points `z` (B, d).
    pub fn denoised(&self, z: &[f64], t: f64) -> Vec<f64> {
        let mut out = self.shifted(z, t);
        let (alpha, sigma) = (self.path.alpha(t), self.path.sigma(t));
        for out in out.chunks_exact_mut(self.mean.len()) {
            self.covariance.filter([alpha * alpha, sigma * sigma], out);
            out.iter_mut().zip(&self.mean).for_each(|(x, mean)| *x = mean + alpha * *x);
        }
        out
    }

    /// `alpha' m - sigma' sigma s`, the velocity of the same distribution.
    pub fn velocity(&self, z: &[f64], t: f64) -> Vec<f64> {
        let (rate, sigma) = (self.path.alpha_rate(t), self.path.sigma_rate(t) * self.path.sigma(t));
        let pairs = self.denoised(z, t).into_iter().zip(self.score(z, t));
        pairs.map(|(m, s)| rate * m - sigma * s).collect()
    }

    /// z - alpha mu.
    fn shifted(&self, z: &[f64], t: f64) -> Vec<f64> {
        let alpha = self.path.alpha(t);
        assert!(z.len().is_multiple_of(self.mean.len()), "{} values are no points of {}", z.len(), self.mean.len());
        z.chunks_exact(self.mean.len()).flat_map(|z| z.iter().zip(&self.mean).map(|(z, m)| z - alpha * m)).collect()
    }
}

/// The field of a [`GaussianScore`], which samplers integrate.
pub struct GaussianVelocity<'a> {
    pub device: &'a Device,
    pub score: &'a GaussianScore,
}

impl Field for GaussianVelocity<'_> {
    fn device(&self) -> &Device {
        self.device
    }

    fn process(&self) -> (Path, Prediction) {
        (self.score.path, Prediction::V)
    }

    fn predict(&mut self, z: &Tensor, t: &[f64], v: &mut Tensor) {
        let z: Vec<f64> = z.to_vec::<f32>().into_iter().map(f64::from).collect();
        let points = z.chunks_exact(self.score.mean.len()).zip(t);
        let velocity = points.flat_map(|(z, &t)| self.score.velocity(z, t)).map(|v| v as f32);
        v.write(&velocity.collect::<Vec<f32>>());
    }
}
