//! Runs of several stages, and runs that begin with the weights of others.

mod common;
#[path = "common/runs.rs"]
mod runs;

use common::cards;
use engine::base::{DType, Error};
use engine::data::ingest::ingest;
use engine::data::{Split, Store};
use engine::device::{Cpu, Device};
use engine::train::checkpoint::{Weights, open};
use engine::train::recipe::Change;
use engine::train::{Plan, Recipe, Run, Stop};
use runs::{RECIPE, Scratch, contents, losses, said};
use serde_json::{Value, json};
use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};

/// Steps of the first stage, and of all.
const BORDER: u64 = 6;
const END: u64 = 10;

/// Two stages that differ in all that a stage may: batch, mask, averages, learning rate.
const STAGES: &str = r#"
[[stage]]
train.steps = 6
train.ema = [0.5, 0.9]
mask.drop = 0.5
mask.ramp = 3
mask.drop_end = 0.25
[[stage]]
train.steps = 4
train.batch_size = 5
train.ema = [0.25]
mask.drop = 0.0
optimizer.lr = 0.002
optimizer.warmup = 0
"#;

fn staged() -> String {
    RECIPE.replace("steps = 10\n", "") + STAGES
}

fn processor(threads: usize) -> impl FnOnce(DType) -> Device {
    move |products| Device::cpu(Cpu::new(NonZero::new(threads), products).unwrap().poisoned())
}

fn train(recipe: &str, store: &Path, out: &Path, threads: usize, sets: &[&str]) -> Result<(), Error> {
    runs::follow(recipe, processor(threads), &Stop::default(), store, out, sets)
}

/// The values of a checkpoint's file, or of any other of tensors.
fn weights(path: &Path) -> Vec<f32> {
    let opened = open(&processor(1)(DType::F32), path, Weights::Trained, None, |text| panic!("{text}")).unwrap();
    opened.params.weights.flat(opened.params.weights.count()).to_vec()
}

fn file(out: &Path, step: u64, name: &str) -> PathBuf {
    out.join(format!("checkpoints/step_{step:08}/{name}"))
}

fn refused(result: Result<(), Error>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_staged_run_is_bit_equal_wherever_it_stopped() {
    let scratch = Scratch::new();
    let (store, recipe, whole) = (scratch.store(), staged(), scratch.path("whole"));
    // The cosine of a last stage would follow train.steps, with which the run is stopped here.
    let constant = "stage.2.optimizer.decay=constant";
    train(&recipe, &store, &whole, 1, &[constant]).unwrap();
    assert_eq!(contents(&whole, BORDER).len(), 6, "two averages: {:?}", contents(&whole, BORDER).keys());
    assert_eq!(contents(&whole, END).len(), 5, "one average: {:?}", contents(&whole, END).keys());
    // Of a run that is saved at every step, and of one that is saved at the border and the end alone.
    for (every, stops) in [(1, (1..END).collect::<Vec<_>>()), (100, vec![BORDER])] {
        for stop in stops {
            let out = scratch.path(&format!("{every}-{stop}"));
            let every = format!("checkpoint.every={every}");
            train(&recipe, &store, &out, 2, &[constant, &every, &format!("train.steps={stop}")]).unwrap();
            train(&recipe, &store, &out, 1, &[constant, &every]).unwrap();
            for name in ["model", "ema", "optimizer"].map(|name| format!("{name}.safetensors")) {
                assert!(contents(&out, END)[&name] == contents(&whole, END)[&name], "stopped at {stop}: {name}");
            }
            let steps = |out: &Path| losses(out).into_iter().filter(|line| line.contains("norm")).collect::<Vec<_>>();
            assert_eq!(steps(&out), steps(&whole), "stopped at {stop}");
        }
    }
}

#[test]
fn rows_that_are_held_out_change_no_weight_and_the_held_out_loss_alone() {
    let scratch = Scratch::new();
    let held_out = Split::of(40).held_out;
    let run = |name: &str, pixel: fn(usize) -> u8| {
        let mut pixels: Vec<u8> = (0..40 * 64).map(|i| (i * 37 % 251) as u8).collect();
        // Without labels rows stay in the order of their file.
        for &row in &held_out {
            (0..64).for_each(|i| pixels[row as usize * 64 + i] = pixel(i));
        }
        let (store, out) = (scratch.path(&format!("{name}.store")), scratch.path(name));
        ingest(&scratch.idx(name, &[40, 8, 8], pixels), None, &store, &mut |_, _| {}).unwrap();
        let out = out.with_extension("run");
        // Of 36 rows the two stages see 6 x 3 and 4 x 5.
        train(&staged(), &store, &out, 1, &[]).unwrap();
        let (held_out, steps): (Vec<_>, Vec<_>) = losses(&out).into_iter().partition(|line| line.contains("held_out"));
        assert_eq!((held_out.is_empty(), steps.len() as u64), (false, END));
        let weights =
            ["model", "ema", "optimizer"].map(|file| contents(&out, END)[&format!("{file}.safetensors")].clone());
        (weights, steps, held_out)
    };
    let (black, chequered) = (run("black", |_| 0), run("chequered", |i| if i % 2 == 0 { 255 } else { 0 }));
    assert!(black.0 == chequered.0, "the weights have seen rows that are held out");
    assert_eq!(black.1, chequered.1);
    assert!(black.2.iter().zip(&chequered.2).all(|(a, b)| a != b), "{:?}", black.2);
}

#[test]
fn each_stage_has_its_own_batch_mask_rate_and_averages_and_progress_tells_which_it_is() {
    let scratch = Scratch::new();
    let (store, out) = (scratch.store(), scratch.path("run"));
    train(&staged(), &store, &out, 1, &[]).unwrap();
    let events = said(&out);
    let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).cloned().collect::<Vec<Value>>();
    let stages = of("stage");
    assert_eq!(stages.len(), 2, "{stages:?}");
    assert_eq!(
        [&stages[1]["step"], &stages[1]["stage"], &stages[1]["batch"], &stages[1]["tokens"], &stages[1]["end"]],
        [&json!(BORDER), &json!([2, 2]), &json!(5), &json!([16, 16]), &json!(END)]
    );
    // The first and the last step of a stage are always told.
    let steps = of("step");
    let told = |step: u64| steps.iter().find(|event| event["step"] == step).unwrap();
    assert_eq!([&told(1)["tokens"], &told(1)["stage"]], [&json!([8, 16]), &json!([1, 2])]);
    assert_eq!([&told(BORDER + 1)["tokens"], &told(BORDER + 1)["stage"]], [&json!([16, 16]), &json!([2, 2])]);
    let rates: Vec<f64> = losses(&out)
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(&format!("{line}}}")).ok()?["lr"].as_f64())
        .collect();
    assert_eq!(rates.len() as u64, END);
    // A warm-up of three steps and a cosine to the end of the stage; then another cosine from its peak.
    assert!((rates[2] / 0.01 - 1.0).abs() < 1e-6 && rates[5] < 0.01 && rates[5] > 0.0, "{rates:?}");
    assert!((rates[6] / 0.002 - 1.0).abs() < 1e-6 && rates[9] < rates[6], "{rates:?}");
}

#[test]
fn a_stage_begins_with_the_average_of_the_one_before_it_unless_that_lags() {
    let scratch = Scratch::new();
    let store = scratch.store();
    for (decay, name) in [("0.5", "ema"), ("0.9", "model")] {
        let out = scratch.path(name);
        // At learning rate 0 nothing moves but the averages, and they are where the weights are.
        let sets = [&format!("stage.1.train.ema=[{decay}]"), "stage.2.optimizer.lr=0.0", "optimizer.weight_decay=0.0"];
        train(&staged(), &store, &out, 1, &sets).unwrap();
        let begun = weights(&file(&out, BORDER, &format!("{name}.safetensors")));
        for name in ["model.safetensors", "ema.safetensors"] {
            assert!(weights(&file(&out, END, name)) == begun, "{decay}: {name}");
        }
        let state: Value = serde_json::from_slice(&contents(&out, END)["state.json"]).unwrap();
        assert_eq!(state["applied"], END - BORDER, "updates count from the border on");
    }
}

#[test]
fn a_staged_run_crosses_its_border_on_a_card_as_on_the_processor() {
    let steps = ["diffusion.path=ddpm-cosine", "diffusion.prediction=eps"];
    for (process, more) in [("linear", &[][..]), ("steps", &steps)] {
        let scratch = Scratch::new();
        let (store, truth) = (scratch.store(), scratch.path("truth"));
        let sets = [&["checkpoint.every=100", "train.precision=f32"], more].concat();
        train(&staged(), &store, &truth, 1, &sets).unwrap();
        let loss = |out: &Path| -> Vec<f64> {
            let line = |line: &String| serde_json::from_str::<Value>(&format!("{line}}}")).ok()?["loss"].as_f64();
            losses(out).iter().filter_map(line).collect()
        };
        for (name, device) in cards(DType::F32) {
            let [whole, halves] = ["whole", "halves"].map(|part| scratch.path(&format!("{name}-{part}")));
            let go = |out: &Path, more: &[&str]| {
                let sets = [&sets[..], more].concat();
                runs::follow(&staged(), |_| device.clone(), &Stop::default(), &store, out, &sets).unwrap();
            };
            go(&whole, &[]);
            go(&halves, &["train.steps=6"]);
            go(&halves, &[]);
            let [a, b] = [&whole, &halves].map(|out| contents(out, END).remove("model.safetensors"));
            assert!(a == b, "{name}, {process}");
            let (ours, theirs) = (loss(&whole), loss(&truth));
            assert_eq!(ours.len() as u64, END);
            // Roundings of ten small steps, as tests/cards.rs bounds them.
            let error = ours.iter().zip(&theirs).map(|(a, b)| (a / b - 1.0).abs()).fold(0.0, f64::max);
            assert!(error < 16.0 * f64::from(f32::EPSILON), "{name}, {process}: losses differ by {error:e}");
        }
    }
}

#[test]
fn a_run_of_other_stages_is_refused() {
    let scratch = Scratch::new();
    let (store, out) = (scratch.store(), scratch.path("run"));
    train(&staged(), &store, &out, 1, &["train.steps=2"]).unwrap();
    let message = refused(train(&staged(), &store, &out, 1, &["stage.2.train.batch_size=4"]));
    assert!(message.contains("holds a run with stage.2.train.batch_size = 5; this one has stage.2"), "{message}");
    let message = refused(train(RECIPE, &store, &out, 1, &[]));
    assert!(
        message.ends_with("holds a run of 2 stages; this one has 0; give its recipe, or another --out"),
        "{message}"
    );
    // The last stage may be made longer.
    train(&staged(), &store, &out, 1, &["stage.2.train.steps=5", "train.steps=7"]).unwrap();
}

#[test]
fn a_run_begins_with_the_weights_that_it_is_given_and_says_which_they_are() {
    let scratch = Scratch::new();
    let (store, first) = (scratch.store(), scratch.path("first"));
    train(RECIPE, &store, &first, 1, &["train.ema=[0.5]"]).unwrap();
    let still = ["optimizer.lr=0.0", "optimizer.weight_decay=0.0", "train.seed=9", "train.steps=2"];
    for (from, name) in [
        (first.clone(), "ema.safetensors"),
        (first.join("checkpoints/step_00000010"), "ema.safetensors"),
        (file(&first, 10, "model.safetensors"), "model.safetensors"),
    ] {
        let out = scratch.path(&format!("from-{}-{name}", from.file_name().unwrap().display()));
        let from = format!("train.from='{}'", from.display());
        train(RECIPE, &store, &out, 1, &[&still[..], &[&from]].concat()).unwrap();
        for after in ["model.safetensors", "ema.safetensors"] {
            assert!(weights(&file(&out, 2, after)) == weights(&file(&first, 10, name)), "{from}: {after}");
        }
        let record: Value = serde_json::from_slice(&fs::read(out.join("run.json")).unwrap()).unwrap();
        assert_eq!(record["origin"]["file"], file(&first, 10, name).to_str().unwrap());
        let digest = blake3::hash(&fs::read(file(&first, 10, name)).unwrap()).to_hex();
        assert_eq!(record["origin"]["blake3"], digest.as_str());
    }
    // Other meanings of the same weights are said.
    let (steps, mut said) = (scratch.path("steps"), vec![]);
    let changes =
        ["diffusion.path=ddpm-linear", "diffusion.prediction=eps", &format!("train.from='{}'", first.display())];
    let changes: Vec<Change> = changes.iter().map(|set| Change::set(set).unwrap()).collect();
    let images = Store::open(&store).unwrap();
    let plan = Plan::new(Recipe::read("test", RECIPE, &changes).unwrap(), &images).unwrap();
    Run::open(&steps, plan, &images.info().digest, |text| said.push(text)).unwrap();
    assert!(
        said[0].ends_with("ema.safetensors predicts v along linear, this run eps along ddpm-linear: the weights begin with another meaning"),
        "{said:?}"
    );
    // An average of which much is still what it began with is passed over.
    let lagging = scratch.path("lagging");
    train(RECIPE, &store, &lagging, 1, &[]).unwrap();
    let (out, from) = (scratch.path("from-lagging"), format!("train.from='{}'", lagging.display()));
    train(RECIPE, &store, &out, 1, &[&still[..], &[&from]].concat()).unwrap();
    assert!(weights(&file(&out, 2, "model.safetensors")) == weights(&file(&lagging, 10, "model.safetensors")));
}

#[test]
fn weights_to_begin_with_are_needed_until_the_first_checkpoint_and_may_not_change() {
    let scratch = Scratch::new();
    let (store, first, out) = (scratch.store(), scratch.path("first"), scratch.path("run"));
    train(RECIPE, &store, &first, 1, &[]).unwrap();
    let given = scratch.path("given.safetensors");
    fs::copy(file(&first, 10, "model.safetensors"), &given).unwrap();
    let from = format!("train.from='{}'", given.display());
    train(RECIPE, &store, &out, 1, &[&from, "train.steps=1"]).unwrap();
    fs::remove_file(&given).unwrap();
    train(RECIPE, &store, &out, 1, &[&from, "train.steps=2", "optimizer.decay_steps=10"]).unwrap();
    // As if it had been killed before its first checkpoint.
    fs::remove_dir_all(out.join("checkpoints")).unwrap();
    fs::copy(file(&first, 9, "model.safetensors"), &given).unwrap();
    let message = refused(train(RECIPE, &store, &out, 1, &[&from]));
    assert!(message.contains("holds a run from weights with digest") && message.contains("another --out"), "{message}");
    fs::copy(file(&first, 10, "model.safetensors"), &given).unwrap();
    train(RECIPE, &store, &out, 1, &[&from]).unwrap();
}

#[test]
fn weights_of_another_model_are_refused_with_all_that_differs_and_nothing_is_touched() {
    let scratch = Scratch::new();
    let (store, first, out) = (scratch.store(), scratch.path("first"), scratch.path("run"));
    train(RECIPE, &store, &first, 1, &[]).unwrap();
    let from = format!("train.from='{}'", first.display());
    for (sets, expected) in [
        (&["model.heads=4"][..], "its heads is 2, that of this run 4; train a model of the same [model]"),
        (&["model.preset=uvit-s-2", "model.width=8", "model.heads=2"], "its family is Sit, that of this run Uvit"),
        (
            &["model.depth=2"],
            "is not of the model of this run: blocks.1.attn.qkv.weight is missing, blocks.1.attn.qkv.bias is missing, blocks.1.attn.proj.weight is missing, and ",
        ),
        (&["model.patch=4"], "x_embedder.proj.weight is [8, 1, 2, 2] and not [8, 1, 4, 4]"),
        (&["train.from='absent'"], "absent: no such run, checkpoint or file; check the path"),
    ] {
        let message = refused(train(RECIPE, &store, &out, 1, &[&[&*from], sets].concat()));
        assert!(message.contains(expected), "{message}");
        assert!(!out.exists());
    }
}
