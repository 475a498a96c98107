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
        let pair = random(device, 0, &[2 * batch, grid.image()]);
        let (device, [_, _, mut v]) = (device.clone(), images(device));
        move |clock| {
            clock.lap(|| guide(&device, &pair, 1.5, grid.channels, grid, &mut v));
            clock.output(v.f32());
        }
    });
}
