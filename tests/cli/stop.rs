//! How `engine train` ends before its last step: by signals, by failures, by numbers that are not finite.

use super::runs::contents;
use super::{Scratch, code, end, endless, signal, stderr, stdout, train};
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
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

/// No file may grow beyond 16 KiB: what a full disk is like to a checkpoint, and not to the small files of a run.
#[test]
fn a_run_that_finds_no_room_at_its_end_keeps_what_it_has_and_the_same_command_goes_on() {
    let scratch = Scratch::new();
    let (out, whole) = (scratch.path("run"), scratch.path("whole"));
    let sets = ["--set", "model.width=64", "--set", "optimizer.decay=constant", "--set", "sample.every=10"];
    let sets = [&sets[..], &["--set", "sample.steps=1", "--set", "sample.count=2000"]].concat();
    let sets = [&sets[..], &["--set", "checkpoint.every=3", "--set", "checkpoint.keep=2"]].concat();
    let limited = |command: Command| {
        let within = "trap '' XFSZ; ulimit -f 16; exec \"$@\"";
        let mut bash = Command::new("bash");
        bash.args(["-c", within, "bash"]).arg(command.get_program()).args(command.get_args()).output().unwrap()
    };
    assert_eq!(code(&train(&scratch, &whole, &sets).output().unwrap()), 0);
    assert_eq!(code(&train(&scratch, &out, &[&sets[..], &["--steps", "7"]].concat()).output().unwrap()), 0);
    let full = limited(train(&scratch, &out, &[&sets[..], &["--set", "checkpoint.every=100"]].concat()));
    let (text, message) = (stdout(&full), stderr(&full));
    assert_eq!(code(&full), 4, "{text}{message}");
    assert_eq!(text.matches(": the run is not saved; it tries again").count(), 2, "{text}");
    let newest = out.join("checkpoints/step_00000007");
    let expected = format!("then run the same command again, which goes on from {}\n", newest.display());
    assert!(message.ends_with(&expected), "{message}");
    let left: Vec<_> = fs::read_dir(out.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [newest]);
    // Between the steps that are due a failure costs nothing, however often.
    let timed = ["--set", "checkpoint.every=100", "--set", "checkpoint.minutes=1e-9"];
    let full = limited(train(&scratch, &out, &[&sets[..], &timed].concat()));
    let text = stdout(&full);
    assert_eq!(code(&full), 4, "{text}{}", stderr(&full));
    assert_eq!(text.matches(": the run is not saved in between; it goes on").count(), 2, "{text}");
    assert_eq!(text.matches(": the run is not saved; it tries again").count(), 2, "{text}");
    assert_eq!(code(&train(&scratch, &out, &sets).output().unwrap()), 0);
    assert!(contents(&out, 10)["model.safetensors"] == contents(&whole, 10)["model.safetensors"]);
    // Nor is a picture lost.
    fs::remove_dir_all(out.join("samples")).unwrap();
    for (undrawn, drawn) in [(true, false), (false, true)] {
        let command = train(&scratch, &out, &sets);
        let ended = if undrawn { limited(command) } else { { command }.output().unwrap() };
        let text = stdout(&ended);
        assert_eq!(code(&ended), 0, "{text}{}", stderr(&ended));
        assert_eq!(text.contains("; the same command draws its samples again"), undrawn, "{text}");
        assert_eq!(out.join("samples/step_00000010.png").is_file(), drawn);
    }
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
