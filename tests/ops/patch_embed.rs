use crate::common::{Float, Input, Oracle, check_products, normals};
use engine::base::PatchGrid;
use engine::ops::patch_embed::PatchEmbed;
use engine::tensor::Tensor;

/// x[b, n] = W patch(z[b], kept[b, n]) + bias + position[kept[b, n]]
struct Spec {
    grid: PatchGrid,
    z: Vec<f32>,
    kept: Vec<u32>,
    batch: usize,
}

impl Oracle for Spec {
    fn run<F: Float>(&self, inputs: &[Vec<F>]) -> Vec<Vec<F>> {
        let [weight, bias, position] = inputs else { unreachable!("three inputs") };
        let (grid, width) = (self.grid, bias.len());
        let inner = grid.channels * grid.area();
        let mut x = vec![];
        for (row, &patch) in self.kept.iter().enumerate() {
            let image = row / (self.kept.len() / self.batch) * grid.image();
            let element = |i: usize| {
                let at = grid.element(patch as usize, i % grid.area(), i / grid.area());
                F::from_f64(f64::from(self.z[image + at]))
            };
            x.extend((0..width).map(|d| {
                (0..inner).map(|i| weight[d * inner + i] * element(i)).sum::<F>()
                    + bias[d]
                    + position[patch as usize * width + d]
            }));
        }
        vec![x]
    }
}

#[test]
fn patch_embed_matches_its_oracle() {
    let all: Vec<u32> = (0..2 * 15).map(|i| i % 15).collect();
    let some = vec![14, 0, 7, 3, 4, 11];
    // A card multiplies on its tensor cores where 8 divides the width, 16 elements of a patch and 256 columns at a time.
    for (kept, channels, width) in [(&all, 3, 20), (&some, 3, 20), (&all, 5, 40), (&some, 3, 264)] {
        let grid = PatchGrid { channels, height: 6, width: 10, patch: 2 };
        let z = normals(50, 2 * grid.image(), 1.0);
        let tokens = kept.len() / 2;
        // The positions are constants of the slab: the operation writes no gradient for them.
        let inputs = vec![
            Input::param(&[width, grid.channels * grid.area()]),
            Input::param(&[width]),
            Input::constant(&[grid.tokens(), width]),
        ];
        let spec = Spec { grid, z, kept: kept.clone(), batch: 2 };
        check_products(&spec, inputs, |tape, v| {
            let device = tape.device().clone();
            let z = Tensor::from_slice(&device, "test", [2, grid.channels, grid.height, grid.width], &spec.z);
            let kept = Tensor::from_slice(&device, "test", [2, tokens], &spec.kept);
            let embed = PatchEmbed { weight: v[0], bias: v[1], position: Some(v[2]), grid };
            vec![tape.patch_embed(&z, (tokens < grid.tokens()).then_some(&kept), embed)]
        });
    }
}
