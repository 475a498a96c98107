use crate::tape::node;
use crate::{Bench, F32, Size};
use engine::ops::gated_norm::{Modulated, costs, norm_costs};

pub fn bench(bench: &mut Bench, size: Size) {
    let (rows, d, tokens) = (size.rows(), size.model().width, size.model().grid.tokens());
    let [stream, branch] = [(); 2].map(|()| node(&[size.batch, tokens, d]));
    let inputs = [stream, branch, node(&[size.batch, 3 * d])];
    bench.tape("gated_norm", size, F32, &inputs, costs(rows, d), |_| {
        |tape, v| tape.gated_norm(v[0], v[1], 0, Modulated { modulation: v[2], shift: 1, scale: 2 }).to_vec()
    });
    let inputs = [node(&[size.batch, tokens, d]), node(&[size.batch, 2 * d])];
    bench.tape("modulated_norm", size, F32, &inputs, norm_costs(rows, d), |_| {
        // The stream goes on to its gate, which is here its second output.
        |tape, v| vec![v[0], tape.modulated_norm(v[0], Modulated { modulation: v[1], shift: 0, scale: 1 })]
    });
}
