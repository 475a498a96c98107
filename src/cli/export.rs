use super::check_out;
use super::given::GivenWithImage;
use crate::base::{DType, Result};
use crate::data::tensors::write_f32;
use crate::device::{Cpu, Device};
use crate::train::checkpoint::{Format, Names, Weights, describe, open};
use clap::Args;
use std::path::PathBuf;

/// Write a model for another program: its weights under the names of published code
#[derive(Args)]
pub struct Export {
    /// A run directory or a checkpoint, both with their first moving average; or a file of weights (then also --preset, --image
    /// and --classes, unless it says itself which model it is)
    #[arg(long, value_name = "F")]
    checkpoint: PathBuf,
    /// Whose names the tensors get
    #[arg(long, value_enum, default_value = "published")]
    names: Format,
    /// Writes a safetensors file, which `sample`, `predict` and `train --from` read too
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    given: GivenWithImage,
}

impl Export {
    pub fn run(self) -> Result<()> {
        check_out("--out", &self.out)?;
        let device = Device::cpu(Cpu::new(None, DType::F32)?);
        let warn = |text: String| eprintln!("warning: {text}");
        let given = self.given.model()?;
        let opened = open(&device, &self.checkpoint, Weights::Sampled, given, warn)?;
        let names = Names::in_format(self.names, opened.model.network.family)?;
        let list = &opened.params.list;
        let mut tensors = vec![];
        for (piece, param, range) in list.pieces(list.iter().count()) {
            let mut start = range.start;
            for part in names.parts(piece) {
                let mut values = vec![0.0; part.len()];
                opened.params.weights.part(param).read_from(start, &mut values);
                start += part.len();
                tensors.push((part, values));
            }
        }
        let tensors: Vec<(&str, &[usize], &[f32])> =
            tensors.iter().map(|(part, values)| (&*part.name, &*part.shape, &**values)).collect();
        let [key, model] = describe(&opened.model);
        write_f32(&self.out, &[(&key, &model)], &tensors)?;
        println!("{}: {} tensors from {}", self.out.display(), tensors.len(), opened.file.display());
        Ok(())
    }
}
