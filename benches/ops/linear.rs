use crate::tape::{node, param};
use crate::{BOTH, Bench, Size};
use engine::ops::linear::costs;

pub fn bench(bench: &mut Bench, size: Size) {
    let (rows, model) = (size.rows(), size.model());
    let (d, pixels) = (model.width, model.grid.area() * model.out_channels());
    for (name, inner, width) in
        [("linear qkv", d, 3 * d), ("linear projection", d, d), ("linear final layer", d, pixels)]
    {
        let inputs = [node(&[rows, inner]), param(&[width, inner]), param(&[width])];
        bench.tape(name, size, BOTH, &inputs, costs(rows, inner, width), |_| {
            |tape, v| vec![tape.linear(v[0], v[1], v[2])]
        });
    }
}
