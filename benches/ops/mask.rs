use crate::{Bench, F32, Size};
use engine::base::{Mask, Rate};
use engine::ops::mask::{cost, mask};
use engine::ops::noise::Batch;

pub fn bench(bench: &mut Bench, size: Size) {
    let (batch, grid) = (size.batch, size.model().grid);
    let settings = Mask { loss_drop: Rate::constant(0.9), ..Mask::patches(0.5) };
    let windows = settings.windows(1, 0, grid).expect("half is dropped");
    let costs = [cost(batch * windows.tokens(), batch * grid.image())];
    bench.run("mask", size, F32, &[("", &costs)], |device| {
        let device = device.clone();
        let mut data = Batch::new(&device, batch, grid);
        data.place.write(&[2u32, 3]);
        data.threshold.write(&[settings.threshold(0)]);
        let settings = settings.clone();
        move |clock| {
            let masked = clock.lap(|| mask(&device, 1, &settings, Some(windows), &data, grid));
            clock.output(masked.supervised.expect("the loss is thinned").f32());
            clock.output(masked.weight.f32());
        }
    });
}
