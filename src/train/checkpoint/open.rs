use super::folder::{FOLDER, name_of, read_state, sampled, step_of, verified_state};
use super::manifest::Manifest;
use super::{Checkpoints, MANIFEST, MODEL, MODEL_KEY, Model, Names, STATE, State, bad, ema_name, tensors};
use crate::base::{Error, Result};
use crate::data::tensors::TensorFile;
use crate::device::Device;
use crate::nn::Network;
use crate::nn::ParamStore;
use crate::train::Recipe;
use crate::train::run::{self, CONFIG};
use std::path::{Path, PathBuf};

/// What describes a bare file; its images are those that the inputs hold.
const CHECK: &str = "check --preset, --classes, --learn-sigma and the shape of z or --image";

/// Which weights of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// Those that are trained.
    Trained,
    /// Those that samples are drawn from: the first moving average, where there is one.
    Sampled,
}

/// A model that is ready to predict.
pub struct Opened {
    pub model: Model,
    pub network: Network,
    pub params: ParamStore,
    /// Where its run stood; `None` where the file lies outside of a checkpoint.
    pub state: Option<State>,
    /// The file that the weights came from.
    pub file: PathBuf,
}

impl Opened {
    /// The decay of the moving average that the weights are, and its updates; `None` where they are no average of a run.
    pub fn average(&self) -> Option<(f64, u64)> {
        let (state, name) = (self.state.as_ref()?, self.file.file_name()?);
        let decays = state.config.stage_of(state.step).recipe.train.ema;
        let (_, decay) = decays.into_iter().enumerate().find(|&(i, decay)| name == &*ema_name(i, decay as f32))?;
        Some((decay, state.applied))
    }
}

/// A model that lies in a file.
pub struct Found {
    pub file: PathBuf,
    /// Where its run stood; `None` where the file lies outside of a checkpoint.
    pub state: Option<State>,
}

/// Opens the model that [`find`] finds on `device`.
pub fn open(
    device: &Device,
    path: &Path,
    weights: Weights,
    given: Option<Model>,
    warn: impl FnMut(String),
) -> Result<Opened> {
    find(path, weights, warn)?.open(device, given)
}

impl Found {
    /// Reads the model. A checkpoint says itself what it is; a file from elsewhere is what `given` says.
    pub fn open(self, device: &Device, given: Option<Model>) -> Result<Opened> {
        let Found { file, state } = self;
        let tensors = TensorFile::open(&file)?;
        let bare = given.is_some();
        let model = match (tensors.metadata().get(MODEL_KEY), given) {
            (None, Some(given)) => given,
            (Some(text), None) => serde_json::from_str(text)
                .map_err(|error| Error::file(&file, format_args!("{MODEL_KEY} in its header: {error}")))?,
            (Some(_), Some(_)) => {
                let what = "says itself which model it is; leave out --preset and what else describes it";
                return Err(Error::Usage(format!("{}: {what}", file.display())));
            }
            (None, None) => {
                let what = "its header does not say which model it is; say it by --preset, --classes and what else describes it";
                return Err(Error::file(&file, what));
            }
        };
        model.network.check().map_err(|what| Error::file(&file, what))?;
        let (network, list) = Network::new(model.network);
        // Before memory is taken for a model that the file may only claim to hold.
        let (names, all) = (Names::of(&tensors), list.iter().count());
        let parts =
            || list.pieces(all).flat_map(|(piece, param, _)| names.parts(piece).into_iter().map(move |p| (p, param)));
        for (part, param) in parts() {
            if param >= list.trained() && tensors.find(&part.name).is_none() {
                continue;
            }
            let fits = tensors.entry(&part.name).and_then(|entry| tensors.expect_shape(entry, &part.shape));
            fits.map_err(|error| if bare { Error::Data(format!("{error}; {CHECK}")) } else { error })?;
        }
        // A model that is described with fewer parts than the file has would predict without them.
        let known = |name: &str| names.passes_over(name) || parts().any(|(part, _)| part.name == name);
        if let Some(entry) = tensors.entries().iter().find(|entry| !known(&entry.name)) {
            let what = format_args!("its tensor {:?} is no part of this model; {CHECK}", entry.name);
            return Err(Error::file(&file, what));
        }
        let mut params = ParamStore::new(device, list, 0)?;
        let list = params.list.clone();
        tensors::read_as(&tensors, |piece| names.parts(piece), &list, all, &mut params.weights)?;
        params.round(device);
        Ok(Opened { model, network, params, state, file })
    }
}

/// Finds the model at `path`: a run directory, one of its checkpoints, or a file of tensors under names that [`Names`] knows.
///
/// Of a run directory it is the newest valid checkpoint, and `warn` hears of damaged ones. Which weights is decided by
/// `weights`, unless `path` is a file.
pub fn find(path: &Path, weights: Weights, warn: impl FnMut(String)) -> Result<Found> {
    let choose = |folder: &Path| match weights {
        Weights::Trained => folder.join(MODEL),
        Weights::Sampled => sampled(folder),
    };
    if matches!(path.try_exists(), Ok(false)) {
        return Err(missing(path));
    }
    if !path.is_dir() {
        Manifest::verify_file(path)?;
        let folder = path.parent().filter(|folder| folder.join(MANIFEST).exists());
        let state = folder.map(|folder| Manifest::verify_file(&folder.join(STATE)).and_then(|()| read_state(folder)));
        return Ok(Found { file: path.to_owned(), state: state.transpose()? });
    }
    if path.join(MANIFEST).exists() {
        let state = verified_state(path)?;
        return Ok(Found { file: choose(path), state: Some(state) });
    }
    match Checkpoints::of(path).newest(warn)? {
        Some((folder, state)) => Ok(Found { file: choose(&folder), state: Some(state) }),
        None if path.join(CONFIG).exists() && !run::is_held(path) => {
            let again = run::command(path).map_or("train it again".into(), |command| format!("go on with {command}"));
            Err(bad(path, format_args!("is a run that has no checkpoint, and nobody trains it; {again}")))
        }
        None if path.join(CONFIG).exists() => {
            let recipe = Recipe::open(&path.join(CONFIG), &[])?;
            let (first, minutes) = (recipe.checkpoint.every.min(recipe.train.steps), recipe.checkpoint.minutes);
            let sooner = if minutes > 0.0 { format!(" or after {minutes} minutes") } else { String::new() };
            let what = format_args!("its first comes at step {first}{sooner}, wait for it");
            Err(bad(path, format_args!("is a run that has no checkpoint yet; {what}")))
        }
        None if path.file_name().is_some_and(|name| name == FOLDER) => {
            Err(bad(path, "holds the checkpoints of a run; give one of them, or the run"))
        }
        None => Err(bad(path, "is neither a checkpoint nor a run; give a run directory of `engine train`")),
    }
}

/// Nothing is at `path`: of a step of a run that says which there are around it.
fn missing(path: &Path) -> Error {
    let no_file = Error::file(path, "no such run, checkpoint or file; check the path");
    let Some(folder) = path.ancestors().skip(1).find(|folder| folder.file_name().is_some_and(|name| name == FOLDER))
    else {
        return no_file;
    };
    let Some(checkpoints) = folder.parent().map(Checkpoints::of) else { return no_file };
    let wanted = path.strip_prefix(folder).ok().and_then(|rest| step_of(rest.iter().next()?.to_str()?));
    let around = checkpoints.around(wanted.unwrap_or(u64::MAX));
    match around.as_deref() {
        Ok([]) | Err(_) => no_file,
        Ok(steps) if steps.iter().any(|&step| wanted == Some(step)) => no_file,
        Ok(steps) => {
            let names: Vec<String> = steps.iter().map(|&step| name_of(step)).collect();
            bad(path, format_args!("there is no such checkpoint; {} is there", names.join(" or ")))
        }
    }
}
