use crate::tape::node;
use crate::{BOTH, Bench, Size};
use engine::ops::attention::costs;

pub fn bench(bench: &mut Bench, size: Size) {
    let (batch, model) = (size.batch, size.model());
    let (tokens, width, heads) = (model.grid.tokens(), model.width, model.heads);
    let costs = costs(batch, tokens, width);
    let inputs = [node(&[batch, tokens, 3 * width])];
    bench.tape("attention", size, BOTH, &inputs, costs, |_| move |tape, v| vec![tape.attention(v[0], heads)]);
}
