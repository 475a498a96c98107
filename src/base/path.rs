use super::named::named;
use std::f64::consts::FRAC_PI_2;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

/// The path from data to noise: `z_t = alpha(t) x + sigma(t) eps`, data at t = 0 and noise at t = 1.
///
/// A path is continuous, with a velocity `v = alpha'(t) x + sigma'(t) eps`, or it has so many steps: step i of T is at
/// t = (i + 1) / T, and nothing lies between. All coefficients are f64, since users of a path divide by sigma.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// `alpha = 1 - t`, `sigma = t`: rectified flow (Liu, Gong, Liu, 2022), the linear interpolant of SiT.
    Linear,
    /// `alpha = cos(pi t / 2)`, `sigma = sin(pi t / 2)`: variance preserving, the cosine of SiT's GVP and of REPA.
    Gvp,
    /// `alpha = exp(-(20 - 0.1) t^2 / 4 - 0.1 t / 2)`, `sigma^2 = 1 - alpha^2`: the variance preserving SDE with beta from 0.1
    /// to 20 (Song et al., 2021, equation 33), SiT's VP.
    Vp,
    /// A thousand steps, `alpha^2 = prod (1 - beta_i)` with beta linear from 1e-4 to 0.02 (Ho, Jain, Abbeel, 2020).
    DdpmLinear,
    /// A thousand steps, `alpha^2 = cos^2((t + 0.008) / 1.008 pi / 2)` up to a factor, no beta above 0.999 (Nichol and Dhariwal,
    /// 2021, section 3.2).
    DdpmCosine,
}

/// Steps of a path that has them.
const STEPS: usize = 1000;

/// Where beta begins and ends on [`Path::Vp`].
const BETA: [f64; 2] = [0.1, 20.0];

/// `alpha^2` after i steps, from none to all.
type Table = [f64; STEPS + 1];

static LINEAR: LazyLock<Table> = LazyLock::new(|| {
    let [first, last] = [1e-4, 0.02];
    product(|i| first + (last - first) * i as f64 / (STEPS - 1) as f64)
});

static COSINE: LazyLock<Table> = LazyLock::new(|| {
    let f = |i: usize| ((i as f64 / STEPS as f64 + 0.008) / 1.008 * FRAC_PI_2).cos().powi(2);
    product(|i| (1.0 - f(i + 1) / f(i)).min(0.999))
});

fn product(beta: impl Fn(usize) -> f64) -> Table {
    let mut table = [1.0; STEPS + 1];
    (0..STEPS).for_each(|i| table[i + 1] = table[i] * (1.0 - beta(i)));
    table
}

impl Path {
    /// How many steps the path has; `None` if it is continuous.
    pub fn steps(self) -> Option<usize> {
        match self {
            Path::Linear | Path::Gvp | Path::Vp => None,
            Path::DdpmLinear | Path::DdpmCosine => Some(STEPS),
        }
    }

    /// The weight of the data at t.
    pub fn alpha(self, t: f64) -> f64 {
        match self {
            Path::Linear => 1.0 - t,
            // By the sine, which is 0 where the cosine of a rounded pi / 2 is not.
            Path::Gvp => (FRAC_PI_2 * (1.0 - t)).sin(),
            Path::Vp => log_alpha(t).exp(),
            Path::DdpmLinear => LINEAR[index(t)].sqrt(),
            Path::DdpmCosine => COSINE[index(t)].sqrt(),
        }
    }

    /// The weight of the noise at t.
    pub fn sigma(self, t: f64) -> f64 {
        match self {
            Path::Linear => t,
            Path::Gvp => (FRAC_PI_2 * t).sin(),
            Path::Vp => (-(2.0 * log_alpha(t)).exp_m1()).sqrt(),
            Path::DdpmLinear => (1.0 - LINEAR[index(t)]).sqrt(),
            Path::DdpmCosine => (1.0 - COSINE[index(t)]).sqrt(),
        }
    }

    /// d alpha / dt.
    ///
    /// # Panics
    /// If the path has steps.
    pub fn alpha_rate(self, t: f64) -> f64 {
        match self {
            Path::Linear => -1.0,
            Path::Gvp => -FRAC_PI_2 * (FRAC_PI_2 * t).sin(),
            Path::Vp => -0.5 * beta(t) * self.alpha(t),
            Path::DdpmLinear | Path::DdpmCosine => panic!("{self} has steps and no velocity"),
        }
    }

    /// d sigma / dt; infinite at t = 0 of [`Path::Vp`].
    ///
    /// # Panics
    /// If the path has steps.
    pub fn sigma_rate(self, t: f64) -> f64 {
        match self {
            Path::Linear => 1.0,
            Path::Gvp => FRAC_PI_2 * (FRAC_PI_2 * (1.0 - t)).sin(),
            Path::Vp => 0.5 * beta(t) * self.alpha(t).powi(2) / self.sigma(t),
            Path::DdpmLinear | Path::DdpmCosine => panic!("{self} has steps and no velocity"),
        }
    }

    /// `g^2 = 2 sigma sigma' - 2 alpha' / alpha sigma^2`, with which `dz = alpha' / alpha z dt + g dw` has the path's law at every t.
    ///
    /// # Panics
    /// If the path has steps.
    pub fn diffusion(self, t: f64) -> f64 {
        let (sigma, shrink) = (self.sigma(t), self.alpha_rate(t) / self.alpha(t));
        2.0 * sigma * (self.sigma_rate(t) - shrink * sigma)
    }

    /// The time that training takes for a draw of (0, 1): the draw, or the end of the step that it falls in.
    pub fn time(self, drawn: f64) -> f64 {
        match self.steps() {
            None => drawn,
            Some(steps) => (((drawn * steps as f64) as usize).min(steps - 1) + 1) as f64 / steps as f64,
        }
    }

    /// Refuses times that the path does not have, and says what to give.
    pub fn check(self, t: f32) -> Result<(), String> {
        if !(0.0..=1.0).contains(&t) {
            return Err("give a time from 0 to 1".into());
        }
        let Some(steps) = self.steps() else { return Ok(()) };
        let at = f64::from(t) * steps as f64;
        if at.round() > 0.0 && (at - at.round()).abs() < 1e-3 {
            return Ok(());
        }
        Err(format!("step i of {self} is at (i + 1) / {steps}"))
    }

    /// The time that a network is told at t: t, or i / (T - 1) at step i of T, of which a U-ViT makes the whole number i.
    /// The published DiT is told i itself, and a SiT here is not.
    pub fn told(self, t: f64) -> f64 {
        match self.steps() {
            None => t,
            Some(steps) => (index(t) as f64 - 1.0) / (steps - 1) as f64,
        }
    }

    /// The times at which `steps` steps of a sampler begin and end, from `last` to 0: equal ones, each rounded down to a step of
    /// the path. They are those of MaskDM, and of diffusers under `timestep_spacing="trailing"` where `steps` divides T.
    pub fn times(self, last: f64, steps: usize) -> Vec<f64> {
        let time = |left: usize| match self.steps() {
            None => last * left as f64 / steps as f64,
            Some(all) => (all * left / steps) as f64 / all as f64,
        };
        (0..=steps).rev().map(time).collect()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Path::Linear => "linear",
            Path::Gvp => "gvp",
            Path::Vp => "vp",
            Path::DdpmLinear => "ddpm-linear",
            Path::DdpmCosine => "ddpm-cosine",
        })
    }
}

impl FromStr for Path {
    type Err = String;

    fn from_str(name: &str) -> Result<Path, String> {
        named(&[Path::Linear, Path::Gvp, Path::Vp, Path::DdpmLinear, Path::DdpmCosine], name)
    }
}

/// `beta(t)` of [`Path::Vp`], with which `alpha' = -beta alpha / 2`.
fn beta(t: f64) -> f64 {
    BETA[0] + t * (BETA[1] - BETA[0])
}

/// ln alpha of [`Path::Vp`].
fn log_alpha(t: f64) -> f64 {
    -0.25 * t * t * (BETA[1] - BETA[0]) - 0.5 * t * BETA[0]
}

/// The steps that lead to t.
fn index(t: f64) -> usize {
    (t * STEPS as f64).round() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_of_ddpm_have_their_closed_forms() {
        // The cosine telescopes, but for its last step, whose beta is bounded.
        let f = |i: f64| ((i / 1000.0 + 0.008) / 1.008 * FRAC_PI_2).cos().powi(2);
        for i in 0..1000 {
            let (t, exact) = (f64::from(i) / 1000.0, f(f64::from(i)) / f(0.0));
            let (alpha, sigma) = (Path::DdpmCosine.alpha(t), Path::DdpmCosine.sigma(t));
            assert!((alpha * alpha / exact - 1.0).abs() < 1e-12, "step {i}: {alpha}");
            assert!((alpha * alpha + sigma * sigma - 1.0).abs() < 1e-15);
        }
        let last = Path::DdpmCosine.alpha(1.0) / Path::DdpmCosine.alpha(0.999);
        assert!((last * last - 0.001).abs() < 1e-12, "{last}");
        // ln alpha^2 = sum ln(1 - beta), by its series: minus the sums of beta and of beta^2 / 2 and so on.
        let logarithm: f64 = (0..1000)
            .map(|i| 1e-4 + 0.0199 * f64::from(i) / 999.0)
            .map(|beta| -(1..9).map(|k| beta.powi(k) / f64::from(k)).sum::<f64>())
            .sum();
        assert!((2.0 * Path::DdpmLinear.alpha(1.0).ln() / logarithm - 1.0).abs() < 1e-12);
        // Published with the model: 4.04e-5.
        assert!((Path::DdpmLinear.alpha(1.0).powi(2) - 4.0358e-5).abs() < 1e-9);
        assert!(
            [Path::DdpmLinear, Path::DdpmCosine].iter().all(|path| (path.alpha(0.0), path.sigma(0.0)) == (1.0, 0.0))
        );
    }

    #[test]
    fn continuous_paths_are_those_of_sit_from_data_to_noise() {
        // The formulas of SiT's transport, whose data are at 1, at 1 - t, with their derivatives turned.
        for t in [1e-3, 0.1, 0.5, 0.9, 0.999] {
            let (s, half) = (1.0 - t, FRAC_PI_2);
            let gvp = [(s * half).sin(), (s * half).cos(), -half * (s * half).cos(), half * (s * half).sin()];
            let log = -0.25 * (1.0 - s).powi(2) * (20.0 - 0.1) - 0.5 * (1.0 - s) * 0.1;
            let rate = 0.5 * (1.0 - s) * (20.0 - 0.1) + 0.5 * 0.1;
            let sigma = (1.0 - (2.0 * log).exp()).sqrt();
            let vp = [log.exp(), sigma, -rate * log.exp(), (2.0 * log).exp() * 2.0 * rate / (2.0 * sigma)];
            for (path, theirs) in [(Path::Gvp, gvp), (Path::Vp, vp), (Path::Linear, [s, 1.0 - s, -1.0, 1.0])] {
                let ours = [path.alpha(t), path.sigma(t), path.alpha_rate(t), path.sigma_rate(t)];
                for (ours, theirs) in ours.into_iter().zip(theirs) {
                    // Their 1 - exp loses what is below 1e-16 of 1, where sigma^2 is 1e-4 at the least.
                    assert!((ours - theirs).abs() <= 1e-11 * theirs.abs(), "{path} at {t}: {ours}, not {theirs}");
                }
            }
        }
        for path in [Path::Linear, Path::Gvp] {
            let ends = [0.0, 1.0].map(|t| [path.alpha(t), path.sigma(t)]);
            assert_eq!(ends, [[1.0, 0.0], [0.0, 1.0]], "{path}");
        }
        assert_eq!([Path::Vp.alpha(0.0), Path::Vp.sigma(0.0)], [1.0, 0.0]);
        assert!((Path::Vp.alpha(1.0).ln() + 5.025).abs() < 1e-12);
    }

    #[test]
    fn rates_are_the_derivatives() {
        for path in [Path::Linear, Path::Gvp, Path::Vp] {
            for t in [0.01, 0.3, 0.77, 0.99] {
                // A central difference: h^2 / 6 times a third derivative, of sigma on the way to 0 some 1e5, and rounding over h.
                let h = 1e-5;
                let slope = |f: fn(Path, f64) -> f64| (f(path, t + h) - f(path, t - h)) / (2.0 * h);
                assert!((slope(Path::alpha) - path.alpha_rate(t)).abs() < 1e-5, "{path} at {t}");
                assert!((slope(Path::sigma) - path.sigma_rate(t)).abs() < 1e-5, "{path} at {t}");
            }
        }
    }

    #[test]
    fn each_step_takes_an_equal_part_of_the_draws() {
        for path in [Path::DdpmLinear, Path::DdpmCosine] {
            for i in 0..1000 {
                let inside = [0.01, 0.5, 0.99].map(|part| path.time((f64::from(i) + part) / 1000.0));
                assert_eq!(inside, [f64::from(i + 1) / 1000.0; 3], "step {i}");
                assert!((path.told(inside[0]) * 999.0 - f64::from(i)).abs() < 1e-9, "step {i}");
            }
            assert_eq!([f64::MIN_POSITIVE, 1.0f64.next_down()].map(|drawn| path.time(drawn)), [0.001, 1.0]);
        }
        assert_eq!((Path::Linear.time(0.25), Path::Linear.told(0.25)), (0.25, 0.25));
    }

    #[test]
    fn a_time_that_a_path_does_not_have_is_refused() {
        for t in [-0.1, 1.1, f32::NAN] {
            assert_eq!(Path::Linear.check(t), Err("give a time from 0 to 1".into()));
        }
        assert_eq!([0.0, 0.3333, 1.0].map(|t| Path::Linear.check(t)), [Ok(()), Ok(()), Ok(())]);
        for t in [0.0, 0.3333] {
            assert_eq!(Path::DdpmCosine.check(t), Err("step i of ddpm-cosine is at (i + 1) / 1000".into()));
        }
        assert_eq!([0.001, 0.333, 1.0].map(|t| Path::DdpmCosine.check(t)), [Ok(()), Ok(()), Ok(())]);
    }

    #[test]
    fn samplers_meet_the_steps_of_a_path() {
        assert_eq!(Path::Linear.times(1.0, 4), [1.0, 0.75, 0.5, 0.25, 0.0]);
        assert_eq!(Path::DdpmLinear.times(1.0, 4), [1.0, 0.75, 0.5, 0.25, 0.0]);
        // reversed(int(linspace(-1, 999, 3 + 1))), one later each.
        assert_eq!(Path::DdpmLinear.times(1.0, 3), [1.0, 0.666, 0.333, 0.0]);
        assert_eq!(Path::DdpmCosine.times(1.0, 1000).len(), 1001);
    }
}
