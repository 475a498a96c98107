use super::folder::{read_state, sampled, verified_state};
use super::manifest::Manifest;
use super::{Checkpoints, MANIFEST, MODEL, MODEL_KEY, Model, STATE, State, tensors};
use crate::base::{Error, Result};
use crate::data::tensors::TensorFile;
use crate::device::Device;
use crate::nn::ParamStore;
use crate::nn::sit::Sit;
use crate::train::Recipe;
use std::path::{Path, PathBuf};

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
    pub sit: Sit,
    pub params: ParamStore,
    /// The recipe of its run; `None` where the file lies outside of a checkpoint.
    pub recipe: Option<Recipe>,
    /// The file that the weights came from.
    pub file: PathBuf,
}

/// Opens the model at `path`: a run directory, one of its checkpoints, or a file of tensors under SiT's names.
///
/// A checkpoint says itself what it is; a file from elsewhere is what `given` says. Of a run directory it is the newest
/// valid checkpoint, and `warn` hears of damaged ones. Which weights is decided by `weights`, unless `path` is a file.
pub fn open(
    device: &Device,
    path: &Path,
    weights: Weights,
    given: Option<Model>,
    warn: impl FnMut(String),
) -> Result<Opened> {
    let (file, state) = file_of(path, weights, warn)?;
    let tensors = TensorFile::open(&file)?;
    let model = match (tensors.metadata().get(MODEL_KEY), given) {
        (None, Some(given)) => given,
        (Some(text), None) => serde_json::from_str(text)
            .map_err(|error| Error::file(&file, format_args!("{MODEL_KEY} in its header: {error}")))?,
        (Some(_), Some(_)) => {
            let what = "says itself which model it is; leave out --preset, --classes, --learn-sigma and --time";
            return Err(Error::Usage(format!("{}: {what}", file.display())));
        }
        (None, None) => {
            let what =
                "its header does not say which model it is; give it to engine predict, with --preset and --classes";
            return Err(Error::file(&file, what));
        }
    };
    model.sit.check().map_err(|what| Error::file(&file, what))?;
    let (sit, list) = Sit::new(model.sit);
    // Before memory is taken for a model that the file may only claim to hold.
    for (piece, ..) in list.pieces(list.trained()) {
        tensors.expect_shape(tensors.entry(&piece.name)?, &piece.shape)?;
    }
    // A model that is described with fewer parts than the file has would predict without them.
    let known = |name: &str| list.pieces(list.iter().count()).any(|(piece, ..)| piece.name == name);
    if let Some(entry) = tensors.entries().iter().find(|entry| !known(&entry.name)) {
        let what = "is no part of this model; check --preset, --classes and --learn-sigma";
        return Err(Error::file(&file, format_args!("its tensor {:?} {what}", entry.name)));
    }
    let mut params = ParamStore::new(device, list, 0)?;
    let list = params.list.clone();
    tensors::read(&tensors, &list, list.iter().count(), "", &mut params.weights)?;
    params.round(device);
    Ok(Opened { model, sit, params, recipe: state.map(|state| state.config), file })
}

/// The file of the weights, and the state of the checkpoint that it belongs to.
fn file_of(path: &Path, weights: Weights, warn: impl FnMut(String)) -> Result<(PathBuf, Option<State>)> {
    let choose = |folder: &Path| match weights {
        Weights::Trained => folder.join(MODEL),
        Weights::Sampled => sampled(folder),
    };
    if !path.is_dir() {
        Manifest::verify_file(path)?;
        let folder = path.parent().filter(|folder| folder.join(MANIFEST).exists());
        let state = folder.map(|folder| Manifest::verify_file(&folder.join(STATE)).and_then(|()| read_state(folder)));
        return Ok((path.to_owned(), state.transpose()?));
    }
    if path.join(MANIFEST).exists() {
        let state = verified_state(path)?;
        return Ok((choose(path), Some(state)));
    }
    match Checkpoints::of(path).newest(warn)? {
        Some((folder, state)) => Ok((choose(&folder), Some(state))),
        None => {
            let what = "is neither a checkpoint nor a run that has one; give a run directory of `engine train`";
            Err(Error::Checkpoint(format!("{}: {what}", path.display())))
        }
    }
}
