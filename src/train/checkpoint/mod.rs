//! What a run leaves behind, and how it is found again.
//!
//! ```text
//! checkpoints/step_00050000/
//!     model.safetensors       the weights, f32, under the published names
//!     ema.safetensors         the first moving average, likewise: what samples are drawn from
//!     ema-DECAY.safetensors   each further moving average, likewise
//!     optimizer.safetensors   the moments, "m.NAME" and "v.NAME"
//!     state.json              the state below
//!     MANIFEST.json           size and blake3 of every other file
//! ```
//! A folder is made under a temporary name, synced and renamed, its manifest last; so it is there whole or not at all, and
//! a byte that changes later is found before it is believed.

mod folder;
mod manifest;
mod names;
mod open;
mod origin;
mod tensors;

pub use folder::{Checkpoints, restore};
pub(super) use folder::{name_of, step_of};
pub use names::{Format, Names};
pub use open::{Found, Opened, Weights, find, open};
pub use origin::Origin;

use super::Recipe;
use crate::base::{Error, Path as DiffusionPath, Prediction};
use crate::nn::Config;
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::path::Path;

/// What the weights are the weights of; it stands in the state and in the header of every file of tensors.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    #[serde(alias = "sit")]
    pub network: Config,
    pub path: DiffusionPath,
    pub prediction: Prediction,
    pub time: Time,
}

impl Model {
    /// A model as this program trains it.
    pub fn new(network: Config, path: DiffusionPath, prediction: Prediction) -> Model {
        Model { network, path, prediction, time: Time::DataAt0 }
    }
}

/// The direction of the time that the network is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Time {
    /// `t` goes to the network as it is
    #[serde(rename = "data-at-0")]
    #[value(name = "data-at-0")]
    DataAt0,
    /// As in SiT's own code: the network is fed 1 - t and its velocity is negated
    #[serde(rename = "data-at-1")]
    #[value(name = "data-at-1")]
    DataAt1,
}

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Steps done.
    pub step: u64,
    /// Steps of the stage that were applied; the others were not finite.
    pub applied: u64,
    /// Steps not applied since the last one that was.
    pub skipped_in_a_row: u32,
    pub model: Model,
    /// blake3 of the data set.
    pub data: String,
    pub config: Recipe,
}

/// The file of the trained weights.
pub const MODEL: &str = "model.safetensors";
const EMA: &str = "ema.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
const MANIFEST: &str = "MANIFEST.json";

/// The key of a [`Model`] in the header of a file of tensors.
const MODEL_KEY: &str = "engine.model";

/// The file of the moving average number `index`.
fn ema_name(index: usize, decay: f32) -> String {
    if index == 0 { EMA.into() } else { format!("ema-{decay}.safetensors") }
}

/// The entry of a file's header that says which model its tensors are.
pub fn describe(model: &Model) -> [String; 2] {
    [MODEL_KEY.into(), serde_json::to_string(model).expect("a model has a form in JSON")]
}

fn bad(path: &Path, what: impl Display) -> Error {
    Error::Checkpoint(format!("{}: {what}", path.display()))
}
