use crate::common::{cards, devices, get, normals, put};
use engine::base::{DType, PatchGrid};
use engine::ops::unpatchify::{images, unpatchify};
use engine::tensor::Tensor;

#[test]
fn every_pixel_comes_from_its_token_and_a_second_half_of_channels_is_left_out() {
    let grid = PatchGrid { channels: 3, height: 6, width: 10, patch: 2 };
    let (batch, across) = (2, grid.width / grid.patch);
    for outputs in [grid.channels, 2 * grid.channels] {
        let width = grid.area() * outputs;
        let drawn = normals(0, batch * grid.tokens() * width, 1.0);
        for (name, device) in devices().into_iter().chain(cards(DType::BF16)) {
            let mut tokens = Tensor::new(&device, "test", [batch, grid.tokens(), width], device.activations());
            put(&mut tokens, &drawn);
            let x = get(&tokens);
            let mut out = images(&device, "test", batch, grid);
            unpatchify(&device, grid, &tokens, &mut out);
            let out = out.to_vec::<f32>();
            let mut pixels = out.iter();
            for b in 0..batch {
                for (c, y, x_at) in places(grid) {
                    let token = b * grid.tokens() + y / grid.patch * across + x_at / grid.patch;
                    let inside = (y % grid.patch * grid.patch + x_at % grid.patch) * outputs + c;
                    let expected = x[token * width + inside];
                    assert_eq!(pixels.next(), Some(&expected), "{name}: image {b}, channel {c}, pixel ({y}, {x_at})");
                }
            }
        }
    }
}

/// Channel, row and column of every element of an image, in order.
fn places(grid: PatchGrid) -> impl Iterator<Item = (usize, usize, usize)> {
    let PatchGrid { channels, height, width, .. } = grid;
    (0..channels).flat_map(move |c| (0..height).flat_map(move |y| (0..width).map(move |x| (c, y, x))))
}
