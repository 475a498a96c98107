/// Count, mean, sum of squared deviations and extremes of a channel.
#[derive(Clone)]
pub(super) struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
    min: f32,
    max: f32,
}

impl Default for Moments {
    fn default() -> Moments {
        Moments { count: 0.0, mean: 0.0, squares: 0.0, min: f32::INFINITY, max: f32::NEG_INFINITY }
    }
}

impl Moments {
    /// Joins the moments of a run of values (Chan, Golub, LeVeque 1983): no cancellation, however large the mean.
    pub fn add(&mut self, values: &[f32]) {
        let n = values.len() as f64;
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let squares: f64 = values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum();
        let delta = mean - self.mean;
        let count = self.count + n;
        self.squares += squares + delta * delta * self.count * n / count;
        self.mean += delta * n / count;
        self.count = count;
        self.min = values.iter().copied().fold(self.min, f32::min);
        self.max = values.iter().copied().fold(self.max, f32::max);
    }

    pub fn mean(&self) -> f32 {
        self.mean as f32
    }

    pub fn std(&self) -> f32 {
        (self.squares / self.count).sqrt() as f32
    }

    pub fn min(&self) -> f32 {
        self.min
    }

    pub fn max(&self) -> f32 {
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_mean_does_not_cancel_the_deviation() {
        let mut moments = Moments::default();
        for run in [&[1e6, 1e6 + 1.0, 1e6 + 2.0][..], &[1e6 + 3.0], &[1e6 + 4.0; 4]] {
            moments.add(run);
        }
        // 0, 1, 2, 3 and four times 4: mean 22 / 8, mean square 78 / 8.
        assert_eq!(moments.mean(), 1e6 + 2.75);
        assert_eq!(moments.std(), (78.0 / 8.0 - 2.75f64 * 2.75).sqrt() as f32);
        assert_eq!((moments.min(), moments.max()), (1e6, 1e6 + 4.0));
    }
}
