use super::folder::{sampled, verified_state};
use super::manifest::Manifest;
use super::{Checkpoints, MANIFEST, MODEL, MODEL_KEY, Model, tensors};
use crate::base::{Error, Result};
use crate::data::tensors::TensorFile;
use crate::device::Device;
use crate::nn::ParamStore;
use crate::nn::sit::Sit;
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
    let file = file_of(path, weights, warn)?;
    let tensors = TensorFile::open(&file)?;
    let model = match (tensors.metadata().get(MODEL_KEY), given) {
        (None, Some(given)) => given,
        (Some(text), _) => serde_json::from_str(text)
            .map_err(|error| Error::file(&file, format_args!("{MODEL_KEY} in its header: {error}")))?,
        (None, None) => {
            let what = "its header does not say which model it is; give --preset, --classes and the size of the images";
            return Err(Error::file(&file, what));
        }
    };
    model.sit.check().map_err(|what| Error::file(&file, what))?;
    let (sit, list) = Sit::new(model.sit);
    // Before memory is taken for a model that the file may only claim to hold.
    for (piece, ..) in list.pieces(list.trained()) {
        tensors.expect_shape(tensors.entry(&piece.name)?, &piece.shape)?;
    }
    let mut params = ParamStore::new(device, list, 0)?;
    let list = params.list.clone();
    tensors::read(&tensors, &list, list.iter().count(), "", &mut params.weights)?;
    Ok(Opened { model, sit, params, file })
}

fn file_of(path: &Path, weights: Weights, warn: impl FnMut(String)) -> Result<PathBuf> {
    let choose = |folder: &Path| match weights {
        Weights::Trained => folder.join(MODEL),
        Weights::Sampled => sampled(folder),
    };
    if !path.is_dir() {
        Manifest::verify_file(path)?;
        return Ok(path.to_owned());
    }
    if path.join(MANIFEST).exists() {
        verified_state(path)?;
        return Ok(choose(path));
    }
    match Checkpoints::of(path).newest(warn)? {
        Some((folder, _)) => Ok(choose(&folder)),
        None => {
            let what = "is neither a checkpoint nor a run that has one; give a run directory of `engine train`";
            Err(Error::Checkpoint(format!("{}: {what}", path.display())))
        }
    }
}
