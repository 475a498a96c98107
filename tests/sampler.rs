//! Samplers against a field whose flow is known, and images against the batch they were drawn in.

mod common;

use common::Emulated;
use emulator::Policy;
use engine::base::{DType, Denoise, PatchGrid, Path, Prediction};
use engine::device::Device;
use engine::device::cuda::{Cuda, MODULES};
use engine::diffusion::{Course, Field, Guidance, ModelField, Request, Sampler, predict, sample};
use engine::nn::ParamStore;
use engine::nn::{Config, Family, Network};
use engine::tensor::Tensor;
use std::collections::HashMap;
use std::sync::Arc;

/// The velocity of the linear path for Gaussian data: its flow maps z at t = 1 to `mean + deviation z` at t = 0.
struct Gaussian {
    device: Device,
    mean: f64,
    deviation: f64,
    times: Vec<f64>,
}

impl Field for Gaussian {
    fn device(&self) -> &Device {
        &self.device
    }

    fn process(&self) -> (Path, Prediction) {
        (Path::Linear, Prediction::V)
    }

    fn predict(&mut self, z: &Tensor, t: &[f64], v: &mut Tensor) {
        let &[t] = t else { panic!("a time for one image: {t:?}") };
        self.times.push(t);
        let variance = ((1.0 - t) * self.deviation).powi(2) + t * t;
        for (v, &z) in v.f32_mut().iter_mut().zip(z.f32()) {
            let offset = f64::from(z) - (1.0 - t) * self.mean;
            let data = self.mean + (1.0 - t) * self.deviation.powi(2) / variance * offset;
            let noise = t / variance * offset;
            *v = (noise - data) as f32;
        }
    }
}

/// The largest error after `steps` steps, and the times at which the velocity was evaluated.
fn integrate(sampler: Sampler, steps: usize) -> (f64, Vec<f64>) {
    let mut field = Gaussian { device: common::cpu(1), mean: 0.7, deviation: 0.4, times: vec![] };
    let start = [-2.0f32, -0.5, 0.3, 1.7];
    let mut z = Tensor::from_slice(&field.device, "test", [1, 1, 2, 2], &start);
    let course = sampler.course(Path::Linear, Prediction::V, steps);
    let evaluations = sampler.integrate(&mut field, &mut z, &course, &mut |_, _| {});
    assert_eq!(evaluations, [field.times.len()], "the reported evaluations are those that were made");
    let exact = |z: f32| field.mean + field.deviation * f64::from(z);
    let error = z.f32().iter().zip(start).map(|(&x, z)| (f64::from(x) - exact(z)).abs()).fold(0.0, f64::max);
    (error, field.times)
}

#[test]
fn samplers_converge_at_their_order() {
    for (sampler, order) in [(Sampler::Euler, 1.0), (Sampler::Heun, 2.0)] {
        let (coarse, fine) = (integrate(sampler, 32).0, integrate(sampler, 64).0);
        let measured = (coarse / fine).log2();
        assert!((measured - order).abs() < 0.15, "{sampler} converges at order {measured}: {coarse} to {fine}");
    }
}

/// One row of tests/golden/schedulers.json.
type Row = (Path, Prediction, String, f64, Option<f32>, [f64; 2], [f64; 3], f64);

#[test]
fn steps_back_are_those_of_the_schedulers_of_diffusers() {
    let rows: Vec<Row> = serde_json::from_str(include_str!("golden/schedulers.json")).unwrap();
    assert_eq!(rows.len(), 256);
    for (path, prediction, sampler, eta, bound, ends, [z, p, n], expected) in rows {
        let [t, s] = ends.map(|steps| steps / 1000.0);
        let step = match &*sampler {
            "ddim" => Denoise::ddim(path, prediction, [t, s], eta, bound),
            "ancestral" => Denoise::ancestral(path, prediction, [t, s], bound),
            other => panic!("{other}"),
        };
        let Denoise { x_of: [x_z, x_p], bound, x, z: of_z, p: of_p, noise } = step;
        let [x_z, x_p, bound, x] = [x_z, x_p, bound, x].map(f64::from);
        let parts = [f64::from(of_z) * z, f64::from(of_p) * p, f64::from(noise) * n];
        let ours = x * (x_z * z + x_p * p).clamp(-bound, bound) + parts.iter().sum::<f64>();
        // Our weights are rounded to f32, theirs are not.
        let size = x * ((x_z * z).abs() + (x_p * p).abs()) + parts.iter().map(|part| part.abs()).sum::<f64>();
        let error = (ours - expected).abs();
        assert!(error <= 2.0 * f64::from(f32::EPSILON) * size, "{path} {prediction} {sampler} {eta} {ends:?}: {ours}");
    }
}

/// Gaussian data N(0.7, 0.4^2) on any path, with the best prediction of one kind.
struct Best {
    device: Device,
    path: Path,
    prediction: Prediction,
}

impl Field for Best {
    fn device(&self) -> &Device {
        &self.device
    }

    fn process(&self) -> (Path, Prediction) {
        (self.path, self.prediction)
    }

    fn predict(&mut self, z: &Tensor, t: &[f64], p: &mut Tensor) {
        let t = t[0];
        let (alpha, sigma) = (self.path.alpha(t), self.path.sigma(t));
        let [of_x, of_eps] = self.prediction.of_data_and_noise(self.path, t);
        let variance = (0.4 * alpha).powi(2) + sigma * sigma;
        for (p, &z) in p.f32_mut().iter_mut().zip(z.f32()) {
            let offset = f64::from(z) - alpha * 0.7;
            let (x, eps) = (0.7 + alpha * 0.16 / variance * offset, sigma / variance * offset);
            *p = (of_x * x + of_eps * eps) as f32;
        }
    }
}

#[test]
fn every_sampler_draws_gaussian_data_from_every_prediction() {
    let device = common::cpu(2);
    let n = 40_000;
    for (path, prediction, samplers) in [
        (Path::Linear, Prediction::V, &["euler", "heun", "ddim", "ddim:1", "ancestral"][..]),
        (Path::Linear, Prediction::X, &["euler", "heun", "ddim:0.5", "ancestral"]),
        (Path::Linear, Prediction::Eps, &["euler", "heun", "ddim"]),
        (Path::Gvp, Prediction::V, &["euler", "heun", "ddim", "ancestral"]),
        (Path::Gvp, Prediction::Score, &["heun", "ddim:0.5"]),
        (Path::Vp, Prediction::V, &["euler", "heun", "ancestral"]),
        (Path::Vp, Prediction::X, &["heun", "ddim"]),
        (Path::DdpmLinear, Prediction::Eps, &["ddim", "ddim:0.5", "ddim:1", "ancestral"]),
        (Path::DdpmCosine, Prediction::X, &["ddim", "ddim:1", "ancestral"]),
    ] {
        for name in samplers {
            let sampler: Sampler = name.parse().unwrap();
            sampler.check(path, prediction, 999).unwrap();
            let mut z = Tensor::from_slice(&device, "test", [n / 100, 1, 10, 10], &common::normals(3, n, 1.0));
            let course = Course { seed: 9, ..sampler.course(path, prediction, 999) };
            let mut field = Best { device: device.clone(), path, prediction };
            sampler.integrate(&mut field, &mut z, &course, &mut |_, _| {});
            let values = z.to_vec::<f32>();
            let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64;
            let variance = values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n as f64;
            // Four standard errors, and a first-order method's own error in a thousand steps.
            let (mean, spread) = ((mean - 0.7).abs(), (variance / 0.16 - 1.0).abs());
            assert!(mean < 4.0 * 0.4 / (n as f64).sqrt() + 1e-3, "{path} {prediction} {name}: mean off by {mean}");
            assert!(
                spread < 4.0 * (2.0 / n as f64).sqrt() + 1e-2,
                "{path} {prediction} {name}: variance off by {spread}"
            );
        }
    }
}

#[test]
fn what_has_no_velocity_is_not_integrated() {
    for name in ["euler", "heun", "dopri5", "euler-maruyama"] {
        let message = name.parse::<Sampler>().unwrap().check(Path::DdpmCosine, Prediction::Eps, 10).unwrap_err();
        assert_eq!(message, "ddpm-cosine has steps and no velocity; give ddim, ddim:ETA, ancestral or dpm-solver++");
    }
    let message = Sampler::Ancestral.check(Path::DdpmLinear, Prediction::Eps, 1001).unwrap_err();
    assert_eq!(message, "1001 steps are more than ddpm-linear has; give at most 1000");
    let message = Sampler::Heun.check(Path::Vp, Prediction::V, 1001).unwrap_err();
    assert_eq!(message, "1001 steps are more than vp has a prediction for; give at most 1000");
    Sampler::Heun.check(Path::Linear, Prediction::V, 1_000_000).unwrap();
    let reverse: Sampler = "euler-maruyama:reverse".parse().unwrap();
    assert!(
        reverse.check(Path::Gvp, Prediction::V, 10).unwrap_err().starts_with("at t = 1 of gvp reverse is infinite")
    );
    reverse.check(Path::Vp, Prediction::V, 10).unwrap();
    for name in [
        "ddim",
        "ddim:0.25",
        "ancestral",
        "euler",
        "heun",
        "dopri5",
        "dopri5:0.01,0.000001",
        "euler-maruyama",
        "euler-maruyama:increasing-decreasing",
        "dpm-solver++",
    ] {
        assert_eq!(name.parse::<Sampler>().unwrap().to_string(), name);
    }
    assert_eq!("dopri5:1e-3,1e-6".parse::<Sampler>().unwrap().to_string(), "dopri5");
    let refused = ["dopri5:0,1", "dopri5:1e-3", "dopri5:inf,1", "euler-maruyama:none", "dpm-solver++:3", "heun:2"];
    for name in refused.into_iter().chain(["", "ddpm", "ddim:", "ddim:2", "ddim:-0.5", "euler:1"]) {
        assert!(name.parse::<Sampler>().is_err(), "{name}");
    }
}

#[test]
fn evaluations_are_what_the_samplers_say() {
    assert_eq!(integrate(Sampler::Euler, 4).1, [1.0, 0.75, 0.5, 0.25]);
    assert_eq!(integrate(Sampler::Heun, 4).1, [1.0, 0.75, 0.75, 0.5, 0.5, 0.25, 0.25]);
    assert_eq!(integrate(Sampler::Heun, 1).1, [1.0]);
}

/// A small model with random weights everywhere.
fn model(device: &Device) -> (Network, ParamStore) {
    let grid = PatchGrid { channels: 4, height: 8, width: 12, patch: 2 };
    let config = Config { family: Family::Sit, grid, depth: 2, width: 48, heads: 2, classes: 5, learn_sigma: false };
    let (network, list) = Network::new(config);
    let mut store = ParamStore::new(device, list, 1).unwrap();
    for i in 0..store.list.trained() {
        let part = store.weights.part_mut(i);
        let values = common::normals(i as u32, part.len(), 0.1);
        part.write(&values);
    }
    (network, store)
}

fn request(labels: Vec<u32>, batch: usize) -> Request {
    let guidance = Guidance { weight: 2.5, channels: Some(3), interval: [0.1, 0.8] };
    let (path, prediction) = (Path::Linear, Prediction::V);
    Request { labels, path, prediction, sampler: Sampler::Heun, steps: 3, bound: None, guidance, seed: 11, batch }
}

/// The velocity, noise in a thousand steps with noise of its own and bounded data, and the velocity in steps of each image's own.
fn requests(labels: Vec<u32>, batch: usize) -> [Request; 3] {
    let heun = request(labels, batch);
    let noisy = Request { path: Path::DdpmCosine, prediction: Prediction::Eps, bound: Some(1.0), ..heun.clone() };
    let adaptive = Request { sampler: "dopri5:0.1,0.01".parse().unwrap(), ..heun.clone() };
    [heun, Request { sampler: Sampler::Ddim(1.0), ..noisy }, adaptive]
}

#[test]
fn an_image_does_not_depend_on_its_batch_or_on_threads() {
    let mut drawn = HashMap::new();
    for (name, device) in common::all_cpus() {
        let (network, store) = model(&device);
        let draw = |request: &Request| {
            let (images, _) = sample(&device, &network, &store.weights, request, &|| false, &|_| {}).unwrap();
            images.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let of = |batch: usize| requests(vec![0, 3, 5, 1, 4], batch).map(|request| draw(&request));
        let alone = of(1);
        for batch in [2, 5] {
            assert!(of(batch) == alone, "{name}: a batch of {batch} changes an image");
        }
        let first = drawn.entry(common::kind(&device)).or_insert_with(|| alone.clone());
        assert!(*first == alone, "{name}: another number of threads changes an image");
    }
}

#[test]
fn a_card_draws_what_the_processor_draws_as_one_recording_an_evaluation() {
    for kind in [0, 1] {
        let drawn = |device: &Device| {
            let (network, store) = model(device);
            // The second batch is smaller; within one, evaluations are with and without guidance, each several times.
            let guidance = Guidance { weight: 2.5, channels: Some(3), interval: [0.1, 0.5] };
            let request = Request { steps: 5, guidance, ..requests(vec![0, 3, 5], 2)[kind].clone() };
            sample(device, &network, &store.weights, &request, &|| false, &|_| {}).unwrap().0
        };
        let expected = drawn(&common::cpu(2));
        let astray = |images: &[f32]| images.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // The rule of every tolerance: at most twice the error of the naive way at the same type, which is plain Rust here.
        let portable = astray(&drawn(&common::cpus(DType::F32)[0].1));
        for (name, device) in common::cards(DType::F32) {
            let error = astray(&drawn(&device));
            assert!(portable > 0.0 && error <= 2.0 * portable, "{name}: {error:e}, plain Rust {portable:e}");
        }
        if !MODULES.is_empty() {
            let card = Arc::new(Emulated::new((8, 0), Policy::Lazy));
            drawn(&Device::cuda(Cuda::new(card.clone(), DType::F32).unwrap()));
            assert_eq!(card.recordings(), 4, "one for each batch, with and without guidance");
        }
    }
}

#[test]
fn progress_counts_images_within_a_batch_too() {
    let device = common::cpu(1);
    let (network, store) = model(&device);
    let told = std::cell::RefCell::new(vec![]);
    let request = Request { sampler: Sampler::Euler, ..request(vec![0, 3, 5, 1, 4, 2, 1, 0], 6) };
    sample(&device, &network, &store.weights, &request, &|| false, &|done| told.borrow_mut().push(done)).unwrap();
    // Batches of six and two, three steps each, before every step and at the end of the batch.
    assert_eq!(told.into_inner(), [0, 2, 4, 6, 6, 6, 7, 8]);
}

#[test]
fn guidance_moves_its_channels_in_its_interval_and_nothing_else() {
    let device = common::cpu(2);
    let (network, store) = model(&device);
    let grid = network.config.grid;
    let z = Tensor::from_slice(&device, "test", [1, 4, 8, 12], &common::normals(90, grid.image(), 1.0));
    for t in [0.05, 0.5, 0.9] {
        let times = Tensor::from_slice(&device, "test", [1], &[t as f32]);
        let [labelled, none] = [3u32, 5].map(|y| {
            let y = Tensor::from_slice(&device, "test", [1], &[y]);
            predict(&device, &network, &store.weights, &z, &times, &y).f32().to_vec()
        });
        assert!(labelled != none, "the label matters");
        let guidance = request(vec![3], 1).guidance;
        let process = (Path::Linear, Prediction::V);
        let mut field = ModelField::new(&device, &network, &store.weights, process, guidance, &[3]);
        let mut v = Tensor::new(&device, "test", [1, 4, 8, 12], DType::F32);
        field.predict(&z, &[t], &mut v);
        for (i, &v) in v.f32().iter().enumerate() {
            let guided = t == 0.5 && i < 3 * 8 * 12;
            let expected = if guided { none[i] + 2.5 * (labelled[i] - none[i]) } else { labelled[i] };
            assert_eq!(v, expected, "t = {t}, element {i}");
        }
    }
}
