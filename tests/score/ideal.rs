use super::common::cards;
use super::oracle::exact;
use super::runs::{self, Scratch, contents, losses};
use super::{noised, row, store, words};
use engine::base::{DType, PatchGrid, Path, Prediction, Times, Weighting};
use engine::data::Store;
use engine::data::tensors::FileDType;
use engine::device::{Cpu, Device};
use engine::ops::noise::{Batch, Noise, Noised};
use engine::train::{Ideal, Softmax, Stop, Target};
use std::num::NonZero;

/// One channel of 4 x 4, in classes of 10 and 20 rows.
const GRID: PatchGrid = PatchGrid { channels: 1, height: 4, width: 4, patch: 2 };
const WIDTH: usize = 16;
const NULL: u32 = 2;

fn device(threads: usize) -> Device {
    Device::cpu(Cpu::new(NonZero::new(threads), DType::F32).unwrap())
}

fn rows() -> Store {
    let pixels: Vec<u8> = words(21, 30 * WIDTH).iter().map(|x| *x as u8).collect();
    store(FileDType::U8, WIDTH, &pixels, &[10, 20])
}

fn noise() -> Noise {
    Noise {
        path: Path::Linear,
        prediction: Prediction::V,
        times: Times::UNIFORM,
        weighting: Weighting::None,
        label_dropout: 0.0,
        null_label: NULL,
        seed: 5,
    }
}

/// The targets of points at their times under labels, at a step.
fn targets(ideal: &Ideal<'_>, step: u32, z: &[f32], t: &[f32], y: &[u32]) -> Vec<f32> {
    let device = device(1);
    let mut batch = Batch::new(&device, t.len(), GRID);
    batch.fill(&noise(), &vec![0.0; z.len()], y, step, 0);
    let mut noised = Noised::new(&device, t.len(), GRID);
    noised.z.write(z);
    noised.t.write(t);
    noised.y.write(y);
    noised.target.write(&vec![f32::NAN; z.len()]);
    ideal.retarget(&batch, &mut noised);
    noised.target.to_vec()
}

/// Points of the classes 0, 1 and none, near the middle of two rows.
fn points() -> (Vec<f32>, Vec<f32>, Vec<u32>) {
    let store = rows();
    let (t, y) = ([0.55f32, 0.7, 0.85, 0.6, 0.9, 1.0], vec![0, 1, NULL, 1, 0, NULL]);
    let z = (0..6).flat_map(|i| noised(&row(&store, 4 * i), f64::from(t[i as usize]), i));
    (z.map(|z| z as f32).collect(), t.to_vec(), y)
}

fn range(softmax: Softmax, label: u32) -> std::ops::Range<u32> {
    match (softmax, label) {
        (Softmax::Class, 0) => 0..10,
        (Softmax::Class, 1) => 10..30,
        _ => 0..30,
    }
}

#[test]
fn exact_targets_are_the_velocity_of_the_empirical_score_of_the_class_or_of_all() {
    let store = rows();
    let (z, t, y) = points();
    let devices = cards(DType::F32).into_iter().chain([("cpu".into(), device(2))]);
    for ((name, device), softmax) in devices.flat_map(|d| [Softmax::Class, Softmax::All].map(|s| (d.clone(), s))) {
        let ideal = Ideal::new(&device, &store, Target::Exact, softmax, noise()).unwrap();
        let ours = targets(&ideal, 3, &z, &t, &y);
        for (i, (ours, z)) in ours.chunks(WIDTH).zip(z.chunks(WIDTH)).enumerate() {
            let z: Vec<f64> = z.iter().map(|&z| f64::from(z)).collect();
            let exact = exact(&store, range(softmax, y[i]), &z, f64::from(t[i])).velocity;
            for (ours, exact) in ours.iter().zip(exact) {
                // One rounding to f32.
                assert!((f64::from(*ours) - exact).abs() <= 1e-7 * exact.abs() + 1e-9, "{name}, {i}: {ours}, {exact}");
            }
        }
    }
}

#[test]
fn sampled_targets_point_to_rows_as_often_as_the_posterior_says() {
    const STEPS: u32 = 4000;
    let (store, device) = (rows(), device(1));
    let (z, t, y) = points();
    for softmax in [Softmax::Class, Softmax::All] {
        let ideal = Ideal::new(&device, &store, Target::PosteriorSample, softmax, noise()).unwrap();
        let mut seen = vec![[0.0f64; 30]; t.len()];
        for step in 0..STEPS {
            let targets = targets(&ideal, step, &z, &t, &y);
            for (i, (u, z)) in targets.chunks(WIDTH).zip(z.chunks(WIDTH)).enumerate() {
                // u = (z - y) / t on the linear path.
                let x = z.iter().zip(u).map(|(z, u)| f64::from(*z) - f64::from(t[i]) * f64::from(*u));
                let x: Vec<f64> = x.collect();
                let off = |j: &u32| row(&store, *j).iter().zip(&x).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                let found = range(softmax, y[i]).find(|j| off(j) < 1e-5).expect("a target points to a row");
                seen[i][found as usize] += 1.0;
            }
        }
        for (i, (seen, z)) in seen.iter().zip(z.chunks(WIDTH)).enumerate() {
            let z: Vec<f64> = z.iter().map(|&z| f64::from(z)).collect();
            let range = range(softmax, y[i]);
            let posterior = exact(&store, range.clone(), &z, f64::from(t[i])).posterior;
            let mut several = 0;
            for (row, p) in range.zip(posterior) {
                // Five deviations of a binomial distribution, and one count for the rare ones.
                let (expected, count) = (p * f64::from(STEPS), seen[row as usize]);
                assert!(
                    (count - expected).abs() <= 5.0 * expected.sqrt() + 1.0,
                    "{i}, row {row}: {count} of {expected}"
                );
                several += u32::from(expected > 40.0);
            }
            assert!(several > 1, "point {i}: several rows have weight");
        }
    }
}

#[test]
fn sampled_targets_do_not_depend_on_how_a_batch_is_split_nor_on_threads() {
    let store = rows();
    let (z, t, y) = points();
    let devices = [device(1), device(2)];
    let [one, two] = [0, 1].map(|i| {
        let ideal = Ideal::new(&devices[i], &store, Target::PosteriorSample, Softmax::All, noise()).unwrap();
        targets(&ideal, 9, &z, &t, &y)
    });
    assert_eq!(one, two);
    let ideal = Ideal::new(&devices[0], &store, Target::PosteriorSample, Softmax::All, noise()).unwrap();
    assert_eq!(targets(&ideal, 9, &z[..2 * WIDTH], &t[..2], &y[..2]), one[..2 * WIDTH]);
    assert_ne!(targets(&ideal, 10, &z, &t, &y), one);
}

fn train(scratch: &Scratch, out: &str, sets: &[&str]) -> Result<(), engine::base::Error> {
    let sets: Vec<&str> =
        ["train.batch_size=8", "mask.drop=0", "model.learn_sigma=false"].iter().chain(sets).copied().collect();
    runs::train(|_| device(1), &Stop::default(), &scratch.store(), &scratch.path(out), &sets)
}

#[test]
fn runs_on_every_target_train_on_their_region_and_resume_bit_for_bit() {
    let scratch = Scratch::new();
    for target in ["posterior-sample", "exact"] {
        let name = format!("objective.target={target}");
        let sets = [&*name, "objective.score=5", "objective.region=12"];
        let (whole, parts) = (format!("{target}-whole"), format!("{target}-parts"));
        train(&scratch, &whole, &sets).unwrap();
        for steps in ["train.steps=4", "train.steps=10"] {
            let sets = [&sets[..], &[steps, "optimizer.decay=constant"]].concat();
            train(&scratch, &parts, &sets).unwrap();
        }
        let other = format!("{target}-constant");
        train(&scratch, &other, &[&sets[..], &["optimizer.decay=constant"]].concat()).unwrap();
        assert!(contents(&scratch.path(&parts), 10) == contents(&scratch.path(&other), 10), "{target}");
    }
    // Rows that stand for themselves: with one row in D_score every target points to it.
    train(&scratch, "one", &["objective.target=exact", "objective.score=1", "objective.region=1"]).unwrap();
    train(&scratch, "same", &["objective.target=data", "objective.region=1"]).unwrap();
    let values = |name: &str| -> Vec<f64> {
        let value = |line: &String| line.split("\"loss\":").nth(1)?.split(',').next()?.parse().ok();
        losses(&scratch.path(name)).iter().filter_map(value).collect()
    };
    // At unlabelled points the other class's row has weight as well, and points are rounded to f32 before they are divided
    // by t.
    let (one, same) = (values("one"), values("same"));
    assert_eq!((one.len(), same.len()), (10, 10));
    assert!(one.iter().zip(&same).all(|(a, b)| (a - b).abs() < 0.1 * b), "{one:?} {same:?}");
}

#[test]
fn objectives_that_mean_nothing_are_refused_in_a_sentence() {
    let scratch = Scratch::new();
    for (sets, expected) in [
        (
            &["objective.score=3"][..],
            "objective.score = 3: has no meaning where the target is the data; give objective.region, or another objective.target",
        ),
        (
            &["objective.target=exact", "objective.score=9", "objective.region=3"],
            "objective.score = 9: is not within the 3 images of a class that are trained on; give 1 to 3",
        ),
    ] {
        assert_eq!(train(&scratch, "run", sets).unwrap_err().to_string(), expected);
    }
}
