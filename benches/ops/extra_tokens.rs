use crate::tape::{node, param};
use crate::{Bench, F32, Size};
use engine::ops::extra_tokens::{ExtraTokens, costs, strip_costs};
use engine::tensor::Tensor;

pub fn bench(bench: &mut Bench, size: Size) {
    let (batch, model) = (size.batch, size.model());
    let (tokens, d) = (model.grid.tokens(), model.width);
    let inputs = [node(&[batch, tokens, d]), param(&[2 + tokens, d]), param(&[1001, d])];
    bench.tape("prepend", size, F32, &inputs, costs(batch, tokens, 2, tokens + 2, d), |device| {
        let t = Tensor::from_slice(device, "bench", [batch], &vec![0.5f32; batch]);
        let y = Tensor::from_slice(device, "bench", [batch], &vec![7u32; batch]);
        move |tape, v| vec![tape.prepend(v[0], &t, &y, None, ExtraTokens { table: Some(v[2]), position: v[1] })]
    });
    let inputs = [node(&[batch, tokens + 2, d])];
    let costs = strip_costs(batch, tokens, 2, d);
    bench.tape("strip", size, F32, &inputs, costs, |_| move |tape, v| vec![tape.strip(v[0], tokens)]);
}
