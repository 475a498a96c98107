//! `engine train` in a folder that holds a run already.

use super::{Scratch, code, endless, engine, stderr, stdout, train};
use std::fs;
use std::path::Path;

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
