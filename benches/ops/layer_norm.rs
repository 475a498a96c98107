use crate::tape::{node, param};
use crate::{Bench, F32, Size};
use engine::ops::layer_norm::{Affine, costs};

pub fn bench(bench: &mut Bench, size: Size) {
    let (rows, d) = (size.rows(), size.model().width);
    let inputs = [node(&[rows, d]), node(&[rows, d]), param(&[d]), param(&[d])];
    bench.tape("layer_norm", size, F32, &inputs, costs(rows, d), |_| {
        |tape, v| tape.residual_norm(v[0], v[1], Affine { w: v[2], b: v[3] }).to_vec()
    });
}
