//! A model of any family: its sizes, and which network they are the sizes of.

use super::params::ParamList;
use super::sit::{self, Sit};
use super::uvit::{self, Uvit};
use crate::base::{Cost, PatchGrid};
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// The architectures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// SiT and DiT.
    #[default]
    Sit,
    Uvit,
}

/// What a model is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    pub family: Family,
    /// The images and their patches.
    pub grid: PatchGrid,
    /// Blocks; of a U-ViT one in the middle and half of the others on each side, so that 12 and 13 are the same.
    pub depth: usize,
    pub width: usize,
    pub heads: usize,
    /// 0 for a model without labels.
    pub classes: usize,
    /// Whether the final layer has a second half of channels, as DiT's learned variance; it is not trained here.
    pub learn_sigma: bool,
}

/// The published sizes, and one for laptops: name, depth, width, heads. MaskDM's U-ViTs are s (512/13/8) and b (768/12/12).
const SIZES: [(&str, Family, usize, usize, usize); 11] = [
    ("sit-xs", Family::Sit, 6, 128, 4),
    ("sit-s", Family::Sit, 12, 384, 6),
    ("sit-b", Family::Sit, 12, 768, 12),
    ("sit-l", Family::Sit, 24, 1024, 16),
    ("sit-xl", Family::Sit, 28, 1152, 16),
    ("uvit-s", Family::Uvit, 12, 512, 8),
    ("uvit-s-deep", Family::Uvit, 16, 512, 8),
    ("uvit-b", Family::Uvit, 12, 768, 12),
    ("uvit-m", Family::Uvit, 16, 768, 12),
    ("uvit-l", Family::Uvit, 20, 1024, 16),
    ("uvit-h", Family::Uvit, 28, 1152, 16),
];

const PATCHES: [usize; 3] = [2, 4, 8];

/// Family, depth, width, heads and patch of a preset: `sit-{xs,s,b,l,xl}-{2,4,8}`, `uvit-{s,s-deep,b,m,l,h}-{2,4,8}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub family: Family,
    pub depth: usize,
    pub width: usize,
    pub heads: usize,
    pub patch: usize,
}

impl Size {
    /// The size of a preset, or `None` for an unknown name.
    pub fn preset(name: &str) -> Option<Size> {
        let (size, patch) = name.rsplit_once('-')?;
        let &(_, family, depth, width, heads) = SIZES.iter().find(|row| row.0 == size)?;
        let patch = *PATCHES.iter().find(|p| p.to_string() == patch)?;
        Some(Size { family, depth, width, heads, patch })
    }

    /// A model of this size for images of `[channels, height, width]`.
    pub fn config(self, [channels, height, columns]: [usize; 3], classes: usize, learn_sigma: bool) -> Config {
        let Size { family, depth, width, heads, patch } = self;
        let grid = PatchGrid { channels, height, width: columns, patch };
        Config { family, grid, depth, width, heads, classes, learn_sigma }
    }

    /// The names of all presets.
    pub fn presets() -> Vec<String> {
        SIZES.iter().flat_map(|size| PATCHES.map(|patch| format!("{}-{patch}", size.0))).collect()
    }
}

impl Config {
    /// With the row of those without a label a table has 2^20 rows.
    pub const MOST_CLASSES: usize = (1 << 20) - 1;

    /// Whether such a model exists, for sizes that come from a file or a flag; says what is wrong and what to do.
    pub fn check(&self) -> Result<(), String> {
        let Config {
            grid: PatchGrid { channels, height, width: columns, patch }, depth, width, heads, classes, ..
        } = *self;
        let bounded = |what: &str, value: usize, most: usize| {
            if (1..=most).contains(&value) { Ok(()) } else { Err(format!("{what} is {value}; give 1 to {most}")) }
        };
        bounded("the number of channels", channels, 1 << 16)?;
        bounded("the height", height, 1 << 16)?;
        bounded("the width of an image", columns, 1 << 16)?;
        bounded("the patch", patch, height.min(columns))?;
        bounded("the depth", depth, 1 << 10)?;
        bounded("the width", width, 1 << 16)?;
        bounded("the number of heads", heads, width)?;
        if classes > Config::MOST_CLASSES {
            return Err(format!("the number of classes is {classes}; give 0 to {}", Config::MOST_CLASSES));
        }
        if !height.is_multiple_of(patch) || !columns.is_multiple_of(patch) {
            return Err(format!(
                "a patch of {patch} does not divide images of {height} x {columns}; give one that does"
            ));
        }
        if !width.is_multiple_of(heads) {
            return Err(format!("{heads} heads do not divide the width {width}; give a number that does"));
        }
        if !width.is_multiple_of(4) {
            return Err(format!("the width {width} is no multiple of 4, as sines of positions need; give one that is"));
        }
        if self.family == Family::Uvit && self.learn_sigma {
            return Err("a U-ViT has no second half of channels; leave learn_sigma out".into());
        }
        bounded("the size of the table of positions, patches times width,", self.grid.tokens() * width, 1 << 28)
    }

    /// Channels of the final layer.
    pub fn out_channels(&self) -> usize {
        self.grid.channels * if self.learn_sigma { 2 } else { 1 }
    }

    /// What forward and backward of each operation must move and compute, on `batch` images with `tokens` kept patches
    /// each.
    pub fn costs(&self, batch: usize, tokens: usize) -> Vec<[Cost; 2]> {
        match self.family {
            Family::Sit => sit::costs(self, batch, tokens),
            Family::Uvit => uvit::costs(self, batch, tokens),
        }
    }

    /// What forward must move and compute.
    pub fn forward_cost(&self, batch: usize, tokens: usize) -> Cost {
        self.costs(batch, tokens).into_iter().map(|[forward, _]| forward).sum()
    }

    /// What the gradients of all parameters must move and compute.
    pub fn backward_cost(&self, batch: usize, tokens: usize) -> Cost {
        self.costs(batch, tokens).into_iter().map(|[_, backward]| backward).sum()
    }

    /// Elements of activations that a training step on `batch` images with `tokens` kept patches each holds at its fullest, where
    /// backward enters the last block; within a tenth. With `recompute` a block keeps its outputs alone.
    pub fn activations(&self, batch: usize, tokens: usize, recompute: bool) -> usize {
        // Widths of a token. A block keeps its queries, keys and values, its heads, the hidden layer, which is four wide, its two
        // branches and the stream after each. Backward then holds the gradients of the hidden layer, of what came into it and of
        // the stream, and what came into it. A skip keeps the streams that it joins.
        const BLOCK: usize = 12;
        const BACKWARD: usize = 7;
        const SKIP: usize = 2;
        let (tokens, blocks, skips) = match self.family {
            Family::Sit => (tokens, self.depth, 0),
            Family::Uvit => (uvit::extras(self) + tokens, 2 * uvit::half(self) + 1, uvit::half(self)),
        };
        let kept = if recompute { 2 * blocks + BLOCK } else { BLOCK * blocks + SKIP * skips };
        batch * tokens * self.width * (kept + BACKWARD)
    }
}

/// A model: its sizes, and its parameters as handles.
#[derive(Clone, Debug)]
pub struct Network {
    pub config: Config,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Sit(Sit),
    Uvit(Uvit),
}

impl Network {
    /// The model of `config` and the list of its parameters.
    ///
    /// # Panics
    /// If [`Config::check`] refuses it; recipes and files are checked before.
    pub fn new(config: Config) -> (Network, ParamList) {
        config.check().unwrap_or_else(|what| panic!("{what}"));
        let (kind, list) = match config.family {
            Family::Sit => {
                let (sit, list) = Sit::new(config);
                (Kind::Sit(sit), list)
            }
            Family::Uvit => {
                let (uvit, list) = Uvit::new(config);
                (Kind::Uvit(uvit), list)
            }
        };
        (Network { config, kind }, list)
    }

    /// The prediction (B, N, P P Cv) for noisy images `z` (B, C, H, W) at times `t` (B) under labels `y` (B).
    ///
    /// `kept` (B, N) u32 names the patches to compute; `None` computes all.
    pub fn forward(&self, tape: &mut Tape, z: &Tensor, t: &Tensor, y: &Tensor, kept: Option<&Tensor>) -> Var {
        match &self.kind {
            Kind::Sit(sit) => sit.forward(tape, z, t, y, kept),
            Kind::Uvit(uvit) => uvit.forward(tape, z, t, y, kept),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_preset_is_none() {
        for name in ["sit", "sit-s", "sit-s-3", "sit-xxl-2", "dit-s-2", "uvit-s", "uvit-xl-2", ""] {
            assert_eq!(Size::preset(name), None, "{name}");
        }
        assert!(Size::presets().iter().all(|name| Size::preset(name).is_some()));
    }

    #[test]
    fn a_file_without_a_family_is_of_a_sit() {
        let config = Size::preset("sit-s-2").unwrap().config([4, 32, 32], 10, false);
        let text = serde_json::to_string(&config).unwrap().replace("\"family\":\"sit\",", "");
        assert!(!text.contains("family"));
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
    }
}
