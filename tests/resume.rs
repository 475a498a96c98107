//! A run continues bit for bit, whatever ended it and whatever happened to its last checkpoint.

#[path = "common/runs.rs"]
mod runs;

use engine::base::{DType, Error, Prediction};
use engine::device::{Cpu, Device};
use engine::train::Stop;
use engine::train::checkpoint::{Checkpoints, State, Weights, open};
use runs::{RECIPE, Scratch, contents, losses};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::num::NonZero;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

fn device(threads: usize) -> Device {
    multiplying_in(DType::F32, threads)
}

fn multiplying_in(products: DType, threads: usize) -> Device {
    Device::cpu(Cpu::new(NonZero::new(threads), products).unwrap().poisoned())
}

/// Trains the run at `out` to its end, or from where it stands.
fn train(store: &Path, out: &Path, threads: usize, sets: &[&str]) -> Result<(), Error> {
    train_until(&Stop::default(), store, out, threads, sets)
}

fn train_until(stop: &Stop, store: &Path, out: &Path, threads: usize, sets: &[&str]) -> Result<(), Error> {
    runs::train(|products| multiplying_in(products, threads), stop, store, out, sets)
}

/// Copies a folder and all in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_resumed_run_is_bit_equal_to_one_that_never_stopped() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let whole = scratch.path("whole");
    train(&store, &whole, 1, &[]).unwrap();
    assert_eq!(contents(&whole, 10).len(), 6, "{:?}", contents(&whole, 10).keys());
    for split in 1..10 {
        for threads in [1, 2] {
            let out = scratch.path(&format!("{split}-{threads}"));
            copy(&whole, &out);
            for later in split + 1..=10 {
                fs::remove_dir_all(out.join(format!("checkpoints/step_{later:08}"))).unwrap();
            }
            train(&store, &out, threads, &[]).unwrap();
            for step in [split + 1, 10] {
                assert!(
                    contents(&out, step) == contents(&whole, step),
                    "split {split}, {threads} threads, step {step}"
                );
            }
            assert_eq!(losses(&out), losses(&whole), "split {split}, {threads} threads");
        }
    }
}

#[test]
fn a_run_that_was_asked_to_stop_has_the_held_out_losses_of_one_that_was_not() {
    let scratch = Scratch::new();
    let (store, whole, halves) = (scratch.store(), scratch.path("whole"), scratch.path("halves"));
    train(&store, &whole, 1, &[]).unwrap();
    let asked = Stop::default();
    asked.request();
    // Stopped after its first step, then before the loss that this step lacks.
    for _ in 0..2 {
        let stopped = train_until(&asked, &store, &halves, 1, &[]).unwrap_err();
        assert!(matches!(stopped, Error::Stopped(_)), "{stopped}");
        assert_eq!(newest(&halves).0.unwrap().map(|state| state.step), Some(1));
        assert_eq!(losses(&halves), losses(&whole)[..1]);
    }
    train(&store, &halves, 1, &[]).unwrap();
    assert_eq!(losses(&halves), losses(&whole));
    // A step that becomes the last is given its loss, once.
    let shorter = scratch.path("shorter");
    train_until(&asked, &store, &shorter, 1, &["checkpoint.every=5"]).unwrap_err();
    for _ in 0..2 {
        train(&store, &shorter, 1, &["checkpoint.every=5", "train.steps=1", "optimizer.decay_steps=10"]).unwrap();
        assert_eq!(losses(&shorter), losses(&whole)[..2]);
    }
}

#[test]
fn a_resumed_run_with_products_in_bf16_is_bit_equal_to_one_that_never_stopped() {
    let scratch = Scratch::new();
    let (store, whole, split) = (scratch.store(), scratch.path("whole"), scratch.path("split"));
    const BF16: &str = "train.precision=bf16";
    let constant = "optimizer.decay=constant";
    train(&store, &whole, 2, &[BF16, constant]).unwrap();
    for steps in [4, 10] {
        train(&store, &split, 1, &[BF16, constant, &format!("train.steps={steps}")]).unwrap();
    }
    assert!(contents(&whole, 10) == contents(&split, 10));
    assert_eq!(losses(&whole), losses(&split));
    let plain = scratch.path("plain");
    train(&store, &plain, 1, &[constant]).unwrap();
    assert!(losses(&plain) != losses(&whole), "the products were those of f32");
}

#[test]
fn a_run_that_learns_noise_in_a_thousand_steps_resumes_bit_for_bit_and_draws() {
    let scratch = Scratch::new();
    let (store, whole, split) = (scratch.store(), scratch.path("whole"), scratch.path("split"));
    let sets = [
        "diffusion.path=ddpm-linear",
        "diffusion.prediction=eps",
        "optimizer.decay=constant",
        "sample.every=10",
        "sample.count=4",
        "sample.steps=5",
        "sample.sampler=ddim:1",
        "sample.bound=1",
    ];
    train(&store, &whole, 2, &sets).unwrap();
    for steps in ["train.steps=4", "train.steps=10"] {
        train(&store, &split, 1, &[&sets[..], &[steps]].concat()).unwrap();
    }
    assert!(contents(&whole, 10)["model.safetensors"] == contents(&split, 10)["model.safetensors"]);
    assert_eq!(losses(&whole), losses(&split));
    let picture = |out: &Path| fs::read(out.join("samples/step_00000010.png")).unwrap();
    assert!(picture(&whole) == picture(&split));
    let opened = open(&device(1), &whole, Weights::Sampled, None, |text| panic!("{text}")).unwrap();
    assert_eq!((opened.model.path, opened.model.prediction), (engine::base::Path::DdpmLinear, Prediction::Eps));
}

#[test]
fn a_longer_run_is_the_same_as_one_that_was_meant_to_be_long() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let (long, grown) = (scratch.path("long"), scratch.path("grown"));
    train(&store, &long, 2, &["optimizer.decay=constant"]).unwrap();
    for steps in [1, 4, 7, 10] {
        train(&store, &grown, 1, &["optimizer.decay=constant", &format!("train.steps={steps}")]).unwrap();
    }
    assert!(contents(&long, 10) == contents(&grown, 10));
}

#[test]
fn the_held_out_loss_does_not_depend_on_the_batch() {
    let scratch = Scratch::new();
    // At learning rate 0 the model is its initial one, whatever it was trained on.
    let loss = |batch: usize| -> f64 {
        let out = scratch.path(&format!("{batch}"));
        let sets = ["optimizer.lr=0.0", "train.steps=1", &format!("train.batch_size={batch}")];
        train(&scratch.store(), &out, 1, &sets).unwrap();
        let text = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        line["held_out_loss"].as_f64().unwrap()
    };
    // Of 40 rows 4 are held out. The mean of a batch is rounded to f32.
    let one = loss(1);
    for batch in [2, 3, 4, 5, 64] {
        assert!((loss(batch) / one - 1.0).abs() < 4.0 * f64::from(f32::EPSILON), "batch {batch}: {one}");
    }
}

#[test]
fn a_run_is_saved_by_the_clock_too_which_evicts_no_checkpoint_that_was_due() {
    let scratch = Scratch::new();
    let (store, whole, timed) = (scratch.store(), scratch.path("whole"), scratch.path("timed"));
    train(&store, &whole, 1, &["checkpoint.every=10", "checkpoint.minutes=0"]).unwrap();
    train(&store, &timed, 1, &["checkpoint.every=5", "checkpoint.keep=2", "checkpoint.minutes=1e-9"]).unwrap();
    let saved = |out: &Path| -> Vec<u64> {
        let events = runs::said(out).into_iter().filter(|event| event["event"] == "saved");
        events.map(|event| event["step"].as_u64().unwrap()).collect()
    };
    assert_eq!((saved(&whole), saved(&timed)), (vec![10], (1..=10).collect()));
    let steps = |out: &Path| -> Vec<u64> { (1..=10).filter(|step| !tensors(out, *step).is_empty()).collect() };
    assert_eq!((steps(&whole), steps(&timed)), (vec![10], vec![5, 10]));
    assert!(tensors(&timed, 10) == tensors(&whole, 10));
    // A held-out loss takes time, and so comes at steps that were asked for alone.
    let at_every_step = scratch.path("at_every_step");
    train(&store, &at_every_step, 1, &["checkpoint.every=10", "checkpoint.minutes=1e-9"]).unwrap();
    assert!(tensors(&at_every_step, 10) == tensors(&whole, 10));
    assert_eq!(losses(&at_every_step), losses(&whole));
}

#[test]
fn a_damaged_checkpoint_goes_before_the_good_one_that_was_gone_back_to() {
    let scratch = Scratch::new();
    let (store, out) = (scratch.store(), scratch.path("run"));
    let sets = |steps| [steps, "checkpoint.every=4", "checkpoint.keep=2"];
    train(&store, &out, 1, &sets("train.steps=10")).unwrap();
    let weights = out.join("checkpoints/step_00000010/model.safetensors");
    fs::File::options().write(true).open(weights).unwrap().set_len(100).unwrap();
    train(&store, &out, 1, &sets("train.steps=11")).unwrap();
    let left: Vec<u64> = (1..=11).filter(|step| !tensors(&out, *step).is_empty()).collect();
    assert_eq!(left, [8, 11]);
}

/// The tensors of a checkpoint, if there is one: all but the keys that it was saved under.
fn tensors(out: &Path, step: u64) -> Vec<Vec<u8>> {
    let there = out.join(format!("checkpoints/step_{step:08}")).exists();
    let files = if there { contents(out, step) } else { BTreeMap::new() };
    files.into_iter().filter_map(|(name, bytes)| name.ends_with(".safetensors").then_some(bytes)).collect()
}

#[test]
fn only_the_checkpoints_asked_for_stay() {
    let scratch = Scratch::new();
    let (store, out) = (scratch.store(), scratch.path("run"));
    fs::create_dir_all(out.join("checkpoints/.stray-step_00000003")).unwrap();
    train(&store, &out, 1, &["checkpoint.every=3", "checkpoint.keep=2"]).unwrap();
    let mut left: Vec<_> = fs::read_dir(out.join("checkpoints")).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["step_00000009", "step_00000010"]);
}

/// What a resumption finds: its step, or the error; and what it was warned of.
fn newest(out: &Path) -> (Result<Option<State>, Error>, Vec<String>) {
    let mut warnings = vec![];
    let found = Checkpoints::of(out).newest(|text| warnings.push(text));
    (found.map(|found| found.map(|(_, state)| state)), warnings)
}

#[test]
fn every_kind_of_damage_is_found_and_the_checkpoint_before_it_is_taken() {
    let scratch = Scratch::new();
    let (store, out) = (scratch.store(), scratch.path("run"));
    train(&store, &out, 1, &["train.steps=2"]).unwrap();
    let folder = out.join("checkpoints/step_00000002");
    let falls_back = |name: &str, how: &str| {
        let (found, warnings) = newest(&out);
        assert_eq!(found.unwrap().map(|state| state.step), Some(1), "{name}: {how}");
        assert!(warnings.len() == 1 && warnings[0].contains("step_00000002"), "{name}: {how}: {warnings:?}");
        assert!(warnings[0].contains("falling back"), "{name}: {how}: {warnings:?}");
    };
    for (name, bytes) in contents(&out, 2) {
        let path = folder.join(&name);
        fs::remove_file(&path).unwrap();
        falls_back(&name, "missing");
        let lengths = [0, 1, 7, 8, 9, bytes.len() / 2, bytes.len() - 1];
        for length in lengths {
            fs::write(&path, &bytes[..length]).unwrap();
            falls_back(&name, &format!("cut to {length}"));
        }
        fs::write(&path, [&bytes[..], b"\n"].concat()).unwrap();
        falls_back(&name, "longer");
        // All of the manifest, which no digest covers; of the others, which are covered, a sample.
        let all = name == "MANIFEST.json";
        for bit in (0..8 * bytes.len()).step_by(if all { 1 } else { 8 * bytes.len() / 40 + 3 }) {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, damaged).unwrap();
            falls_back(&name, &format!("bit {bit} flipped"));
        }
        fs::write(&path, &bytes).unwrap();
        assert_eq!(newest(&out).0.unwrap().map(|state| state.step), Some(2));
    }
}

#[test]
fn a_checkpoint_that_cannot_be_read_is_neither_passed_over_nor_removed() {
    let scratch = Scratch::new();
    let (store, out) = (scratch.store(), scratch.path("run"));
    train(&store, &out, 1, &[]).unwrap();
    for name in ["MANIFEST.json", "model.safetensors"] {
        let newest = out.join("checkpoints/step_00000010");
        let (path, aside) = (newest.join(name), scratch.path("aside"));
        fs::rename(&path, &aside).unwrap();
        // A link to itself cannot be opened, by nobody.
        std::os::unix::fs::symlink(&path, &path).unwrap();
        let message = train(&store, &out, 1, &["checkpoint.keep=1"]).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains("it may be whole"), "{message}");
        fs::remove_file(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
    }
    train(&store, &out, 1, &[]).unwrap();
}

#[test]
fn a_file_of_a_checkpoint_is_held_to_its_manifest() {
    let scratch = Scratch::new();
    let (store, out) = (scratch.store(), scratch.path("run"));
    train(&store, &out, 1, &["train.steps=1"]).unwrap();
    let file = out.join("checkpoints/step_00000001/model.safetensors");
    let open = || open(&device(1), &file, Weights::Sampled, None, |_| {}).map(drop);
    open().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    assert!(open().unwrap_err().to_string().contains("model.safetensors: has digest "));
}

#[test]
fn a_run_that_fell_back_replaces_what_was_damaged() {
    let scratch = Scratch::new();
    let (store, out) = (scratch.store(), scratch.path("run"));
    train(&store, &out, 1, &[]).unwrap();
    let whole = contents(&out, 10);
    for step in [9, 10] {
        fs::write(out.join(format!("checkpoints/step_{step:08}/model.safetensors")), "x").unwrap();
    }
    train(&store, &out, 1, &[]).unwrap();
    assert!(contents(&out, 10) == whole);
    // One that is not written again goes when the next is saved.
    fs::write(out.join("checkpoints/step_00000010/model.safetensors"), "x").unwrap();
    fs::remove_dir_all(out.join("checkpoints/step_00000009")).unwrap();
    train(&store, &out, 1, &["checkpoint.keep=3", "train.steps=9"]).unwrap();
    let mut left: Vec<_> = fs::read_dir(out.join("checkpoints")).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["step_00000007", "step_00000008", "step_00000009"]);
}

#[test]
fn a_run_without_a_valid_checkpoint_is_refused() {
    let scratch = Scratch::new();
    let (store, out) = (scratch.store(), scratch.path("run"));
    train(&store, &out, 1, &["train.steps=2", "checkpoint.keep=1"]).unwrap();
    fs::remove_file(out.join("checkpoints/step_00000002/MANIFEST.json")).unwrap();
    let error = train(&store, &out, 1, &["train.steps=2", "checkpoint.keep=1"]).unwrap_err();
    let message = error.to_string();
    assert_eq!(error.exit_code(), 4, "{message}");
    assert!(message.contains("MANIFEST.json: is missing; the checkpoint is damaged; no other checkpoint"), "{message}");
}

#[test]
fn a_checkpoint_opens_as_the_model_it_says_it_is() {
    let scratch = Scratch::new();
    let (store, out) = (scratch.store(), scratch.path("run"));
    train(&store, &out, 1, &[]).unwrap();
    let folder = out.join("checkpoints/step_00000010");
    let weights = |path: &Path, which| {
        let opened = open(&device(1), path, which, None, |text| panic!("{text}")).unwrap();
        assert_eq!(opened.model.network.classes, 2);
        let name = opened.file.file_name().unwrap().to_string_lossy().into_owned();
        (name, opened.params.weights.flat(opened.params.weights.count()).to_vec())
    };
    let ema = weights(&out, Weights::Sampled);
    let model = weights(&folder, Weights::Trained);
    assert_eq!((ema.0.as_str(), model.0.as_str()), ("ema.safetensors", "model.safetensors"));
    assert!(ema.1 != model.1);
    assert!(weights(&folder.join("ema.safetensors"), Weights::Trained).1 == ema.1);
    let further = weights(&folder.join("ema-0.99.safetensors"), Weights::Trained);
    assert!(further.1 != ema.1 && further.1 != model.1);
}

/// The binary on a run that is long enough to be killed.
fn engine(store: &Path, out: &Path, recipe: &Path, steps: u64) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
    command.arg("train").arg(recipe).arg("--data").arg(store).arg("--out").arg(out);
    command.args(["--steps", &steps.to_string(), "--threads", "1", "--json"]);
    command.args(["--set", "checkpoint.every=2", "--set", "checkpoint.keep=2", "--set", "optimizer.decay=constant"]);
    command
}

/// Kills a run at `kills` moments and continues it; nothing that was said to be saved may be lost, and the end is that of
/// a run that was never killed.
fn kill(kills: u32) {
    let scratch = Scratch::new();
    let (store, out, recipe) = (scratch.store(), scratch.path("run"), scratch.path("recipe.toml"));
    fs::write(&recipe, RECIPE).unwrap();
    let mut saved = 0;
    for i in 0..kills {
        let mut child = engine(&store, &out, &recipe, 1_000_000).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (tell, told) = channel();
        let reader = std::thread::spawn(move || {
            let saved = |line: &str| {
                let event: serde_json::Value = serde_json::from_str(line).ok()?;
                (event["event"] == "saved").then(|| event["step"].as_u64())?
            };
            let saves = lines.map_while(Result::ok).filter_map(|line| saved(&line));
            saves.inspect(|&step| tell.send(step).unwrap_or(())).last()
        });
        if i % 2 == 0 {
            // While it writes: dozens of checkpoints come after the first.
            told.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        // While it starts, otherwise.
        std::thread::sleep(Duration::from_micros(u64::from(i.wrapping_mul(2_654_435_761) >> 12) % 50_000));
        child.kill().unwrap();
        child.wait().unwrap();
        saved = reader.join().unwrap().unwrap_or(saved).max(saved);
        let (found, warnings) = newest(&out);
        let found = found.unwrap().map_or(0, |state| state.step);
        assert!(found >= saved, "kill {i}: step {saved} was saved, {found} is found: {warnings:?}");
        assert!(warnings.is_empty(), "kill {i}: {warnings:?}");
        saved = found;
    }
    assert!(saved > u64::from(kills), "the kills hit a run that moves, not only its start");
    let end = saved + 3;
    assert!(engine(&store, &out, &recipe, end).stdout(Stdio::null()).status().unwrap().success());
    let whole = scratch.path("whole");
    assert!(engine(&store, &whole, &recipe, end).stdout(Stdio::null()).status().unwrap().success());
    let weights = |out: &Path| {
        let mut files = contents(out, end);
        files.retain(|name, _| name.ends_with("safetensors"));
        files
    };
    assert!(weights(&out) == weights(&whole), "after {kills} kills and {end} steps");
    assert_eq!(losses(&out), losses(&whole));
}

#[test]
fn a_run_that_is_killed_200_times_loses_nothing_that_was_saved() {
    kill(200);
}
