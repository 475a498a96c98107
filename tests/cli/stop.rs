//! How `engine train` ends before its last step: by signals, by failures, by numbers that are not finite.

use super::{Scratch, code, end, endless, signal, stderr, stdout, train};
use std::fs;
use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

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
fn a_signal_ends_a_run_after_a_checkpoint_and_the_same_command_goes_on() {
    let scratch = Scratch::new();
    for name in ["TERM", "INT"] {
        let out = scratch.path(name);
        let (child, mut lines) = endless(&scratch, &out, &[]);
        signal(&child, name);
        let mut text = String::new();
        lines.read_to_string(&mut text).unwrap();
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!((&last["event"], &last["outcome"]), (&"end".into(), &"stopped".into()), "{name}");
        let checkpoint = format!("checkpoints/step_{:08}", last["step"].as_u64().unwrap());
        assert_eq!(last["checkpoint"], out.join(checkpoint).to_str().unwrap(), "{name}");
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
