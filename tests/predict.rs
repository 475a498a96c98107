//! `engine predict` against the library, and its two directions of time against each other.

mod common;

use engine::base::{Accumulate, DType, PatchGrid};
use engine::data::tensors::{TensorFile, write_f32};
use engine::device::{Cpu, Device};
use engine::diffusion::predict;
use engine::nn::ParamStore;
use engine::nn::sit::{Sit, SitConfig, SitSize};
use engine::ops::masked_loss::Target;
use engine::tape::{Keep, Tape};
use engine::tensor::Tensor;
use std::path::{Path, PathBuf};
use std::process::Command;

const PRESET: &str = "sit-xs-8";
const BATCH: usize = 3;
const CLASSES: usize = 4;

/// A preset with random weights, its bare file, and inputs for it, in a folder of their own.
struct Case {
    folder: PathBuf,
    device: Device,
    sit: Sit,
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
        let SitSize { depth, width, heads, patch } = SitSize::preset(PRESET).unwrap();
        let grid = PatchGrid { channels: 2, height: 8, width: 16, patch };
        let (sit, list) = Sit::new(SitConfig { grid, depth, width, heads, classes: CLASSES, learn_sigma: true });
        let mut store = ParamStore::new(&device, list, 0).unwrap();
        for i in 0..store.list.trained() {
            let part = store.weights.part_mut(i).f32_mut();
            let values = common::normals(i as u32, part.len(), 0.05);
            part.copy_from_slice(&values);
        }
        let pieces = store.list.pieces(store.list.iter().count());
        let tensors: Vec<(&str, &[usize], &[f32])> =
            pieces.map(|(p, i, range)| (&*p.name, &*p.shape, &store.weights.part(i).f32()[range])).collect();
        write_f32(&folder.join("bare.safetensors"), &[], &tensors).unwrap();
        let z = common::normals(70, BATCH * grid.image(), 1.0);
        let target = common::normals(71, BATCH * grid.image(), 1.0);
        Case { folder, device, sit, store, z, t: vec![0.1, 0.5, 0.875], target, grid }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.safetensors"))
    }

    /// Runs the binary on inputs with times `t` and the target; the names of what it writes start with `out`.
    fn run(&self, out: &str, t: &[f32], target: &[f32], time: &str) -> Command {
        let image = [BATCH, self.grid.channels, self.grid.height, self.grid.width];
        let given = self.path(&format!("{out}-in"));
        write_f32(&given, &[], &[("z", &image, &self.z), ("t", &[t.len()], t)]).unwrap();
        let wanted = self.path(&format!("{out}-target"));
        write_f32(&wanted, &[], &[("target", &image, target)]).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
        command.args(["predict", "--preset", PRESET, "--learn-sigma", "--time", time]);
        command.arg("--classes").arg(CLASSES.to_string());
        command.arg("--checkpoint").arg(self.path("bare")).arg("--inputs").arg(given);
        command.arg("--out").arg(self.path(&format!("{out}-out"))).arg("--target").arg(wanted);
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

fn read(path: &Path, name: &str) -> Vec<f32> {
    let file = TensorFile::open(path).unwrap();
    let entry = file.entry(name).unwrap();
    let shape = entry.shape.clone();
    let mut values = vec![0.0; shape.iter().product()];
    file.read_f32(name, &shape, &mut values).unwrap();
    values
}

fn succeed(mut command: Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_binary_predicts_what_the_library_predicts() {
    let case = Case::new("library");
    succeed(case.run("a", &case.t, &case.target, "data-at-0"));
    let image = [BATCH, case.grid.channels, case.grid.height, case.grid.width];
    let (z, t) = (case.tensor(&image, &case.z), case.tensor(&[BATCH], &case.t));
    // Without labels in the inputs no image has one.
    let y = Tensor::from_slice(&case.device, "test", [BATCH], &[CLASSES as u32; BATCH]);
    let ours = predict(&case.device, &case.sit, &case.store.weights, &z, &t, &y);
    assert_eq!(read(&case.path("a-out"), "prediction"), ours.f32());

    let mut grads = case.store.zeros(&case.device, "test").unwrap();
    let mut tape = Tape::training(&case.device, &case.store.weights, &mut grads, Accumulate::Set, Keep::BlockOutputs);
    let v = case.sit.forward(&mut tape, &z, &t, &y, None);
    let (values, count) = (case.tensor(&image, &case.target), case.tensor(&[1], &[case.target.len() as f32]));
    let target = Target { values: &values, mask: None, kept: None, count: &count, grid: case.grid };
    let loss = tape.masked_loss(v, target).f32()[0];
    tape.backward();
    assert_eq!(read(&case.path("a-out"), "loss"), [loss]);
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

#[test]
fn inputs_that_do_not_fit_are_refused_with_what_was_given_and_wanted() {
    let case = Case::new("refused");
    let fails = |mut command: Command, code: i32, parts: &[&str]| {
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    };
    fails(case.run("short", &case.t[..2], &case.target, "data-at-0"), 3, &["tensor \"t\"", "[2]", "[3]"]);
    fails(case.run("late", &[0.5, 1.5, 0.0], &case.target, "data-at-0"), 3, &["t[1] is 1.5; give a time from 0 to 1"]);
    fails(case.run("nan", &[0.5, 0.5, f32::NAN], &case.target, "data-at-0"), 3, &["t[2] is NaN"]);
    let bare = |preset: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
        command.arg("predict").arg("--checkpoint").arg(case.path("bare")).arg("--inputs").arg(case.path("short-in"));
        command.arg("--out").arg(case.path("x")).args(preset);
        command
    };
    fails(bare(&[]), 3, &["does not say which model", "--preset"]);
    fails(bare(&["--preset", "sit-s-3"]), 2, &["--preset sit-s-3: no such preset", "sit-s-2"]);
    fails(bare(&["--preset", "sit-s-2"]), 3, &["bare.safetensors", "[128, 256]", "[384, 256]"]);
}
