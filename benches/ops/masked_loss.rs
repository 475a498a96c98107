use crate::tape::node;
use crate::{Bench, F32, Size, random};
use engine::ops::masked_loss::{Target, cost};
use engine::tensor::Tensor;

pub fn bench(bench: &mut Bench, size: Size) {
    let (batch, grid) = (size.batch, size.model().grid);
    let elements = batch * grid.image();
    let inputs = [node(&[batch, grid.tokens(), grid.channels * grid.area()])];
    let costs = [cost(elements)];
    bench.run("masked_loss", size, F32, &[("", &costs)], |device| {
        let target = random(device, 200, &[batch, grid.channels, grid.height, grid.width]);
        let weight = Tensor::from_slice(device, "bench", [batch], &vec![1.0 / elements as f32; batch]);
        // Its backward, the second lap, is that of the network before it: nothing here.
        crate::tape::fixture(device, &inputs, move |tape, v| {
            let target = Target { values: &target, mask: None, kept: None, weight: &weight, grid };
            let loss = tape.masked_loss(v[0], target);
            vec![tape.input(loss)]
        })
    });
}
