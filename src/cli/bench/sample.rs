use super::super::check_guidance;
use super::super::machine::Machine;
use super::{BenchModel, MOST, median, peak_rss};
use crate::base::{Error, Path as DiffusionPath, Prediction, Result};
use crate::diffusion::{Guidance, Request, Sampler, sample};
use crate::train::recipe::Precision;
use clap::Args;
use std::num::NonZero;
use std::time::Instant;

/// Time drawing: one batch from noise to images, by a model with random weights
#[derive(Args)]
pub(super) struct BenchSample {
    #[command(flatten)]
    model: BenchModel,
    /// Images drawn at once; with 1 the time is the latency of an image
    #[arg(long, allow_negative_numbers = true, value_parser = crate::cli::count, default_value = "8")]
    batch: NonZero<usize>,
    /// Solver, as `engine sample` knows them
    #[arg(long, default_value = "euler")]
    sampler: Sampler,
    /// Solver steps
    #[arg(long, allow_negative_numbers = true, value_parser = crate::cli::count, default_value = "50")]
    steps: NonZero<usize>,
    /// Weight of classifier-free guidance, for which the network sees two images for one; 1 is without
    #[arg(long, default_value_t = 1.0)]
    guidance: f32,
    /// Batches that are timed, after one that is not
    #[arg(long, allow_negative_numbers = true, value_parser = crate::cli::count, default_value = "3")]
    runs: NonZero<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: Machine,
    /// What matrix products read
    #[arg(long, value_enum, default_value = "auto")]
    precision: Precision,
}

impl BenchSample {
    pub fn run(self) -> Result<()> {
        for (flag, value) in [("--batch", self.batch), ("--steps", self.steps), ("--runs", self.runs)] {
            if value.get() > MOST {
                return Err(Error::Usage(format!("{flag} {value}: is out of range; give 1 to {MOST}")));
            }
        }
        check_guidance(self.guidance, self.model.classes)?;
        // Before a device is opened.
        self.model.config()?;
        let batch = self.batch.get();
        let device = self.machine.open(self.precision)?;
        let (network, params) = self.model.network(&device)?;
        let request = Request {
            labels: self.model.labels(batch),
            path: DiffusionPath::Linear,
            prediction: Prediction::V,
            sampler: self.sampler,
            steps: self.steps.get(),
            bound: None,
            guidance: Guidance { weight: self.guidance, channels: None, interval: [0.0, 1.0] },
            seed: 0,
            batch,
        };
        let mut evaluations = 0.0;
        let mut run = |_| {
            let start = Instant::now();
            let (_, each) = sample(&device, &network, params.network(), &request, &|| false, &|_| {})?;
            let seconds = start.elapsed().as_secs_f64();
            evaluations = each.iter().sum::<usize>() as f64 / each.len() as f64;
            Ok(seconds)
        };
        run(0)?;
        let mut seconds = (0..self.runs.get()).map(run).collect::<Result<Vec<f64>>>()?;
        let median = median(&mut seconds);
        let precision = Precision::of(device.products());
        let (rate, each) = (batch as f64 * evaluations / median, median / evaluations);
        if self.json {
            let row = serde_json::json!({
                "preset": self.model.preset,
                "batch": batch,
                "device": device.describe(),
                "precision": precision,
                "sampler": self.sampler,
                "guidance": self.guidance,
                "evaluations": evaluations,
                "seconds": median,
                "seconds_min": seconds[0],
                "images_per_s": batch as f64 / median,
                "evaluations_per_s": rate,
                "seconds_per_evaluation": each,
                "peak_rss_bytes": peak_rss(),
                "peak_memory_bytes": device.arena().peak(),
            });
            println!("{row}");
        } else {
            println!(
                "{} batch {batch} {precision}, {} of {} steps, guidance {}: {:.1} ms, {evaluations} evaluations of the velocity, \
                 {:.2} ms each, {rate:.1} a second for an image",
                self.model.preset,
                self.sampler,
                self.steps,
                self.guidance,
                median * 1e3,
                each * 1e3,
            );
        }
        Ok(())
    }
}
