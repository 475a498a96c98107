use super::machine::Machine;
use super::next;
use crate::base::Result;
use crate::data::{Store, fashion_mnist};
use crate::train::progress::{Progress, Style};
use crate::train::recipe::{Change, FIRST_RUN, Precision};
use crate::train::{Forecast, Plan, Recipe, Run, Stop, Trainer, ema};
use std::path::{self, Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// Train a model; the same command again resumes it
///
/// Without a recipe and a preset it trains a small class-conditional model on the images that the program holds.
#[derive(clap::Args)]
#[command(after_long_help = format!(
    "Recipes that the program holds, to be given in the place of RECIPE.toml:\n{}\n\
     Keys of a recipe, for --set and for [section] key = value in RECIPE.toml:\n{}",
    Recipe::held_list(),
    Recipe::reference(),
))]
pub struct Train {
    /// What to do, as TOML, or the name of a recipe that the program holds; without it and without --preset, the recipe of a
    /// first run
    #[arg(value_name = "RECIPE.toml")]
    recipe: Option<PathBuf>,
    /// Size of the network: sit-{xs,s,b,l,xl}-{2,4,8}, of which sit-xl-2 is that of SiT-XL/2 and of DiT-XL/2, or
    /// uvit-{s,s-deep,b,m,l,h}-{2,4,8}
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Store to train on, as made by `engine data ingest` [default: images that the program holds]
    #[arg(long, value_name = "STORE")]
    data: Option<String>,
    /// Run directory [default: runs/PRESET, of a recipe that the program holds runs/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Steps of the whole run
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = super::whole::<i64>)]
    steps: Option<i64>,
    /// Run, checkpoint or safetensors file whose weights the run begins with, a moving average where it has one
    #[arg(long, value_name = "CHECKPOINT")]
    from: Option<String>,
    /// What matrix products read
    #[arg(long, value_enum)]
    precision: Option<Precision>,
    /// Share of the patches that a step drops: they are not computed
    #[arg(long, value_name = "RATE")]
    drop: Option<f64>,
    /// What is dropped: patch, block:SIDE of patches, or all but one crop:SIDE; of several a step draws one
    #[arg(long, value_name = "KIND[,KIND]")]
    mask: Option<String>,
    /// What the loss leaves out: element, pixel, patch or block:SIDE, and what share of it, for example pixel:0.95
    #[arg(long, value_name = "KIND:RATE")]
    loss_mask: Option<LossShare>,
    /// Where every random number comes from
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = super::whole::<i64>)]
    seed: Option<i64>,
    /// Set a key of the recipe, for example train.batch_size=32; may be repeated, the last one of a key counts
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Say what the run would do, every key and what its steps would compute, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    machine: Machine,
    /// Print an object per line instead of text
    #[arg(long)]
    json: bool,
}

/// `--loss-mask KIND:RATE`.
#[derive(Clone)]
pub(super) struct LossShare {
    pub(super) kind: String,
    pub(super) rate: f64,
}

impl FromStr for LossShare {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<LossShare, String> {
        let share = text.rsplit_once(':').and_then(|(kind, rate)| Some((kind.into(), rate.parse().ok()?)));
        let (kind, rate) = share.ok_or("give a kind and a rate, for example pixel:0.95")?;
        Ok(LossShare { kind, rate })
    }
}

impl Train {
    /// Everything that can be wrong is found before the device is opened and the run directory touched.
    pub fn run(self) -> Result<()> {
        let mut recipe = self.read_recipe()?;
        if let (true, "", false, &[c, h, w]) =
            (self.dry_run, &*recipe.data.store, recipe.data.labels, &recipe.data.shape[..])
        {
            // All that there is to know of the data.
            return self.say(&Plan::of(recipe, [c, h, w], 0)?);
        }
        let store = Arc::new(match recipe.data.store.as_str() {
            "" => fashion_mnist()?,
            path => Store::open(Path::new(path))?,
        });
        if !recipe.data.store.is_empty() {
            store.verify()?;
        }
        for path in [&mut recipe.data.store, &mut recipe.train.from] {
            *path = from_any_folder(std::mem::take(path));
        }
        let plan = Plan::new(recipe, &store)?;
        if self.dry_run {
            return self.say(&plan);
        }
        let held = self.recipe.as_ref().and_then(|path| Recipe::held_names().find(|name| path.as_os_str() == *name));
        let name = held.unwrap_or(&plan.recipe.model.preset);
        let out = self.out.clone().unwrap_or_else(|| Path::new("runs").join(name));

        let stop = Stop::on_signals()?;
        stop.acknowledge(|| eprintln!("stopping after this step, and saving; asked again, it ends without saving"));
        let style = if self.json { Style::Json } else { Style::Text };
        let mut progress = Progress::new(style, std::io::stdout());
        store.info().warnings().iter().for_each(|what| progress.warn(what));
        let precision = plan.recipe.train.precision;
        let device = self.machine.open(precision)?;
        let run = Run::open(&out, plan, &store.info().digest, |text| progress.warn(&text))?;
        let argv: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        run.record(&device, &argv)?;
        let plan = run.plan.clone();
        let training = &plan.recipe.train;
        if plan.recipe.stage.is_empty()
            && training.from.is_empty()
            && let Some(&decay) = training.ema.first()
        {
            ema::lag_ahead(decay, training.steps).iter().for_each(|what| progress.warn(what));
        }
        let [from, done] = Trainer::new(run, store, &device)?.train(&mut progress, &stop)?;
        if style == Style::Text {
            let text = next::commands(&argv, &out, &plan, from == done);
            text.lines().for_each(|line| progress.line(line));
        }
        Ok(())
    }

    /// The answer to `--dry-run`.
    fn say(&self, plan: &Plan) -> Result<()> {
        let forecast = Forecast::of(plan, self.machine.stored(plan.recipe.train.precision));
        if self.json {
            println!("{}", serde_json::json!({ "forecast": forecast, "recipe": plan.recipe }));
        } else {
            println!("{}\n\n{forecast}", plan.recipe.render());
        }
        Ok(())
    }

    fn read_recipe(&self) -> Result<Recipe> {
        let flags = [
            self.preset.as_ref().map(|name| Change::flag("--preset", "model.preset", name.as_str())),
            self.data.as_ref().map(|path| Change::flag("--data", "data.store", path.as_str())),
            self.steps.map(|steps| Change::flag("--steps", "train.steps", steps)),
            self.from.as_ref().map(|path| Change::flag("--from", "train.from", path.as_str())),
            self.precision.map(|name| Change::flag("--precision", "train.precision", name.to_string())),
            self.drop.map(|rate| Change::flag("--drop", "mask.drop", rate)),
            self.mask.as_ref().map(|kinds| Change::flag("--mask", "mask.kind", kinds.as_str())),
            self.loss_mask.as_ref().map(|share| Change::flag("--loss-mask", "mask.loss_kind", share.kind.as_str())),
            self.loss_mask.as_ref().map(|share| Change::flag("--loss-mask", "mask.loss_drop", share.rate)),
            self.seed.map(|seed| Change::flag("--seed", "train.seed", seed)),
        ];
        let sets = self.set.iter().map(|set| Change::set(set));
        let changes: Vec<Change> = flags.into_iter().flatten().map(Ok).chain(sets).collect::<Result<_>>()?;
        match (&self.recipe, &self.preset) {
            (Some(path), _) => match path.to_str().and_then(|name| Recipe::held(name, &changes)) {
                Some(held) => held,
                None => Recipe::open(path, &changes),
            },
            (None, Some(_)) => Recipe::read("defaults", "", &changes),
            (None, None) => Recipe::read("first run", FIRST_RUN, &changes),
        }
    }
}

/// `path` as the recipe that a run writes names it, which may be read in another folder than this run was begun in; an
/// empty one, which names nothing, as it is. TOML has no form for names that are not UTF-8.
fn from_any_folder(path: String) -> String {
    path::absolute(&path).ok().and_then(|path| path.into_os_string().into_string().ok()).unwrap_or(path)
}
