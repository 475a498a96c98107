use crate::tape::param;
use crate::{BOTH, Bench, Size, random};
use engine::ops::condition::{Conditioning, costs};
use engine::tensor::Tensor;

pub fn bench(bench: &mut Bench, size: Size) {
    let (batch, model) = (size.batch, size.model());
    let (d, rows, columns) = (model.width, model.classes + 1, (6 * model.depth + 2) * model.width);
    let [square, wide] = [param(&[d, d]), param(&[columns, d])];
    let inputs = [param(&[d, 256]), param(&[d]), square, param(&[d]), wide, param(&[columns]), param(&[rows, d])];
    let costs = costs(batch, d, columns, rows);
    bench.tape("condition", size, BOTH, &inputs, costs, |device| {
        let t = random(device, 200, &[batch]);
        let labels: Vec<u32> = (0..batch as u32).map(|i| 37 * i % rows as u32).collect();
        let y = Tensor::from_slice(device, "bench", [batch], &labels);
        move |tape, v| {
            let [w0, b0, w2, b2] = [v[0], v[1], v[2], v[3]];
            let rest = Conditioning { w0, b0, w2, b2, modulation_w: v[4], modulation_b: v[5], table: Some(v[6]) };
            vec![tape.condition(&t, &y, rest)]
        }
    });
}
