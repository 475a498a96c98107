//! `engine train` in a folder that holds a run already.

use super::{Scratch, code, endless, engine, stderr, stdout, train};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// The command that a run printed, as a shell takes it: after `engine`, and the run is in the words before.
fn told(text: &str) -> Output {
    let command = text.lines().find_map(|line| line.strip_prefix("train longer  ")).unwrap();
    Command::new("sh").args(["-c", command]).output().unwrap()
}

#[test]
fn a_finished_run_says_so_and_the_command_that_it_prints_goes_on_with_it() {
    let scratch = Scratch::new();
    for (name, sets) in [
        ("constant", &["--set", "optimizer.decay=constant"][..]),
        ("cosine", &[]),
        ("short of its cosine", &["--set", "optimizer.decay_steps=20"]),
        ("to the end of its cosine", &["--set", "optimizer.decay_steps=10", "--steps", "10"]),
    ] {
        let out = scratch.path(name);
        let done = train(&scratch, &out, sets).output().unwrap();
        assert_eq!(code(&done), 0, "{name}: {}", stderr(&done));
        let again = train(&scratch, &out, sets).output().unwrap();
        assert_eq!(code(&again), 0, "{name}: {}", stderr(&again));
        assert!(stdout(&again).contains("was finished at step 10\ntrain longer  "), "{name}: {}", stdout(&again));
        for text in [stdout(&done), stdout(&again)] {
            let command = text.lines().find(|line| line.starts_with("train longer  ")).unwrap();
            assert_eq!(command.matches("--steps 20").count(), 1, "{name}: {text}");
            assert_eq!(command.matches("--steps").count(), 1, "{name}: {text}");
        }
        let more = told(&stdout(&again));
        assert_eq!(code(&more), 0, "{name}: {}", stderr(&more));
        let text = stdout(&more);
        assert!(text.contains("from step 10 to 20") && text.contains("finished at step 20"), "{name}: {text}");
        // What a run wrote down is a recipe.
        let resolved = out.join("config.resolved.toml");
        let again = engine(&["train"]).arg(&resolved).arg("--out").arg(&out).output().unwrap();
        assert!(stdout(&again).contains("was finished at step 20"), "{name}: {}", stderr(&again));
    }
}

#[test]
fn the_recipe_that_a_run_wrote_names_its_data_and_the_weights_that_it_began_with_from_any_folder() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let begun = train(&scratch, &scratch.path("run"), &["--data", store.file_name().unwrap().to_str().unwrap()])
        .current_dir(store.parent().unwrap())
        .output()
        .unwrap();
    assert_eq!(code(&begun), 0, "{}", stderr(&begun));
    let elsewhere = scratch.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let again = engine(&["train", "../run/config.resolved.toml", "--out", "again"]).current_dir(&elsewhere).output();
    let again = again.unwrap();
    assert_eq!(code(&again), 0, "{}", stderr(&again));
    assert!(elsewhere.join("again/config.resolved.toml").is_file());
    let further =
        train(&scratch, &scratch.path("further"), &["--from", "../run"]).current_dir(&elsewhere).output().unwrap();
    assert_eq!(code(&further), 0, "{}", stderr(&further));
    let mut again = engine(&["train", "further/config.resolved.toml", "--out", "once more"]);
    let again = again.current_dir(scratch.path("")).output().unwrap();
    assert_eq!(code(&again), 0, "{}", stderr(&again));
}

/// The learning rates of a run, of its steps in order.
fn rates(out: &Path) -> Vec<f64> {
    let text = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let rate = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["lr"].as_f64();
    text.lines().filter_map(rate).collect()
}

#[test]
fn more_steps_stretch_a_cosine_whose_end_was_not_set_and_one_line_says_so() {
    let scratch = Scratch::new();
    let (long, grown) = (scratch.path("long"), scratch.path("grown"));
    assert_eq!(code(&train(&scratch, &long, &["--steps", "20"]).output().unwrap()), 0);
    let done = train(&scratch, &grown, &[]).output().unwrap();
    assert!(!stdout(&done).contains("cosine"), "{}", stdout(&done));
    let short = rates(&grown);
    let more = train(&scratch, &grown, &["--steps", "20"]).output().unwrap();
    assert_eq!(code(&more), 0, "{}", stderr(&more));
    let text = stdout(&more);
    let line = format!(
        "step 10: the cosine comes to 0 at step 20 and no longer at step 10: the learning rate goes on from {}, not from 0",
        (rates(&long)[10] * 1e5).round() / 1e5
    );
    assert_eq!(text.lines().filter(|other| **other == line).count(), 1, "{line}: {text}");
    // The old schedule up to its end, the new one from there on.
    assert_eq!(rates(&grown), [&short[..], &rates(&long)[10..]].concat());
    assert!(short[9] < rates(&long)[9] / 4.0);
    // The same command has nothing to say.
    let again = train(&scratch, &grown, &["--steps", "20"]).output().unwrap();
    assert!(!stdout(&again).contains("cosine"), "{}", stdout(&again));
}

#[test]
fn the_end_of_a_cosine_that_was_set_stays_until_another_is() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let end = |steps: &'static str| ["--set", steps];
    assert_eq!(code(&train(&scratch, &out, &end("optimizer.decay_steps=10")).output().unwrap()), 0);
    let files = || ["run.json", "config.resolved.toml", "metrics.jsonl"].map(|name| fs::read(out.join(name)).unwrap());
    let before = files();
    assert!(String::from_utf8_lossy(&before[1]).contains("decay_steps = 10"));
    for (more, expected) in [
        (
            &["--steps", "20"][..],
            "train.steps = 20: the learning rate is 0 from step 10 on, as optimizer.decay_steps has it; \
             give --set optimizer.decay_steps=20 too, or at most 10 steps\n",
        ),
        (&["--steps", "9"], "has done 10 steps; give at least as many, or another --out\n"),
        (
            &["--steps", "20", "--set", "optimizer.decay_steps=15"],
            "is 0 from step 15 on, as optimizer.decay_steps has it",
        ),
    ] {
        let refused = train(&scratch, &out, more).output().unwrap();
        assert_eq!(code(&refused), 2, "{more:?}: {}", stderr(&refused));
        assert!(stderr(&refused).contains(expected), "{more:?}: {}", stderr(&refused));
        assert!(files() == before, "{more:?} was recorded");
    }
    let more = train(&scratch, &out, &["--steps", "20", "--set", "optimizer.decay_steps=20"]).output().unwrap();
    assert_eq!(code(&more), 0, "{}", stderr(&more));
    assert!(stdout(&more).contains("comes to 0 at step 20 and no longer at step 10"), "{}", stdout(&more));
}

#[test]
fn a_run_may_stop_on_the_way_down_and_go_on() {
    let scratch = Scratch::new();
    let (whole, halves) = (scratch.path("whole"), scratch.path("halves"));
    assert_eq!(code(&train(&scratch, &whole, &[]).output().unwrap()), 0);
    for steps in ["6", "10"] {
        let part = train(&scratch, &halves, &["--set", "optimizer.decay_steps=10", "--steps", steps]).output().unwrap();
        assert_eq!(code(&part), 0, "{}", stderr(&part));
        assert_eq!(stdout(&part).contains("engine train --steps 10 "), steps == "6", "{}", stdout(&part));
    }
    assert_eq!((rates(&whole).len(), rates(&whole)), (10, rates(&halves)));
}

#[test]
fn another_recipe_in_the_same_directory_is_refused_by_its_first_differing_keys() {
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

    let refused = engine(&["train", "--preset", "sit-xs-4", "--out"]).arg(&out).output().unwrap();
    let message = stderr(&refused);
    let (theirs, ours) = message.split_once("; this one has ").expect(&message);
    assert!(
        theirs.contains("holds a run with model.preset = \"sit-xs-2\", model.depth = 1, model.width = 8, "),
        "{message}"
    );
    let others: usize = theirs.rsplit_once(" and ").unwrap().1.strip_suffix(" other keys").unwrap().parse().unwrap();
    assert!(others > 5, "{message}");
    assert!(ours.starts_with("model.preset = \"sit-xs-4\", ") && ours.matches(" = ").count() == 4, "{message}");
    let own = out.join("config.resolved.toml");
    assert!(ours.ends_with(&format!("; give another --out, or its own recipe, {}\n", own.display())), "{message}");
    let again = engine(&["train"]).arg(own).arg("--out").arg(&out).output().unwrap();
    assert!(stdout(&again).contains("was finished"), "{}", stderr(&again));
}

#[test]
fn a_run_that_died_before_its_first_checkpoint_is_held_to_its_recipe() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    assert_eq!(code(&train(&scratch, &out, &["--set", "optimizer.decay=constant"]).output().unwrap()), 0);
    fs::remove_dir_all(out.join("checkpoints")).unwrap();
    let refused = train(&scratch, &out, &[]).output().unwrap();
    assert_eq!(code(&refused), 2);
    assert!(stderr(&refused).contains("holds a run with optimizer.decay = \"constant\""), "{}", stderr(&refused));
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
    let digest = |store: &Path| engine::data::Store::open(store).unwrap().info().digest.clone();
    let [theirs, ours] = [&scratch.store(), &other].map(|store| digest(store));
    let expected = format!(
        "{}: holds a run on the data with digest {theirs}; {} has digest {ours}; give the data of this run, or another --out\n",
        out.display(),
        other.display()
    );
    let held = |when: &str| {
        let refused = train(&scratch, &out, &["--data", other.to_str().unwrap()]).output().unwrap();
        assert_eq!(code(&refused), 2, "{when}: {}", stderr(&refused));
        assert!(stderr(&refused).ends_with(&expected), "{when}: {}", stderr(&refused));
    };
    held("by its checkpoint");
    fs::remove_dir_all(out.join("checkpoints")).unwrap();
    held("by its record");
}

#[test]
fn samples_of_steps_that_are_done_again_are_drawn_again() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let sample = |name: &str| out.join("samples").join(name);
    let again = || {
        let done = train(&scratch, &out, &["--set", "sample.every=5", "--set", "sample.steps=1"]).output().unwrap();
        assert_eq!(code(&done), 0, "{}", stderr(&done));
        ["step_00000005.png", "step_00000010.png", "mine.png"].map(|name| fs::read(sample(name)).unwrap_or_default())
    };
    let [fifth, tenth, _] = again();
    let old = || vec![7];
    for name in ["step_00000005.png", "step_00000010.png", "step_00000015.npy", "mine.png"] {
        fs::write(sample(name), old()).unwrap();
    }
    // The last checkpoint is damaged, so the run falls back to step 9.
    fs::write(out.join("checkpoints/step_00000010/model.safetensors"), "").unwrap();
    assert_eq!(again(), [old(), tenth.clone(), old()]);
    assert!(!sample("step_00000015.npy").exists());
    fs::remove_dir_all(out.join("checkpoints")).unwrap();
    assert_eq!(again(), [fifth, tenth, old()]);
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
