use crate::{Bench, F32, Size, random};
use engine::base::rng::Draw;
use engine::base::{Denoise, Path, Prediction};
use engine::device::Device;
use engine::ops::solver::{advance, cost, denoise, guide};
use engine::tensor::Tensor;

pub fn bench(bench: &mut Bench, size: Size) {
    let (batch, grid) = (size.batch, size.model().grid);
    let costs = [cost(batch * grid.image())];
    let images = |device: &Device| [0, 1, 2].map(|i| random(device, i, &[batch, grid.image()]));
    bench.run("solver advance", size, F32, &[("", &costs)], |device| {
        let (device, [z, v, mut out]) = (device.clone(), images(device));
        move |clock| {
            clock.lap(|| advance(&device, &z, &v, 0.1, &mut out));
            clock.output(out.f32());
        }
    });
    bench.run("solver denoise", size, F32, &[("", &costs)], |device| {
        let (device, [z, p, mut out]) = (device.clone(), images(device));
        let step = Denoise::ddim(Path::DdpmLinear, Prediction::Eps, [0.5, 0.48], 1.0, Some(1.0));
        move |clock| {
            clock.lap(|| denoise(&device, &z, &p, step, Draw { seed: 1, step: 2, first: 0 }, &mut out));
            clock.output(out.f32());
        }
    });
    bench.run("solver guide", size, F32, &[("", &costs)], |device| {
        let pair = random(device, 0, &[2 * batch, grid.image()]);
        let (device, [_, _, mut v]) = (device.clone(), images(device));
        let weight = Tensor::from_slice(&device, "bench", [batch], &vec![1.5f32; batch]);
        move |clock| {
            clock.lap(|| guide(&device, &pair, &weight, grid.channels, grid, &mut v));
            clock.output(v.f32());
        }
    });
}
