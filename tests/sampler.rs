//! Samplers against a field whose flow is known, and images against the batch they were drawn in.

mod common;

use common::Emulated;
use emulator::Policy;
use engine::base::{DType, PatchGrid};
use engine::device::Device;
use engine::device::cuda::{Cuda, MODULES};
use engine::diffusion::{Guidance, ModelVelocity, Request, Sampler, Velocity, predict, sample};
use engine::nn::ParamStore;
use engine::nn::{Config, Family, Network};
use engine::tensor::Tensor;
use std::sync::Arc;

/// The velocity of the linear path for Gaussian data: its flow maps z at t = 1 to `mean + deviation z` at t = 0.
struct Gaussian {
    device: Device,
    mean: f64,
    deviation: f64,
    times: Vec<f64>,
}

impl Velocity for Gaussian {
    fn device(&self) -> &Device {
        &self.device
    }

    fn velocity(&mut self, z: &Tensor, t: f64, v: &mut Tensor) {
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
    let evaluations = sampler.integrate(&mut field, &mut z, steps);
    assert_eq!(evaluations, field.times.len(), "the reported evaluations are those that were made");
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
    Request { labels, sampler: Sampler::Heun, steps: 3, guidance, seed: 11, batch }
}

#[test]
fn an_image_does_not_depend_on_its_batch() {
    for (name, device) in common::cpus(DType::F32) {
        let (network, store) = model(&device);
        let labels = vec![0, 3, 5, 1, 4];
        let (alone, _) =
            sample(&device, &network, &store.weights, &request(labels.clone(), 1), &|| false, &|_| {}).unwrap();
        for batch in [2, 5] {
            let (together, _) =
                sample(&device, &network, &store.weights, &request(labels.clone(), batch), &|| false, &|_| {}).unwrap();
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert!(bits(&alone) == bits(&together), "{name}: a batch of {batch} changes an image");
        }
    }
}

#[test]
fn a_card_draws_what_the_processor_draws_as_one_recording_an_evaluation() {
    let drawn = |device: &Device| {
        let (network, store) = model(device);
        // The second batch is smaller; within one, evaluations are with and without guidance, each several times.
        let guidance = Guidance { weight: 2.5, channels: Some(3), interval: [0.1, 0.5] };
        let request = Request { steps: 5, guidance, ..request(vec![0, 3, 5], 2) };
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
        let mut field = ModelVelocity::new(&device, &network, &store.weights, guidance, &[3]);
        let mut v = Tensor::new(&device, "test", [1, 4, 8, 12], DType::F32);
        field.velocity(&z, t, &mut v);
        for (i, &v) in v.f32().iter().enumerate() {
            let guided = t == 0.5 && i < 3 * 8 * 12;
            let expected = if guided { none[i] + 2.5 * (labelled[i] - none[i]) } else { labelled[i] };
            assert_eq!(v, expected, "t = {t}, element {i}");
        }
    }
}
