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
    /// A thousand steps, `alpha^2 = prod (1 - beta_i)` with beta linear from 1e-4 to 0.02 (Ho, Jain, Abbeel, 2020).
    DdpmLinear,
    /// A thousand steps, `alpha^2 = cos^2((t + 0.008) / 1.008 pi / 2)` up to a factor, no beta above 0.999 (Nichol and Dhariwal,
    /// 2021, section 3.2).
    DdpmCosine,
}

/// Steps of a path that has them.
const STEPS: usize = 1000;

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
            Path::Linear => None,
            Path::DdpmLinear | Path::DdpmCosine => Some(STEPS),
        }
    }

    /// The weight of the data at t.
    pub fn alpha(self, t: f64) -> f64 {
        match self {
            Path::Linear => 1.0 - t,
            Path::DdpmLinear => LINEAR[index(t)].sqrt(),
            Path::DdpmCosine => COSINE[index(t)].sqrt(),
        }
    }

    /// The weight of the noise at t.
    pub fn sigma(self, t: f64) -> f64 {
        match self {
            Path::Linear => t,
            Path::DdpmLinear => (1.0 - LINEAR[index(t)]).sqrt(),
            Path::DdpmCosine => (1.0 - COSINE[index(t)]).sqrt(),
        }
    }

    /// d alpha / dt.
    ///
    /// # Panics
    /// If the path has steps.
    pub fn alpha_rate(self, _t: f64) -> f64 {
        match self {
            Path::Linear => -1.0,
            Path::DdpmLinear | Path::DdpmCosine => panic!("{self} has steps and no velocity"),
        }
    }

    /// d sigma / dt.
    ///
    /// # Panics
    /// If the path has steps.
    pub fn sigma_rate(self, _t: f64) -> f64 {
        match self {
            Path::Linear => 1.0,
            Path::DdpmLinear | Path::DdpmCosine => panic!("{self} has steps and no velocity"),
        }
    }

    /// The time that training takes for a draw of (0, 1): the draw, or the end of the step that it falls in.
    pub fn time(self, drawn: f32) -> f64 {
        match self.steps() {
            None => f64::from(drawn),
            Some(steps) => (step(drawn, steps) + 1) as f64 / steps as f64,
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

    /// The time that a network is told at t: t, or i / (T - 1) at step i of T, of which U-ViT and DiT make the whole number i.
    pub fn told(self, t: f64) -> f64 {
        match self.steps() {
            None => t,
            Some(steps) => (index(t) as f64 - 1.0) / (steps - 1) as f64,
        }
    }

    /// The times at which `steps` steps of a sampler begin and end, from 1 to 0: equal ones, each rounded down to a step of
    /// the path. They are those of MaskDM, and of diffusers under `timestep_spacing="trailing"` where `steps` divides T.
    pub fn times(self, steps: usize) -> Vec<f64> {
        let time = |left: usize| match self.steps() {
            None => left as f64 / steps as f64,
            Some(all) => (all * left / steps) as f64 / all as f64,
        };
        (0..=steps).rev().map(time).collect()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Path::Linear => "linear",
            Path::DdpmLinear => "ddpm-linear",
            Path::DdpmCosine => "ddpm-cosine",
        })
    }
}

impl FromStr for Path {
    type Err = String;

    fn from_str(name: &str) -> Result<Path, String> {
        let all = [Path::Linear, Path::DdpmLinear, Path::DdpmCosine];
        let found = all.into_iter().find(|path| path.to_string() == name);
        found.ok_or_else(|| format!("expected {}", all.map(|path| path.to_string()).join(", ")))
    }
}

/// The steps that lead to t.
fn index(t: f64) -> usize {
    (t * STEPS as f64).round() as usize
}

/// The step, of so many, that a draw of (0, 1) falls in; the kernel of a card rounds alike.
fn step(drawn: f32, steps: usize) -> usize {
    ((drawn * steps as f32) as usize).min(steps - 1)
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
    fn each_step_takes_an_equal_part_of_the_draws() {
        for path in [Path::DdpmLinear, Path::DdpmCosine] {
            for i in 0..1000 {
                let inside = [0.01, 0.5, 0.99].map(|part| path.time((i as f32 + part) / 1000.0));
                assert_eq!(inside, [f64::from(i + 1) / 1000.0; 3], "step {i}");
                assert!((path.told(inside[0]) * 999.0 - f64::from(i)).abs() < 1e-9, "step {i}");
            }
            assert_eq!([f32::MIN_POSITIVE, 1.0f32.next_down()].map(|drawn| path.time(drawn)), [0.001, 1.0]);
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
        assert_eq!(Path::Linear.times(4), [1.0, 0.75, 0.5, 0.25, 0.0]);
        assert_eq!(Path::DdpmLinear.times(4), [1.0, 0.75, 0.5, 0.25, 0.0]);
        // reversed(int(linspace(-1, 999, 3 + 1))), one later each.
        assert_eq!(Path::DdpmLinear.times(3), [1.0, 0.666, 0.333, 0.0]);
        assert_eq!(Path::DdpmCosine.times(1000).len(), 1001);
    }
}
