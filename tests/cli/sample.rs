//! `engine sample`.

use super::{Scratch, code, engine, stderr, stdout, train};
use std::fs;
use std::path::Path;

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
