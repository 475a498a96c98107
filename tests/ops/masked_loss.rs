use crate::common::{cards, devices, get, normals, put};
use engine::base::{DType, PatchGrid};
use engine::device::{Device, Isa};
use engine::ops::masked_loss::Target;
use engine::tape::{Backward, Output, Tape};
use engine::tensor::{Slab, Tensor};
use std::cell::RefCell;
use std::rc::Rc;

/// A number that both types of activations hold.
fn round(x: f32) -> f32 {
    half::bf16::from_f32(x).to_f32()
}

/// The weights of two images.
const WEIGHTS: [f32; 2] = [0.013, 0.17];

/// Loss and gradient, element by element.
fn naive(v: &[f32], u: &[f32], mask: &[f32], kept: &[u32], grid: PatchGrid, tokens: usize) -> (f64, Vec<f64>) {
    let outputs = v.len() / (kept.len() * grid.area());
    let (mut loss, mut gradient) = (0.0, vec![0.0; v.len()]);
    for (row, &patch) in kept.iter().enumerate() {
        for (pixel, c) in (0..grid.area()).flat_map(|pixel| (0..grid.channels).map(move |c| (pixel, c))) {
            let at = (row * grid.area() + pixel) * outputs + c;
            let image = row / tokens * grid.image() + grid.element(patch as usize, pixel, c);
            let e = f64::from(v[at]) - f64::from(u[image]);
            let weight = f64::from(WEIGHTS[row / tokens]);
            loss += weight * f64::from(mask[image]) * e * e;
            gradient[at] = 2.0 * weight * f64::from(mask[image]) * e;
        }
    }
    (loss, gradient)
}

/// The loss and the gradient that reaches the operation before it.
fn ours(device: &Device, v: &[f32], shape: [usize; 3], target: Target) -> (f32, Vec<f32>) {
    struct Catch(Rc<RefCell<Vec<f32>>>);
    impl Backward for Catch {
        fn backward(self: Box<Self>, outputs: Vec<Output>, _: &mut Tape) {
            *self.0.borrow_mut() = get(&Output::only_grad(outputs));
        }
    }
    let (params, mut grads) = (Slab::zeros(device, "test", &[]).unwrap(), Slab::zeros(device, "test", &[]).unwrap());
    let mut tape =
        Tape::training(device, &params, &mut grads, engine::base::Accumulate::Set, engine::tape::Keep::Everything);
    let caught = Rc::default();
    let mut prediction = tape.output(shape);
    put(&mut prediction, v);
    let [v] = tape.push([prediction], Catch(Rc::clone(&caught)));
    let loss = tape.masked_loss(v, target).to_vec()[0];
    tape.backward();
    (loss, caught.take())
}

#[test]
fn loss_and_gradient_match_the_naive_ones() {
    let grid = PatchGrid { channels: 3, height: 6, width: 4, patch: 2 };
    let all: Vec<u32> = (0..2 * 6).map(|i| i % 6).collect();
    let some = vec![0, 3, 5, 1, 2, 4];
    let u = normals(1, 2 * grid.image(), 1.0);
    let sparse: Vec<f32> = normals(2, u.len(), 1.0).iter().map(|&x| if x > 1.0 { 1.0 } else { 0.0 }).collect();
    let (ones, none) = (vec![1.0; u.len()], vec![0.0; u.len()]);
    for (tokens, kept) in [(6, &all), (3, &some)] {
        for channels in [3, 6] {
            let shape = [2, tokens, grid.area() * channels];
            let v: Vec<f32> = normals(3, shape.iter().product(), 1.0).into_iter().map(round).collect();
            for (name, mask) in [("everything", &ones), ("some", &sparse), ("nothing", &none)] {
                let (loss, gradient) = naive(&v, &u, mask, kept, grid, tokens);
                let mut bits = vec![];
                for (device_name, device) in devices().into_iter().chain(cards(DType::BF16)) {
                    let new = |shape: &[usize], values: &[f32]| {
                        Tensor::from_slice(&device, "test", engine::base::Shape::new(shape), values)
                    };
                    let image = [2, grid.channels, grid.height, grid.width];
                    let (u, mask_tensor, weight) = (new(&image, &u), new(&image, mask), new(&[2], &WEIGHTS));
                    let kept_tensor = Tensor::from_slice(&device, "test", [2, tokens], kept);
                    let target = Target {
                        values: &u,
                        mask: (name != "everything").then_some(&mask_tensor),
                        kept: (tokens < 6).then_some(&kept_tensor),
                        weight: &weight,
                        grid,
                    };
                    let (our_loss, our_gradient) = ours(&device, &v, shape, target);
                    // Relative to the value, since no term of the loss is negative. A gradient rounds twice: the difference,
                    // and its product with the weight. A term of the loss rounds the difference's second factor and product
                    // as well, then in the sum of its row, and the loss once more at its end.
                    let terms = (grid.area() * grid.channels) as i32;
                    // A gradient in bf16 is rounded to it at the end.
                    let close = |a: f32, b: f64, roundings: i32, last: f32| {
                        let bound =
                            (1.0 + f64::from(f32::EPSILON) / 2.0).powi(roundings) * (1.0 + f64::from(last) / 2.0);
                        (f64::from(a) - b).abs() <= (bound - 1.0) * b.abs()
                    };
                    let unit = match device.activations() {
                        DType::BF16 => half::bf16::EPSILON.to_f32(),
                        _ => 0.0,
                    };
                    assert!(
                        close(our_loss, loss, terms + 4, 0.0),
                        "{device_name}, {name}: loss {our_loss}, not {loss}"
                    );
                    for (i, (&a, &b)) in our_gradient.iter().zip(&gradient).enumerate() {
                        assert!(close(a, b, 2, unit), "{device_name}, {name}: gradient {i} is {a}, not {b}");
                    }
                    let to_bits = |loss: f32, gradient: &[f32]| {
                        (loss.to_bits(), gradient.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
                    };
                    let first = to_bits(our_loss, &our_gradient);
                    let (again_loss, again_gradient) = ours(&device, &v, shape, target);
                    assert!(first == to_bits(again_loss, &again_gradient), "{device_name}, {name}: a second run");
                    let isa: Option<Isa> = match &device {
                        Device::Cpu(cpu) => Some(cpu.isa()),
                        Device::Cuda(_) => None,
                    };
                    let kind = (isa, device.activations());
                    for (other_kind, other) in &bits {
                        assert!(*other_kind != kind || *other == first, "{device_name}, {name}: the number of threads");
                    }
                    bits.push((kind, first));
                    if name == "nothing" {
                        assert!(our_loss == 0.0 && our_gradient.iter().all(|&g| g == 0.0), "nothing is zero");
                    }
                }
            }
        }
    }
}
