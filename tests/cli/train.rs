//! `engine train`: what it says and leaves behind, and what it refuses before it touches anything.

use super::{Scratch, code, engine, stderr, stdout, train};
use std::fs;
use std::process::Command;

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
    let at = |said: &str| text.lines().position(|line| line.contains(said)).expect(&text);
    assert!(at(" of memory, and at least ") < at("step 1/10  ") && at("step 1/10  ") == at(" left  "), "{text}");
    for file in ["config.resolved.toml", "run.json", "metrics.jsonl", "loss.svg", "samples/step_00000010.png"] {
        assert!(out.join(file).is_file(), "{file}");
    }
    let record: serde_json::Value = serde_json::from_slice(&fs::read(out.join("run.json")).unwrap()).unwrap();
    assert_eq!(record["starts"][0]["step"], 0);
}

#[test]
fn the_first_run_needs_nothing_but_a_folder_and_its_next_command_works() {
    let scratch = Scratch::new();
    let folder = scratch.path("here");
    fs::create_dir(&folder).unwrap();
    let short = ["train", "--steps", "2", "--set", "sample.count=10", "--set", "sample.steps=1"];
    let done = engine(&short).current_dir(&folder).output().unwrap();
    assert_eq!(code(&done), 0, "{}", stderr(&done));
    assert!(folder.join("runs/sit-xs-4/samples/step_00000002.png").is_file());
    let text = stdout(&done);
    let more = text.lines().find_map(|line| line.strip_prefix("draw more     ")).expect(&text);
    let drawn = Command::new("sh").args(["-c", more]).current_dir(&folder).output().unwrap();
    assert_eq!(code(&drawn), 0, "{more}: {}", stderr(&drawn));
    assert!(fs::read(folder.join("more.png")).unwrap().starts_with(b"\x89PNG"));
}

#[test]
fn a_masked_run_says_what_it_computes_and_saves() {
    let scratch = Scratch::new();
    let run = |more: &[&str]| stdout(&train(&scratch, &scratch.path(more[1]), more).output().unwrap());
    let said = run(&["--drop", "0.5", "--mask", "block:2", "--loss-mask", "block:1:0.5"]);
    assert!(said.contains("  8 of 16 patches, about 0 s saved"), "{said}");
    let said = run(&["--drop", "0.0"]);
    assert!(said.contains("img/s") && !said.contains(" saved\n"), "{said}");
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
        (vec!["--precision", "f16"], 2, "[possible values: auto, f32, bf16]"),
        (vec!["--steps", "1e5"], 2, "invalid value '1e5' for '--steps <N>': give a whole number from 0 on"),
        (vec!["--seed", "-1"], 2, "invalid value '-1' for '--seed <N>': give a whole number from 0 on"),
        (vec!["--threads", "0"], 2, "invalid value '0' for '--threads <N>': give a whole number from 1 to 1024"),
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
            vec!["--drop", "0.5", "--mask", "block:3"],
            2,
            "error: mask.kind = block:3: blocks of 3 x 3 patches do not divide a grid of 4 x 4",
        ),
        (
            vec!["--mask", "blok:2"],
            2,
            "error: --mask \"blok:2\": mask.kind: \"blok:2\" is not known; give patch, block:SIDE or crop:SIDE",
        ),
        (vec!["--loss-mask", "pixel"], 2, "'--loss-mask <KIND:RATE>': give a kind and a rate, for example pixel:0.95"),
        (
            vec!["--loss-mask", "row:0.5"],
            2,
            "mask.loss_kind: \"row\" is not known; give element, pixel, patch or block:SIDE",
        ),
        (
            vec!["--set", "optimizer.decay_steps=9"],
            2,
            "error: train.steps = 10: the learning rate is 0 from step 9 on, as optimizer.decay_steps has it; give --set optimizer.decay_steps=10 too, or at most 9 steps\n",
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
    let file = train(&scratch, &scratch.store(), &[]).output().unwrap();
    let expected = "tiny.store: is a file, a run is a folder; give another --out\n";
    assert!(code(&file) == 2 && stderr(&file).ends_with(expected), "{}", stderr(&file));
    let binary = engine(&["train"]).arg(scratch.store()).output().unwrap();
    let expected = "tiny.store: is no recipe, which is text; a store goes after --data";
    assert!(code(&binary) == 2 && stderr(&binary).contains(expected), "{}", stderr(&binary));
    let folder = engine(&["train", "src"]).output().unwrap();
    let expected = "error: src: is a folder, a recipe is a file; that of a run is its config.resolved.toml\n";
    assert_eq!((code(&folder), stderr(&folder).as_str()), (2, expected));
    let absent = engine(&["train", "absent.toml"]).output().unwrap();
    assert_eq!((code(&absent), stderr(&absent).as_str()), (2, "error: absent.toml: no such recipe; check the path\n"));
}

#[test]
fn floats_that_look_like_bytes_are_trained_on_with_the_warning_that_ingest_gave() {
    let scratch = Scratch::new();
    let (numbers, store) = (scratch.path("bytes.npy"), scratch.path("bytes.store"));
    let values: Vec<f32> = (0..40 * 64).map(|i| (i % 256) as f32).collect();
    engine::data::npy::write(&numbers, &[40, 1, 8, 8], &values).unwrap();
    engine::data::ingest::ingest(&numbers, None, &store, &mut |_, _| {}).unwrap();
    let done = train(&scratch, &scratch.path("run"), &["--data", store.to_str().unwrap()]).output().unwrap();
    assert_eq!(code(&done), 0, "{}", stderr(&done));
    let expected = "values from 0 to 255: floats are read as they are; if these are pixels, save their astype('uint8')";
    assert_eq!(stdout(&done).matches(expected).count(), 1, "{}", stdout(&done));
}

#[test]
fn rows_that_are_no_images_are_refused_with_two_ways_on_and_both_lead_on() {
    let scratch = Scratch::new();
    let run = |name: &str, shape: &[usize], more: &[&str]| {
        let (numbers, store) = (scratch.path(&format!("{name}.npy")), scratch.path(&format!("{name}.store")));
        engine::data::npy::write(&numbers, shape, &[0.5; 40 * 64]).unwrap();
        engine::data::ingest::ingest(&numbers, None, &store, &mut |_, _| {}).unwrap();
        let more = [&["--data", store.to_str().unwrap()], more].concat();
        train(&scratch, &scratch.path(name), &more).output().unwrap()
    };
    let refused = run("flat", &[40, 64], &[]);
    assert_eq!(code(&refused), 2);
    let expected = "error: model.patch = 2: the data has rows of 64 values, and no images; \
        ingest it as (M, C, H, W), or give 1 to take a row as one patch\n";
    assert_eq!(stderr(&refused), expected);
    for (name, shape, more) in
        [("images", &[40, 1, 8, 8][..], &[][..]), ("rows", &[40, 64], &["--set", "model.patch=1", "--drop", "0"])]
    {
        let done = run(name, shape, more);
        assert_eq!(code(&done), 0, "{name}: {}", stderr(&done));
    }
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
fn the_last_object_of_a_run_says_how_it_ended_and_what_it_left() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let last = |more: &[&str]| -> serde_json::Value {
        let ended = train(&scratch, &out, &[&["--json", "--set", "sample.steps=1"], more].concat()).output().unwrap();
        serde_json::from_str(stdout(&ended).lines().last().unwrap()).unwrap()
    };
    let path = |name: &str| out.join(name).to_str().unwrap().to_owned();
    for from in [0, 10] {
        let end = last(&["--set", "sample.every=5"]);
        assert_eq!(
            (&end["event"], &end["outcome"], &end["from"], &end["step"]),
            (&"end".into(), &"done".into(), &from.into(), &10.into())
        );
        assert_eq!(end["checkpoint"], path("checkpoints/step_00000010"));
        assert_eq!(end["samples"], path("samples/step_00000010.png"));
        assert!(end["seconds"].as_f64().is_some_and(|seconds| (0.0..60.0).contains(&seconds)), "{end}");
        assert_eq!(end["held_out"].is_number(), from == 0, "{end}");
    }
    let end = last(&["--set", "sample.every=0", "--steps", "12"]);
    assert_eq!(
        (&end["samples"], &end["checkpoint"]),
        (&serde_json::Value::Null, &path("checkpoints/step_00000012").into())
    );
}
