use crate::tape::{node, param};
use crate::{BOTH, Bench, Size};
use engine::ops::linear::costs;

pub fn bench(bench: &mut Bench, size: Size) {
    let (rows, d) = (size.rows(), size.model().width);
    for (name, inner, width) in [("linear qkv", d, 3 * d), ("linear projection", d, d)] {
        let inputs = [node(&[rows, inner]), param(&[width, inner]), param(&[width])];
        bench.tape(name, size, BOTH, &inputs, costs(rows, inner, width), |_| {
            |tape, v| vec![tape.linear(v[0], v[1], v[2])]
        });
    }
}
