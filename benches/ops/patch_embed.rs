use crate::tape::{constant, param};
use crate::{BOTH, Bench, Size, random};
use engine::ops::patch_embed::{PatchEmbed, costs};

pub fn bench(bench: &mut Bench, size: Size) {
    let (batch, model) = (size.batch, size.model());
    let (grid, d, tokens) = (model.grid, model.width, model.grid.tokens());
    let inner = grid.channels * grid.area();
    let inputs = [param(&[d, inner]), param(&[d]), constant(&[tokens, d])];
    let costs = costs(batch, tokens, inner, d);
    bench.tape("patch_embed", size, BOTH, &inputs, costs, |device| {
        let z = random(device, 200, &[batch, grid.channels, grid.height, grid.width]);
        move |tape, v| {
            vec![tape.patch_embed(&z, None, PatchEmbed { weight: v[0], bias: v[1], position: Some(v[2]), grid })]
        }
    });
}
