use crate::common::{cpus, normals};
use engine::base::{DType, Shape};
use engine::ops::update::{AdamW, Average, Moments, Update, update};
use engine::tensor::{Slab, Tensor};
use std::slice::from_ref;

const ADAMW: AdamW = AdamW { lr: 1e-2, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0.1 };

/// One parameter through the steps of the algorithm, in f64.
fn naive(mut w: f64, gradients: &[f64], decayed: bool, average_decay: f64) -> (f64, f64) {
    let [lr, b1, b2, epsilon, decay] =
        [ADAMW.lr, ADAMW.beta1, ADAMW.beta2, ADAMW.epsilon, ADAMW.weight_decay].map(f64::from);
    let (mut m, mut v, mut average) = (0.0, 0.0, w);
    for (k, g) in gradients.iter().enumerate() {
        m = b1 * m + (1.0 - b1) * g;
        v = b2 * v + (1.0 - b2) * g * g;
        let power = k as i32 + 1;
        let (mhat, vhat) = (m / (1.0 - b1.powi(power)), v / (1.0 - b2.powi(power)));
        w -= lr * (mhat / (vhat.sqrt() + epsilon) + if decayed { decay * w } else { 0.0 });
        average = average_decay * average + (1.0 - average_decay) * w;
    }
    (w, average)
}

#[test]
fn three_updates_match_the_naive_algorithm() {
    // The second parameter is not decayed; the third crosses the blocks in which a device works.
    let shapes: Vec<Shape> = vec![[3].into(), [5, 7].into(), [40_000].into()];
    let decays = [0.9f32, 0.999];
    let clip = 50.0;
    for (name, device) in cpus(DType::F32) {
        let mut weights = Slab::zeros(&device, "test", &shapes).unwrap();
        let mut gradients = Slab::zeros(&device, "test", &shapes).unwrap();
        for (i, shape) in shapes.iter().enumerate() {
            weights.part_mut(i).f32_mut().copy_from_slice(&normals(i as u32, shape.len(), 1.0));
        }
        let before: Vec<Vec<f32>> = (0..3).map(|i| weights.part(i).f32().to_vec()).collect();
        let mut moments = Moments::new(&device, &weights, &shapes, &decays).unwrap();
        let loss = Tensor::from_slice(&device, "test", [1], &[1.0f32]);
        let undecayed = 64..128;
        let mut history: Vec<Vec<Vec<f64>>> = vec![];
        for step in 0..3u32 {
            for (i, shape) in shapes.iter().enumerate() {
                gradients.part_mut(i).f32_mut().copy_from_slice(&normals(10 * (step + 1) + i as u32, shape.len(), 1.0));
            }
            let step: Vec<Vec<f64>> =
                (0..3).map(|i| gradients.part(i).f32().iter().map(|&g| f64::from(g)).collect()).collect();
            let norm = step.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
            let settings = Update { adamw: ADAMW, clip: Some(clip) };
            let done = update(&device, settings, &loss, &mut weights, &gradients, &mut moments, from_ref(&undecayed));
            assert!(done.applied && (done.norm / norm - 1.0).abs() < 1e-12, "{name}: norm {} for {norm}", done.norm);
            history.push(step.iter().map(|g| g.iter().map(|g| g * f64::from(clip) / norm).collect()).collect());
        }
        for i in 0..3 {
            for at in 0..shapes[i].len() {
                let gradients: Vec<f64> = history.iter().map(|step| step[i][at]).collect();
                for (Average { weights: average, decay }, &asked) in moments.averages.iter().zip(&decays) {
                    assert_eq!(*decay, asked);
                    let (w, e) = naive(f64::from(before[i][at]), &gradients, i != 1, f64::from(asked));
                    // A step is at most lr / (1 - b1) of order one and rounds a dozen times; w rounds three times.
                    let tolerance = f64::from(f32::EPSILON) * (4.0 * w.abs() + 12.0 * 0.1);
                    let (ours, ours_average) =
                        (f64::from(weights.part(i).f32()[at]), f64::from(average.part(i).f32()[at]));
                    assert!((ours - w).abs() <= tolerance, "{name}: weight {i}/{at} is {ours}, not {w}");
                    assert!(
                        (ours_average - e).abs() <= tolerance,
                        "{name}: average {i}/{at} is {ours_average}, not {e}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_step_that_is_not_finite_touches_nothing() {
    for (name, device) in cpus(DType::F32) {
        for (gradient, loss) in [(f32::NAN, 1.0), (f32::INFINITY, 1.0), (1.0, f32::NAN)] {
            let shapes = [Shape::new(&[100])];
            let mut weights = Slab::zeros(&device, "test", &shapes).unwrap();
            let mut gradients = Slab::zeros(&device, "test", &shapes).unwrap();
            weights.part_mut(0).f32_mut().copy_from_slice(&normals(1, 100, 1.0));
            gradients.part_mut(0).f32_mut()[57] = gradient;
            let before = weights.part(0).f32().to_vec();
            let mut moments = Moments::new(&device, &weights, &shapes, &[0.9]).unwrap();
            let loss = Tensor::from_slice(&device, "test", [1], &[loss]);
            let settings = Update { adamw: ADAMW, clip: None };
            let done = update(&device, settings, &loss, &mut weights, &gradients, &mut moments, &[]);
            assert!(!done.applied && moments.applied == 0, "{name}");
            assert!(weights.part(0).f32() == before, "{name}: the weights are untouched");
            assert!(moments.averages[0].weights.part(0).f32() == before, "{name}: the average is untouched");
            assert!(
                moments.m.part(0).f32().iter().chain(moments.v.part(0).f32()).all(|&x| x == 0.0),
                "{name}: moments"
            );
        }
    }
}
