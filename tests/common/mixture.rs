//! A mixture of Gaussians in the plane, of which everything is known.

use engine::base::{Path, Prediction};
use serde::Deserialize;

#[derive(Deserialize, Clone)]
pub struct Mixture {
    pub weights: Vec<f64>,
    pub means: Vec<[f64; 2]>,
    pub deviations: Vec<f64>,
}

impl Mixture {
    /// What a perfect network predicts at z and t.
    pub fn predict(&self, path: Path, prediction: Prediction, z: [f64; 2], t: f64) -> [f64; 2] {
        let (alpha, sigma) = (path.alpha(t), path.sigma(t));
        let parts: Vec<_> = self.weights.iter().zip(&self.means).zip(&self.deviations).collect();
        let part = |&((weight, mean), deviation): &((&f64, &[f64; 2]), &f64)| {
            let variance = (alpha * deviation).powi(2) + sigma * sigma;
            let offset = [z[0] - alpha * mean[0], z[1] - alpha * mean[1]];
            let square = offset[0].powi(2) + offset[1].powi(2);
            (weight.ln() - variance.ln() - square / (2.0 * variance), variance, offset)
        };
        let parts: Vec<_> = parts.iter().map(|row| (part(row), row.0.1, *row.1)).collect();
        let largest = parts.iter().map(|row| row.0.0).fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = parts.iter().map(|row| (row.0.0 - largest).exp()).sum();
        let [of_x, of_eps] = prediction.of_data_and_noise(path, t);
        let mut predicted = [0.0; 2];
        for ((log, variance, offset), mean, deviation) in parts {
            let share = (log - largest).exp() / total;
            for (i, predicted) in predicted.iter_mut().enumerate() {
                let x = mean[i] + alpha * deviation * deviation / variance * offset[i];
                *predicted += share * (of_x * x + of_eps * sigma / variance * offset[i]);
            }
        }
        predicted
    }

    /// The means, and the covariances xx, xy, yy.
    pub fn moments(&self) -> [f64; 5] {
        let mean = |i: usize| self.weights.iter().zip(&self.means).map(|(w, m)| w * m[i]).sum::<f64>();
        let covariance = |i: usize, j: usize| {
            let parts = self.weights.iter().zip(&self.means).zip(&self.deviations);
            let own = |d: f64| if i == j { d * d } else { 0.0 };
            parts.map(|((w, m), &d)| w * (own(d) + (m[i] - mean(i)) * (m[j] - mean(j)))).sum::<f64>()
        };
        [mean(0), mean(1), covariance(0, 0), covariance(0, 1), covariance(1, 1)]
    }
}
