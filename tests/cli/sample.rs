//! `engine sample`.

use super::{Scratch, code, engine, stderr, stdout, train};
use std::fs;
use std::path::Path;
use std::process::Command;

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
        ("c.npy", ["--class", "cat"], 2, "invalid value 'cat' for '--class <CLASS>': give a whole number from 0 on"),
        ("c.npy", ["--seed", "-3"], 2, "invalid value '-3' for '--seed <SEED>': give a whole number from 0 on"),
        ("c.npy", ["--guidance", "nan"], 2, "--guidance NaN: give a finite weight, 1 for none"),
        ("c.npy", ["--guidance-channels", "2"], 2, "--guidance-channels 2: the model has 1; give fewer"),
        (
            "c.npy",
            ["--sampler", "rk4"],
            2,
            "invalid value 'rk4' for '--sampler <SAMPLER>': expected euler, heun, dopri5, dopri5:RTOL,ATOL, ddim, ddim:ETA, ancestral, euler-maruyama, euler-maruyama:DIFFUSION, dpm-solver++, an ETA from 0 to 1, tolerances above 0, a DIFFUSION of sigma, linear, decreasing, increasing-decreasing, reverse",
        ),
        ("c.npy", ["--count", "0"], 2, "invalid value '0' for '--count <COUNT>': give a whole number from 1 on"),
        ("c.npy", ["--count", "99999999999"], 2, "--count 99999999999: is out of range; give 1 to 16777216"),
        (
            "c.npy",
            ["--count", "18446744073709551615"],
            2,
            "--count 18446744073709551615: is out of range; give 1 to 16777216",
        ),
        ("c.jpg", ["--count", "1"], 2, "--out OUT: name a .png or a .npy file"),
        ("absent/c.npy", ["--count", "1"], 2, "--out OUT: its folder does not exist; make it, or give another path"),
    ] {
        let refused = draw(name, &more);
        assert_eq!(code(&refused), exit, "{more:?}: {}", stderr(&refused));
        let expected = expected.replace("OUT", &scratch.path(name).display().to_string());
        // A flag that clap refuses is followed by a word on --help.
        assert_eq!(stderr(&refused).lines().next(), Some(&*format!("error: {expected}")), "{more:?}");
        assert!(!scratch.path(name).exists(), "{more:?}");
    }
    let one = draw("one.png", &["--count", "1"]);
    assert!(stdout(&one).contains("one.png: 1 image, 3 evaluations of the velocity each, from "), "{}", stdout(&one));
}

#[test]
fn a_checkpoint_that_is_not_there_is_answered_with_those_that_are() {
    let scratch = Scratch::new();
    let run = scratch.path("run");
    assert_eq!(code(&train(&scratch, &run, &["--set", "checkpoint.every=4"]).output().unwrap()), 0);
    let refused = |exit: i32, flag: &str, name: &str, expected: &str| {
        let mut command = engine(&["sample", "--out"]);
        let refused = command.arg(scratch.path("c.npy")).arg(flag).arg(scratch.path(name)).output().unwrap();
        assert_eq!(code(&refused), exit, "{name}: {}", stderr(&refused));
        assert!(stderr(&refused).ends_with(&format!("{name}: {expected}\n")), "{name}: {}", stderr(&refused));
    };
    let step = |step: &str| format!("run/checkpoints/step_{step}");
    let of = |names: &str| format!("there is no such checkpoint; {names} is there");
    refused(4, "--checkpoint", &step("00000003"), &of("step_00000004"));
    refused(4, "--checkpoint", &step("5/ema.safetensors"), &of("step_00000004 or step_00000008"));
    refused(4, "--checkpoint", &step("00000009"), &of("step_00000008 or step_00000010"));
    refused(4, "--checkpoint", &step("00000999"), &of("step_00000010"));
    refused(4, "--checkpoint", "run/checkpoints/last", &of("step_00000010"));
    let nothing = "no such run, checkpoint or file; check the path";
    refused(3, "--checkpoint", &step("00000004/other.safetensors"), nothing);
    refused(3, "--run", "nowhere", nothing);
    refused(2, "--run", "tiny.store", "is no directory; give a run, or --checkpoint");
    refused(4, "--run", "run/checkpoints", "holds the checkpoints of a run; give one of them, or the run");
    refused(4, "--run", "", "is neither a checkpoint nor a run; give a run directory of `engine train`");
    fs::remove_dir_all(run.join("checkpoints")).unwrap();
    let lock = fs::File::open(run.join(".lock")).unwrap();
    lock.lock().unwrap();
    refused(
        4,
        "--run",
        "run",
        "is a run that has no checkpoint yet; its first comes at step 4 or after 15 minutes, wait for it",
    );
    lock.unlock().unwrap();
    // Wherever it lies by now.
    fs::rename(&run, scratch.path("moved")).unwrap();
    let moved = scratch.path("moved").display().to_string();
    let command = format!("{} train {moved}/config.resolved.toml --out {moved}", env!("CARGO_BIN_EXE_engine"));
    let expected = format!("is a run that has no checkpoint, and nobody trains it; go on with {command}");
    refused(4, "--run", "moved", &expected);
    let again = Command::new("sh").args(["-c", &command]).output().unwrap();
    assert!(code(&again) == 0 && stdout(&again).contains("moved: finished at step 10"), "{}", stderr(&again));
}

#[test]
fn an_average_that_is_still_the_initial_weights_is_said_to_be() {
    let scratch = Scratch::new();
    let run = scratch.path("run");
    let slow = ["--set", "train.ema=[0.9999]", "--set", "sample.every=5", "--set", "sample.steps=1"];
    let trained = train(&scratch, &run, &slow).output().unwrap();
    let text = stdout(&trained);
    let said = "samples come from the moving average train.ema = 0.9999, of which 100 % is the initial weights after";
    let once = format!(
        "warning: step 5: {said} 5 steps: expect noise; a run of 10 steps wants --set 'train.ema=[0]', in another --out"
    );
    assert_eq!(text.lines().filter(|line| line.contains("initial weights")).collect::<Vec<_>>(), [once], "{text}");
    let draw = |from: &Path| {
        let drawn = engine(&["sample", "--count", "1", "--steps", "1", "--checkpoint"])
            .arg(from)
            .arg("--out")
            .arg(scratch.path("c.npy"))
            .output()
            .unwrap();
        assert_eq!(code(&drawn), 0, "{}", stderr(&drawn));
        stderr(&drawn)
    };
    let model = run.join("checkpoints/step_00000010/model.safetensors");
    let expected = format!(
        "warning: {said} 10 steps: expect noise; --checkpoint {} draws from the weights themselves\n",
        model.display()
    );
    assert_eq!((draw(&run), draw(&model)), (expected, String::new()));
    let quick = train(&scratch, &scratch.path("quick"), &["--set", "train.ema=[0.1]", "--set", "sample.every=5"])
        .output()
        .unwrap();
    assert!(!stdout(&quick).contains("initial weights"), "{}", stdout(&quick));
}

#[test]
fn samples_are_drawn_as_the_recipe_says_where_no_flag_does() {
    let scratch = Scratch::new();
    let run = scratch.path("run");
    let recipe = ["sample.every=10", "sample.count=3", "sample.steps=4", "sample.sampler=euler", "sample.guidance=2.5"];
    let flags = ["--seed", "7", "--precision", "bf16"];
    let sets: Vec<&str> = recipe.iter().flat_map(|set| ["--set", set]).chain(flags).collect();
    assert_eq!(code(&train(&scratch, &run, &sets).output().unwrap()), 0);
    let draw = |from: &[&str], name: &str, more: &[&str]| {
        let mut command = engine(&[&["sample"], from].concat());
        let drawn = command.arg("--out").arg(scratch.path(name)).args(more).output().unwrap();
        assert_eq!(code(&drawn), 0, "{}", stderr(&drawn));
        (stdout(&drawn), fs::read(scratch.path(name)).unwrap())
    };
    let from = ["--run", run.to_str().unwrap()];
    let (text, picture) = draw(&from, "drawn.png", &[]);
    assert!(text.contains("drawn.png: 3 images, 4 evaluations of the velocity each, from "), "{text}");
    assert!(picture == fs::read(run.join("samples/step_00000010.png")).unwrap(), "the run drew another picture");
    assert!(picture != draw(&from, "f32.png", &["--precision", "f32"]).1, "its precision does not show");
    let file = run.join("checkpoints/step_00000010/ema.safetensors");
    let of_file = |file: &Path, more: &[&str]| draw(&["--checkpoint", file.to_str().unwrap()], "file.png", more);
    assert!(of_file(&file, &[]).1 == picture);
    let drawn = ["--count", "3", "--steps", "4", "--sampler", "euler", "--guidance", "2.5"];
    let flags = [&flags[..], &drawn].concat();
    let alone = scratch.path("alone.safetensors");
    fs::copy(&file, &alone).unwrap();
    assert!(of_file(&alone, &flags).1 == picture);
    assert!(of_file(&alone, &["--steps", "1"]).0.contains("64 images, 1 evaluation of the velocity each"));
    let values = draw(&from, "values.npy", &[]).1;
    for other in [
        ["--seed", "1"],
        ["--guidance", "1.5"],
        ["--sampler", "heun"],
        ["--steps", "5"],
        ["--count", "4"],
        ["--precision", "f32"],
    ] {
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
fn no_verb_writes_over_what_a_run_or_a_data_set_is_made_of() {
    let scratch = Scratch::new();
    let run = scratch.path("run");
    assert_eq!(code(&train(&scratch, &run, &[]).output().unwrap()), 0);
    let checkpoint = fs::read_dir(run.join("checkpoints")).unwrap().next().unwrap().unwrap().path();
    let store = scratch.store();
    for (out, expected) in [
        (run.join("config.resolved.toml"), "is a file of the run"),
        (checkpoint.join("model.safetensors"), "is a file of the run"),
        (store, "exists, and a store is never changed"),
    ] {
        let before = fs::read(&out).unwrap();
        let refused = engine(&["export", "--checkpoint"]).arg(&run).arg("--out").arg(&out).output().unwrap();
        assert_eq!((code(&refused), stderr(&refused).contains(expected)), (2, true), "{}", stderr(&refused));
        assert!(fs::read(&out).unwrap() == before, "{}", out.display());
    }
    let beside = engine(&["export", "--checkpoint"]).arg(&run).arg("--out").arg(run.join("mine.safetensors")).output();
    assert_eq!(code(&beside.unwrap()), 0);
}
