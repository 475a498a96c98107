//! What a file of weights that was not written by this program does not say itself.

use crate::base::{Error, Path, Prediction, Result};
use crate::train::checkpoint::{Model, Time};
use crate::train::recipe::size_of;
use clap::Args;

/// The model in a bare file.
#[derive(Args)]
pub struct Given {
    /// Size of the model in a bare file, which needs no recipe: sit-xl-2 for SiT-XL/2, uvit-s-4 and uvit-b-4 for MaskDM's. DiT-XL/2
    /// is the same network as SiT-XL/2 with the same names, but is told whole times, which is not converted here
    #[arg(long)]
    preset: Option<String>,
    /// Classes of the model in a bare file
    #[arg(long, allow_negative_numbers = true, value_parser = super::classes, default_value = "0", requires = "preset")]
    classes: usize,
    /// The bare file's final layer has a second half of channels for a learned sigma, as the published SiT and DiT do; the
    /// prediction is the first half
    #[arg(long, requires = "preset")]
    learn_sigma: bool,
    /// The end of time at which the bare file's model has the data: 1 for SiT's published weights
    #[arg(long, value_enum, default_value = "data-at-0", requires = "preset")]
    time: Time,
    /// The path of the bare file's model: linear, gvp or vp, SiT's; ddpm-linear or ddpm-cosine, MaskDM's
    #[arg(long, default_value = "linear", requires = "preset")]
    path: Path,
    /// What the bare file's model predicts: v, x, score, or eps as MaskDM's
    #[arg(long, default_value = "v", requires = "preset")]
    prediction: Prediction,
}

impl Given {
    /// The model, for images of `[channels, height, width]`; `None` without a preset.
    pub fn model(&self, image: [usize; 3]) -> Result<Option<Model>> {
        let Some(name) = &self.preset else { return Ok(None) };
        let (path, prediction) = (self.path, self.prediction);
        let refused = |what| Error::Usage(format!("--prediction {prediction} --path {path}: {what}"));
        prediction.check(path).map_err(refused)?;
        if self.time == Time::DataAt1 && prediction != Prediction::V {
            let what = "the end of time turns a velocity alone; leave one of the two out";
            return Err(Error::Usage(format!("--time data-at-1 --prediction {prediction}: {what}")));
        }
        if path.steps().is_some() && name.starts_with("sit") {
            let what = "the published DiT is told whole steps, which is not converted; give a run or a checkpoint of this program";
            return Err(Error::Usage(format!("--preset {name} --path {path}: {what}")));
        }
        let network = size_of(format_args!("--preset {name}"), name)?.config(image, self.classes, self.learn_sigma);
        Ok(Some(Model { time: self.time, ..Model::new(network, path, prediction) }))
    }
}

/// The model in a bare file, with its images, where no input says what they are.
#[derive(Args)]
pub struct GivenWithImage {
    #[command(flatten)]
    given: Given,
    /// Channels, height and width of the images of a bare file
    #[arg(long, num_args = 3, value_names = ["C", "H", "W"], requires = "preset")]
    image: Option<Vec<usize>>,
}

impl GivenWithImage {
    /// The model; `None` without a preset.
    pub fn model(&self) -> Result<Option<Model>> {
        match self.image.as_deref() {
            Some(&[channels, height, width]) => self.given.model([channels, height, width]),
            _ if self.given.preset.is_some() => {
                Err(Error::Usage("--preset: say --image C H W, too, for it is a size alone".into()))
            }
            _ => Ok(None),
        }
    }
}
