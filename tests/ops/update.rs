use crate::common::{cards, devices, kind, normals};
use engine::base::{DType, Shape};
use engine::ops::update::{AdamW, Average, Moments, Report, Update, Weights, update, working};
use engine::tensor::{Slab, Tensor};
use half::bf16;
use std::collections::HashMap;

const RATE: f32 = 1e-2;
const ADAMW: AdamW = AdamW { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0.1 };

/// What f32 rounds by at most, relative to a number.
///
/// Three updates may be off by this. A step is lr r with r = mhat / sqrt(vhat), in which neither |r| nor the sum of the
/// magnitudes of the terms of mhat over sqrt(vhat) is above 1.01 (Cauchy and Schwarz, for these decays). Rounded are the
/// gradient, clipped, up to 4 times; m up to 6 more; v, through the root of up to 15 of it and of the gradient's, 9; the
/// rate, the factors and the division 6: 25 units of lr, 0.75 units in three steps at lr = 0.01. A weight itself is rounded
/// by each, 3 units of it, and of what it decays by and was before, at most 1 % and 0.03 away, a tenth more. An average
/// moves towards weights that are off by that, and is rounded three times itself.
const UNIT: f64 = f32::EPSILON as f64 / 2.0;

/// One parameter through the steps of the algorithm, in f64.
fn naive(mut w: f64, gradients: &[f64], average_decay: f64) -> (f64, f64) {
    let [lr, b1, b2, epsilon, decay] =
        [RATE, ADAMW.beta1, ADAMW.beta2, ADAMW.epsilon, ADAMW.weight_decay].map(f64::from);
    let (mut m, mut v, mut average) = (0.0, 0.0, w);
    for (k, g) in gradients.iter().enumerate() {
        m = b1 * m + (1.0 - b1) * g;
        v = b2 * v + (1.0 - b2) * g * g;
        let power = k as i32 + 1;
        let (mhat, vhat) = (m / (1.0 - b1.powi(power)), v / (1.0 - b2.powi(power)));
        w -= lr * (mhat / (vhat.sqrt() + epsilon) + decay * w);
        average = average_decay * average + (1.0 - average_decay) * w;
    }
    (w, average)
}

#[test]
fn three_updates_match_the_naive_algorithm_with_the_same_bits_on_any_threads() {
    // The third parameter crosses the blocks in which a device works.
    let shapes: Vec<Shape> = vec![[3].into(), [5, 7].into(), [40_000].into()];
    let decays = [0.9f32, 0.999];
    let clip = 50.0;
    let mut first = HashMap::new();
    for (name, device) in devices().into_iter().chain(cards(DType::BF16)) {
        let mut weights = Slab::zeros(&device, "test", &shapes).unwrap();
        let mut gradients = Slab::zeros(&device, "test", &shapes).unwrap();
        for (i, shape) in shapes.iter().enumerate() {
            weights.part_mut(i).write(&normals(i as u32, shape.len(), 1.0));
        }
        let before: Vec<Vec<f32>> = (0..3).map(|i| weights.part(i).to_vec()).collect();
        let mut moments = Moments::new(&device, &weights, &shapes, &decays).unwrap();
        let loss = Tensor::from_slice(&device, "test", [1], &[1.0f32]);
        let rate = Tensor::from_slice(&device, "test", [1], &[RATE]);
        let mut report = Report::memory(&device);
        let mut working = working(&device, &weights).unwrap();
        let mut history: Vec<Vec<Vec<f64>>> = vec![];
        for step in 0..3u32 {
            for (i, shape) in shapes.iter().enumerate() {
                gradients.part_mut(i).write(&normals(10 * (step + 1) + i as u32, shape.len(), 1.0));
            }
            let step: Vec<Vec<f64>> =
                (0..3).map(|i| gradients.part(i).to_vec::<f32>().into_iter().map(f64::from).collect()).collect();
            let norm = step.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
            let settings = Update { adamw: ADAMW, clip: Some(clip) };
            let both = Weights { masters: &mut weights, working: working.as_mut() };
            update(&device, settings, &rate, &loss, both, &gradients, &mut moments, &mut report);
            let done = Report::finish(report.begin_read());
            let error = f64::from(done.norm) / norm - 1.0;
            assert!(done.applied && error.abs() < f64::from(f32::EPSILON), "{name}: norm {} for {norm}", done.norm);
            history.push(step.iter().map(|g| g.iter().map(|g| g * f64::from(clip) / norm).collect()).collect());
        }
        assert_eq!(moments.applied.to_vec::<u32>(), [3, 0]);
        let slabs = [&weights, &moments.m, &moments.v].into_iter().chain(moments.averages.iter().map(|a| &a.weights));
        let parts = slabs.flat_map(|slab| (0..3).map(|i| slab.part(i).to_vec::<f32>()));
        let bits: Vec<u32> = parts.flatten().map(f32::to_bits).collect();
        let first = first.entry(kind(&device)).or_insert_with(|| bits.clone());
        assert!(*first == bits, "{name}: another number of threads, or another policy, gives other bits");
        for i in 0..3 {
            let ours = weights.part(i).to_vec::<f32>();
            let averages: Vec<Vec<f32>> = moments.averages.iter().map(|a| a.weights.part(i).to_vec()).collect();
            if let Some(working) = &working {
                let rounded: Vec<bf16> = ours.iter().map(|&w| bf16::from_f32(w)).collect();
                assert_eq!(working.part(i).to_vec::<bf16>(), rounded, "{name}: what products read");
            }
            for at in 0..shapes[i].len() {
                let gradients: Vec<f64> = history.iter().map(|step| step[i][at]).collect();
                for ((Average { decay, .. }, average), &asked) in moments.averages.iter().zip(&averages).zip(&decays) {
                    assert_eq!(*decay, asked);
                    let (w, e) = naive(f64::from(before[i][at]), &gradients, f64::from(asked));
                    let [of_weight, of_average] = [3.1, 6.2].map(|times| UNIT * (times * w.abs() + 1.0));
                    let (ours, ours_average) = (f64::from(ours[at]), f64::from(average[at]));
                    assert!((ours - w).abs() <= of_weight, "{name}: weight {i}/{at} is {ours}, not {w}");
                    assert!(
                        (ours_average - e).abs() <= of_average,
                        "{name}: average {i}/{at} is {ours_average}, not {e}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_step_that_is_not_finite_touches_nothing() {
    for (name, device) in devices() {
        // The square of the last gradient is no number of f32.
        for (gradient, loss) in [(f32::NAN, 1.0), (f32::INFINITY, 1.0), (1.0, f32::NAN), (1e20, 1.0)] {
            let shapes = [Shape::new(&[100])];
            let mut weights = Slab::zeros(&device, "test", &shapes).unwrap();
            let mut gradients = Slab::zeros(&device, "test", &shapes).unwrap();
            weights.part_mut(0).write(&normals(1, 100, 1.0));
            gradients.part_mut(0).write_from(57, &[gradient]);
            let before = weights.part(0).to_vec::<f32>();
            let mut moments = Moments::new(&device, &weights, &shapes, &[0.9]).unwrap();
            let loss = Tensor::from_slice(&device, "test", [1], &[loss]);
            let settings = Update { adamw: ADAMW, clip: None };
            let rate = Tensor::from_slice(&device, "test", [1], &[RATE]);
            let mut report = Report::memory(&device);
            let both = Weights { masters: &mut weights, working: None };
            update(&device, settings, &rate, &loss, both, &gradients, &mut moments, &mut report);
            assert!(
                !Report::finish(report.begin_read()).applied && moments.applied.to_vec::<u32>() == [0, 0],
                "{name}"
            );
            assert!(weights.part(0).to_vec::<f32>() == before, "{name}: the weights are untouched");
            assert!(moments.averages[0].weights.part(0).to_vec::<f32>() == before, "{name}: the average is untouched");
            let touched = |slab: &Slab| slab.part(0).to_vec::<f32>().iter().any(|&x| x != 0.0);
            assert!(!touched(&moments.m) && !touched(&moments.v), "{name}: moments");
        }
    }
}
