use super::check_out;
use super::machine::Machine;
use super::train::LossShare;
use crate::base::{Error, LossMask, Result};
use crate::data::svg::{Chart, write_charts};
use crate::data::{Store, fashion_mnist};
use crate::study::{Direction, MaskSpectrum, Rolled, SwissRoll};
use crate::train::progress::bar;
use crate::train::recipe::Precision;
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::PathBuf;

/// Repeat an experiment of the papers: a table and a picture
#[derive(Args)]
pub struct Study {
    #[command(subcommand)]
    experiment: Experiment,
}

#[derive(Subcommand)]
enum Experiment {
    MaskSpectrum(Spectrum),
    SwissRoll(Roll),
}

/// What sparse supervision does to the spectrum of data, predicted and measured (Sparsely Supervised Diffusion, section 4.2)
#[derive(Args)]
struct Spectrum {
    /// A store, as made by `engine data ingest` [default: the embedded images]
    #[arg(long)]
    data: Option<PathBuf>,
    /// What is masked together, and the share of it: element, pixel, patch or block:SIDE, and a rate below 1
    #[arg(long, value_name = "KIND:RATE", default_value = "element:0.95")]
    loss_mask: LossShare,
    /// Pixels along a side of a patch
    #[arg(long, value_name = "P", default_value = "2", value_parser = super::count)]
    patch: std::num::NonZero<usize>,
    /// The masks are a function of the seed and the row
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    shown: Shown,
}

/// Pre-training that sees one coordinate at a time, against training from scratch (MaskDM, section 3.1)
#[derive(Args)]
struct Roll {
    /// Steps with one coordinate dropped
    #[arg(long, value_name = "N", default_value_t = 500)]
    primer_steps: u64,
    /// Steps on whole points, of each arm
    #[arg(long, value_name = "N", default_value_t = 1000)]
    steps: u64,
    /// Runs of each arm, from weights and data of their own
    #[arg(long, value_name = "N", default_value = "2", value_parser = super::count)]
    seeds: std::num::NonZero<usize>,
    #[command(flatten)]
    shown: Shown,
}

/// Where a study runs, and how it tells of itself.
#[derive(Args)]
struct Shown {
    /// The picture
    #[arg(long, value_name = "F.svg")]
    out: PathBuf,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: Machine,
}

impl Study {
    pub fn run(self) -> Result<()> {
        match self.experiment {
            Experiment::MaskSpectrum(verb) => verb.run(),
            Experiment::SwissRoll(verb) => verb.run(),
        }
    }
}

impl Shown {
    /// An answer that cannot be written is not worth waiting for.
    fn check(&self) -> Result<()> {
        if self.out.extension().is_none_or(|ending| ending != "svg") {
            return Err(Error::Usage(format!("--out {}: name a .svg file", self.out.display())));
        }
        check_out("--out", &self.out)
    }

    fn draw(&self, charts: &[Chart<'_>]) -> Result<()> {
        write_charts(&self.out, charts)?;
        if !self.json {
            println!("the picture is {}", self.out.display());
        }
        Ok(())
    }
}

impl Spectrum {
    fn run(self) -> Result<()> {
        self.shown.check()?;
        let store = self.data.as_deref().map_or_else(fashion_mnist, Store::open)?;
        let (kind, patch) = self.mask(&store)?;
        let device = self.shown.machine.open(Precision::F32)?;
        let bar = bar(store.rows().into(), "{pos}/{len} rows");
        let masked = |done: u32| bar.set_position(done.into());
        let spectrum = MaskSpectrum::new(&device, &store, (kind, self.loss_mask.rate), patch, self.seed, &masked)?;
        bar.finish_and_clear();
        if self.shown.json {
            let [agreeing, of] = spectrum.agreeing(2.0);
            let [data, masked] = spectrum.spread();
            let spread = json!({ "data": data, "masked": masked });
            let within = json!({ "agreeing": agreeing, "of": of });
            let all = json!({ "spread": spread, "within_two_errors": within, "directions": spectrum.directions });
            println!("{all}");
        } else {
            print(&spectrum);
        }
        self.shown.draw(&spectrum.charts())
    }

    /// What is masked together, and the side of a patch, where both fit the store.
    fn mask(&self, store: &Store) -> Result<(LossMask, usize)> {
        let LossShare { kind, rate } = &self.loss_mask;
        let refused = |what: String| Error::Usage(format!("--loss-mask {kind}:{rate}: {what}"));
        let kind: LossMask = kind.parse().map_err(refused)?;
        if !(0.0..1.0).contains(rate) {
            return Err(refused("give a rate from 0 to below 1".into()));
        }
        let [channels, height, width] = store.shape();
        let patch = match kind {
            LossMask::Element | LossMask::Pixel => 1,
            LossMask::Patch | LossMask::Block(_) => self.patch.get(),
        };
        if height % patch + width % patch > 0 {
            return Err(Error::Usage(format!("--patch {patch}: does not divide images of {height} x {width}")));
        }
        kind.check(crate::base::PatchGrid { channels, height, width, patch }).map_err(refused)?;
        Ok((kind, patch))
    }
}

/// A line for directions 1, 2, 4, 8 and so on.
fn print(spectrum: &MaskSpectrum) {
    let MaskSpectrum { rows, rate, kind, directions } = spectrum;
    println!("{rows} rows of {} values, {} % masked by {kind}", directions.len(), 100.0 * rate);
    println!("     rank    variance      masked: predicted    measured    beta: predicted  measured");
    let ranks = (0..).map(|power| (1usize << power) - 1).take_while(|&rank| rank < directions.len());
    for rank in ranks {
        let Direction { variance, predicted, measured, .. } = directions[rank];
        let gain = directions[rank].gain(directions[0].variance);
        let [beta, seen] = gain.map_or(["-", "-"].map(String::from), |gain| gain.map(|beta| format!("{beta:.4}")));
        println!("{:>9}  {variance:>10.3e}  {predicted:>20.3e}  {measured:>10.3e}  {beta:>17}  {seen:>8}", rank + 1);
    }
    let [data, masked] = spectrum.spread();
    let [agreeing, of] = spectrum.agreeing(2.0);
    println!("the largest variance is {data:.0} times the median one, of masked data {masked:.1} times");
    println!("measured within 2 standard errors of predicted: {agreeing} of {of} directions (95 % expected)");
}

impl Roll {
    fn run(self) -> Result<()> {
        self.shown.check()?;
        if self.steps < MEASUREMENTS {
            return Err(Error::Usage(format!("--steps {}: give at least {MEASUREMENTS}", self.steps)));
        }
        let device = self.shown.machine.open(Precision::F32)?;
        let every = self.steps / MEASUREMENTS;
        let seeds = self.seeds.get() as u64;
        let study = SwissRoll { primer_steps: self.primer_steps, steps: every * MEASUREMENTS, every, seeds };
        let bar = bar(study.measurements(), "{pos}/{len} measurements  {eta} left");
        let rolled = study.run(&device, &|| bar.inc(1))?;
        bar.finish_and_clear();
        if self.shown.json {
            println!("{}", serde_json::to_string(&rolled).expect("numbers have a form in JSON"));
        } else {
            tell(&study, &rolled);
        }
        self.shown.draw(&rolled.charts())
    }
}

/// Measurements of each arm after its start.
const MEASUREMENTS: u64 = 20;

fn tell(study: &SwissRoll, rolled: &Rolled) {
    println!("energy distance to the roll (points of the roll itself {:.4}):", rolled.floor);
    println!("   steps  from scratch  fine-tuned");
    for one in &rolled.measured {
        println!("{:>8}  {:>12.4}  {:>10.4}", one.step, one.from_scratch, one.fine_tuned);
    }
    let (proxy, product) = (rolled.proxy, rolled.product);
    println!(
        "the product of the primer's marginals lies {proxy:.4} from the true product, which lies {product:.4} from the roll"
    );
    let [scratch, tuned] = rolled.steps_to_target().map(|step| step.map_or("never".into(), |step| step.to_string()));
    let primer = study.primer_steps;
    println!(
        "as near as {:.4}: from scratch at step {scratch}, fine-tuned at {tuned} (after {primer} of the primer)",
        rolled.target()
    );
}
