use crate::tape::{node, param};
use crate::{BOTH, Bench, Size};
use engine::base::Gelu;
use engine::ops::mlp::{Mlp, costs};

pub fn bench(bench: &mut Bench, size: Size) {
    let (rows, d) = (size.rows(), size.model().width);
    let hidden = 4 * d;
    let inputs = [node(&[rows, d]), param(&[hidden, d]), param(&[hidden]), param(&[d, hidden]), param(&[d])];
    bench.tape("mlp", size, BOTH, &inputs, costs(rows, d, hidden), |_| {
        |tape, v| vec![tape.mlp(v[0], Mlp { w1: v[1], b1: v[2], w2: v[3], b2: v[4], gelu: Gelu::Tanh })]
    });
}
