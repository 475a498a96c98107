use crate::{Bench, F32, Size, random};
use engine::ops::unpatchify::{cost, images, unpatchify};

pub fn bench(bench: &mut Bench, size: Size) {
    let (batch, grid) = (size.batch, size.model().grid);
    let costs = [cost(batch * grid.image())];
    bench.run("unpatchify", size, F32, &[("", &costs)], |device| {
        let device = device.clone();
        let tokens = random(&device, 0, &[batch, grid.tokens(), grid.channels * grid.area()]);
        let mut out = images(&device, "bench", batch, grid);
        move |clock| {
            clock.lap(|| unpatchify(&device, grid, &tokens, &mut out));
            clock.output(out.f32());
        }
    });
}
