//! The host's side of a card, on emulated cards: recordings, failures, and whole training steps beside the processor's.

mod common;
#[path = "common/runs.rs"]
mod runs;

use common::{Emulated, cards, cpu, normals};
use emulator::Policy;
use engine::base::{DType, Error, LossMask, Mask, PatchGrid, Path, Prediction, Rate, Times, Weighting};
use engine::device::cuda::{Cuda, MODULES};
use engine::device::{Device, Recording};
use engine::nn::{Config, Family};
use engine::ops::noise::Noise;
use engine::ops::solver::advance;
use engine::ops::update::AdamW;
use engine::tape::Keep;
use engine::tensor::Tensor;
use engine::train::{Report, Settings, Step, Stop};
use runs::{Scratch, contents, losses, said};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

#[test]
fn a_recording_does_what_was_asked_for_each_time_it_is_replayed() {
    for (name, device) in cards(DType::F32) {
        let v = Tensor::from_slice(&device, "test", [4], &[1.0f32, 2.0, 3.0, 4.0]);
        let mut z = Tensor::from_slice(&device, "test", [4], &[0.0f32; 4]);
        let twice = |z: &mut Tensor| {
            let mut half = Tensor::new(&device, "test", [4], DType::F32);
            advance(&device, z, &v, 0.5, &mut half);
            let mut whole = Tensor::new(&device, "test", [4], DType::F32);
            advance(&device, &half, &v, 0.5, &mut whole);
            advance(&device, &whole, &v, 0.0, z);
        };
        twice(&mut z);
        let recording = Recording::of(&device, || twice(&mut z)).unwrap().expect("a card records");
        assert_eq!(z.to_vec::<f32>(), [1.0, 2.0, 3.0, 4.0], "{name}: recording does nothing");
        for times in [2.0, 3.0] {
            assert!(recording.replay().unwrap());
            assert_eq!(z.to_vec::<f32>(), [1.0, 2.0, 3.0, 4.0].map(|v| v * times), "{name}");
        }
        let held = Tensor::from_slice(&device, "test", [4], &[7.0f32; 4]);
        assert!(!recording.replay().unwrap(), "{name}: its memory is taken");
        assert_eq!(held.to_vec::<f32>(), [7.0; 4], "{name}");
        drop(held);
        assert!(recording.replay().unwrap(), "{name}");
        assert_eq!(z.to_vec::<f32>(), [4.0, 8.0, 12.0, 16.0], "{name}");
    }
}

const RATE: f32 = 3e-3;

/// A model whose extents are ragged wherever they may be: 15 patches of which 11 are kept, width 24, three heads.
fn settings(keep: Keep) -> Settings {
    let grid = PatchGrid { channels: 3, height: 6, width: 10, patch: 2 };
    Settings {
        model: Config { family: Family::Sit, grid, depth: 2, width: 24, heads: 3, classes: 5, learn_sigma: true },
        batch: 3,
        mask: Mask { loss: LossMask::Pixel, loss_drop: Rate::constant(0.5), ..Mask::patches(0.3) },
        noise: Noise {
            path: Path::Linear,
            prediction: Prediction::V,
            times: Times::UNIFORM,
            weighting: Weighting::None,
            label_dropout: 0.3,
            null_label: 5,
            seed: 4,
        },
        adamw: AdamW { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0.01 },
        clip: Some(1.0),
        averages: vec![0.9],
        keep,
        seed: 4,
    }
}

/// The reports of ten steps at learning rate `rate`, and the weights after them.
fn train(device: &Device, keep: Keep, rate: f32) -> Result<(Vec<Report>, Vec<f32>), Error> {
    let settings = settings(keep);
    let (image, batch) = (settings.model.grid.image(), settings.batch);
    let mut step = Step::new(device, settings)?;
    let reports = (0..10).map(|number| {
        let images = normals(number, batch * image, 1.0);
        step.run(number.into(), rate, &images, &[0, 3, 4])
    });
    let reports = reports.collect::<Result<Vec<_>, _>>()?;
    let weights = (0..step.params.list.trained()).flat_map(|i| step.params.weights.part(i).to_vec::<f32>()).collect();
    Ok((reports, weights))
}

#[test]
fn ten_recorded_steps_of_training_lose_what_the_processors_lose_and_end_at_its_weights() {
    let (truth, end) = train(&cpu(2), Keep::Everything, RATE).unwrap();
    let (untrained, start) = train(&cpu(2), Keep::Everything, 0.0).unwrap();
    let far = |reports: &[Report]| {
        let pairs = reports.iter().zip(&truth);
        pairs.map(|(a, b)| (a.loss / b.loss - 1.0).abs()).fold(0.0, f32::max)
    };
    let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
    // A part of the way that the weights went.
    let astray = |weights: &[f32]| distance(weights, &end) / distance(&start, &end);
    // The processor's own products in bf16 say how far rounding carries a loss; a card rounds as well what is between products,
    // the gradients and the weights: four roundings for one. A model that does not learn says how far a loss is from that of
    // one that does. Where a gradient is near zero AdamW makes a whole step of a rounding, so weights go astray sooner than
    // losses: by as much as the processor's between its instruction sets, or in bf16, and by as much again for the card.
    let of = |products| train(&common::cpus(products)[0].1, Keep::Everything, RATE).unwrap();
    let ((_, portable), (rounded, rounded_weights)) = (of(DType::F32), of(DType::BF16));
    let carried = far(&rounded);
    assert!(far(&untrained) > 10.0 * carried, "the losses tell what the steps did: {carried:e}");
    // What ten steps change is about a hundredth of a loss, so roundings of it in f32 are a few of the loss's own.
    let f32_bounds = (DType::F32, 16.0 * f32::EPSILON, 2.0 * astray(&portable));
    for (activations, loss, weight) in [f32_bounds, (DType::BF16, 4.0 * carried, 2.0 * astray(&rounded_weights))] {
        for (name, device) in cards(activations) {
            let (reports, weights) = train(&device, Keep::Everything, RATE).unwrap();
            let (error, lost) = (far(&reports), astray(&weights));
            assert!(error <= loss, "{name}: losses differ by {error:e}, not {loss:e}: {reports:?}, {truth:?}");
            assert!(lost <= weight, "{name}: the weights go {lost:e} of their way astray, not {weight:e}");
            assert!(reports.iter().all(|report| report.applied), "{name}");
            let (again, same) = train(&device, Keep::BlockOutputs, RATE).unwrap();
            assert!(again == reports && same == weights, "{name}: recomputation and a second run give the same bits");
            assert_eq!(device.arena().used(), 0, "{name}: everything is given back");
        }
    }
}

#[test]
fn a_run_on_a_card_resumes_bit_equal_and_reports_every_step_though_one_report_is_always_out() {
    for (name, device) in cards(DType::BF16) {
        let scratch = Scratch::new();
        let store = scratch.store();
        let train = |out: &str, sets: &[&str]| {
            let sets = [sets, &["optimizer.decay=constant", "checkpoint.every=3"]].concat();
            runs::train(|_| device.clone(), &Stop::default(), &store, &scratch.path(out), &sets).unwrap();
        };
        train("whole", &["train.steps=7"]);
        train("parts", &["train.steps=4"]);
        train("parts", &["train.steps=7"]);
        let (whole, parts) = (losses(&scratch.path("whole")), losses(&scratch.path("parts")));
        let steps =
            |lines: &[String]| lines.iter().filter(|line| line.contains("\"norm\"")).cloned().collect::<Vec<_>>();
        assert_eq!(steps(&whole).len(), 7, "{name}: {whole:?}");
        assert_eq!(steps(&whole), steps(&parts), "{name}");
        let weights = |out| contents(&scratch.path(out), 7).remove("model.safetensors").unwrap();
        assert!(weights("whole") == weights("parts"), "{name}");
    }
}

#[test]
fn a_profile_names_every_launch_of_a_step_and_changes_nothing() {
    for (name, device) in cards(DType::BF16) {
        let run = |profiled: bool| {
            let mut step = Step::new(&device, settings(Keep::Everything)).unwrap();
            let images = normals(0, step.settings.batch * step.settings.model.grid.image(), 1.0);
            let mut launches = vec![];
            let reports: Vec<Report> = (0..3)
                .map(|number| match profiled && number > 0 {
                    false => step.run(number, RATE, &images, &[0, 3, 4]).unwrap(),
                    true => {
                        let mut report = None;
                        let work = || report = Some(step.run(number, RATE, &images, &[0, 3, 4]).unwrap());
                        launches.push(device.profile(work).unwrap().expect("a card"));
                        report.unwrap()
                    }
                })
                .collect();
            (reports, launches)
        };
        let (reports, launches) = run(true);
        assert_eq!(reports, run(false).0, "{name}");
        let names = |i: usize| launches[i].iter().map(|launch| launch.0).collect::<Vec<_>>();
        assert_eq!(names(0), names(1), "{name}");
        assert!(
            names(0).len() > 30 && names(0).iter().any(|name| name.starts_with("attention")),
            "{name}: {:?}",
            names(0)
        );
        assert!(launches[0].iter().all(|launch| launch.1 > 0.0), "{name}");
    }
}

#[test]
fn a_run_that_diverges_on_a_card_ends_at_the_last_step_that_reported() {
    for (name, device) in cards(DType::BF16) {
        let scratch = Scratch::new();
        let out = scratch.path("run");
        let lost = ["optimizer.lr=1e30", "optimizer.warmup=0", "optimizer.decay=constant"];
        let sets = [&lost[..], &["train.steps=100", "checkpoint.every=100"]].concat();
        let ended = runs::train(|_| device.clone(), &Stop::default(), &scratch.store(), &out, &sets);
        assert!(matches!(ended, Err(Error::Diverged(_))), "{name}: {ended:?}");
        let (metrics, events) = (losses(&out), said(&out));
        let (line, end) = (metrics.last().unwrap(), events.last().unwrap());
        assert_eq!(end["outcome"], "failed", "{name}: {end}");
        assert!(line.starts_with(&format!("{{\"step\":{},", end["step"])), "{name}: {end}, but {line}");
    }
}

/// Two steps of a small model on a card: the first call by call, the second recorded. `Err` holds what was thrown.
fn two_steps(device: &Device) -> Result<(), Error> {
    let grid = PatchGrid { channels: 1, height: 4, width: 4, patch: 2 };
    let model = Config { family: Family::Sit, grid, depth: 1, width: 8, heads: 1, classes: 2, learn_sigma: false };
    let settings = Settings { model, batch: 1, mask: Mask::patches(0.25), ..settings(Keep::Everything) };
    let thrown = catch_unwind(AssertUnwindSafe(|| {
        let mut step = Step::new(device, settings)?;
        (0..2).try_for_each(|number| step.run(number, 1e-3, &normals(0, 16, 1.0), &[1]).map(drop))
    }));
    thrown.unwrap_or_else(|thrown| Err(*thrown.downcast::<Error>().expect("what an operation throws is an error")))
}

#[test]
fn a_launch_that_fails_ends_in_an_error_with_its_name_and_leaves_nothing_behind() {
    if MODULES.is_empty() {
        return;
    }
    let (mut failures, mut replayed) = (0, false);
    loop {
        let card = Emulated::new((8, 0), Policy::Eager).failing_at(failures);
        let device = Device::cuda(Cuda::new(Arc::new(card), DType::BF16).unwrap());
        let done = two_steps(&device);
        assert_eq!(device.arena().used(), 0, "launch {failures}: everything is given back");
        match done {
            Ok(()) => break,
            Err(Error::Device(text)) => {
                assert!(text.ends_with(": failed on request"), "launch {failures}: {text}");
                replayed |= text.starts_with("what was recorded: ");
            }
            Err(other) => panic!("launch {failures}: {other}"),
        }
        failures += 1;
    }
    assert!(failures > 50 && replayed, "a step has more than {failures} launches, and the second is replayed");
}

#[test]
fn memory_that_does_not_suffice_ends_in_an_error_that_names_its_holders_and_leaves_nothing_behind() {
    if MODULES.is_empty() {
        return;
    }
    let (mut failed, mut memory) = (0, 1 << 10);
    loop {
        let card = Arc::new(Emulated::new((8, 0), Policy::Eager));
        let device = Device::cuda(Cuda::within(card, DType::BF16, memory).unwrap());
        let done = two_steps(&device);
        assert_eq!(device.arena().used(), 0, "{memory} bytes: everything is given back");
        match done {
            Ok(()) => break,
            Err(Error::Memory(text)) => {
                assert!(text.starts_with("out of memory: ") && text.contains("lower the batch size"), "{text}");
            }
            Err(other) => panic!("{memory} bytes: {other}"),
        }
        failed += 1;
        memory += 1 << 10;
    }
    assert!(failed > 10, "two steps need more than {memory} bytes");
}
