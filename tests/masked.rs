//! What masks do to a whole model: dropped tokens are as if they had never been, a thinned loss is an unbiased draw.

mod common;

use common::{cpu, normals};
use engine::base::{Accumulate, LossMask, LossNorm, Mask, PatchGrid, Rate, TokenMask, TokenMasks};
use engine::device::Device;
use engine::nn::{Config, Family, Network, ParamStore};
use engine::ops::mask::{Masked, mask};
use engine::ops::masked_loss::Target;
use engine::ops::noise::Batch;
use engine::tape::{Keep, Tape};
use engine::tensor::Tensor;

const IMAGES: usize = 3;

fn model(device: &Device, family: Family, grid: PatchGrid) -> (Network, ParamStore) {
    let config = Config { family, grid, depth: 2, width: 24, heads: 3, classes: 4, learn_sigma: false };
    let (network, list) = Network::new(config);
    let mut store = ParamStore::new(device, list, 0).unwrap();
    // Not the initial values, of which many are zero and stop every gradient.
    for i in 0..store.list.trained() {
        let values = normals(i as u32, store.weights.part(i).len(), 0.2);
        store.weights.part_mut(i).write(&values);
    }
    (network, store)
}

/// Loss and gradients on images `z` with the target `u`, (B, C, H, W) each.
fn differentiate(
    device: &Device,
    network: &Network,
    store: &ParamStore,
    z: &[f32],
    u: &[f32],
    masked: &Masked,
) -> (f32, Vec<Vec<f32>>) {
    let grid = network.config.grid;
    let images =
        |values: &[f32]| Tensor::from_slice(device, "test", [IMAGES, grid.channels, grid.height, grid.width], values);
    let (z, u) = (images(z), images(u));
    let t = Tensor::from_slice(device, "test", [IMAGES], &[0.1f32, 0.5, 0.9]);
    let y = Tensor::from_slice(device, "test", [IMAGES], &[0u32, 3, 4]);
    let mut gradients = store.zeros(device, "test").unwrap();
    let mut tape = Tape::training(device, &store.weights, &mut gradients, Accumulate::Set, Keep::Everything);
    let Masked { kept, supervised, weight } = masked;
    let v = network.forward(&mut tape, &z, &t, &y, kept.as_ref());
    let target = Target { values: &u, mask: supervised.as_ref(), kept: kept.as_ref(), weight, grid };
    let loss = tape.masked_loss(v, target).to_vec::<f32>()[0];
    tape.backward();
    (loss, (0..gradients.count()).map(|i| gradients.part(i).to_vec()).collect())
}

fn draw(device: &Device, settings: &Mask, step: u32, grid: PatchGrid) -> Masked {
    let mut batch = Batch::new(device, IMAGES, grid);
    batch.place.write(&[step, 0]);
    batch.threshold.write(&[settings.threshold(step.into())]);
    mask(device, 7, settings, settings.windows(7, step.into(), grid), &batch, grid)
}

/// The square of a crop, cut out of the image, under the positions that it had.
#[test]
fn a_crop_of_tokens_is_a_smaller_image() {
    let whole = PatchGrid { channels: 2, height: 10, width: 12, patch: 2 };
    let part = PatchGrid { height: 6, width: 6, ..whole };
    let device = cpu(2);
    for family in [Family::Sit, Family::Uvit] {
        let crop = Mask { tokens: TokenMasks(vec![TokenMask::Crop(3)]), ..Mask::none() };
        let drawn = draw(&device, &crop, 3, whole);
        // The same square for each image, since a model has one table of positions.
        let first = drawn.kept.as_ref().unwrap().to_vec::<u32>()[..9].to_vec();
        let kept = Tensor::from_slice(&device, "test", [IMAGES, 9], &first.repeat(IMAGES));
        let masked = Masked { kept: Some(kept), ..drawn };
        let [z, u] = [0, 1].map(|name| normals(100 + name, IMAGES * whole.image(), 1.0));
        let cut = |values: &[f32]| -> Vec<f32> {
            let (top, left) = (first[0] as usize / 6 * 2, first[0] as usize % 6 * 2);
            let at = |i: usize| {
                let (plane, y, x) = (i / 36, i % 36 / 6, i % 6);
                values[(plane * whole.height + top + y) * whole.width + left + x]
            };
            (0..IMAGES * part.image()).map(at).collect()
        };
        let (network, store) = model(&device, family, whole);
        let (loss, gradients) = differentiate(&device, &network, &store, &z, &u, &masked);

        let (small, mut cropped) = model(&device, family, part);
        let extras = if family == Family::Uvit { 2 } else { 0 };
        let rows: Vec<usize> = (0..extras).chain(first.iter().map(|&patch| extras + patch as usize)).collect();
        let position = |list: &engine::nn::ParamList| {
            list.pieces(list.iter().count()).find(|(piece, ..)| piece.name == "pos_embed").expect("positions").1
        };
        let gather = |table: &[f32]| rows.iter().flat_map(|&row| table[row * 24..][..24].to_vec()).collect::<Vec<_>>();
        let place = position(&store.list);
        let table = store.weights.part(place).to_vec::<f32>();
        cropped.weights.part_mut(place).write(&gather(&table));
        let (small_loss, small_gradients) =
            differentiate(&device, &small, &cropped, &cut(&z), &cut(&u), &draw(&device, &Mask::none(), 0, part));
        assert_eq!(loss.to_bits(), small_loss.to_bits(), "{family:?}");
        for (i, (ours, theirs)) in gradients.iter().zip(&small_gradients).enumerate() {
            let ours = if i == place { gather(ours) } else { ours.clone() };
            assert!(ours.iter().any(|&g| g != 0.0), "{family:?}: the gradient of parameter {i} tells something");
            assert_eq!(&ours, theirs, "{family:?}: the gradient of parameter {i}");
        }
    }
}

const GRID: PatchGrid = PatchGrid { channels: 2, height: 8, width: 6, patch: 2 };

fn thinned(rate: f64) -> Mask {
    Mask { loss: LossMask::Pixel, loss_drop: Rate::constant(rate), norm: LossNorm::All, ..Mask::none() }
}

/// Both share the weight of every element, so what one leaves out the other counts.
#[test]
fn the_gradients_of_a_thinned_loss_and_of_what_it_leaves_out_add_up_to_the_whole() {
    let device = cpu(2);
    let [z, u] = [0, 1].map(|name| normals(100 + name, IMAGES * GRID.image(), 1.0));
    for family in [Family::Sit, Family::Uvit] {
        let (network, store) = model(&device, family, GRID);
        let part = draw(&device, &thinned(0.7), 5, GRID);
        let others: Vec<f32> = part.supervised.as_ref().unwrap().to_vec::<f32>().iter().map(|m| 1.0 - m).collect();
        let others = Tensor::from_slice(&device, "test", [IMAGES, 2, 8, 6], &others);
        let rest = Masked { kept: None, supervised: Some(others), weight: part.weight.copied(&device, "test") };
        let [whole, part, rest] = [&draw(&device, &Mask::none(), 5, GRID), &part, &rest]
            .map(|masked| differentiate(&device, &network, &store, &z, &u, masked));
        assert!((whole.0 - part.0 - rest.0).abs() < 8.0 * f32::EPSILON * whole.0);
        for (i, whole) in whole.1.iter().enumerate() {
            let largest = whole.iter().fold(0.0f32, |a, b| a.max(b.abs()));
            let error =
                (0..whole.len()).map(|at| (whole[at] - part.1[i][at] - rest.1[i][at]).abs()).fold(0.0, f32::max);
            // Each of the three is a sum of some hundred products, rounded as often.
            assert!(error <= 256.0 * f32::EPSILON * largest, "{family:?}: parameter {i}: {error} of {largest}");
        }
    }
}

#[test]
fn the_gradient_of_a_thinned_loss_is_on_average_its_share_of_the_whole() {
    const DRAWS: u32 = 300;
    let device = cpu(2);
    let [z, u] = [0, 1].map(|name| normals(100 + name, IMAGES * GRID.image(), 1.0));
    let (network, store) = model(&device, Family::Sit, GRID);
    let along = |gradients: &[Vec<f32>], name: u32| -> f64 {
        let of = |(i, g): (usize, &Vec<f32>)| {
            let direction = normals(1000 * name + i as u32, g.len(), 1.0);
            g.iter().zip(direction).map(|(&g, d)| f64::from(g) * f64::from(d)).sum::<f64>()
        };
        gradients.iter().enumerate().map(of).sum()
    };
    let whole = differentiate(&device, &network, &store, &z, &u, &draw(&device, &Mask::none(), 0, GRID)).1;
    for rate in [0.5, 0.95] {
        let drawn: Vec<Vec<Vec<f32>>> = (0..DRAWS)
            .map(|step| differentiate(&device, &network, &store, &z, &u, &draw(&device, &thinned(rate), step, GRID)).1)
            .collect();
        for name in 1..5 {
            let draws: Vec<f64> = drawn.iter().map(|gradients| along(gradients, name)).collect();
            let n = f64::from(DRAWS);
            let mean = draws.iter().sum::<f64>() / n;
            let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
            let expected = (1.0 - rate) * along(&whole, name);
            let error = (mean - expected).abs() / (variance / n).sqrt();
            assert!(error < 4.0, "rate {rate}: {mean}, not {expected}: {error} standard errors");
        }
    }
}
