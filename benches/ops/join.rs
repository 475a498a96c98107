use crate::tape::node;
use crate::{Bench, F32, Size};
use engine::ops::join::costs;

pub fn bench(bench: &mut Bench, size: Size) {
    let (rows, d) = (size.rows(), size.model().width);
    let inputs = [(); 3].map(|()| node(&[rows, d]));
    bench.tape("join", size, F32, &inputs, costs(rows, d), |_| |tape, v| vec![tape.join(v[0], v[1], v[2])]);
}
