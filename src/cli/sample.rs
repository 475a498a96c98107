use super::machine::{Machine, Products};
use crate::base::{Error, Result};
use crate::data::{npy, png};
use crate::diffusion::{Guidance, Request, Sampler, sample};
use crate::train::checkpoint::{Time, Weights, open};
use clap::{ArgGroup, Args};
use indicatif::{ProgressBar, ProgressStyle};
use std::num::NonZero;
use std::path::PathBuf;

/// Images of one call: their numbers and labels fit in memory whatever the images are.
const MOST: usize = 1 << 24;

/// Draw samples from a trained run
#[derive(Args)]
#[command(group(ArgGroup::new("source").required(true).args(["run", "checkpoint"])))]
pub struct Sample {
    /// A run directory, as written by `engine train`; its newest checkpoint is taken
    #[arg(long)]
    run: Option<PathBuf>,
    /// One checkpoint of a run
    #[arg(long)]
    checkpoint: Option<PathBuf>,
    /// How many images to draw
    #[arg(long, default_value = "64")]
    count: NonZero<usize>,
    /// The class of every image; without it image i has class i modulo the number of classes
    #[arg(long)]
    class: Option<u32>,
    /// Solver: euler or heun
    #[arg(long, default_value_t = Sampler::Heun)]
    sampler: Sampler,
    /// Solver steps from t = 1 (noise) to t = 0 (data)
    #[arg(long, default_value = "25")]
    steps: NonZero<usize>,
    /// Weight of classifier-free guidance; 1 is the conditional model
    #[arg(long, default_value_t = 3.0)]
    guidance: f32,
    /// Guide only the first channels; 0, or none given, guides all
    #[arg(long)]
    guidance_channels: Option<usize>,
    /// Guide only between two times
    #[arg(long, num_args = 2, value_names = ["LOW", "HIGH"], default_values_t = [0.0, 1.0])]
    guidance_interval: Vec<f64>,
    /// Image i is a function of the seed and i
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Images computed at once: speed and memory, not the images
    #[arg(long, default_value = "64")]
    batch: NonZero<usize>,
    /// A grid of pictures (.png) or an array (count, C, H, W) (.npy)
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    products: Products,
}

impl Sample {
    pub fn run(self) -> Result<()> {
        let picture = match self.out.extension().and_then(|extension| extension.to_str()) {
            Some("png") => true,
            Some("npy") => false,
            _ => return Err(Error::Usage(format!("--out {}: name a .png or a .npy file", self.out.display()))),
        };
        let device = self.machine.open(self.products.precision)?;
        let path = self.run.as_ref().or(self.checkpoint.as_ref()).expect("clap asks for one of the two");
        let warn = |text: String| eprintln!("warning: {text}");
        let opened = open(&device, path, Weights::Sampled, None, warn)?;
        let config = opened.sit.config;
        let grid = config.grid;
        if opened.model.time == Time::DataAt1 {
            return Err(Error::Usage(format!("{}: its model has the data at t = 1; convert it first", path.display())));
        }
        if picture && !png::has_picture(grid.channels) {
            let channels = grid.channels;
            return Err(Error::Usage(format!(
                "--out {}: latents of {channels} channels have no picture; write a .npy and decode it",
                self.out.display()
            )));
        }
        let labels = self.labels(config.classes)?;
        let guidance = self.guidance(grid.channels)?;
        let count = labels.len();
        let request = Request {
            labels,
            sampler: self.sampler,
            steps: self.steps.get(),
            guidance,
            seed: self.seed,
            batch: self.batch.get(),
        };
        let template = ProgressStyle::with_template("{bar:40} {pos}/{len} images  {eta}").expect("a valid template");
        let bar = ProgressBar::new(count as u64).with_style(template);
        let (images, evaluations) =
            sample(&device, &opened.sit, &opened.params.weights, &request, &|| false, |done| {
                bar.set_position(done as u64)
            })?;
        bar.finish_and_clear();
        let shape = [count, grid.channels, grid.height, grid.width];
        if picture {
            png::write_grid(&self.out, &images, shape)?;
        } else {
            npy::write(&self.out, &shape, &images)?;
        }
        println!(
            "{}: {count} images, {evaluations} evaluations each, from {}",
            self.out.display(),
            opened.file.display()
        );
        Ok(())
    }

    fn labels(&self, classes: usize) -> Result<Vec<u32>> {
        let count = self.count.get();
        if count > MOST {
            return Err(Error::Usage(format!("--count {count}: is out of range; give 1 to {MOST}")));
        }
        match self.class {
            Some(class) if classes == 0 => {
                Err(Error::Usage(format!("--class {class}: the model has no classes; leave the flag out")))
            }
            Some(class) if class as usize >= classes => Err(Error::Usage(format!(
                "--class {class}: the model has {classes} classes; give 0 to {}",
                classes - 1
            ))),
            Some(class) => Ok(vec![class; count]),
            None => Ok((0..count).map(|i| (i % classes.max(1)) as u32).collect()),
        }
    }

    fn guidance(&self, channels: usize) -> Result<Guidance> {
        let [low, high] = self.guidance_interval[..] else { unreachable!("clap asks for two times") };
        if !self.guidance.is_finite() {
            return Err(Error::Usage(format!("--guidance {}: give a finite weight, 1 for none", self.guidance)));
        }
        if !(0.0 <= low && low <= high && high <= 1.0) {
            return Err(Error::Usage(format!(
                "--guidance-interval {low} {high}: give two times, 0 <= LOW <= HIGH <= 1"
            )));
        }
        if let Some(guided) = self.guidance_channels
            && guided > channels
        {
            return Err(Error::Usage(format!("--guidance-channels {guided}: the model has {channels}; give fewer")));
        }
        Ok(Guidance {
            weight: self.guidance,
            channels: self.guidance_channels.filter(|&guided| guided > 0),
            interval: [low, high],
        })
    }
}
