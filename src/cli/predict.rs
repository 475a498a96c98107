use super::check_out;
use super::given::Given;
use super::machine::Machine;
use crate::base::{Accumulate, Error, Result};
use crate::data::tensors::{TensorFile, write_f32};
use crate::device::Device;
use crate::diffusion::predict;
use crate::nn::Config;
use crate::ops::masked_loss::Target;
use crate::ops::unpatchify::{images, unpatchify};
use crate::tape::{Keep, Tape};
use crate::tensor::Tensor;
use crate::train::checkpoint::{Opened, Time, Weights, open};
use crate::train::recipe::Precision;
use clap::Args;
use std::path::{Path, PathBuf};

/// Run a model on given inputs, and write its output and gradients: how another program checks this one
#[derive(Args)]
pub struct Predict {
    /// A run directory or a checkpoint, both with their first moving average; or a safetensors file under the names of SiT, U-ViT
    /// or MaskDM, such as a checkpoint's model.safetensors with the trained weights, or any other (then also --preset and
    /// --classes)
    #[arg(long, value_name = "F")]
    checkpoint: PathBuf,
    /// Safetensors with z (B, C, H, W), t (B) from 0 (data) to 1 (noise) and, for a model with classes, y (B), the classes of
    /// the images; without y, or where y is the number of classes, an image has no label, as in guidance
    #[arg(long, value_name = "IN")]
    inputs: PathBuf,
    /// Writes `prediction` (B, C, H, W), with --target also `loss`
    #[arg(long)]
    out: PathBuf,
    /// Safetensors with `target` (B, C, H, W): the loss is the mean squared difference
    #[arg(long, value_name = "T")]
    target: Option<PathBuf>,
    /// Writes the gradient of the loss by every trained parameter, under its own name
    #[arg(long, value_name = "G", requires = "target")]
    grads: Option<PathBuf>,
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    machine: Machine,
    /// What matrix products read; everything else is f32 on the processor
    #[arg(long, value_enum, default_value = "f32")]
    precision: Precision,
}

/// The inputs of one prediction.
struct Inputs {
    z: Tensor,
    t: Tensor,
    y: Tensor,
}

impl Predict {
    pub fn run(self) -> Result<()> {
        for (flag, path) in [("--out", Some(&self.out)), ("--grads", self.grads.as_ref())] {
            if let Some(path) = path.filter(|path| path.extension().is_none_or(|ending| ending != "safetensors")) {
                return Err(Error::Usage(format!("{flag} {}: name a .safetensors file", path.display())));
            }
        }
        check_out("--out", &self.out)?;
        self.grads.as_deref().map_or(Ok(()), |path| check_out("--grads", path))?;
        let device = self.machine.open(self.precision)?;
        let file = TensorFile::open(&self.inputs)?;
        let shape = image_shape(&file)?;
        let warn = |text: String| eprintln!("warning: {text}");
        let given = self.given.model([shape[1], shape[2], shape[3]])?;
        let opened = open(&device, &self.checkpoint, Weights::Sampled, given, warn)?;
        self.check_written(&opened.file)?;
        let inputs = inputs(&device, &file, shape, &opened)?;
        // A model of the other direction is asked at 1 - t, and its velocity points the other way.
        let sign = if opened.model.time == Time::DataAt1 { -1.0 } else { 1.0 };
        let extents = shape.as_slice();
        let labelled = opened.network.config.classes == 0 || file.find("y").is_some();
        let from = opened.file.display().to_string();
        let say = |loss: &str| {
            let about = if labelled { "" } else { "; without y no image has a label" };
            println!("{}: prediction {shape:?}{loss} from {from}{about}", self.out.display());
        };
        let Some(target) = &self.target else {
            let prediction =
                predict(&device, &opened.network, opened.params.network(), &inputs.z, &inputs.t, &inputs.y);
            write_f32(&self.out, &[], &[("prediction", extents, &scaled(&prediction, sign))])?;
            say("");
            return Ok(());
        };
        let mut target = read(&TensorFile::open(target)?, "target", extents)?;
        // |sign v - u|^2 = |v - sign u|^2
        target.iter_mut().for_each(|u| *u *= sign);
        let target = Tensor::from_slice(&device, "batch", shape, &target);
        let (prediction, loss) = self.differentiate(&device, opened, inputs, target)?;
        let tensors = [("prediction", extents, &*scaled(&prediction, sign)), ("loss", &[1], &loss.to_vec())];
        write_f32(&self.out, &[], &tensors)?;
        say(&format!(", loss {},", tensors[1].2[0]));
        if let Some(path) = &self.grads {
            println!("{}: the gradient of every trained parameter", path.display());
        }
        Ok(())
    }

    /// Refuses to write over what is read, the weights in `weights` among it, and over what is written.
    fn check_written(&self, weights: &Path) -> Result<()> {
        let files = [
            ("--checkpoint", Some(weights)),
            ("--inputs", Some(&*self.inputs)),
            ("--target", self.target.as_deref()),
            ("--out", Some(&*self.out)),
        ];
        let written = [("--out", Some(&*self.out)), ("--grads", self.grads.as_deref())];
        for (flag, path) in written.into_iter().filter_map(|(flag, path)| Some((flag, path?))) {
            let same = |&&(other, there): &&(&str, Option<&Path>)| {
                other != flag && there.is_some_and(|there| canonical(there) == canonical(path))
            };
            if let Some((other, _)) = files.iter().find(same) {
                return Err(Error::Usage(format!("{flag} {}: is also {other}; name another file", path.display())));
            }
        }
        Ok(())
    }

    /// The output of the model and its loss; the gradients go to their file.
    fn differentiate(
        &self,
        device: &Device,
        opened: Opened,
        inputs: Inputs,
        target: Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let Opened { network, params, .. } = opened;
        let mut gradients = params.zeros(device, "gradients")?;
        let mut tape = Tape::training(device, params.network(), &mut gradients, Accumulate::Set, Keep::Everything);
        let v = network.forward(&mut tape, &inputs.z, &inputs.t, &inputs.y, None);
        let mut prediction = images(device, "prediction", inputs.t.len(), network.config.grid);
        unpatchify(device, network.config.grid, tape.value(v), &mut prediction);
        let images = target.len() / network.config.grid.image();
        let weight = Tensor::from_slice(device, "batch", [images], &vec![1.0 / target.len() as f32; images]);
        let target = Target { values: &target, mask: None, kept: None, weight: &weight, grid: network.config.grid };
        let loss = tape.masked_loss(v, target);
        tape.backward();
        if let Some(path) = &self.grads {
            let values: Vec<Vec<f32>> = (0..gradients.count()).map(|i| gradients.part(i).to_vec()).collect();
            let pieces = params.list.pieces(params.list.trained());
            let tensors: Vec<(&str, &[usize], &[f32])> =
                pieces.map(|(piece, i, range)| (&*piece.name, &*piece.shape, &values[i][range])).collect();
            write_f32(path, &[], &tensors)?;
        }
        Ok((prediction, loss))
    }
}

/// The one name of a file, which may not exist yet in a folder that does.
fn canonical(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok().or_else(|| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some(folder.canonicalize().ok()?.join(path.file_name()?))
    })
}

/// `factor` times the elements of `values`.
fn scaled(values: &Tensor, factor: f32) -> Vec<f32> {
    values.to_vec::<f32>().into_iter().map(|v| factor * v).collect()
}

/// (B, C, H, W) of `z`.
fn image_shape(file: &TensorFile) -> Result<[usize; 4]> {
    let z = file.entry("z")?;
    match *z.shape.as_slice() {
        [b, c, h, w] if b > 0 && c > 0 && h > 0 && w > 0 => Ok([b, c, h, w]),
        _ => Err(file.source().error(format_args!("z has shape {:?}; give (B, C, H, W), none of them 0", z.shape))),
    }
}

fn inputs(device: &Device, file: &TensorFile, shape: [usize; 4], opened: &Opened) -> Result<Inputs> {
    let Config { grid, classes, .. } = opened.network.config;
    if shape[1..] != [grid.channels, grid.height, grid.width] {
        let (given, wanted) = (&shape[1..], [grid.channels, grid.height, grid.width]);
        return Err(file
            .source()
            .error(format_args!("z holds images of {given:?}, the model is for {wanted:?}; give such images")));
    }
    let batch = shape[0];
    let z = read(file, "z", &shape)?;
    let mut t = read(file, "t", &[batch])?;
    for (row, &t) in t.iter().enumerate() {
        let there = opened.model.path.check(t);
        there.map_err(|what| file.source().error(format_args!("t[{row}] is {t}; {what}")))?;
    }
    if classes == 0 && file.find("y").is_some() {
        return Err(file.source().error("has labels y, and the model has no classes; leave them out"));
    }
    t.iter_mut().for_each(|t| *t = opened.model.path.told((*t).into()) as f32);
    if opened.model.time == Time::DataAt1 {
        t.iter_mut().for_each(|t| *t = 1.0 - *t);
    }
    let mut labels = vec![classes as u32; batch];
    if classes > 0 && file.find("y").is_some() {
        let given = file.integers("y")?;
        if given.len() != batch {
            return Err(file
                .source()
                .error(format_args!("y has {} labels for {batch} images; give one each", given.len())));
        }
        for (row, (label, &y)) in labels.iter_mut().zip(&given).enumerate() {
            if !(0..=classes as i64).contains(&y) {
                let what = format_args!("y[{row}] is {y}; give 0 to {}, or {classes} for no label", classes - 1);
                return Err(file.source().error(what));
            }
            *label = y as u32;
        }
    }
    Ok(Inputs {
        z: Tensor::from_slice(device, "batch", shape, &z),
        t: Tensor::from_slice(device, "batch", [batch], &t),
        y: Tensor::from_slice(device, "batch", [batch], &labels),
    })
}

/// A tensor of finite floats that must have `shape`.
fn read(file: &TensorFile, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    // Before so much memory is asked for.
    file.expect_shape(file.entry(name)?, shape)?;
    let mut values = vec![0.0; shape.iter().product()];
    file.read_f32(name, shape, &mut values)?;
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(values),
        Some(at) => {
            Err(file.source().error(format_args!("value {at} of {name} is {}; give finite numbers", values[at])))
        }
    }
}
