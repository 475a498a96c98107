mod sample;

use super::machine::Machine;
use super::score::BenchScore;
use crate::base::rng::{Purpose, Stream};
use crate::base::{Error, Mask, Path as DiffusionPath, Prediction, Rate, Result, Times, TokenMasks, Weighting};
use crate::device::Device;
use crate::nn::{Config, Network, ParamStore};
use crate::ops::noise::Noise;
use crate::ops::peak_flops;
use crate::ops::update::AdamW;
use crate::tape::Keep;
use crate::train::recipe::{Precision, size_of};
use crate::train::{Report, Settings, Step};
use clap::{Args, Subcommand};
use sample::BenchSample;
use std::num::NonZero;
use std::time::Instant;

/// Images of a step, and steps: as many as a recipe's batch may have.
const MOST: usize = 1 << 20;

/// Measure this machine on the engine's own work
#[derive(Args)]
pub struct Bench {
    #[command(subcommand)]
    verb: BenchVerb,
}

#[derive(Subcommand)]
enum BenchVerb {
    Step(BenchStep),
    Sample(BenchSample),
    Score(BenchScore),
}

/// Time whole training steps on random data: noise, forward, backward, AdamW, one moving average
#[derive(Args)]
struct BenchStep {
    #[command(flatten)]
    model: BenchModel,
    /// Images of a step
    #[arg(long, allow_negative_numbers = true, value_parser = super::count, default_value = "8")]
    batch: NonZero<usize>,
    /// Share of the patches that is dropped
    #[arg(long, value_name = "RATE", default_value_t = 0.0)]
    drop: f64,
    /// What is dropped: patch, block:SIDE of patches, or all but one crop:SIDE
    #[arg(long, value_name = "KIND", default_value = "patch")]
    mask: String,
    /// Steps that are timed, after three that are not
    #[arg(long, allow_negative_numbers = true, value_parser = super::count, default_value = "10")]
    steps: NonZero<usize>,
    /// Also time each kernel of a step, on a card
    #[arg(long)]
    kernels: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: Machine,
    /// What matrix products read
    #[arg(long, value_enum, default_value = "auto")]
    precision: Precision,
}

/// The model that is measured, with random weights.
#[derive(Args)]
struct BenchModel {
    /// Size of the model
    #[arg(long, default_value = "sit-s-2")]
    preset: String,
    /// Height and width of an image
    #[arg(long, allow_negative_numbers = true, value_parser = super::count, default_value = "32")]
    side: NonZero<usize>,
    /// Channels of an image
    #[arg(long, allow_negative_numbers = true, value_parser = super::count, default_value = "4")]
    channels: NonZero<usize>,
    /// Classes of the model
    #[arg(long, allow_negative_numbers = true, value_parser = super::classes, default_value = "1000")]
    classes: usize,
}

impl BenchModel {
    fn config(&self) -> Result<Config> {
        let BenchModel { preset, side, channels, classes } = self;
        let size = size_of(format_args!("--preset {preset}"), preset)?;
        let config = size.config([channels.get(), side.get(), side.get()], *classes, false);
        let wrong = |what| Error::Usage(format!("--preset {preset} --side {side} --channels {channels}: {what}"));
        config.check().map_err(wrong)?;
        Ok(config)
    }

    /// The network and its weights.
    fn network(&self, device: &Device) -> Result<(Network, ParamStore)> {
        let (network, list) = Network::new(self.config()?);
        let mut params = ParamStore::new(device, list, 0)?;
        randomise(device, &mut params);
        Ok((network, params))
    }

    /// A label for each of `batch` images, the classes in turn.
    fn labels(&self, batch: usize) -> Vec<u32> {
        (0..batch).map(|i| (i % self.classes.max(1)) as u32).collect()
    }
}

impl Bench {
    pub fn run(self) -> Result<()> {
        match self.verb {
            BenchVerb::Step(verb) => verb.run(),
            BenchVerb::Sample(verb) => verb.run(),
            BenchVerb::Score(verb) => verb.run(),
        }
    }
}

impl BenchStep {
    fn run(self) -> Result<()> {
        let settings = self.settings()?;
        let mut images = Vec::new();
        let values = settings.batch.checked_mul(settings.model.grid.image());
        if values.is_none_or(|values| images.try_reserve_exact(values).is_err()) {
            let batch = settings.batch;
            return Err(Error::Memory(format!("--batch {batch}: there is no memory for its images; give fewer")));
        }
        images.resize(values.unwrap_or_default(), 0.0);
        let device = self.machine.open(self.precision)?;
        if self.kernels && !device.runs_later() {
            return Err(Error::Usage(
                "--kernels: the processor has none; give --device cuda where there is a card".into(),
            ));
        }
        let precision = Precision::of(device.products());
        let tokens = settings.tokens(0);
        let cost = settings.cost(tokens);
        let batch = settings.batch;
        Stream::new(0, 0, 0, Purpose::Fixture).fill_normals(&mut images);
        let labels = self.model.labels(batch);
        let mut step = random_step(&device, settings)?;
        let applied =
            |report: Option<Report>| assert!(report.is_some_and(|report| report.applied), "the step is finite");
        let mut run = |number: usize| {
            let start = Instant::now();
            step.ask(number as u64, 1e-4, &images, &labels)?;
            // A card computes this step while the next is asked for, as in training: a lap is from report to report.
            if number > 0 || !device.runs_later() {
                applied(step.report());
            }
            Ok(start.elapsed().as_secs_f64())
        };
        for number in 0..3 {
            run(number)?;
        }
        let mut seconds = (3..3 + self.steps.get()).map(&mut run).collect::<Result<Vec<f64>>>()?;
        let median = median(&mut seconds);
        if device.runs_later() {
            applied(step.report());
        }
        let kernels = match self.kernels {
            true => kernels(&device, || step.run(0, 1e-4, &images, &labels))?,
            false => vec![],
        };
        let peak = peak_flops(&device, 20);
        let rate = cost.flops as f64 / median;
        let share = rate / peak;
        if self.json {
            let row = serde_json::json!({
                "preset": self.model.preset,
                "batch": batch,
                "device": device.describe(),
                "precision": precision,
                "drop": self.drop,
                "mask": self.mask,
                "tokens": tokens,
                "seconds": median,
                "seconds_min": seconds[0],
                "images_per_s": batch as f64 / median,
                "flops_per_s": rate,
                "peak_flops_per_s": peak,
                "share_of_peak": share,
                "peak_rss_bytes": peak_rss(),
                "peak_memory_bytes": device.arena().peak(),
                "kernels": kernels,
            });
            println!("{row}");
        } else {
            println!(
                "{} batch {batch} {}: {:.1} ms a step, {:.1} img/s, {:.0} GFLOP/s, {:.0} % of the measured peak, {:.0} MB",
                self.model.preset,
                precision,
                median * 1e3,
                batch as f64 / median,
                rate / 1e9,
                100.0 * share,
                peak_rss() as f64 / 1e6,
            );
            let total: f64 = kernels.iter().map(|kernel| kernel.seconds).sum();
            for Kernel { name, launches, seconds } in &kernels {
                println!("{name:32} {launches:5} {:10.3} ms {:5.1} %", seconds * 1e3, 100.0 * seconds / total);
            }
        }
        Ok(())
    }

    fn settings(&self) -> Result<Settings> {
        for (flag, value) in [("--batch", self.batch), ("--steps", self.steps)] {
            if value.get() > MOST {
                return Err(Error::Usage(format!("{flag} {value}: is out of range; give 1 to {MOST}")));
            }
        }
        let model = self.model.config()?;
        if !(0.0..1.0).contains(&self.drop) {
            return Err(Error::Usage(format!("--drop {}: give a fraction from 0 to below 1", self.drop)));
        }
        let refused = |what: String| Error::Usage(format!("--mask {}: {what}", self.mask));
        let tokens = TokenMasks::try_from(self.mask.clone()).map_err(refused)?;
        let [kind] = tokens.0[..] else { return Err(refused("give one kind, whose steps are alike".into())) };
        kind.check(model.grid).map_err(refused)?;
        Ok(Settings {
            model,
            batch: self.batch.get(),
            mask: Mask { tokens, drop: Rate::constant(self.drop), ..Mask::none() },
            noise: Noise {
                path: DiffusionPath::Linear,
                prediction: Prediction::V,
                times: Times::UNIFORM,
                weighting: Weighting::None,
                label_dropout: 0.1,
                null_label: self.model.classes as u32,
                seed: 0,
            },
            adamw: AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 },
            clip: None,
            averages: vec![0.9999],
            keep: Keep::Everything,
            seed: 0,
        })
    }
}

/// A step whose weights are random.
fn random_step(device: &Device, settings: Settings) -> Result<Step> {
    let mut step = Step::new(device, settings)?;
    randomise(device, &mut step.params);
    Ok(step)
}

/// Makes every weight random: with the zeros of initial gates and of the final layer most products have nothing in them.
fn randomise(device: &Device, params: &mut ParamStore) {
    for i in 0..params.list.trained() {
        let weights = params.weights.part_mut(i);
        let mut values = vec![0.0; weights.len()];
        Stream::new(0, i as u32 + 1, 0, Purpose::Fixture).fill_normals(&mut values);
        values.iter_mut().for_each(|x| *x *= 0.02);
        weights.write(&values);
    }
    params.round(device);
}

/// The launches of one kernel.
#[derive(serde::Serialize)]
struct Kernel {
    name: &'static str,
    launches: usize,
    /// Of all of them.
    seconds: f64,
}

/// What a card launches in `work`, the kernel that takes longest first.
fn kernels(device: &Device, work: impl FnOnce() -> Result<Report>) -> Result<Vec<Kernel>> {
    let mut report = None;
    let launches = device.profile(|| report = Some(work()))?.unwrap_or_default();
    report.transpose()?;
    let mut kernels: Vec<Kernel> = vec![];
    for (name, seconds) in launches {
        match kernels.iter_mut().find(|kernel| kernel.name == name) {
            Some(kernel) => (kernel.launches, kernel.seconds) = (kernel.launches + 1, kernel.seconds + seconds),
            None => kernels.push(Kernel { name, launches: 1, seconds }),
        }
    }
    kernels.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    Ok(kernels)
}

/// The median, which sorts.
pub(super) fn median(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    let count = seconds.len();
    (seconds[(count - 1) / 2] + seconds[count / 2]) / 2.0
}

/// The most memory that this process ever held, as the system tells it; 0 where it does not.
fn peak_rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::DType;
    use crate::device::Cpu;
    use clap::Parser;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        bench: BenchStep,
    }

    #[test]
    fn every_weight_takes_part_in_what_is_measured() {
        let device = Device::cpu(Cpu::new(NonZero::new(1), DType::F32).unwrap());
        let flags = ["bench", "--preset", "sit-xs-8", "--batch", "2", "--side", "16", "--classes", "3"];
        let Flags { bench } = Flags::parse_from(flags);
        let (_, params) = bench.model.network(&device).unwrap();
        for i in 0..params.list.trained() {
            assert!(params.weights.part(i).to_vec::<f32>().iter().all(|&x| x != 0.0), "weight {i} has zeros");
        }

        let mut step = random_step(&device, bench.settings().unwrap()).unwrap();
        let images = vec![0.5; 2 * step.settings.model.grid.image()];
        assert!(step.run(0, 1e-4, &images, &[0, 1]).unwrap().applied);
        for (i, param) in step.params.list.iter().take(step.params.list.trained()).enumerate() {
            assert!(
                step.moments.m.part(i).to_vec::<f32>().iter().any(|&m| m != 0.0),
                "{:?} has no gradient",
                param.pieces
            );
        }
    }
}
