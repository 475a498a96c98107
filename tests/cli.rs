//! The binary from outside: what it prints, what it refuses and how, how it ends.

#[path = "common/runs.rs"]
mod runs;

use runs::{RECIPE, Scratch};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn engine(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
    command.args(arguments);
    command
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// `engine train` of the tiny recipe, on one thread and the tiny store unless `more` says otherwise.
fn train(scratch: &Scratch, out: &Path, more: &[&str]) -> Command {
    let recipe = scratch.path("recipe.toml");
    fs::write(&recipe, RECIPE).unwrap();
    let mut command = engine(&["train"]);
    command.arg(recipe).arg("--out").arg(out).args(more);
    if !more.contains(&"--threads") {
        command.args(["--threads", "1"]);
    }
    if !more.contains(&"--data") {
        command.arg("--data").arg(scratch.store());
    }
    command
}

/// Sends a signal by name.
fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn a_run_trains_draws_and_says_what_to_do_next() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let done = train(&scratch, &out, &["--set", "sample.every=5", "--set", "sample.steps=2"]).output().unwrap();
    assert_eq!(code(&done), 0, "{}", stderr(&done));
    let text = stdout(&done);
    for expected in
        ["10 steps on cpu, 1 thread", "held-out loss", "step_00000005.png", "finished at step 10", "--steps 20"]
    {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    for file in ["config.resolved.toml", "run.json", "metrics.jsonl", "samples/step_00000010.png"] {
        assert!(out.join(file).is_file(), "{file}");
    }
    let record: serde_json::Value = serde_json::from_slice(&fs::read(out.join("run.json")).unwrap()).unwrap();
    assert_eq!(record["starts"][0]["step"], 0);
}

#[test]
fn a_finished_run_says_so_and_goes_on_with_more_steps() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let constant = ["--set", "optimizer.decay=constant"];
    assert_eq!(code(&train(&scratch, &out, &constant).output().unwrap()), 0);
    let again = train(&scratch, &out, &constant).output().unwrap();
    assert_eq!(code(&again), 0);
    assert!(stdout(&again).contains("was finished at step 10\ntrain longer  the same command with --steps 20"));
    let more = train(&scratch, &out, &[constant[0], constant[1], "--steps", "12"]).output().unwrap();
    assert_eq!(code(&more), 0, "{}", stderr(&more));
    assert!(stdout(&more).contains("from step 10 to 12"), "{}", stdout(&more));
    // What a run wrote down is a recipe.
    let resolved = out.join("config.resolved.toml");
    let again = engine(&["train"]).arg(&resolved).arg("--out").arg(&out).output().unwrap();
    assert!(stdout(&again).contains("was finished at step 12"), "{}", stderr(&again));
}

#[test]
fn a_learning_rate_that_came_to_zero_stays_there() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let done = train(&scratch, &out, &[]).output().unwrap();
    let text = stdout(&done);
    let (_, told) = text.split_once("a new run, the same command with ").unwrap();
    let (flags, _) = told.split_once(" --out OTHER\n").unwrap();
    let flags: Vec<&str> = flags.split(' ').collect();
    // What it says to do works, also with the recipe that the run wrote down.
    let mut other = engine(&["train"]);
    other.arg(out.join("config.resolved.toml")).arg("--out").arg(scratch.path("other"));
    let other = other.args(flags).output().unwrap();
    assert!(stdout(&other).contains("finished at step 20"), "{}", stderr(&other));
    let files = || ["run.json", "config.resolved.toml", "metrics.jsonl"].map(|name| fs::read(out.join(name)).unwrap());
    let before = files();
    assert!(String::from_utf8_lossy(&before[1]).contains("decay_steps = 10"));
    for (steps, expected) in [
        ("20", "is 0 from step 10 on (optimizer.decay_steps); a new run, with --set optimizer.decay_steps=20 and"),
        ("9", "has done 10 steps; give at least as many"),
    ] {
        let refused = train(&scratch, &out, &["--steps", steps]).output().unwrap();
        assert_eq!(code(&refused), 2, "{steps}: {}", stderr(&refused));
        assert!(stderr(&refused).contains(expected), "{steps}: {}", stderr(&refused));
        assert!(files() == before, "--steps {steps} was recorded");
    }
}

#[test]
fn a_run_may_stop_on_the_way_down_and_go_on() {
    let scratch = Scratch::new();
    let rates = |out: &Path| -> Vec<String> {
        let text = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
        let rate = |line: &str| Some(line.split_once("\"lr\":")?.1.split(',').next()?.to_owned());
        text.lines().filter_map(rate).collect()
    };
    let (whole, halves) = (scratch.path("whole"), scratch.path("halves"));
    assert_eq!(code(&train(&scratch, &whole, &[]).output().unwrap()), 0);
    for steps in ["6", "10"] {
        let part = train(&scratch, &halves, &["--set", "optimizer.decay_steps=10", "--steps", steps]).output().unwrap();
        assert_eq!(code(&part), 0, "{}", stderr(&part));
        assert_eq!(stdout(&part).contains("the same command with --steps 10"), steps == "6", "{}", stdout(&part));
    }
    assert_eq!((rates(&whole).len(), rates(&whole)), (10, rates(&halves)));
}

#[test]
fn every_bad_input_is_refused_with_its_reason_before_anything_is_touched() {
    let scratch = Scratch::new();
    let out = scratch.path("untouched");
    let absent = scratch.path("absent").display().to_string();
    let png = scratch.path("not.store").display().to_string();
    fs::write(&png, "no store").unwrap();
    let flipped = scratch.path("flipped.store").display().to_string();
    let mut bytes = fs::read(scratch.store()).unwrap();
    let pixel = bytes.len() - 100;
    bytes[pixel] ^= 1;
    fs::write(&flipped, bytes).unwrap();
    for (arguments, exit, expected) in [
        (vec!["--stps", "3"], 2, "unexpected argument '--stps' found"),
        (vec!["--steps", "many"], 2, "invalid value 'many' for '--steps <N>'"),
        (vec!["--steps", "0"], 2, "error: train.steps = 0: is out of range; give 1 to 4294967295"),
        (vec!["--precision", "f16"], 2, "[possible values: f32, bf16]"),
        (vec!["--threads", "0"], 2, "invalid value '0' for '--threads <N>': give 1 or more"),
        // Without kernels, without a driver or without so many cards: always one sentence.
        (vec!["--device", "cuda:99"], 6, "give --device cpu"),
        (vec!["--device", "tpu"], 2, "invalid value 'tpu' for '--device <DEVICE>': give auto, cpu, cuda or cuda:N"),
        (vec!["--preset", "sit-m-2"], 2, "error: model.preset = sit-m-2: there is no such preset; did you mean sit-"),
        (
            vec!["--set", "train.batchsize=3"],
            2,
            "error: --set train.batchsize=3: there is no key train.batchsize; did you mean train.batch_size?",
        ),
        (vec!["--set", "train.steps"], 2, "error: --set train.steps: there is no `=`; write --set train.steps=400000"),
        (
            vec!["--set", "optimizer.lr=fast"],
            2,
            "error: --set optimizer.lr=fast: optimizer.lr: \"fast\" is no number; give one such as 0.0001",
        ),
        (
            vec!["--set", "model.patch=5"],
            2,
            "error: [model]: a patch of 5 does not divide images of 8 x 8; give one that does",
        ),
        (
            vec!["--set", "model.heads=3"],
            2,
            "error: [model]: 3 heads do not divide the width 8; give a number that does",
        ),
        (
            vec!["--set", "mask.drop=1"],
            2,
            "error: mask.drop = 1: is out of range; give a number from 0 up to, but not including, 1",
        ),
        (
            vec!["--set", "optimizer.decay_steps=9"],
            2,
            "error: train.steps = 10: the learning rate is 0 from step 9 on; give at most as many, or a larger optimizer.",
        ),
        (vec!["--data", &flipped], 3, "flipped.store: its bytes have digest "),
        (vec!["--data", &absent], 3, "absent: no such file; check the path"),
        (vec!["--data", &png], 3, "not.store: "),
    ] {
        let refused = train(&scratch, &out, &arguments).output().unwrap();
        let message = stderr(&refused);
        assert_eq!(code(&refused), exit, "{arguments:?}: {message}");
        assert!(message.contains(expected), "{arguments:?}: {message}");
        assert!(!out.exists(), "{arguments:?} touched the run directory");
    }
    let binary = engine(&["train"]).arg(scratch.store()).output().unwrap();
    let expected = "tiny.store: is no recipe, which is text; a store goes after --data";
    assert!(code(&binary) == 2 && stderr(&binary).contains(expected), "{}", stderr(&binary));
    let absent = engine(&["train", "absent.toml"]).output().unwrap();
    assert_eq!((code(&absent), stderr(&absent).as_str()), (2, "error: absent.toml: no such recipe; check the path\n"));
}

#[test]
fn bad_data_is_refused_with_its_reason() {
    let scratch = Scratch::new();
    let out = scratch.path("out.store");
    let lying = scratch.idx("lying-images-idx3-ubyte", &[1000, 8, 8], vec![0; 64]);
    let refused = engine(&["data", "ingest", "--from"]).arg(&lying).arg("--out").arg(&out).output().unwrap();
    assert_eq!(code(&refused), 3, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("lying-images-idx3-ubyte: "), "{}", stderr(&refused));

    let nan = scratch.path("nan.npy");
    let mut values = vec![0.5; 4 * 64];
    values[130] = f32::NAN;
    engine::data::npy::write(&nan, &[4, 1, 8, 8], &values).unwrap();
    let refused = engine(&["data", "ingest", "--from"]).arg(&nan).arg("--out").arg(&out).output().unwrap();
    assert_eq!(code(&refused), 3, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("nan.npy: ") && stderr(&refused).contains("row 2"), "{}", stderr(&refused));
    assert!(!out.exists());
}

#[test]
fn four_channels_of_pixels_are_taken_with_a_warning() {
    let scratch = Scratch::new();
    let (from, out) = (scratch.path("rgba.npy"), scratch.path("rgba.store"));
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2, 2, 4)}";
    fs::write(&from, [b"\x93NUMPY\x01\x00", &[header.len() as u8, 0][..], header.as_bytes(), &[7; 16]].concat())
        .unwrap();
    let taken = engine(&["data", "ingest", "--from"]).arg(&from).arg("--out").arg(&out).output().unwrap();
    assert_eq!(code(&taken), 0, "{}", stderr(&taken));
    assert_eq!(stderr(&taken), "warning: 4 channels of u8: if this is RGBA, drop alpha\n");
    assert!(stdout(&taken).contains("1 of 4 x 2 x 2, U8"), "{}", stdout(&taken));
}

#[test]
fn data_info_names_the_rows_that_no_run_trains_on() {
    let scratch = Scratch::new();
    let told = engine(&["data", "info", "--json"]).arg(scratch.store()).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(told["rows"], 40);
    let held_out: Vec<u64> = told["held_out"].as_array().unwrap().iter().map(|row| row.as_u64().unwrap()).collect();
    let expected = engine::data::Split::of(40).held_out;
    assert_eq!((held_out.len(), held_out), (4, expected.into_iter().map(u64::from).collect()));
}

#[test]
fn info_says_what_this_binary_holds_and_what_this_machine_has() {
    let text = stdout(&engine(&["info"]).output().unwrap());
    let kernels = match engine::device::cuda::TOOLKIT {
        Some(toolkit) => format!("kernels  CUDA {toolkit}: sm_80, sm_90a, and PTX for other cards"),
        None => "kernels  none: nvcc was not found".into(),
    };
    assert!(text.contains("devices  cpu: ") && text.contains("cuda:0: ") && text.contains(&kernels), "{text}");
    let json = stdout(&engine(&["info", "--json"]).output().unwrap());
    let info: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(info["cuda"]["toolkit"].as_str(), engine::device::cuda::TOOLKIT);
    assert_eq!(info["devices"][0]["name"], "cpu");
}

#[test]
fn another_recipe_in_the_same_directory_is_refused_by_every_differing_key() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    assert_eq!(code(&train(&scratch, &out, &[]).output().unwrap()), 0);
    let before = fs::read(out.join("config.resolved.toml")).unwrap();
    let refused = train(&scratch, &out, &["--set", "optimizer.lr=0.5", "--seed", "9"]).output().unwrap();
    let expected = "holds a run with train.seed = 0, optimizer.lr = 0.01; this one has train.seed = 9, optimizer.lr = 0.5; \
        give another --out, or --set 'train.seed=0' --set 'optimizer.lr=0.01'\n";
    assert_eq!(code(&refused), 2);
    assert!(stderr(&refused).ends_with(expected), "{}", stderr(&refused));
    assert_eq!(fs::read(out.join("config.resolved.toml")).unwrap(), before);
}

#[test]
fn a_run_with_another_decay_is_refused_by_that_and_one_older_than_the_key_goes_on() {
    let scratch = Scratch::new();
    let [constant, cosine] = ["constant", "cosine"].map(|name| scratch.path(name));
    let six = ["--steps", "6", "--set", "optimizer.decay=constant"];
    assert_eq!(code(&train(&scratch, &constant, &six).output().unwrap()), 0);
    let refused = train(&scratch, &constant, &[]).output().unwrap();
    assert_eq!(code(&refused), 2);
    assert!(stderr(&refused).contains("holds a run with optimizer.decay = \"constant\""), "{}", stderr(&refused));

    // A run that died before its first checkpoint, and whose program did not know of decay_steps.
    assert_eq!(code(&train(&scratch, &cosine, &["--steps", "6"]).output().unwrap()), 0);
    fs::remove_dir_all(cosine.join("checkpoints")).unwrap();
    let config = cosine.join("config.resolved.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("decay_steps = 6", "")).unwrap();
    let refused = train(&scratch, &cosine, &[]).output().unwrap();
    assert_eq!(code(&refused), 2);
    assert!(stderr(&refused).contains("train.steps = 10: the learning rate of "), "{}", stderr(&refused));
    assert!(stderr(&refused).contains(" is 0 from step 6 on (optimizer.decay_steps)"), "{}", stderr(&refused));
    assert_eq!(code(&train(&scratch, &cosine, &["--steps", "6"]).output().unwrap()), 0);
    assert!(fs::read_to_string(&config).unwrap().contains("decay_steps = 6"));
}

#[test]
fn other_data_in_the_same_directory_is_refused_and_the_same_data_elsewhere_is_not() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    assert_eq!(code(&train(&scratch, &out, &[]).output().unwrap()), 0);
    let moved = scratch.path("moved.store");
    fs::copy(scratch.store(), &moved).unwrap();
    let again = train(&scratch, &out, &["--data", moved.to_str().unwrap()]).output().unwrap();
    assert!(stdout(&again).contains("was finished"), "{}", stderr(&again));
    let other = scratch.path("other.store");
    let rows = scratch.idx("other-images-idx3-ubyte", &[40, 8, 8], vec![7; 40 * 64]);
    engine::data::ingest::ingest(&rows, None, &other, &mut |_, _| {}).unwrap();
    let refused = train(&scratch, &out, &["--data", other.to_str().unwrap()]).output().unwrap();
    assert_eq!(code(&refused), 2, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("its run trains on data "), "{}", stderr(&refused));
}

#[test]
fn a_run_that_cannot_be_saved_goes_on_until_the_third_time() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let (child, mut lines) = endless(&scratch, &out, &[]);
    let folder = out.join("checkpoints");
    while folder.is_dir() {
        // A file in the place of the folder; the run may make the folder again in between.
        let _ = fs::rename(&folder, scratch.path("aside")).and_then(|()| fs::write(&folder, ""));
        let _ = fs::remove_dir_all(scratch.path("aside"));
    }
    let mut text = String::new();
    lines.read_to_string(&mut text).unwrap();
    let (code, message) = end(child);
    assert_eq!(code, 4, "{message}");
    assert!(message.contains("it is the third failure in a row"), "{message}");
    assert_eq!(text.matches("the run is not saved; it goes on").count(), 2, "{text}");
}

#[test]
fn samples_of_a_run_do_not_depend_on_the_batch_and_bad_requests_are_refused() {
    let scratch = Scratch::new();
    let run = scratch.path("run");
    assert_eq!(code(&train(&scratch, &run, &[]).output().unwrap()), 0);
    let draw = |name: &str, more: &[&str]| {
        let mut command = engine(&["sample", "--steps", "3", "--run"]);
        command.arg(&run).arg("--out").arg(scratch.path(name)).args(more).output().unwrap()
    };
    for (name, more) in [("a.npy", ["--count", "5", "--batch", "5"]), ("b.npy", ["--count", "3", "--batch", "1"])] {
        let drawn = draw(name, &more);
        assert_eq!(code(&drawn), 0, "{}", stderr(&drawn));
    }
    let values = |name: &str| fs::read(scratch.path(name)).unwrap().split_off(128);
    assert!(values("a.npy").starts_with(&values("b.npy")) && values("b.npy").len() == 3 * 64 * 4);
    for (name, more, exit, expected) in [
        ("c.npy", ["--class", "2"], 2, "--class 2: the model has 2 classes; give 0 to 1"),
        ("c.npy", ["--guidance", "nan"], 2, "--guidance NaN: give a finite weight"),
        ("c.npy", ["--guidance-channels", "2"], 2, "--guidance-channels 2: the model has 1"),
        ("c.npy", ["--sampler", "rk4"], 2, "rk4"),
        ("c.npy", ["--count", "0"], 2, "--count"),
        ("c.npy", ["--count", "99999999999"], 2, "--count 99999999999: is out of range; give 1 to 16777216"),
        ("c.npy", ["--count", "18446744073709551615"], 2, "is out of range"),
        ("c.jpg", ["--count", "1"], 2, "name a .png or a .npy file"),
        ("absent/c.npy", ["--count", "1"], 2, "absent/c.npy: its folder does not exist; make it, or give another path"),
    ] {
        let refused = draw(name, &more);
        assert_eq!(code(&refused), exit, "{more:?}: {}", stderr(&refused));
        assert!(stderr(&refused).contains(expected), "{more:?}: {}", stderr(&refused));
        assert!(!scratch.path(name).exists(), "{more:?}");
    }
    let one = draw("one.png", &["--count", "1"]);
    assert!(stdout(&one).contains("one.png: 1 image, 3 evaluations each, from "), "{}", stdout(&one));
    fs::remove_dir_all(run.join("checkpoints")).unwrap();
    let refused = draw("c.npy", &[]);
    assert_eq!(code(&refused), 4, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("is neither a checkpoint nor a run that has one"), "{}", stderr(&refused));
}

#[test]
fn samples_are_drawn_as_the_recipe_says_where_no_flag_does() {
    let scratch = Scratch::new();
    let run = scratch.path("run");
    let recipe = ["sample.every=10", "sample.count=3", "sample.steps=4", "sample.sampler=euler", "sample.guidance=2.5"];
    let sets: Vec<&str> = recipe.iter().flat_map(|set| ["--set", set]).chain(["--seed", "7"]).collect();
    assert_eq!(code(&train(&scratch, &run, &sets).output().unwrap()), 0);
    let draw = |from: &[&str], name: &str, more: &[&str]| {
        let mut command = engine(&[&["sample"], from].concat());
        let drawn = command.arg("--out").arg(scratch.path(name)).args(more).output().unwrap();
        assert_eq!(code(&drawn), 0, "{}", stderr(&drawn));
        (stdout(&drawn), fs::read(scratch.path(name)).unwrap())
    };
    let from = ["--run", run.to_str().unwrap()];
    let (text, picture) = draw(&from, "drawn.png", &[]);
    assert!(text.contains("drawn.png: 3 images, 4 evaluations each, from "), "{text}");
    assert!(picture == fs::read(run.join("samples/step_00000010.png")).unwrap(), "the run drew another picture");
    let file = run.join("checkpoints/step_00000010/ema.safetensors");
    let of_file = |file: &Path, more: &[&str]| draw(&["--checkpoint", file.to_str().unwrap()], "file.png", more);
    assert!(of_file(&file, &[]).1 == picture);
    let flags = ["--seed", "7", "--count", "3", "--steps", "4", "--sampler", "euler", "--guidance", "2.5"];
    let alone = scratch.path("alone.safetensors");
    fs::copy(&file, &alone).unwrap();
    assert!(of_file(&alone, &flags).1 == picture);
    assert!(of_file(&alone, &["--steps", "1"]).0.contains("64 images, 1 evaluations"));
    let values = draw(&from, "values.npy", &[]).1;
    for other in [["--seed", "1"], ["--guidance", "1.5"], ["--sampler", "heun"], ["--steps", "5"], ["--count", "4"]] {
        assert!(draw(&from, "other.npy", &other).1 != values, "{other:?}");
    }
}

#[test]
fn a_model_that_cannot_be_guided_is_not() {
    let scratch = Scratch::new();
    let (run, out) = (scratch.path("run"), scratch.path("c.npy"));
    let draw =
        |more: &[&str]| engine(&["sample", "--run"]).arg(&run).arg("--out").arg(&out).args(more).output().unwrap();
    let labels = scratch.path("tiny-labels-idx1-ubyte");
    scratch.store();
    fs::remove_file(labels).unwrap();
    let bare = scratch.path("bare.store");
    engine::data::ingest::ingest(&scratch.path("tiny-images-idx3-ubyte"), None, &bare, &mut |_, _| {}).unwrap();
    for (set, expected) in [
        (
            ["--data", bare.to_str().unwrap()],
            "--guidance 2: the model has no classes to be guided to; leave the flag out",
        ),
        (["--set", "diffusion.label_dropout=0"], "and knows no image without a label; leave the flag out"),
    ] {
        let trained = train(&scratch, &run, &set).output().unwrap();
        assert_eq!(code(&trained), 0, "{}", stderr(&trained));
        let drawn = |more: &[&str]| (code(&draw(&[&["--steps", "1"], more].concat())), fs::read(&out).unwrap());
        assert!(drawn(&[]) == drawn(&["--guidance", "1"]), "{set:?}");
        let refused = draw(&["--guidance", "2"]);
        assert_eq!(code(&refused), 2, "{}", stderr(&refused));
        assert!(stderr(&refused).contains(expected), "{}", stderr(&refused));
        fs::remove_dir_all(&run).unwrap();
    }
}

/// A run that goes on until somebody ends it, after its first saved step.
fn endless(scratch: &Scratch, out: &Path, more: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let mut command = train(scratch, out, &["--steps", "100000000", "--json", "--set", "checkpoint.keep=1"]);
    let mut child = command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("\"saved\"") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended before its first checkpoint");
    }
    (child, lines)
}

fn end(mut child: Child) -> (i32, String) {
    let mut message = String::new();
    child.stderr.take().unwrap().read_to_string(&mut message).unwrap();
    (child.wait().unwrap().code().unwrap(), message)
}

#[test]
fn a_second_run_in_the_same_directory_names_the_first() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let (mut child, _lines) = endless(&scratch, &out, &[]);
    let second = train(&scratch, &out, &[]).output().unwrap();
    let expected = format!("run: is in use by process {} on ", child.id());
    assert_eq!(code(&second), 2);
    assert!(stderr(&second).contains(&expected), "{}", stderr(&second));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_signal_ends_a_run_after_a_checkpoint_and_the_same_command_goes_on() {
    let scratch = Scratch::new();
    for name in ["TERM", "INT"] {
        let out = scratch.path(name);
        let (child, mut lines) = endless(&scratch, &out, &[]);
        signal(&child, name);
        std::io::copy(&mut lines, &mut std::io::sink()).unwrap();
        let (code, message) = end(child);
        assert_eq!(code, 75, "{name}: {message}");
        assert!(message.contains("which is saved; the same command goes on from there"), "{name}: {message}");
    }
}

#[test]
fn a_signal_does_not_wait_for_a_picture() {
    let scratch = Scratch::new();
    // After its first step it draws a picture for hours.
    let picture = ["--set", "sample.every=1", "--set", "sample.steps=1000000"];
    let (child, _lines) = endless(&scratch, &scratch.path("run"), &picture);
    signal(&child, "TERM");
    let (code, message) = end(child);
    assert_eq!(code, 75, "{message}");
    assert!(message.contains("which is saved"), "{message}");
}

#[test]
fn a_second_signal_ends_a_run_at_once() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    // A step takes seconds.
    let (child, _lines) = endless(&scratch, &out, &["--set", "train.batch_size=20000"]);
    signal(&child, "TERM");
    std::thread::sleep(Duration::from_millis(50));
    signal(&child, "TERM");
    assert_eq!(end(child).0, 128 + 15);
}

#[test]
fn a_run_whose_reader_went_away_goes_on_to_its_end() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = train(&scratch, &out, &[]).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let (code, message) = end(ended);
    assert_eq!(code, 0, "{message}");
    assert_eq!(message.matches("warning: standard output: ").count(), 1, "{message}");
    assert!(out.join("checkpoints/step_00000010/MANIFEST.json").is_file());
}

#[test]
fn a_verb_whose_reader_went_away_ends_without_a_word() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = engine(&["info"]).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(end(ended), (128 + 13, String::new()));
}

#[test]
fn a_model_that_no_memory_holds_is_refused() {
    let scratch = Scratch::new();
    let refused = ["--set", "model.depth=1024", "--set", "model.width=16384"];
    let refused = train(&scratch, &scratch.path("run"), &refused).output().unwrap();
    assert_eq!(code(&refused), 5, "{}", stderr(&refused));
    assert!(stderr(&refused).starts_with("error: out of memory: "), "{}", stderr(&refused));
}

#[test]
fn batches_that_no_memory_holds_are_refused() {
    let scratch = Scratch::new();
    let (images, store) = (scratch.path("vast.npy"), scratch.path("vast.store"));
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 3, 2048, 2048)}";
    let start = [b"\x93NUMPY\x01\x00", &[header.len() as u8, 0][..], header.as_bytes()].concat();
    fs::write(&images, [start, vec![7; 3 << 22]].concat()).unwrap();
    engine::data::ingest::ingest(&images, None, &store, &mut |_, _| {}).unwrap();
    let vast = ["--data", store.to_str().unwrap(), "--set", "model.patch=64", "--set", "train.batch_size=1048576"];
    let refused = train(&scratch, &scratch.path("run"), &vast).output().unwrap();
    assert_eq!(code(&refused), 5, "{}", stderr(&refused));
    assert!(stderr(&refused).starts_with("error: out of memory: "), "{}", stderr(&refused));
}

#[test]
fn latents_are_drawn_as_an_array_and_have_no_picture() {
    let scratch = Scratch::new();
    let (run, latents, store) = (scratch.path("run"), scratch.path("latents.npy"), scratch.path("latents.store"));
    engine::data::npy::write(&latents, &[40, 4, 8, 8], &[0.5; 40 * 4 * 64]).unwrap();
    engine::data::ingest::ingest(&latents, None, &store, &mut |_, _| {}).unwrap();
    let trained = train(&scratch, &run, &["--data", store.to_str().unwrap()]).output().unwrap();
    assert_eq!(code(&trained), 0, "{}", stderr(&trained));
    let draw = |name: &str| {
        let mut command = engine(&["sample", "--steps", "1", "--count", "1", "--run"]);
        command.arg(&run).arg("--out").arg(scratch.path(name)).output().unwrap()
    };
    let refused = draw("x.png");
    assert_eq!(code(&refused), 2, "{}", stderr(&refused));
    let expected = "x.png: latents of 4 channels have no picture, which has 1 or 3; write a .npy and decode it\n";
    assert!(stderr(&refused).ends_with(expected), "{}", stderr(&refused));
    assert!(!scratch.path("x.png").exists());
    assert_eq!(code(&draw("x.npy")), 0);
}

#[test]
fn a_run_that_leaves_the_finite_numbers_gives_up_after_ten_steps() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let lost = ["--set", "optimizer.lr=1e30", "--set", "optimizer.warmup=0", "--steps", "100"];
    let diverged = train(&scratch, &out, &lost).output().unwrap();
    assert_eq!(code(&diverged), 7, "{}", stderr(&diverged));
    assert!(stderr(&diverged).contains("10 steps in a row are not finite"), "{}", stderr(&diverged));
    assert!(stdout(&diverged).contains("the step is skipped, 9 in a row"), "{}", stdout(&diverged));
}

#[test]
fn no_loss_is_shown_before_a_step_was_applied() {
    let scratch = Scratch::new();
    let numbers = scratch.path("huge.npy");
    engine::data::npy::write(&numbers, &[40, 1, 8, 8], &[1e30; 40 * 64]).unwrap();
    let store = scratch.path("huge.store");
    engine::data::ingest::ingest(&numbers, None, &store, &mut |_, _| {}).unwrap();
    let lost = train(&scratch, &scratch.path("run"), &["--data", store.to_str().unwrap()]).output().unwrap();
    assert_eq!(code(&lost), 7, "{}", stderr(&lost));
    let text = stdout(&lost);
    let first = text.lines().find(|line| line.starts_with("step 1/10")).unwrap();
    assert!(!first.contains("loss") && first.contains(" img/s "), "{text}");
}

#[test]
fn a_run_whose_last_step_is_not_finite_has_not_finished() {
    let scratch = Scratch::new();
    let lost = ["--set", "optimizer.lr=1e30", "--set", "optimizer.warmup=0", "--set", "optimizer.decay=constant"];
    for steps in ["1", "3"] {
        let out = scratch.path(steps);
        for start in ["first", "second"] {
            let ended = train(&scratch, &out, &[&lost[..], &["--steps", steps]].concat()).output().unwrap();
            assert_eq!(code(&ended), 7, "{steps} steps, {start} start: {}", stderr(&ended));
            assert!(stderr(&ended).contains("lower optimizer.lr"), "{}", stderr(&ended));
            assert!(!stdout(&ended).contains("finished"), "{}", stdout(&ended));
        }
    }
}

#[test]
fn a_bench_that_nothing_holds_is_refused() {
    for (flag, value) in [("--batch", "18446744073709551615"), ("--batch", "300000000000"), ("--steps", "300000000000")]
    {
        let refused = engine(&["bench", "step", flag, value]).output().unwrap();
        assert_eq!(code(&refused), 2, "{}", stderr(&refused));
        assert!(stderr(&refused).contains(&format!("{flag} {value}: is out of range; give 1 to 1048576")));
    }
    let vast = ["--side", "65536", "--channels", "65536", "--batch", "1048576", "--preset", "sit-xs-8"];
    let refused = engine(&[&["bench", "step"], &vast[..]].concat()).output().unwrap();
    assert!([2, 5].contains(&code(&refused)), "{}", stderr(&refused));
}

#[test]
fn help_comes_at_once_and_names_every_key_of_a_recipe() {
    let help = engine(&["train", "--help"]).output().unwrap();
    assert_eq!(code(&help), 0);
    for key in ["train.batch_size = 256", "optimizer.lr = 0.0001", "checkpoint.every = 5000", "sample.guidance = 4.0"] {
        assert!(stdout(&help).contains(key), "{key}");
    }
    let fastest = (0..10).map(|_| {
        let start = Instant::now();
        engine(&["--help"]).output().unwrap();
        start.elapsed()
    });
    let fastest = fastest.min().unwrap();
    assert!(fastest < Duration::from_millis(20), "{fastest:?}");
}
