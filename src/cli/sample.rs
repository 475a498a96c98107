use super::given::GivenWithImage;
use super::machine::Machine;
use super::{check_guidance, check_out};
use crate::base::{Error, Prediction, Result};
use crate::data::{npy, png};
use crate::diffusion::{Guidance, Request, Sampler, sample};
use crate::train::checkpoint::{MODEL, Model, Time, Weights, find};
use crate::train::progress::drawing_bar;
use crate::train::recipe::Precision;
use crate::train::{Plan, ema};
use clap::{ArgGroup, Args};
use std::num::NonZero;
use std::path::PathBuf;

/// Images of one call: their numbers and labels fit in memory whatever the images are.
const MOST: usize = 1 << 24;

/// Draw samples from a trained run
///
/// The run's recipe decides what no flag does: its section [sample], train.seed and train.precision. A file that was taken out of its
/// checkpoint has no recipe; there the defaults of `engine train --help` do.
#[derive(Args)]
#[command(group(ArgGroup::new("source").required(true).args(["run", "checkpoint"])))]
pub struct Sample {
    /// A run directory, as written by `engine train`; its newest checkpoint is taken
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// One checkpoint of a run, or a safetensors file under the names of SiT, U-ViT or MaskDM (then also --preset, --image and
    /// --classes, unless it says itself which model it is)
    #[arg(long, value_name = "F")]
    checkpoint: Option<PathBuf>,
    /// How many images to draw [default: sample.count]
    #[arg(long, allow_negative_numbers = true, value_parser = super::count)]
    count: Option<NonZero<usize>>,
    /// The class of every image; without it image i has class i modulo the number of classes
    #[arg(long, allow_negative_numbers = true, value_parser = super::whole::<u32>)]
    class: Option<u32>,
    /// Solver: euler, heun or dopri5[:RTOL,ATOL] along the velocity; euler-maruyama[:DIFFUSION], ddim:ETA or ancestral with noise of
    /// their own; ddim or dpm-solver++ from one prediction of the data to the next [default: sample.sampler]
    #[arg(long)]
    sampler: Option<Sampler>,
    /// Solver steps from t = 1 (noise) to t = 0 (data), of all but dopri5, which finds its own [default: sample.steps]
    #[arg(long, allow_negative_numbers = true, value_parser = super::count)]
    steps: Option<NonZero<usize>>,
    /// The largest value that ddim, ancestral and dpm-solver++ let predicted data have, 1 for pixels; 0 for any [default: sample.bound]
    #[arg(long, allow_negative_numbers = true)]
    bound: Option<f32>,
    /// Weight of classifier-free guidance; 1 is the conditional model [default: sample.guidance]
    #[arg(long, allow_negative_numbers = true)]
    guidance: Option<f32>,
    /// Guide only the first channels; 0 guides all [default: sample.channels]
    #[arg(long, allow_negative_numbers = true, value_parser = super::whole::<usize>)]
    guidance_channels: Option<usize>,
    /// Guide only between two times [default: sample.interval]
    #[arg(long, num_args = 2, allow_negative_numbers = true, value_names = ["LOW", "HIGH"])]
    guidance_interval: Option<Vec<f64>>,
    /// Image i is a function of the seed and i [default: train.seed]
    #[arg(long, allow_negative_numbers = true, value_parser = super::whole::<u64>)]
    seed: Option<u64>,
    /// Images computed at once: speed and memory, not the images
    #[arg(long, allow_negative_numbers = true, value_parser = super::count, default_value = "64")]
    batch: NonZero<usize>,
    /// A grid of pictures (.png) or an array (count, C, H, W) (.npy)
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    given: GivenWithImage,
    #[command(flatten)]
    machine: Machine,
    /// What matrix products read [default: train.precision]
    #[arg(long, value_enum)]
    precision: Option<Precision>,
}

/// Evaluations of so many images, which a solver with steps of its own spends unequally.
fn counted(evaluations: &[usize]) -> String {
    let (least, most) = (evaluations.iter().min().unwrap_or(&0), evaluations.iter().max().unwrap_or(&0));
    let mean = evaluations.iter().sum::<usize>() as f64 / evaluations.len().max(1) as f64;
    match (least == most, most) {
        (true, 1) => "1 evaluation".into(),
        (true, _) => format!("{most} evaluations"),
        (false, _) => format!("{least} to {most}, on average {mean:.1} evaluations"),
    }
}

impl Sample {
    pub fn run(self) -> Result<()> {
        let picture = match self.out.extension().and_then(|extension| extension.to_str()) {
            Some("png") => true,
            Some("npy") => false,
            _ => return Err(Error::Usage(format!("--out {}: name a .png or a .npy file", self.out.display()))),
        };
        check_out("--out", &self.out)?;
        if let Some(run) = self.run.as_ref().filter(|run| run.exists() && !run.is_dir()) {
            return Err(Error::Usage(format!("--run {}: is no directory; give a run, or --checkpoint", run.display())));
        }
        let path = self.run.as_ref().or(self.checkpoint.as_ref()).expect("clap asks for one of the two");
        let warn = |text: String| eprintln!("warning: {text}");
        let given = self.given.model()?;
        let found = find(path, Weights::Sampled, warn)?;
        let recipe = found.state.as_ref().map(|state| state.config.clone()).unwrap_or_default();
        let device = self.machine.open(self.precision.unwrap_or(recipe.train.precision))?;
        let opened = found.open(&device, given)?;
        let config = opened.network.config;
        let grid = config.grid;
        if opened.model.time == Time::DataAt1 {
            return Err(Error::Usage(format!("{}: its model has the data at t = 1; convert it first", path.display())));
        }
        if picture {
            png::check_picture(&self.out, grid.channels)?;
        }
        let request = self.request(&Plan { recipe, model: config, begin: 0 }, &opened.model)?;
        if let Some((decay, applied)) = opened.average()
            && let Some(what) = ema::lag(decay, applied)
        {
            let model = opened.file.with_file_name(MODEL);
            eprintln!("warning: {what}; --checkpoint {} draws from the weights themselves", model.display());
        }
        let count = request.labels.len();
        let bar = drawing_bar(count);
        let weights = opened.params.network();
        let (images, evaluations) =
            sample(&device, &opened.network, weights, &request, &|| false, &|done| bar.set_position(done as u64))?;
        bar.finish_and_clear();
        let shape = [count, grid.channels, grid.height, grid.width];
        if picture {
            png::write_grid(&self.out, &images, shape)?;
        } else {
            npy::write(&self.out, &shape, &images)?;
        }
        println!(
            "{}: {count} {}, {} of {} each, from {}",
            self.out.display(),
            if count == 1 { "image" } else { "images" },
            counted(&evaluations),
            if opened.model.prediction == Prediction::V { "the velocity" } else { "the prediction" },
            opened.file.display()
        );
        Ok(())
    }

    /// What the flags ask for, and the recipe where they are silent.
    fn request(&self, plan: &Plan, model: &Model) -> Result<Request> {
        let drawn = plan.samples();
        let (sampler, steps) = (self.sampler.unwrap_or(drawn.sampler), self.steps.map_or(drawn.steps, NonZero::get));
        let refused = |what| Error::Usage(format!("--sampler {sampler}: {what}"));
        sampler.check(model.path, model.prediction, steps).map_err(refused)?;
        let bound = self.bound.map_or(drawn.bound, |bound| (bound != 0.0).then_some(bound));
        if bound.is_some_and(|bound| bound.is_nan() || bound < 0.0) {
            return Err(Error::Usage(format!("--bound {}: give a number from 0 on", bound.unwrap_or_default())));
        }
        let count = self.count.map_or(drawn.labels.len(), NonZero::get);
        Ok(Request {
            labels: self.labels(count, plan.model.classes)?,
            path: model.path,
            prediction: model.prediction,
            sampler,
            steps,
            bound,
            guidance: self.guidance(drawn.guidance, plan)?,
            seed: self.seed.unwrap_or(drawn.seed),
            batch: self.batch.get(),
        })
    }

    fn labels(&self, count: usize, classes: usize) -> Result<Vec<u32>> {
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

    fn guidance(&self, drawn: Guidance, plan: &Plan) -> Result<Guidance> {
        let refused = |flag: String, what: &str| Err(Error::Usage(format!("{flag}: {what}")));
        let weight = self.guidance.unwrap_or(drawn.weight);
        check_guidance(weight, plan.model.classes)?;
        if weight != 1.0 && !plan.can_guide() {
            let what = "the model was trained with diffusion.label_dropout = 0 and knows no image without a label";
            return refused(format!("--guidance {weight}"), &format!("{what}; leave the flag out"));
        }
        let interval = self.guidance_interval.as_ref().map_or(drawn.interval, |given| [given[0], given[1]]);
        let [low, high] = interval;
        if !(0.0 <= low && low <= high && high <= 1.0) {
            return refused(format!("--guidance-interval {low} {high}"), "give two times, 0 <= LOW <= HIGH <= 1");
        }
        let most = plan.model.grid.channels;
        let channels = match self.guidance_channels {
            Some(guided) if guided > most => {
                return refused(format!("--guidance-channels {guided}"), &format!("the model has {most}; give fewer"));
            }
            Some(guided) => (guided > 0).then_some(guided),
            None => drawn.channels,
        };
        Ok(Guidance { weight, channels, interval })
    }
}
