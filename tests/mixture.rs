//! Every sampler on a mixture of Gaussians in the plane, whose score is known: how fast it converges, and what it draws.

mod common;

use common::mixture::Mixture;
use engine::base::{Path, Prediction};
use engine::device::Device;
use engine::diffusion::{Course, Field, Sampler};
use engine::tensor::Tensor;

fn mixture() -> Mixture {
    Mixture {
        weights: vec![0.5, 0.3, 0.2],
        means: vec![[1.0, 0.5], [-1.5, 0.0], [0.25, -1.25]],
        deviations: vec![0.3, 0.5, 0.2],
    }
}

/// The best prediction of one kind, of points (B, 2).
struct Best {
    device: Device,
    mixture: Mixture,
    path: Path,
    prediction: Prediction,
    evaluations: usize,
}

impl Field for Best {
    fn device(&self) -> &Device {
        &self.device
    }

    fn process(&self) -> (Path, Prediction) {
        (self.path, self.prediction)
    }

    fn predict(&mut self, z: &Tensor, t: &[f64], p: &mut Tensor) {
        self.evaluations += 1;
        for ((z, p), &t) in z.f32().chunks_exact(2).zip(p.f32_mut().chunks_exact_mut(2)).zip(t) {
            let z = [z[0], z[1]].map(f64::from);
            p.copy_from_slice(&self.mixture.predict(self.path, self.prediction, z, t).map(|p| p as f32));
        }
    }
}

fn field(path: Path, prediction: Prediction) -> Best {
    Best { device: common::cpu(1), mixture: mixture(), path, prediction, evaluations: 0 }
}

/// Where a sampler takes points along times, and how often it asks.
fn follow(sampler: Sampler, course: &Course, field: &mut Best, start: &[f32]) -> (Vec<f32>, Vec<usize>) {
    let mut z = Tensor::from_slice(&field.device, "test", [start.len() / 2, 2], start);
    field.evaluations = 0;
    let evaluations = sampler.integrate(field, &mut z, course, &mut |_, _| {});
    assert_eq!(
        evaluations.iter().max(),
        Some(&field.evaluations),
        "{sampler}: the reported evaluations are those made"
    );
    (z.to_vec(), evaluations)
}

#[test]
fn samplers_converge_at_their_order() {
    let start = common::normals(7, 40, 1.0);
    for (name, path, prediction, end, order) in [
        ("euler", Path::Linear, Prediction::V, 0.0, 1.0),
        ("heun", Path::Linear, Prediction::V, 0.0, 2.0),
        ("ddim", Path::Gvp, Prediction::Eps, 0.0, 1.0),
        ("euler", Path::Gvp, Prediction::V, 0.0, 1.0),
        ("heun", Path::Gvp, Prediction::X, 0.0, 2.0),
        // Its steps are small where those of ln(alpha / sigma) are, which near the data they are not in any number.
        ("dpm-solver++", Path::Linear, Prediction::V, 0.2, 2.0),
        ("dpm-solver++", Path::Vp, Prediction::X, 0.2, 2.0),
    ] {
        let mut field = field(path, prediction);
        let begin = prediction.interval(path)[1];
        let mut at_end = |sampler: &str, steps: usize| {
            let sampler: Sampler = sampler.parse().unwrap();
            let times = (0..=steps).map(|i| begin + (end - begin) * i as f64 / steps as f64).collect();
            let course = Course { times, ..sampler.course(path, prediction, steps) };
            follow(sampler, &course, &mut field, &start)
        };
        let (exact, _) = at_end("dopri5:1e-9,1e-9", 1);
        let mut error = |steps| {
            let (ours, evaluations) = at_end(name, steps);
            assert_eq!(evaluations[0], if name == "heun" { 2 * steps - 1 } else { steps });
            let squares = ours.iter().zip(&exact).map(|(a, b)| f64::from(a - b).powi(2));
            (squares.sum::<f64>() / exact.len() as f64).sqrt()
        };
        let (coarse, fine) = (error(128), error(256));
        let measured = (coarse / fine).log2();
        assert!(
            (measured - order).abs() < 0.2,
            "{name} along {path} converges at order {measured}: {coarse} to {fine}"
        );
    }
}

#[test]
fn every_sampler_draws_the_moments_of_the_data() {
    let n = 20_000;
    let start = common::normals(11, 2 * n, 1.0);
    let exact = mixture().moments();
    for (name, path, prediction, steps) in [
        ("euler", Path::Linear, Prediction::V, 400),
        ("heun", Path::Linear, Prediction::V, 60),
        ("dopri5", Path::Linear, Prediction::V, 1),
        ("dopri5", Path::Vp, Prediction::V, 1),
        ("dopri5", Path::Gvp, Prediction::Score, 1),
        ("ddim", Path::Vp, Prediction::Eps, 200),
        ("ddim:0.5", Path::Gvp, Prediction::V, 400),
        ("ancestral", Path::DdpmCosine, Prediction::X, 500),
        ("dpm-solver++", Path::Linear, Prediction::V, 60),
        ("dpm-solver++", Path::DdpmLinear, Prediction::Eps, 60),
        ("euler-maruyama", Path::Linear, Prediction::V, 400),
        ("euler-maruyama:linear", Path::Gvp, Prediction::V, 400),
        ("euler-maruyama:decreasing", Path::Linear, Prediction::X, 400),
        ("euler-maruyama:increasing-decreasing", Path::Linear, Prediction::V, 400),
        ("euler-maruyama:reverse", Path::Vp, Prediction::Score, 900),
    ] {
        let sampler: Sampler = name.parse().unwrap();
        sampler.check(path, prediction, steps).unwrap();
        let course = Course { seed: 5, ..sampler.course(path, prediction, steps) };
        let (drawn, _) = follow(sampler, &course, &mut field(path, prediction), &start);
        let points: Vec<[f64; 2]> = drawn.chunks_exact(2).map(|z| [z[0], z[1]].map(f64::from)).collect();
        // Of each moment the mean of these, whose scatter says what a standard error is.
        let parts = |z: &[f64; 2]| {
            let (x, y) = (z[0] - exact[0], z[1] - exact[1]);
            [z[0], z[1], x * x, x * y, y * y]
        };
        for (i, exact) in exact.into_iter().enumerate() {
            let values = || points.iter().map(|z| parts(z)[i]);
            let mean = values().sum::<f64>() / n as f64;
            let variance = values().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
            let errors = (mean - exact) / (variance / n as f64).sqrt();
            assert!(errors.abs() < 3.0, "{name} along {path}: moment {i} is {mean}, {errors:.2} standard errors off");
        }
    }
}

#[test]
fn states_at_times_are_those_on_the_way_and_noise_is_found_again() {
    let start = common::normals(13, 12, 1.0);
    for (name, close) in [("heun", 2e-3), ("ddim", 2e-2), ("dopri5:1e-6,1e-6", 1e-4)] {
        let (sampler, mut field) = (name.parse::<Sampler>().unwrap(), field(Path::Gvp, Prediction::V));
        let mut z = Tensor::from_slice(&field.device, "test", [6, 2], &start);
        let times: Vec<f64> = (0..=400).rev().map(|i| f64::from(i) / 400.0).collect();
        let mut states = vec![start.clone()];
        let course = Course { times: times.clone(), ..sampler.course(Path::Gvp, Prediction::V, 1) };
        sampler.integrate(&mut field, &mut z, &course, &mut |number, z| {
            assert_eq!(number, states.len(), "{name}");
            states.push(z.to_vec());
        });
        assert_eq!(states.last(), Some(&z.to_vec()), "{name}: the last state is the result");
        // From the middle it comes to the same end, and from the end to where it began.
        let go = |from: usize, to: Vec<f64>, field: &mut Best| {
            let mut z = Tensor::from_slice(&field.device, "test", [6, 2], &states[from]);
            sampler.integrate(field, &mut z, &Course { times: to, ..course.clone() }, &mut |_, _| {});
            z.to_vec::<f32>()
        };
        let off = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let end = off(&go(200, times[200..].to_vec(), &mut field), &states[400]);
        assert!(end <= if name.starts_with("dopri5") { close } else { 0.0 }, "{name}: {end} off at the end");
        let begin = off(&go(400, times.iter().rev().copied().collect(), &mut field), &start);
        assert!(begin < close, "{name}: {begin} off at the beginning");
    }
}
