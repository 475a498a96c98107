use crate::base::{Error, Result};
use crate::data::tensors::TensorFile;
use crate::nn::{Family, Piece};
use clap::ValueEnum;

/// What a file calls the tensors of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// As the model was published, by SiT or U-ViT.
    Published,
    /// A U-ViT as MaskDM's code saves it, under a prefix that says which copy of the network it is.
    MaskDm(String),
}

/// The names that a file can be written under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Those of SiT's and U-ViT's code
    Published,
    /// Those of MaskDM's code, for a U-ViT
    Maskdm,
}

/// What every copy of MaskDM's network has.
const POSITIONS: &str = "encoder.encoder_pos_embed";

impl Names {
    /// Those of `file`; of several copies of a network the moving average.
    pub fn of(file: &TensorFile) -> Names {
        let copies = file.entries().iter().filter_map(|entry| entry.name.strip_suffix(POSITIONS));
        let copy = copies.max_by_key(|prefix| prefix.starts_with("ema_model."));
        copy.map_or(Names::Published, |prefix| Names::MaskDm(prefix.into()))
    }

    /// Those of `format`, for a model of `family`.
    ///
    /// # Errors
    /// `Usage` if MaskDM has no such model.
    pub fn in_format(format: Format, family: Family) -> Result<Names> {
        match (format, family) {
            (Format::Published, _) => Ok(Names::Published),
            (Format::Maskdm, Family::Uvit) => Ok(Names::MaskDm("model.".into())),
            (Format::Maskdm, Family::Sit) => Err(Error::Usage(
                "--names maskdm: MaskDM's network is a U-ViT, this model is a SiT; give published".into(),
            )),
        }
    }

    /// The tensors that lie one after the other in `piece`.
    pub fn parts(&self, piece: &Piece) -> Vec<Piece> {
        let Names::MaskDm(prefix) = self else { return vec![piece.clone()] };
        let part = |name: &str, shape: &[usize]| Piece { name: format!("{prefix}{name}"), shape: shape.into() };
        match (&*piece.name, &*piece.shape) {
            ("pos_embed", shape) => vec![part(POSITIONS, shape)],
            // The row of no label is a tensor of its own.
            ("label_emb.weight", &[rows, width]) => {
                vec![part("encoder.label_emb.weight", &[rows - 1, width]), part("encoder.uncond_embed", &[1, width])]
            }
            (name, shape) => match name.strip_prefix("decoder_pred") {
                Some(rest) => vec![part(&format!("encoder_to_output{rest}"), shape)],
                None => vec![part(&format!("encoder.{name}"), shape)],
            },
        }
    }

    /// Whether `name` is of another part of a file than its network: a schedule, or another copy.
    pub fn passes_over(&self, name: &str) -> bool {
        matches!(self, Names::MaskDm(prefix) if !name.starts_with(prefix))
    }
}
