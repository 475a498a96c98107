use super::rng::{Draw, Purpose, uniform};

/// How training draws the time of a sample, before it is laid into [`Prediction::interval`](super::Prediction::interval).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Times {
    pub law: Law,
    /// `t <- s t / (1 + (s - 1) t)` for s = shift, which takes odds of t to s times as much: above 1 more noise, as in larger
    /// images (Esser et al., 2024, equation 23).
    pub shift: f64,
    /// Equal parts of the law that samples take in turn, each drawing within its part; 1 for none. With as many as a batch has
    /// samples, a batch covers all times, as with the one shared offset of *Variational Diffusion Models* (Kingma et al., 2021,
    /// appendix I.1).
    pub strata: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Law {
    Uniform,
    /// `sigmoid(mean + deviation n)` (Esser et al., *Scaling Rectified Flow Transformers*, 2024, section 3.1).
    LogitNormal {
        mean: f64,
        deviation: f64,
    },
}

impl Times {
    pub const UNIFORM: Times = Times { law: Law::Uniform, shift: 1.0, strata: 1 };

    /// The time of a sample of the batch, in the open interval (0, 1).
    pub fn draw(self, draw: Draw, sample: usize) -> f64 {
        let global = draw.first.wrapping_add(sample as u32);
        let within = f64::from(uniform(draw.stream(sample, Purpose::Time).words(0)[0]));
        let t = self.law.quantile((f64::from(global % self.strata) + within) / f64::from(self.strata));
        let shifted = self.shift * t / (1.0 + (self.shift - 1.0) * t);
        shifted.clamp(f64::EPSILON, 1.0 - f64::EPSILON)
    }
}

impl Law {
    /// The time below which the share `u` of the draws is.
    fn quantile(self, u: f64) -> f64 {
        match self {
            Law::Uniform => u,
            Law::LogitNormal { mean, deviation } => 1.0 / (1.0 + (-mean - deviation * normal_quantile(u)).exp()),
        }
    }
}

/// The value below which a standard normal is with probability `u`, within 1.2e-9 of it: Acklam's rational functions of u - 1/2 and,
/// in the tails, of `sqrt(-2 ln u)`.
fn normal_quantile(u: f64) -> f64 {
    const TAIL: f64 = 0.02425;
    const A: [f64; 6] = [
        -3.969683028665376e1,
        2.209460984245205e2,
        -2.759285104469687e2,
        1.38357751867269e2,
        -3.066479806614716e1,
        2.506628277459239,
    ];
    const B: [f64; 6] = [
        -5.447609879822406e1,
        1.615858368580409e2,
        -1.556989798598866e2,
        6.680131188771972e1,
        -1.328068155288572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784894002430293e-3,
        -3.223964580411365e-1,
        -2.400758277161838,
        -2.549732539343734,
        4.374664141464968,
        2.938163982698783,
    ];
    const D: [f64; 5] = [7.784695709041462e-3, 3.224671290700398e-1, 2.445134137142996, 3.754408661907416, 1.0];
    let sum = |weights: &[f64], x: f64| weights.iter().fold(0.0, |sum, weight| sum * x + weight);
    if u > 1.0 - TAIL {
        return -normal_quantile(1.0 - u);
    }
    if u < TAIL {
        let q = (-2.0 * u.ln()).sqrt();
        return sum(&C, q) / sum(&D, q);
    }
    let (q, r) = (u - 0.5, (u - 0.5).powi(2));
    q * sum(&A, r) / sum(&B, r)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAW: Draw = Draw { seed: 3, step: 5, first: 13 };

    #[test]
    fn the_normal_quantile_has_its_published_values() {
        for (u, value) in [
            (0.5, 0.0),
            (0.75, 0.674_489_750_196_081_7),
            (0.975, 1.959_963_984_540_054),
            (0.999, 3.090_232_306_167_813),
            (1e-6, -4.753_424_308_822_899),
        ] {
            assert!((normal_quantile(u) - value).abs() <= 1.2e-9 * value.abs(), "{u}: {}", normal_quantile(u));
        }
    }

    #[test]
    fn a_stratified_batch_has_one_time_in_each_part() {
        let law = Law::LogitNormal { mean: 0.4, deviation: 1.5 };
        for (law, edge) in [(Law::Uniform, Law::Uniform), (law, law)] {
            let times = Times { law, strata: 8, ..Times::UNIFORM };
            for sample in 0..16 {
                let (t, part) = (times.draw(DRAW, sample), (13 + sample) as f64 % 8.0);
                let [low, high] =
                    [part / 8.0, (part + 1.0) / 8.0].map(|u| if u > 0.0 && u < 1.0 { edge.quantile(u) } else { u });
                assert!(low < t && t < high, "{law:?}: sample {sample} is at {t}, not within {low} and {high}");
            }
        }
    }

    #[test]
    fn a_part_belongs_to_a_sample_of_the_whole_batch_wherever_it_is_split() {
        let times = Times { strata: 8, ..Times::UNIFORM };
        for sample in 0..8 {
            assert_eq!(times.draw(DRAW, sample + 3), times.draw(Draw { first: 16, ..DRAW }, sample));
        }
    }

    #[test]
    fn no_law_reaches_the_ends() {
        let law = Law::LogitNormal { mean: 1e3, deviation: 1.0 };
        for times in [Times { law, ..Times::UNIFORM }, Times { shift: 1e30, ..Times::UNIFORM }] {
            assert!((0..50).all(|sample| times.draw(DRAW, sample) < 1.0));
        }
    }

    #[test]
    fn a_shift_multiplies_the_odds() {
        for sample in 0..50 {
            let [plain, shifted] = [1.0, 3.0].map(|shift| Times { shift, ..Times::UNIFORM }.draw(DRAW, sample));
            let odds = |t: f64| t / (1.0 - t);
            assert!((odds(shifted) / odds(plain) - 3.0).abs() < 1e-9, "{plain} to {shifted}");
        }
    }
}
