use crate::{Bench, F32, Size, random};
use engine::device::Device;
use engine::ops::solver::{advance, cost, guide};

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
    bench.run("solver guide", size, F32, &[("", &costs)], |device| {
        let (device, [mut v, u, _]) = (device.clone(), images(device));
        move |clock| {
            // At a weight of minus one the distance of v to u stays what it is.
            clock.lap(|| guide(&device, &mut v, &u, -1.0, grid.channels, grid));
            clock.output(v.f32());
        }
    });
}
