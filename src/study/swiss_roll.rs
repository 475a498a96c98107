use super::energy::energy_distance;
use crate::base::rng::{Purpose, Stream, uniform};
use crate::base::{AdamW, DType, Mask, PatchGrid, Path, Prediction, Result, Times, Weighting};
use crate::data::svg::{Axis, Chart, Mark, Series};
use crate::device::Device;
use crate::diffusion::{Field, Guidance, ModelField, Sampler};
use crate::nn::{Config, Family, Network};
use crate::ops::noise::Noise;
use crate::tape::{Keep, Tape};
use crate::tensor::{Slab, Tensor};
use crate::train::{Settings, Step};
use std::f64::consts::PI;

/// A point is an image of two pixels, each of which is a token.
const GRID: PatchGrid = PatchGrid { channels: 1, height: 1, width: 2, patch: 1 };
const BATCH: usize = 128;
const LEARNING_RATE: f32 = 1e-3;
const WARM_UP: u64 = 50;
/// Points that are compared with as many of the roll, and the steps of their sampler.
const POINTS: usize = 1024;
const SOLVER_STEPS: usize = 10;

/// Masked pre-training on the Swiss roll in the plane (*MaskDM*, section 3.1 and figure 2).
///
/// The primer sees one coordinate at a time, the other dropped; it learns the two marginals, whose product is a
/// distribution that covers the roll. Fine-tuned on whole points it is compared with a model that begins from nothing, by
/// the energy distance of samples to the roll.
pub struct SwissRoll {
    pub primer_steps: u64,
    /// Steps on whole points, of each of the two arms.
    pub steps: u64,
    /// Steps between two measurements.
    pub every: u64,
    /// Runs of each arm, from weights and data of their own.
    pub seeds: u64,
}

/// What came of it.
#[derive(serde::Serialize)]
pub struct Rolled {
    /// Of the product of the marginals that the first primer learnt, to the product of the true ones.
    pub proxy: f64,
    /// Of the true product to the roll.
    pub product: f64,
    /// Of points of the roll to others: what no samples can fall below, but by chance.
    pub floor: f64,
    pub measured: Vec<Measured>,
    #[serde(skip)]
    samples: [Vec<[f64; 2]>; 2],
}

/// Mean energy distances to the roll after so many steps on whole points.
#[derive(Clone, Copy, serde::Serialize)]
pub struct Measured {
    pub step: u64,
    pub from_scratch: f64,
    pub fine_tuned: f64,
}

impl SwissRoll {
    /// Trains all arms; `progress` hears of each measurement of each seed.
    pub fn run(&self, device: &Device, progress: &dyn Fn()) -> Result<Rolled> {
        let steps = || (0..=self.steps / self.every).map(|i| i * self.every);
        let mut measured: Vec<Measured> =
            steps().map(|step| Measured { step, from_scratch: 0.0, fine_tuned: 0.0 }).collect();
        let [held_out, other] = [0, 1].map(|seed| roll(Stream::new(seed, 0, u32::MAX, Purpose::Toy), POINTS));
        let (mut proxy, mut samples) = (0.0, [vec![], vec![]]);
        let share = 1.0 / self.seeds as f64;
        for seed in 0..self.seeds {
            // Draws of its own, or both stages would see the same points.
            let mut primer = Step::new(device, settings(0.5, !seed))?;
            train(&mut primer, 0..self.primer_steps)?;
            if seed == 0 {
                samples[0] = sampled(&mut primer, true);
                proxy = energy_distance(&samples[0], &product(&held_out));
            }
            primer.restart(settings(0.0, seed), true)?;
            let scratch = Step::new(device, settings(0.0, seed))?;
            for (mut arm, primed) in [(scratch, false), (primer, true)] {
                for (i, step) in steps().enumerate() {
                    train(&mut arm, step.saturating_sub(self.every)..step)?;
                    let drawn = sampled(&mut arm, false);
                    let to = if primed { &mut measured[i].fine_tuned } else { &mut measured[i].from_scratch };
                    *to += share * energy_distance(&drawn, &held_out);
                    if primed && seed == 0 {
                        samples[1] = drawn;
                    }
                    progress();
                }
            }
        }
        let floor = energy_distance(&other, &held_out);
        Ok(Rolled { proxy, product: energy_distance(&product(&other), &held_out), floor, measured, samples })
    }

    /// How often [`SwissRoll::run`] tells of progress.
    pub fn measurements(&self) -> u64 {
        2 * self.seeds * (1 + self.steps / self.every)
    }
}

impl Rolled {
    /// Twice the distance that a model from scratch ends with: far enough from it that chance does not decide.
    pub fn target(&self) -> f64 {
        2.0 * self.measured.last().expect("step 0 is measured").from_scratch
    }

    /// The first measured steps at which a model from scratch, and a fine-tuned one, are as near as [`Rolled::target`].
    pub fn steps_to_target(&self) -> [Option<u64>; 2] {
        [|one: &Measured| one.from_scratch, |one: &Measured| one.fine_tuned].map(|of| {
            let reached = |one: &&Measured| of(one) <= self.target();
            self.measured.iter().find(reached).map(|one| one.step)
        })
    }

    /// The primer's distribution, samples of the fine-tuned model, and the distances over the steps.
    pub fn charts(&self) -> [Chart<'static>; 3] {
        let data = roll(Stream::new(0, 0, u32::MAX, Purpose::Toy), POINTS);
        let plane = |title: &str, name, points: &Vec<[f64; 2]>| Chart {
            title: title.into(),
            x: Axis { label: "x", log: false },
            y: Axis { label: "y", log: false },
            series: vec![
                Series { name: "Swiss roll", mark: Mark::Dots(0.7), points: data.clone() },
                Series { name, mark: Mark::Dots(1.2), points: points.clone() },
            ],
        };
        let curve = |name, of: fn(&Measured) -> f64| Series {
            name,
            mark: Mark::Line,
            points: self.measured.iter().map(|one| [one.step as f64, of(one)]).collect(),
        };
        [
            plane("Seen one coordinate at a time: the product of the marginals", "primer", &self.samples[0]),
            plane("Then fine-tuned on whole points", "fine-tuned", &self.samples[1]),
            Chart {
                title: "Energy distance to the roll".into(),
                x: Axis { label: "steps on whole points", log: false },
                y: Axis { label: "energy distance", log: true },
                series: vec![curve("from scratch", |one| one.from_scratch), curve("fine-tuned", |one| one.fine_tuned)],
            },
        ]
    }
}

fn settings(drop: f64, seed: u64) -> Settings {
    let adamw = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 };
    let (path, prediction) = (Path::Linear, Prediction::V);
    Settings {
        model: Config {
            family: Family::Sit,
            grid: GRID,
            depth: 3,
            width: 64,
            heads: 2,
            classes: 0,
            learn_sigma: false,
        },
        batch: BATCH,
        mask: Mask::patches(drop),
        noise: Noise {
            path,
            prediction,
            times: Times::UNIFORM,
            weighting: Weighting::None,
            label_dropout: 0.0,
            null_label: 0,
            seed,
        },
        adamw,
        clip: Some(1.0),
        averages: vec![0.99],
        keep: Keep::Everything,
        seed,
    }
}

/// Trains over the steps, each on points of its own.
fn train(step: &mut Step, steps: std::ops::Range<u64>) -> Result<()> {
    for number in steps {
        let points = roll(Stream::new(step.settings.seed, 0, number as u32, Purpose::Toy), BATCH);
        let values: Vec<f32> = points.iter().flatten().map(|&x| x as f32).collect();
        let rate = LEARNING_RATE * ((number + 1) as f32 / WARM_UP as f32).min(1.0);
        step.run(number, rate, &values, &[0; BATCH])?;
    }
    Ok(())
}

/// Points `theta (cos theta, sin theta) / 3 pi`, theta from `3/2 pi` to `9/2 pi`, with noise of deviation 0.03.
fn roll(stream: Stream, count: usize) -> Vec<[f64; 2]> {
    let point = |i: usize| {
        // Words and normals of one stream come from blocks of their own.
        let theta = PI * (1.5 + 3.0 * f64::from(uniform(stream.words(2 * i as u32)[0])));
        let [x, y, ..] = stream.normals(2 * i as u32 + 1).map(|normal| 0.03 * f64::from(normal));
        [theta * theta.cos() / (3.0 * PI) + x, theta * theta.sin() / (3.0 * PI) + y]
    };
    (0..count).map(point).collect()
}

/// Points whose coordinates come from different ones: samples of the product of the marginals.
fn product(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    (0..points.len()).map(|i| [points[i][0], points[(i + points.len() / 2) % points.len()][1]]).collect()
}

/// Samples of the model; of its marginals if `apart`.
fn sampled(step: &mut Step, apart: bool) -> Vec<[f64; 2]> {
    let (device, network, weights) = step.sampled();
    let mut start = vec![0.0f32; 2 * POINTS];
    Stream::new(0, 0, 0, Purpose::Start).fill_normals(&mut start);
    let mut z = Tensor::from_slice(device, "sampler", [POINTS, 1, 1, 2], &start);
    let course = Sampler::Heun.course(Path::Linear, Prediction::V, SOLVER_STEPS);
    if apart {
        Sampler::Heun.integrate(&mut Marginals { device, network, weights }, &mut z, &course, &mut |_, _| {});
    } else {
        let (process, labels) = ((Path::Linear, Prediction::V), [0; POINTS]);
        let none = Guidance { weight: 1.0, channels: None, interval: [0.0, 1.0] };
        let mut field = ModelField::new(device, network, weights, process, none, &labels);
        Sampler::Heun.integrate(&mut field, &mut z, &course, &mut |_, _| {});
    }
    z.to_vec::<f32>().chunks_exact(2).map(|point| [f64::from(point[0]), f64::from(point[1])]).collect()
}

/// The velocity of each coordinate by a model that does not see the other.
struct Marginals<'a> {
    device: &'a Device,
    network: &'a Network,
    weights: &'a Slab,
}

impl Field for Marginals<'_> {
    fn device(&self) -> &Device {
        self.device
    }

    fn process(&self) -> (Path, Prediction) {
        (Path::Linear, Prediction::V)
    }

    fn predict(&mut self, z: &Tensor, t: &[f64], v: &mut Tensor) {
        let points = z.shape().rows();
        let mut all = vec![0.0f32; 2 * points];
        let t: Vec<f32> = t.iter().map(|&t| t as f32).collect();
        let t = Tensor::from_slice(self.device, "sampler", [points], &t);
        let mut y = Tensor::new(self.device, "sampler", [points], DType::U32);
        y.write(&vec![0u32; points]);
        for coordinate in 0..2 {
            let kept = Tensor::from_slice(self.device, "sampler", [points, 1], &vec![coordinate as u32; points]);
            let mut tape = Tape::inference(self.device, self.weights);
            let tokens = self.network.forward(&mut tape, z, &t, &y, Some(&kept));
            let seen = tape.value(tokens).to_vec::<f32>();
            all.iter_mut().skip(coordinate).step_by(2).zip(seen).for_each(|(v, seen)| *v = seen);
        }
        v.write(&all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Cpu;

    #[test]
    fn points_lie_on_the_roll_and_the_product_of_its_marginals_is_another_distribution() {
        let points = roll(Stream::new(3, 0, 0, Purpose::Toy), 4 * POINTS);
        for [x, y] in &points {
            let radius = x.hypot(*y);
            // Where the angle belongs to theta = 3 pi radius up to turns, the arm is met.
            let off = (3.0 * PI * radius - y.atan2(*x)).rem_euclid(2.0 * PI);
            let off = off.min(2.0 * PI - off) / (3.0 * PI);
            assert!(off < 6.0 * 0.03, "({x}, {y}) is {off} beside the roll");
        }
        let others = roll(Stream::new(4, 0, 0, Purpose::Toy), 4 * POINTS);
        let [same, apart] = [&others, &product(&others)].map(|other| energy_distance(&points, other));
        assert!(apart > 5.0 * same.abs(), "{apart} {same}");
    }

    #[test]
    fn a_short_study_measures_every_arm_and_names_the_target() {
        let device = Device::cpu(Cpu::new(None, DType::F32).unwrap());
        let study = SwissRoll { primer_steps: 60, steps: 60, every: 30, seeds: 1 };
        let told = std::cell::Cell::new(0);
        let rolled = study.run(&device, &|| told.set(told.get() + 1)).unwrap();
        assert_eq!(told.get(), study.measurements());
        let steps: Vec<u64> = rolled.measured.iter().map(|one| one.step).collect();
        assert_eq!(steps, [0, 30, 60]);
        let [first, .., last] = &rolled.measured[..] else { panic!("three are measured") };
        assert!(last.from_scratch < first.from_scratch && first.from_scratch > 10.0 * rolled.floor.abs());
        // The primer knows where points lie, the untrained model draws noise.
        assert!(first.fine_tuned < first.from_scratch, "{} {}", first.fine_tuned, first.from_scratch);
        assert!(rolled.steps_to_target()[0].is_some_and(|step| step <= 60));
        assert_eq!(rolled.charts()[2].series[0].points.len(), 3);
    }
}
