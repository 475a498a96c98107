use crate::{Bench, F32, NOISE, Size, random};
use engine::ops::noise::{Batch, Noised, cost, noise};

pub fn bench(bench: &mut Bench, size: Size) {
    let (batch, grid) = (size.batch, size.model().grid);
    let settings = NOISE;
    let costs = [cost(batch * grid.image())];
    bench.run("noise", size, F32, &[("", &costs)], |device| {
        let device = device.clone();
        let mut data = Batch::new(&device, batch, grid);
        data.x = random(&device, 0, &[batch, grid.channels, grid.height, grid.width]);
        data.y.write(&vec![1u32; batch]);
        data.draw(&settings, 2, 3);
        let mut noised = Noised::new(&device, batch, grid);
        move |clock| {
            clock.lap(|| noise(&device, settings, &data, &mut noised));
            clock.output(noised.z.f32());
            clock.output(noised.target.f32());
        }
    });
}
