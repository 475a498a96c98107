//! `engine predict` against the library, and its two directions of time against each other.

mod common;

use engine::base::{Accumulate, DType, PatchGrid, Path as DiffusionPath, Prediction};
use engine::data::tensors::{FileDType, Spec, TensorFile, Writer, write_f32};
use engine::device::{Cpu, Device};
use engine::diffusion::predict;
use engine::nn::ParamStore;
use engine::nn::{Network, Size};
use engine::ops::masked_loss::Target;
use engine::tape::{Keep, Tape};
use engine::tensor::Tensor;
use engine::train::checkpoint::Model;
use std::path::{Path, PathBuf};
use std::process::Command;

const PRESET: &str = "sit-xs-8";
const BATCH: usize = 3;
const CLASSES: usize = 4;

/// A preset with random weights, its bare file, and inputs for it, in a folder of their own.
struct Case {
    folder: PathBuf,
    device: Device,
    network: Network,
    store: ParamStore,
    z: Vec<f32>,
    t: Vec<f32>,
    target: Vec<f32>,
    grid: PatchGrid,
}

impl Case {
    fn new(name: &str) -> Case {
        let folder = std::env::temp_dir().join(format!("engine-predict-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let device = Device::cpu(Cpu::new(None, DType::F32).unwrap());
        let config = Size::preset(PRESET).unwrap().config([2, 8, 16], CLASSES, true);
        let grid = config.grid;
        let (network, list) = Network::new(config);
        let mut store = ParamStore::new(&device, list, 0).unwrap();
        for i in 0..store.list.trained() {
            let part = store.weights.part_mut(i).f32_mut();
            let values = common::normals(i as u32, part.len(), 0.05);
            part.copy_from_slice(&values);
        }
        write_model(&folder.join("bare.safetensors"), &store, &[]);
        let z = common::normals(70, BATCH * grid.image(), 1.0);
        let target = common::normals(71, BATCH * grid.image(), 1.0);
        Case { folder, device, network, store, z, t: vec![0.1, 0.5, 0.875], target, grid }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.safetensors"))
    }

    /// The binary on the model and the inputs of two files.
    fn predict(&self, model: &Path, given: &Path, out: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
        command
            .arg("predict")
            .arg("--checkpoint")
            .arg(model)
            .arg("--inputs")
            .arg(given)
            .arg("--out")
            .arg(self.path(out));
        command
    }

    /// The binary on the bare file and what there is to say of it.
    fn command(&self, given: &Path, out: &str) -> Command {
        let mut command = self.predict(&self.path("bare"), given, out);
        command.args(["--preset", PRESET, "--learn-sigma", "--classes"]).arg(CLASSES.to_string());
        command
    }

    /// Runs the binary on inputs with times `t` and the target; the names of what it writes start with `out`.
    fn run(&self, out: &str, t: &[f32], target: &[f32], time: &str) -> Command {
        let image = [BATCH, self.grid.channels, self.grid.height, self.grid.width];
        let given = self.path(&format!("{out}-in"));
        write_f32(&given, &[], &[("z", &image, &self.z), ("t", &[t.len()], t)]).unwrap();
        let wanted = self.path(&format!("{out}-target"));
        write_f32(&wanted, &[], &[("target", &image, target)]).unwrap();
        let mut command = self.command(&given, &format!("{out}-out"));
        command.args(["--time", time]).arg("--target").arg(wanted);
        command.arg("--grads").arg(self.path(&format!("{out}-grads")));
        command
    }

    fn tensor(&self, shape: &[usize], values: &[f32]) -> Tensor {
        Tensor::from_slice(&self.device, "test", engine::base::Shape::new(shape), values)
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn write_model(path: &Path, store: &ParamStore, metadata: &[(&str, &str)]) {
    let pieces = store.list.pieces(store.list.iter().count());
    let tensors: Vec<(&str, &[usize], &[f32])> =
        pieces.map(|(p, i, range)| (&*p.name, &*p.shape, &store.weights.part(i).f32()[range])).collect();
    write_f32(path, metadata, &tensors).unwrap();
}

fn read(path: &Path, name: &str) -> Vec<f32> {
    let file = TensorFile::open(path).unwrap();
    let entry = file.entry(name).unwrap();
    let shape = entry.shape.clone();
    let mut values = vec![0.0; shape.iter().product()];
    file.read_f32(name, &shape, &mut values).unwrap();
    values
}

/// What a command says that must succeed.
fn succeed(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_binary_predicts_what_the_library_predicts() {
    let case = Case::new("library");
    let said = succeed(case.run("a", &case.t, &case.target, "data-at-0"));
    let image = [BATCH, case.grid.channels, case.grid.height, case.grid.width];
    let (z, t) = (case.tensor(&image, &case.z), case.tensor(&[BATCH], &case.t));
    // Without labels in the inputs no image has one.
    let y = Tensor::from_slice(&case.device, "test", [BATCH], &[CLASSES as u32; BATCH]);
    let ours = predict(&case.device, &case.network, &case.store.weights, &z, &t, &y);
    assert_eq!(read(&case.path("a-out"), "prediction"), ours.f32());

    let mut grads = case.store.zeros(&case.device, "test").unwrap();
    let mut tape = Tape::training(&case.device, &case.store.weights, &mut grads, Accumulate::Set, Keep::BlockOutputs);
    let v = case.network.forward(&mut tape, &z, &t, &y, None);
    let values = case.tensor(&image, &case.target);
    let weight = case.tensor(&[image[0]], &vec![1.0 / case.target.len() as f32; image[0]]);
    let target = Target { values: &values, mask: None, kept: None, weight: &weight, grid: case.grid };
    let loss = tape.masked_loss(v, target).f32()[0];
    tape.backward();
    assert_eq!(read(&case.path("a-out"), "loss"), [loss]);
    let [out, from, grads_path] = ["a-out", "bare", "a-grads"].map(|name| case.path(name).display().to_string());
    let expected = format!(
        "{out}: prediction [3, 2, 8, 16], loss {loss}, from {from}; without y no image has a label\n\
         {grads_path}: the gradient of every trained parameter\n"
    );
    assert_eq!(said, expected);
    for (piece, i, range) in case.store.list.pieces(case.store.list.trained()) {
        assert!(read(&case.path("a-grads"), &piece.name) == grads.part(i).f32()[range], "{}", piece.name);
    }
}

#[test]
fn a_model_with_the_data_at_one_is_asked_at_the_mirrored_time_and_answers_with_the_other_sign() {
    let case = Case::new("time");
    // These times and their mirror images are exact in f32.
    let t = [0.25, 0.5, 0.875];
    let mirrored = t.map(|t| 1.0 - t);
    let negated: Vec<f32> = case.target.iter().map(|u| -u).collect();
    succeed(case.run("zero", &t, &case.target, "data-at-0"));
    succeed(case.run("one", &mirrored, &negated, "data-at-1"));
    let [zero, one] = ["zero-out", "one-out"].map(|name| read(&case.path(name), "prediction"));
    assert!(zero.iter().zip(&one).all(|(a, b)| *a == -b), "the prediction changes its sign");
    assert_eq!(read(&case.path("zero-out"), "loss"), read(&case.path("one-out"), "loss"));
    for (piece, ..) in case.store.list.pieces(case.store.list.trained()) {
        let [zero, one] = ["zero-grads", "one-grads"].map(|name| read(&case.path(name), &piece.name));
        assert!(zero == one, "{}", piece.name);
    }
}

fn refused(mut command: Command, code: i32, parts: &[&str]) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(parts.iter().all(|part| text.contains(part)), "{parts:?}: {text}");
}

#[test]
fn inputs_that_do_not_fit_are_refused_with_what_was_given_and_wanted() {
    let case = Case::new("inputs");
    type Floats<'a> = (&'a str, &'a [usize], &'a [f32]);
    let tensors = |name: &str, floats: &[Floats], y: Option<&[i64]>| {
        let path = case.path(name);
        let spec = |&(name, shape, _): &Floats<'_>| (name.to_owned(), FileDType::F32, shape.to_vec());
        let labels = y.map(|y| ("y".to_owned(), FileDType::I64, vec![y.len()]));
        let owned: Vec<_> = floats.iter().map(spec).chain(labels).collect();
        let specs: Vec<Spec> = owned.iter().map(|(name, dtype, shape)| Spec { name, dtype: *dtype, shape }).collect();
        let mut writer = Writer::new(Vec::new(), &[], &specs).unwrap();
        floats.iter().for_each(|(_, _, values)| writer.put(bytemuck::cast_slice(values)).unwrap());
        writer.put(bytemuck::cast_slice(y.unwrap_or_default())).unwrap();
        std::fs::write(&path, writer.finish()).unwrap();
        path
    };
    let image = [BATCH, case.grid.channels, case.grid.height, case.grid.width];
    let mut nan = case.z.clone();
    nan[5] = f32::NAN;
    let z: Floats = ("z", &image, &case.z);
    let t: Floats = ("t", &[BATCH], &case.t);
    let lost: Floats = ("z", &image, &nan);
    let time = |t: &'static [f32; BATCH]| -> Floats<'static> { ("t", &[BATCH], t) };
    for (floats, y, parts) in [
        (vec![t], None, &["in.safetensors: has no tensor \"z\""][..]),
        (vec![z], None, &["in.safetensors: has no tensor \"t\""]),
        (vec![("z", &image[..3], &case.z[..BATCH * 16]), t], None, &["z has shape [3, 2, 8]; give (B, C, H, W)"]),
        (vec![("z", &[0, 2, 8, 16], &[]), t], None, &["z has shape [0, 2, 8, 16]; give (B, C, H, W), none of them 0"]),
        (vec![z, ("t", &[2], &case.t[..2])], None, &["tensor \"t\"", "[2]", "[3]"]),
        (vec![z, time(&[0.5, 1.5, 0.0])], None, &["t[1] is 1.5; give a time from 0 to 1"]),
        (vec![z, time(&[0.5, -0.1, 0.0])], None, &["t[1] is -0.1; give a time from 0 to 1"]),
        (vec![z, time(&[0.5, 0.5, f32::NAN])], None, &["value 2 of t is NaN; give finite numbers"]),
        (vec![lost, t], None, &["value 5 of z is NaN; give finite numbers"]),
        (vec![z, t], Some(&[0, 1][..]), &["y has 2 labels for 3 images; give one each"]),
        (vec![z, t], Some(&[0, 5, 1]), &["y[1] is 5; give 0 to 3, or 4 for no label"]),
        (vec![z, t], Some(&[0, 4, -1]), &["y[2] is -1; give 0 to 3, or 4 for no label"]),
        (vec![z, t, ("y", &[3], &case.t)], None, &["tensor \"y\" holds F32"]),
    ] {
        let given = tensors("in", &floats, y);
        refused(case.command(&given, "out"), 3, parts);
    }
    let given = tensors("good", &[z, t], None);
    for (floats, parts) in [
        (vec![z], &["has no tensor \"target\""][..]),
        (vec![("target", &image[..3], &case.z[..BATCH * 16])], &["tensor \"target\"", "[3, 2, 8]", "[3, 2, 8, 16]"]),
        (vec![("target", &image, &nan)], &["value 5 of target is NaN; give finite numbers"]),
    ] {
        let mut command = case.command(&given, "out");
        command.arg("--target").arg(tensors("target", &floats, None));
        refused(command, 3, parts);
    }
    let classless = Size::preset(PRESET).unwrap().config([2, 8, 16], 0, true);
    write_model(&case.path("classless"), &ParamStore::new(&case.device, Network::new(classless).1, 0).unwrap(), &[]);
    let mut command = case.predict(&case.path("classless"), &tensors("labels", &[z, t], Some(&[0, 1, 2])), "out");
    command.args(["--preset", PRESET, "--learn-sigma"]);
    refused(command, 3, &["has labels y, and the model has no classes"]);
    assert!(!case.path("out").exists());
}

#[test]
fn what_is_read_is_not_written_over() {
    let case = Case::new("over");
    succeed(case.run("good", &case.t, &case.target, "data-at-0"));
    let files = ["bare", "good-in", "good-target"].map(|name| case.path(name));
    let read = || files.each_ref().map(|path| std::fs::read(path).unwrap());
    let before = read();
    for (out, grads, expected) in [
        ("bare", "g", "bare.safetensors: is also --checkpoint; name another file"),
        ("good-in", "g", "good-in.safetensors: is also --inputs; name another file"),
        ("o", "good-target", "good-target.safetensors: is also --target; name another file"),
        ("o", "o", "o.safetensors: is also --out; name another file"),
    ] {
        let mut command = case.command(&files[1], out);
        // The same file under another name.
        let grads = case.folder.join(".").join(case.path(grads).file_name().unwrap());
        command.arg("--target").arg(&files[2]).arg("--grads").arg(grads);
        refused(command, 2, &[expected]);
    }
    assert!(read() == before && !case.path("o").exists() && !case.path("g").exists());
}

#[test]
fn flags_that_do_not_fit_are_refused_before_anything_is_written() {
    let case = Case::new("flags");
    succeed(case.run("good", &case.t, &case.target, "data-at-0"));
    let given = case.path("good-in");
    let with = |flags: &[&str]| {
        let mut command = case.predict(&case.path("bare"), &given, "out");
        command.args(flags);
        command
    };
    refused(
        with(&[]),
        3,
        &["bare.safetensors: its header does not say which model it is; say it by --preset, --classes"],
    );
    refused(with(&["--preset", "sit-s-3"]), 2, &["--preset sit-s-3: there is no such preset; did you mean sit-s-2? "]);
    let mut other = Command::new(env!("CARGO_BIN_EXE_engine"));
    other.args(["predict", "--checkpoint", "x", "--inputs", "y", "--out", "p.npy"]);
    refused(other, 2, &["--out p.npy: name a .safetensors file"]);
    let check = "; check --preset, --classes, --learn-sigma and the shape of z or --image";
    refused(with(&["--preset", "sit-s-8"]), 3, &["bare.safetensors", "[128, 256]", "[384, 256]", check]);
    refused(with(&["--preset", PRESET, "--classes", "4"]), 3, &["tensor \"final_layer", check]);
    let taller = case.path("taller-in");
    write_f32(&taller, &[], &[("z", &[1, 2, 16, 16], &[0.5; 512]), ("t", &[1], &[0.5])]).unwrap();
    refused(case.command(&taller, "out"), 3, &["tensor \"pos_embed\" has shape", check]);
    refused(
        with(&["--preset", "sit-xs-8", "--learn-sigma"]),
        3,
        &["its tensor \"y_embedder.embedding_table.weight\" is no part of this model; check --preset, --classes"],
    );
    refused(
        with(&["--preset", "sit-xs-2", "--classes", "99999999"]),
        2,
        &["invalid value '99999999' for '--classes <CLASSES>': give a whole number from 0 to 1048575"],
    );
    for flag in [&["--classes", "4"][..], &["--learn-sigma"], &["--time", "data-at-1"]] {
        refused(with(flag), 2, &["--preset <PRESET>"]);
    }
    refused(with(&["--grads", "g.safetensors"]), 2, &["--target <T>"]);
    refused(with(&["--time", "data-at-2"]), 2, &["data-at-0, data-at-1"]);
    let mut command = with(&["--grads", "absent/g.safetensors", "--target"]);
    command.arg(case.path("good-target"));
    refused(command, 2, &["--grads absent/g.safetensors: its folder does not exist"]);
    refused(case.predict(&case.path("bare"), &given, "absent/out"), 2, &["--out ", "its folder does not exist"]);
    refused(
        case.predict(&case.path("absent"), &given, "out"),
        3,
        &["absent.safetensors: no such run, checkpoint or file"],
    );
    refused(case.predict(&case.path("bare"), &case.path("absent"), "out"), 3, &["absent.safetensors: no such file"]);

    let itself = serde_json::to_string(&Model::new(case.network.config, DiffusionPath::Linear, Prediction::V)).unwrap();
    write_model(&case.path("itself"), &case.store, &[("engine.model", &itself)]);
    let ask = |flags: &[&str]| {
        let mut command = case.predict(&case.path("itself"), &given, "out");
        command.args(flags);
        command
    };
    refused(ask(&["--preset", PRESET]), 2, &["itself.safetensors: says itself which model it is; leave out --preset"]);
    let other = case.path("other-in");
    let image = [1, case.grid.channels, 16, 16];
    write_f32(&other, &[], &[("z", &image, &[0.5; 512]), ("t", &[1], &[0.5])]).unwrap();
    let parts = ["z holds images of [2, 16, 16], the model is for [2, 8, 16]; give such images"];
    refused(case.predict(&case.path("itself"), &other, "out"), 3, &parts);
    assert!(!case.path("out").exists());
    let said = succeed(ask(&[]));
    assert!(said.contains("out.safetensors: prediction [3, 2, 8, 16] from ") && !said.contains("loss"), "{said}");
    assert_eq!(read(&case.path("out"), "prediction"), read(&case.path("good-out"), "prediction"));
}
