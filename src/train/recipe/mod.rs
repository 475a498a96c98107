//! What a run is told: every key of a recipe, declared once with its default and what it means.
//!
//! The defaults are those with which SiT was published (Ma et al., 2024, appendix A). A bare `engine train` follows
//! `src/train/recipe/first_run.toml` instead.

mod check;
mod library;
mod read;
mod schedule;
mod stage;
mod write;

pub use check::size_of;
pub(super) use check::wrong;
use read::nearest;
pub use read::{Change, example, key_called};
pub use stage::{Stage, in_stage};

use super::{Softmax, Target};
use crate::base::{DType, LossMask, LossNorm, Path, Prediction, TokenMask, TokenMasks, Weighting};
use crate::diffusion::Sampler;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The recipe of a bare `engine train`: a small model on the embedded images, good samples after some minutes.
pub const FIRST_RUN: &str = include_str!("first_run.toml");

/// Declares a section: the struct, its defaults, and the table of keys that help and messages read.
macro_rules! section {
    ($(#[$about:meta])* $name:ident { $($(#[doc = $text:literal])+ $key:ident: $type:ty = $default:expr,)* }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $($(#[doc = $text])+ pub $key: $type,)* }

        impl Default for $name {
            fn default() -> $name {
                $name { $($key: $default,)* }
            }
        }

        impl $name {
            const KEYS: &[Key] = &[$(Key { name: stringify!($key), about: concat!($($text),+) }),*];
        }
    };
}

/// A key of a section and what it means.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub about: &'static str,
}

section! {
    /// The network.
    ModelSection {
        /// Size of the network: sit-{xs,s,b,l,xl}-{2,4,8} or uvit-{s,s-deep,b,m,l,h}-{2,4,8}
        preset: String = "sit-s-2".into(),
        /// Number of blocks; 0 takes the preset's
        depth: usize = 0,
        /// Width of the stream; 0 takes the preset's
        width: usize = 0,
        /// Attention heads; 0 takes the preset's
        heads: usize = 0,
        /// Side of a patch in pixels; 0 takes the preset's
        patch: usize = 0,
        /// Give the final layer DiT's second half of channels, which is not trained
        learn_sigma: bool = false,
    }
}

section! {
    /// What is trained on.
    DataSection {
        /// Path of a store made by `engine data ingest`, from the folder of the command; empty takes the embedded images
        store: String = String::new(),
        /// Channels, height and width that its images must have; an empty list takes any
        shape: Vec<usize> = vec![],
        /// Whether the network is told the labels
        labels: bool = true,
    }
}

section! {
    /// The process that is learnt to be undone.
    DiffusionSection {
        /// From data to noise: linear, gvp or vp; or, in a thousand steps, ddpm-linear or ddpm-cosine
        path: Path = Path::Linear,
        /// What the network predicts: v, the velocity of a path without steps; x, the data; eps, the noise; or score, -eps / sigma
        prediction: Prediction = Prediction::V,
        /// How training draws t: uniform, or logit-normal, sigmoid(mean + std n)
        times: Times = Times::Uniform,
        /// Mean of the logit of t
        mean: f64 = 0.0,
        /// Standard deviation of the logit of t
        std: f64 = 1.0,
        /// Factor of the odds of t; above 1 more noise, as for larger images
        shift: f64 = 1.0,
        /// Whether the samples of a step share the law of t out among them, each drawing within its part
        stratified: bool = false,
        /// How squared errors count: none, as they are; noise, velocity or likelihood, as those of another prediction; or
        /// min-snr:GAMMA, as those of the data times the ratio of signal to noise, GAMMA at most
        weighting: Weighting = Weighting::None,
        /// Share of the samples that lose their label, which guidance needs
        label_dropout: f64 = 0.1,
    }
}

section! {
    /// What the network is compared with.
    ObjectiveSection {
        /// The velocity towards the image behind z (data), towards an image drawn from the posterior of D_score at z
        /// (posterior-sample), or of the empirical score of D_score (exact)
        target: Target = Target::Data,
        /// The images of D_score among which the posterior chooses: those of the class, or all
        softmax: Softmax = Softmax::Class,
        /// Images of each class in D_score; 0 takes all that are trained on
        score: usize = 0,
        /// Images of each class that are trained on, D_region, which holds D_score; 0 takes all
        region: usize = 0,
        /// Which images of a class come first in both
        seed: u64 = 0,
    }
}

section! {
    /// What the network does not see, and what the loss does not count.
    MaskSection {
        /// Share of the patches that a step drops; the others alone are computed and supervised
        drop: f64 = 0.0,
        /// What is dropped: patch, block:SIDE of patches, or all but one crop:SIDE, whatever drop is; of several a step draws one
        kind: TokenMasks = TokenMasks(vec![TokenMask::Patch]),
        /// Share of the loss that a step leaves out; the network sees the whole image
        loss_drop: f64 = 0.0,
        /// What the loss leaves out together: element, pixel, patch or block:SIDE of patches
        loss_kind: LossMask = LossMask::Pixel,
        /// What the loss is divided by: all elements, or the supervised ones, batch-active or sample-active
        loss_norm: LossNorm = LossNorm::BatchActive,
        /// Steps in which both shares go to drop_end and loss_drop_end; 0 keeps them
        ramp: u64 = 0,
        /// Where drop goes
        drop_end: f64 = 0.0,
        /// Where loss_drop goes
        loss_drop_end: f64 = 0.0,
    }
}

section! {
    /// The length and the numbers of a run.
    TrainSection {
        /// Steps of the whole run
        steps: u64 = 400_000,
        /// Images of a step
        batch_size: usize = 256,
        /// Where every random number comes from
        seed: u64 = 0,
        /// What matrix products read: f32, or bf16 with sums in f32; auto is bf16 on a card and f32 on the processor
        precision: Precision = Precision::Auto,
        /// Decays of the moving averages of the weights, at most four; samples come from the first
        ema: Vec<f64> = vec![0.9999],
        /// Run, checkpoint or file whose weights the run begins with, a moving average where it has one; the optimizer is fresh
        from: String = String::new(),
        /// Compute each block twice to keep only its outputs in memory; the numbers stay the same bits
        recompute: bool = false,
    }
}

section! {
    /// AdamW and its learning rate.
    OptimizerSection {
        /// Learning rate after the warm-up
        lr: f64 = 1e-4,
        /// Decays of the two moments
        betas: [f64; 2] = [0.9, 0.999],
        /// Added to the root of the second moment
        epsilon: f64 = 1e-8,
        /// Decoupled weight decay
        weight_decay: f64 = 0.0,
        /// Norm to which a gradient is scaled down; 0 leaves it
        clip: f64 = 0.0,
        /// Steps in which the learning rate rises from 0
        warmup: u64 = 0,
        /// The learning rate after the warm-up: constant, or cosine to 0 at step decay_steps
        decay: Decay = Decay::Constant,
        /// The step at which a cosine reaches 0, where the run ends at the latest; 0 follows train.steps
        decay_steps: u64 = 0,
    }
}

section! {
    /// When the run is saved.
    CheckpointSection {
        /// Steps between two checkpoints, each with a held-out loss
        every: u64 = 5000,
        /// Minutes after which the run is saved in between; 0 keeps to `every`
        minutes: f64 = 15.0,
        /// Checkpoints that stay, beside one that was saved in between
        keep: usize = 2,
    }
}

section! {
    /// The pictures that a run draws of its progress.
    SampleSection {
        /// Steps between two pictures; 0 draws none
        every: u64 = 10_000,
        /// Images of a picture, the classes in turn
        count: usize = 64,
        /// Steps of the solver
        steps: usize = 50,
        /// How noise becomes an image: euler, heun or dopri5[:RTOL,ATOL] along the velocity; euler-maruyama[:DIFFUSION], ddim:ETA or
        /// ancestral with noise of their own; ddim or dpm-solver++ from one prediction of the data to the next
        sampler: Sampler = Sampler::Euler,
        /// The largest value that ddim, ancestral and dpm-solver++ let predicted data have, 1 for pixels; 0 lets them have any
        bound: f64 = 0.0,
        /// Weight of the classifier-free guidance; 1 is none
        guidance: f64 = 4.0,
        /// Channels that are guided, from the first on; 0 guides all
        channels: usize = 0,
        /// The times between which guidance acts, data at 0
        interval: [f64; 2] = [0.0, 1.0],
    }
}

/// `diffusion.times`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Times {
    Uniform,
    LogitNormal,
}

/// `train.precision`, and the flag of every verb that has no recipe to say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// bf16 on a card, f32 on the processor
    Auto,
    F32,
    /// Sums are f32
    Bf16,
}

impl Precision {
    /// The one under which products read `dtype`.
    pub fn of(dtype: DType) -> Precision {
        if dtype == DType::BF16 { Precision::Bf16 } else { Precision::F32 }
    }

    /// The type that matrix products read, on a card or on the processor.
    pub fn dtype(self, on_card: bool) -> DType {
        match self {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::BF16,
            Precision::Auto if on_card => DType::BF16,
            Precision::Auto => DType::F32,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::Auto => "auto",
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        })
    }
}

/// `optimizer.decay`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    Constant,
    Cosine,
}

/// A recipe: what a run does, from its first step to its last, apart from the machine it runs on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    pub model: ModelSection,
    pub data: DataSection,
    pub diffusion: DiffusionSection,
    pub objective: ObjectiveSection,
    pub mask: MaskSection,
    pub train: TrainSection,
    pub optimizer: OptimizerSection,
    pub checkpoint: CheckpointSection,
    pub sample: SampleSection,
    /// `[[stage]]`: keys that differ from stage to stage, by section, each with the steps of its stage.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stage: Vec<toml::Table>,
}

impl Recipe {
    /// Every section with its keys.
    pub const SECTIONS: [(&'static str, &'static [Key]); 9] = [
        ("model", ModelSection::KEYS),
        ("data", DataSection::KEYS),
        ("diffusion", DiffusionSection::KEYS),
        ("objective", ObjectiveSection::KEYS),
        ("mask", MaskSection::KEYS),
        ("train", TrainSection::KEYS),
        ("optimizer", OptimizerSection::KEYS),
        ("checkpoint", CheckpointSection::KEYS),
        ("sample", SampleSection::KEYS),
    ];
}
