use super::{Diffusion, Path, Prediction};

/// A step from z and a prediction p to where there is less noise, `x clip(x_of[0] z + x_of[1] p) + z z + p p + noise n` with
/// n ~ N(0, 1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Denoise {
    /// The weights of z and p in the predicted data.
    pub x_of: [f32; 2],
    /// The largest value that predicted data may have; infinite for any.
    pub bound: f32,
    /// The weights of predicted data, z, p and noise in the result.
    pub x: f32,
    pub z: f32,
    pub p: f32,
    pub noise: f32,
}

impl Denoise {
    /// From t to s by DDIM (Song, Meng, Ermon, 2021, equation 12), for any path:
    ///
    /// ```text
    /// z_s = alpha_s x + sqrt(sigma_s^2 - w^2) eps + w n        w = eta x the deviation of z_s given z_t and x
    /// ```
    /// with x and eps predicted; eps is that of the prediction also where x is clipped to `bound`, as in MaskDM and in
    /// diffusers under `use_clipped_model_output=False`. With eta 0 the linear path is followed by Euler's method.
    pub fn ddim(path: Path, prediction: Prediction, [t, s]: [f64; 2], eta: f64, bound: Option<f32>) -> Denoise {
        let noise = eta * deviation(path, t, s);
        let eps = (path.sigma(s).powi(2) - noise * noise).max(0.0).sqrt();
        let [z, p] = prediction.convert(Prediction::Eps, path, t).map(|weight| eps * weight);
        Denoise::new(prediction.convert(Prediction::X, path, t), bound, [path.alpha(s), z, p, noise])
    }

    /// From t to s by a draw of z_s given z_t and the predicted data (Ho, Jain, Abbeel, 2020, equation 7), clipped to `bound`:
    ///
    /// ```text
    /// z_s = a sigma_s^2 / sigma_t^2 z + alpha_s (sigma_t^2 - a^2 sigma_s^2) / sigma_t^2 x + w n        a = alpha_t / alpha_s
    /// ```
    pub fn ancestral(path: Path, prediction: Prediction, [t, s]: [f64; 2], bound: Option<f32>) -> Denoise {
        let (a, before, now) = (path.alpha(t) / path.alpha(s), path.sigma(s).powi(2), path.sigma(t).powi(2));
        let x = path.alpha(s) * (now - a * a * before) / now;
        let weights = [x, a * before / now, 0.0, deviation(path, t, s)];
        Denoise::new(prediction.convert(Prediction::X, path, t), bound, weights)
    }

    /// From t to s by the method of Euler and Maruyama for `dz = (v - w s) dt + sqrt(2 w) dW`, with w that of `diffusion` at t:
    ///
    /// ```text
    /// z_s = z - h (v - w score) + sqrt(2 w h) n        h = t - s
    /// ```
    /// of weak order 1 in h (Kloeden and Platen, 1992, section 14.1).
    pub fn euler_maruyama(path: Path, prediction: Prediction, [t, s]: [f64; 2], diffusion: Diffusion) -> Denoise {
        let (h, w) = (t - s, diffusion.at(path, t));
        let [v, score] = [Prediction::V, Prediction::Score].map(|other| prediction.convert(other, path, t));
        let [z, p] = [0, 1].map(|i| -h * (v[i] - w * score[i]));
        Denoise::new([0.0; 2], None, [0.0, 1.0 + z, p, (2.0 * w * h).sqrt()])
    }

    /// The predicted data at t, clipped to `bound`.
    pub fn data(path: Path, prediction: Prediction, t: f64, bound: Option<f32>) -> Denoise {
        Denoise::new(prediction.convert(Prediction::X, path, t), bound, [1.0, 0.0, 0.0, 0.0])
    }

    /// `z z + p p`, as [`Prediction::convert`] gives the weights.
    pub fn sum([z, p]: [f64; 2]) -> Denoise {
        Denoise::new([0.0; 2], None, [0.0, z, p, 0.0])
    }

    /// Weights of predicted data, z, p and noise. Without a bound the data are a sum of z and p like the rest.
    fn new(x_of: [f64; 2], bound: Option<f32>, [x, z, p, noise]: [f64; 4]) -> Denoise {
        let noise = noise as f32;
        match bound {
            Some(bound) => {
                Denoise { x_of: x_of.map(|w| w as f32), bound, x: x as f32, z: z as f32, p: p as f32, noise }
            }
            None => {
                let [z, p] = [z + x * x_of[0], p + x * x_of[1]].map(|weight| weight as f32);
                Denoise { x_of: [0.0; 2], bound: f32::INFINITY, x: 0.0, z, p, noise }
            }
        }
    }
}

/// The deviation of z_s given z_t and the data: `sigma_s / sigma_t sqrt(sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2)`.
fn deviation(path: Path, t: f64, s: f64) -> f64 {
    let a = path.alpha(t) / path.alpha(s);
    let forward = path.sigma(t).powi(2) - (a * path.sigma(s)).powi(2);
    path.sigma(s) / path.sigma(t) * forward.max(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mean and the variance of z_s for Gaussian data N(m, v) seen at z_t = `z`, by the best prediction.
    fn step(step: Denoise, prediction: Prediction, path: Path, t: f64, m: f64, v: f64, z: f64) -> [f64; 2] {
        let (alpha, sigma) = (path.alpha(t), path.sigma(t));
        let x = m + alpha * v / (alpha * alpha * v + sigma * sigma) * (z - alpha * m);
        let [a, b] = prediction.of_data_and_noise(path, t);
        let p = a * x + b * (z - alpha * x) / sigma;
        let Denoise { x_of, bound, x, z: of_z, p: of_p, noise } = step;
        let clipped = (f64::from(x_of[0]) * z + f64::from(x_of[1]) * p).clamp(-f64::from(bound), f64::from(bound));
        let mean = f64::from(x) * clipped + f64::from(of_z) * z + f64::from(of_p) * p;
        [mean, f64::from(noise).powi(2)]
    }

    #[test]
    fn where_the_data_are_one_point_every_step_comes_to_the_law_of_its_time() {
        // With v = 0, z_t ~ N(alpha_t m, sigma_t^2), a step must come to N(alpha_s m, sigma_s^2), whatever its noise.
        let m = 0.6;
        for (path, prediction) in [
            (Path::Linear, Prediction::V),
            (Path::Linear, Prediction::X),
            (Path::DdpmLinear, Prediction::Eps),
            (Path::DdpmLinear, Prediction::X),
            (Path::DdpmCosine, Prediction::Eps),
        ] {
            for ends in [[0.9, 0.6], [0.5, 0.499], [0.3, 0.002], [0.2, 0.0]] {
                let [t, s] = ends;
                let ddim = |eta| Denoise::ddim(path, prediction, ends, eta, None);
                for how in [ddim(0.0), ddim(0.3), ddim(1.0), Denoise::ancestral(path, prediction, ends, None)] {
                    let at = |n: f64| step(how, prediction, path, t, m, 0.0, path.alpha(t) * m + path.sigma(t) * n);
                    let ([low, noise], [high, _]) = (at(-1.0), at(1.0));
                    let (mean, variance) = ((high + low) / 2.0, ((high - low) / 2.0).powi(2) + noise);
                    let exact = [path.alpha(s) * m, path.sigma(s).powi(2)];
                    // A rounding of weights of the size of 1 / alpha.
                    let close = |ours: f64, exact: f64| (ours - exact).abs() < 4e-7 / path.alpha(t);
                    assert!(
                        close(mean, exact[0]) && close(variance, exact[1]),
                        "{path} {prediction} {ends:?}: {how:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn euler_and_maruyama_come_to_the_law_of_the_data_at_first_order() {
        // From N(0, 1) at the last time to the law of z at t = 0.05, step by step: mean and variance of what is affine in z.
        let (m, v) = (0.6, 0.25);
        let error = |path: Path, prediction: Prediction, diffusion, steps: usize| {
            let [begin, end] = [prediction.interval(path)[1], 0.05];
            let law = |t: f64| [path.alpha(t) * m, path.alpha(t).powi(2) * v + path.sigma(t).powi(2)];
            let [mut mean, mut variance] = law(begin);
            for i in 0..steps {
                let at = |i: usize| begin + (end - begin) * i as f64 / steps as f64;
                let how = Denoise::euler_maruyama(path, prediction, [at(i), at(i + 1)], diffusion);
                let [(low, noise), (high, _)] = [-1.0, 1.0].map(|n: f64| {
                    let [z, noise] = step(how, prediction, path, at(i), m, v, mean + variance.sqrt() * n);
                    (z, noise)
                });
                (mean, variance) = ((low + high) / 2.0, ((high - low) / 2.0).powi(2) + noise);
            }
            (variance - law(end)[1]).abs() + (mean - law(end)[0]).abs()
        };
        for (path, prediction, diffusion) in [
            (Path::Linear, Prediction::V, Diffusion::Sigma),
            (Path::Linear, Prediction::X, Diffusion::Decreasing),
            (Path::Gvp, Prediction::V, Diffusion::Linear),
            (Path::Gvp, Prediction::Eps, Diffusion::IncreasingDecreasing),
            (Path::Vp, Prediction::Score, Diffusion::Reverse),
        ] {
            let (coarse, fine) = (error(path, prediction, diffusion, 500), error(path, prediction, diffusion, 1000));
            let order = (coarse / fine).log2();
            assert!((order - 1.0).abs() < 0.1, "{path} {diffusion}: order {order}, {coarse} to {fine}");
        }
    }

    #[test]
    fn ddim_with_all_of_its_noise_is_ancestral_sampling_unless_data_are_clipped() {
        let ends = [0.7, 0.65];
        for (path, prediction) in [(Path::DdpmLinear, Prediction::Eps), (Path::Linear, Prediction::V)] {
            let [ddim, ancestral] =
                [Denoise::ddim(path, prediction, ends, 1.0, None), Denoise::ancestral(path, prediction, ends, None)];
            for (a, b) in [(ddim.z, ancestral.z), (ddim.p, ancestral.p), (ddim.noise, ancestral.noise)] {
                assert!((a - b).abs() <= 4.0 * f32::EPSILON * a.abs().max(1.0), "{ddim:?}, {ancestral:?}");
            }
        }
        let clipped = Denoise::ddim(Path::DdpmLinear, Prediction::Eps, ends, 1.0, Some(1.0));
        assert!(clipped.x > 0.0 && clipped.p != 0.0 && clipped.z == 0.0, "eps stays that of the network: {clipped:?}");
    }

    #[test]
    fn ddim_without_noise_is_eulers_method_on_the_linear_path() {
        for ends in [[1.0, 0.9], [0.5, 0.25], [0.1, 0.0]] {
            let step = Denoise::ddim(Path::Linear, Prediction::V, ends, 0.0, None);
            assert_eq!((step.noise, step.x), (0.0, 0.0));
            assert!((step.z - 1.0).abs() < 1e-7 && (f64::from(step.p) - (ends[1] - ends[0])).abs() < 1e-7, "{step:?}");
        }
    }
}
