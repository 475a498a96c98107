//! Weights under the names of other programs: read, trained on, and written again.

#[path = "common/runs.rs"]
mod runs;

use engine::base::rng::{Purpose, Stream};
use engine::base::{DType, PatchGrid, Path as DiffusionPath, Prediction};
use engine::data::tensors::{TensorFile, write_f32};
use engine::device::{Cpu, Device};
use engine::nn::{Config, Family};
use engine::train::checkpoint::{Model, Weights, open};
use runs::{RECIPE, Scratch};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

const CLASSES: usize = 2;
const WIDTH: usize = 8;
/// Patches of the images of the tiny store.
const PATCHES: usize = 16;

/// A U-ViT of three blocks for the images of the tiny store.
fn model() -> Model {
    let grid = PatchGrid { channels: 1, height: 8, width: 8, patch: 2 };
    let (family, learn_sigma) = (Family::Uvit, false);
    let config = Config { family, grid, depth: 2, width: WIDTH, heads: 2, classes: CLASSES, learn_sigma };
    Model::new(config, DiffusionPath::DdpmLinear, Prediction::Eps)
}

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// The tensors of that network in MaskDM's code, each with numbers of its own: its names, written down one by one.
fn maskdm() -> Tensors {
    let d = WIDTH;
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("encoder.patch_embed.proj.weight".into(), vec![d, 1, 2, 2]),
        ("encoder.patch_embed.proj.bias".into(), vec![d]),
        ("encoder.encoder_pos_embed".into(), vec![1, 2 + PATCHES, d]),
        ("encoder.label_emb.weight".into(), vec![CLASSES, d]),
        ("encoder.uncond_embed".into(), vec![1, d]),
        ("encoder.norm.weight".into(), vec![d]),
        ("encoder.norm.bias".into(), vec![d]),
        ("encoder_to_output.weight".into(), vec![4, d]),
        ("encoder_to_output.bias".into(), vec![4]),
        ("encoder.out_blocks.0.skip_linear.weight".into(), vec![d, 2 * d]),
        ("encoder.out_blocks.0.skip_linear.bias".into(), vec![d]),
    ];
    for block in ["in_blocks.0", "mid_block", "out_blocks.0"] {
        for (name, shape) in [
            ("norm1.weight", vec![d]),
            ("norm1.bias", vec![d]),
            ("attn.qkv.weight", vec![3 * d, d]),
            ("attn.proj.weight", vec![d, d]),
            ("attn.proj.bias", vec![d]),
            ("norm2.weight", vec![d]),
            ("norm2.bias", vec![d]),
            ("mlp.fc1.weight", vec![4 * d, d]),
            ("mlp.fc1.bias", vec![4 * d]),
            ("mlp.fc2.weight", vec![d, 4 * d]),
            ("mlp.fc2.bias", vec![d]),
        ] {
            shapes.push((format!("encoder.{block}.{name}"), shape));
        }
    }
    let values = |i: usize, shape: &[usize]| {
        let mut values = vec![0.0; shape.iter().product()];
        Stream::new(1, i as u32, 0, Purpose::Fixture).fill_normals(&mut values);
        values
    };
    shapes.into_iter().enumerate().map(|(i, (name, shape))| (name, (shape.clone(), values(i, &shape)))).collect()
}

fn prefixed(prefix: &str, tensors: Tensors) -> Tensors {
    tensors.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect()
}

fn save(path: &Path, tensors: &Tensors) {
    let tensors: Vec<(&str, &[usize], &[f32])> =
        tensors.iter().map(|(name, (shape, values))| (&**name, &**shape, &**values)).collect();
    write_f32(path, &[], &tensors).unwrap();
}

fn load(path: &Path) -> Tensors {
    let file = TensorFile::open(path).unwrap();
    let read = |entry: &engine::data::tensors::Entry| {
        let mut values = vec![0.0; entry.len() as usize];
        file.read_f32(&entry.name, &entry.shape, &mut values).unwrap();
        (entry.name.clone(), (entry.shape.clone(), values))
    };
    file.entries().iter().map(read).collect()
}

fn device() -> Device {
    Device::cpu(Cpu::new(None, DType::F32).unwrap().poisoned())
}

/// What the engine reads of a file, under its own names.
fn opened(path: &Path, given: Option<Model>) -> Result<Tensors, String> {
    let opened = open(&device(), path, Weights::Sampled, given, |_| {}).map_err(|error| error.to_string())?;
    let list = &opened.params.list;
    let tensor = |(piece, param, range): (&engine::nn::Piece, usize, std::ops::Range<usize>)| {
        let values = opened.params.weights.part(param).to_vec::<f32>()[range].to_vec();
        (piece.name.clone(), (piece.shape.clone(), values))
    };
    Ok(list.pieces(list.iter().count()).map(tensor).collect())
}

/// Whether `ours` are the weights of `theirs`.
fn assert_same(ours: &Tensors, theirs: &Tensors) {
    let of = |name: &str| &theirs[name];
    for (name, (shape, values)) in ours {
        let (expected, numbers) = match &**name {
            "pos_embed" => of("encoder.encoder_pos_embed").clone(),
            "decoder_pred.weight" => of("encoder_to_output.weight").clone(),
            "decoder_pred.bias" => of("encoder_to_output.bias").clone(),
            "label_emb.weight" => {
                let rows = [of("encoder.label_emb.weight"), of("encoder.uncond_embed")];
                (vec![CLASSES + 1, WIDTH], rows.iter().flat_map(|row| row.1.clone()).collect())
            }
            name => of(&format!("encoder.{name}")).clone(),
        };
        assert!((shape, values) == (&expected, &numbers), "{name}");
    }
    // The label table of two became one.
    assert_eq!(ours.len() + 1, theirs.len());
}

fn engine(arguments: &[&str], paths: &[(&str, &Path)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
    command.args(arguments);
    for (flag, path) in paths {
        command.arg(flag).arg(path);
    }
    command.output().unwrap()
}

#[test]
fn maskdms_names_are_read_with_their_prefix_and_the_moving_average_is_preferred() {
    let scratch = Scratch::new();
    let (path, truth) = (scratch.path("maskdm.safetensors"), maskdm());
    let schedule = ("betas".to_string(), (vec![1000], vec![0.5; 1000]));
    let other: Tensors = maskdm()
        .into_iter()
        .map(|(name, (shape, values))| (name, (shape, values.iter().map(|x| -x).collect())))
        .collect();
    for file in [
        truth.clone(),
        prefixed("model.", truth.clone()).into_iter().chain([schedule.clone()]).collect(),
        prefixed("model.", other)
            .into_iter()
            .chain(prefixed("ema_model.model.", truth.clone()))
            .chain([
                schedule,
                ("ema_model.betas".into(), (vec![1], vec![0.0])),
                ("initted".into(), (vec![1], vec![1.0])),
            ])
            .collect(),
    ] {
        save(&path, &file);
        assert_same(&opened(&path, Some(model())).unwrap(), &truth);
    }
    let mut lacking = prefixed("model.", truth);
    lacking.remove("model.encoder.uncond_embed");
    save(&path, &lacking);
    let message = opened(&path, Some(model())).unwrap_err();
    assert!(message.contains("model.encoder.uncond_embed"), "{message}");
    // An MLP of times is another network.
    lacking = prefixed("model.", maskdm());
    lacking.insert("model.encoder.time_embed.0.weight".into(), (vec![1], vec![1.0]));
    save(&path, &lacking);
    let message = opened(&path, Some(model())).unwrap_err();
    assert!(message.contains("\"model.encoder.time_embed.0.weight\" is no part of this model"), "{message}");
}

#[test]
fn a_run_begins_with_weights_under_maskdms_names_and_its_own_are_written_under_them() {
    let scratch = Scratch::new();
    let (given, out, written) =
        (scratch.path("maskdm.safetensors"), scratch.path("run"), scratch.path("w.safetensors"));
    save(&given, &prefixed("model.", maskdm()));
    let from = format!("train.from='{}'", given.display());
    let recipe = RECIPE.replace("sit-xs-2", "uvit-s-2").replace("depth = 1", "depth = 2");
    let sets = [
        "diffusion.path=ddpm-linear",
        "diffusion.prediction=eps",
        "optimizer.lr=0.0",
        "optimizer.weight_decay=0.0",
        "train.steps=1",
        &from,
    ];
    let train = |recipe: &str, sets: &[&str], out: &Path| {
        runs::follow(recipe, |_| device(), &engine::train::Stop::default(), &scratch.store(), out, sets)
    };
    train(&recipe, &sets, &out).unwrap();
    assert_same(&opened(&out, None).unwrap(), &maskdm());
    let exported = engine(&["export", "--names", "maskdm"], &[("--checkpoint", &out), ("--out", &written)]);
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    assert!(load(&written) == prefixed("model.", maskdm()), "every tensor, under its name and in its shape");
    // What was written says itself what it is, and draws, and is written back under the published names.
    assert_same(&opened(&written, None).unwrap(), &maskdm());
    let draw =
        ["sample", "--count", "2", "--steps", "3", "--sampler", "ddim:1", "--guidance", "1.5", "--device", "cpu"];
    let drawn = engine(&draw, &[("--checkpoint", &written), ("--out", &scratch.path("drawn.npy"))]);
    assert!(drawn.status.success(), "{}", String::from_utf8_lossy(&drawn.stderr));
    let back = scratch.path("back.safetensors");
    assert!(engine(&["export"], &[("--checkpoint", &written), ("--out", &back)]).status.success());
    assert_eq!(load(&back), load(&out.join("checkpoints/step_00000001/ema.safetensors")));
    // Weights of another shape are named as the file names them.
    let wide = [&sets[..], &["model.width=16"]].concat();
    let message = train(&recipe, &wide, &scratch.path("other")).unwrap_err().to_string();
    assert!(message.contains("model.encoder.in_blocks.0.norm1.weight is [8] and not [16]"), "{message}");
}

#[test]
fn a_sit_has_no_names_of_maskdm_and_a_size_alone_describes_no_file() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let sets = ["train.steps=1", "optimizer.decay=constant"];
    runs::train(|_| device(), &engine::train::Stop::default(), &scratch.store(), &out, &sets).unwrap();
    let to = scratch.path("w.safetensors");
    for (flags, expected) in [
        (
            &["--names", "maskdm"][..],
            "--names maskdm: MaskDM's network is a U-ViT, this model is a SiT; give published",
        ),
        (&["--preset", "uvit-s-4"], "--preset: say --image C H W, too, for it is a size alone"),
        (
            &["--preset", "uvit-s-4", "--image", "3", "64", "64", "--path", "ddpm-linear"],
            "--prediction v --path ddpm-linear: ddpm-linear has steps and no velocity; give eps, x or score",
        ),
        (
            &["--preset", "sit-s-4", "--image", "3", "64", "64", "--path", "ddpm-linear", "--prediction", "eps"],
            "--preset sit-s-4 --path ddpm-linear: the published DiT is told whole steps",
        ),
    ] {
        let refused = engine(&[&["export"], flags].concat(), &[("--checkpoint", &out), ("--out", &to)]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(2) && said.contains(expected), "{said}");
        assert!(!to.exists());
    }
}
