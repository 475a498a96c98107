//! The weights that a run begins with, where they are another run's or program's.

use super::{Found, MODEL, MODEL_KEY, Model, Names, State, Time, Weights, bad, find, tensors};
use crate::base::{Error, Result};
use crate::data::tensors::TensorFile;
use crate::nn::{Config, Network, ParamList, Piece};
use crate::train::Plan;
use crate::train::ema;
use crate::train::step::Step;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Tensors that do not fit, of which a message tells.
const MOST_TOLD: usize = 3;

/// `train.from`: a file of weights that fits the model of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub file: PathBuf,
    /// Of the whole file, in hexadecimal.
    pub blake3: String,
}

impl Origin {
    /// The weights that `plan` begins with, if it names any: of a run or a checkpoint the first moving average, or the
    /// trained weights while it lags.
    ///
    /// # Errors
    /// `Usage` where the file is of another model, with every way in which it is.
    pub fn of(plan: &Plan, mut warn: impl FnMut(String)) -> Result<Option<Origin>> {
        let path = Path::new(&plan.recipe.train.from);
        if path.as_os_str().is_empty() {
            return Ok(None);
        }
        let Found { mut file, state } = find(path, Weights::Sampled, &mut warn)?;
        if path.is_dir() && state.as_ref().is_some_and(lags) {
            file.set_file_name(MODEL);
        }
        let tensors = TensorFile::open(&file)?;
        if let Some(text) = tensors.metadata().get(MODEL_KEY) {
            let model: Model = serde_json::from_str(text)
                .map_err(|error| Error::file(&file, format_args!("{MODEL_KEY} in its header: {error}")))?;
            check_model(&file, &model, &plan.model)?;
            let ours = &plan.recipe.diffusion;
            if (model.path, model.prediction) != (ours.path, ours.prediction) {
                let theirs = format_args!("{} predicts {} along {}", file.display(), model.prediction, model.path);
                let ours = format_args!("this run {} along {}", ours.prediction, ours.path);
                warn(format!("{theirs}, {ours}: the weights begin with another meaning"));
            }
        }
        check_tensors(&file, &tensors, &Network::new(plan.model).1)?;
        let mut hasher = blake3::Hasher::new();
        let read = File::open(&file).and_then(|mut open| std::io::copy(&mut open, &mut hasher));
        read.map_err(|error| Error::file(&file, error))?;
        Ok(Some(Origin { file, blake3: hasher.finalize().to_hex().to_string() }))
    }

    /// Makes the weights, and every average, those of the file.
    pub fn load(&self, step: &mut Step) -> Result<()> {
        let (list, file) = (&step.params.list, TensorFile::open(&self.file)?);
        let names = Names::of(&file);
        tensors::read_as(&file, |piece| names.parts(piece), list, list.trained(), &mut step.params.weights)?;
        step.restart(step.settings.clone(), false)
    }
}

/// Whether the average that samples come from still holds much of the weights that it began with.
fn lags(state: &State) -> bool {
    let averages = state.config.stage_of(state.step).recipe.train.ema;
    averages.first().is_some_and(|&decay| ema::lag(decay, state.applied).is_some())
}

/// Refuses what the shapes of tensors do not show.
fn check_model(file: &Path, model: &Model, ours: &Config) -> Result<()> {
    let theirs = model.network;
    if model.time == Time::DataAt1 {
        return Err(bad(file, "its network is fed 1 - t, as none is trained here; convert it first"));
    }
    for (what, theirs, ours) in [
        ("family", format!("{:?}", theirs.family), format!("{:?}", ours.family)),
        ("heads", theirs.heads.to_string(), ours.heads.to_string()),
    ] {
        if theirs != ours {
            let what = format_args!("its {what} is {theirs}, that of this run {ours}; {FIT}");
            return Err(Error::Usage(format!("{}: {what}", file.display())));
        }
    }
    Ok(())
}

const FIT: &str = "train a model of the same [model], images and labels, or begin without --from";

/// Says which trained tensors of `list` the file lacks or has in another shape, and which it has besides.
fn check_tensors(file: &Path, tensors: &TensorFile, list: &ParamList) -> Result<()> {
    let names = Names::of(tensors);
    let parts = |count| list.pieces(count).flat_map(|(piece, ..)| names.parts(piece));
    let mut wrong = vec![];
    for Piece { name, shape } in parts(list.trained()) {
        match tensors.find(&name) {
            None => wrong.push(format!("{name} is missing")),
            Some(entry) if entry.shape != shape => {
                wrong.push(format!("{name} is {:?} and not {shape:?}", entry.shape));
            }
            Some(_) => {}
        }
    }
    let known = |name: &str| names.passes_over(name) || parts(list.iter().count()).any(|part| part.name == name);
    let more = tensors.entries().iter().filter(|entry| !known(&entry.name));
    wrong.extend(more.map(|entry| format!("{} is no part of it", entry.name)));
    if wrong.is_empty() {
        return Ok(());
    }
    let rest = wrong.len().saturating_sub(MOST_TOLD);
    wrong.truncate(MOST_TOLD);
    let rest = if rest > 0 { format!(", and {rest} more do not fit") } else { String::new() };
    let what = format_args!("is not of the model of this run: {}{rest}; {FIT}", wrong.join(", "));
    Err(Error::Usage(format!("{}: {what}", file.display())))
}
