//! The tape on toys: what it keeps never changes a number, and what it keeps is as little as it says.

mod common;

use engine::base::{Accumulate, Gelu, Shape};
use engine::device::Device;
use engine::ops::mlp::Mlp;
use engine::tape::{Backward, Keep, Output, Tape, Var};
use engine::tensor::{Slab, Tensor};
use std::collections::HashMap;

const WIDTH: usize = 24;
const DEPTH: usize = 6;

/// `y = a + b`, with one gradient for both.
fn sum(tape: &mut Tape, a: Var, b: Var) -> Var {
    struct Sum(Var, Var);
    impl Backward for Sum {
        fn backward(self: Box<Self>, outputs: Vec<Output>, tape: &mut Tape) {
            let dy = Output::only_grad(outputs);
            let copy = Tensor::from_slice(tape.device(), "gradients", *dy.shape(), dy.f32());
            tape.give(self.0, copy);
            tape.give(self.1, dy);
        }
    }
    let mut y = tape.output(*tape.value(a).shape());
    for ((y, a), b) in y.f32_mut().iter_mut().zip(tape.value(a).f32()).zip(tape.value(b).f32()) {
        *y = a + b;
    }
    let [y] = tape.push([y], Sum(a, b));
    y
}

/// The parameters of block `i`, four for each.
fn mlp(i: usize) -> Mlp {
    let param = |j: usize| Var::Param((4 * i + j) as u32);
    Mlp { w1: param(0), b1: param(1), w2: param(2), b2: param(3), gelu: Gelu::Tanh }
}

fn shapes() -> Vec<Shape> {
    (0..DEPTH)
        .flat_map(|_| [[2 * WIDTH, WIDTH].into(), [2 * WIDTH].into(), [WIDTH, 2 * WIDTH].into(), [WIDTH].into()])
        .collect()
}

/// A U of blocks: the first half's outputs are used again, in reverse order, by the second half.
fn u_shaped(tape: &mut Tape, x: Var) -> Var {
    let mut x = x;
    let mut skips = vec![];
    for i in 0..DEPTH / 2 {
        [x] = tape.block([x], move |tape, [x]| [tape.mlp(x, mlp(i))]);
        skips.push(x);
    }
    for i in DEPTH / 2..DEPTH {
        let skip = skips.pop().expect("as many blocks up as down");
        let inputs = [x, skip];
        [x] = tape.block(inputs, move |tape, [x, skip]| {
            // The innermost block's skip is its input itself.
            let joined = if x == skip { x } else { sum(tape, x, skip) };
            [tape.mlp(joined, mlp(i))]
        });
        tape.release(skip);
        if inputs[0] != skip {
            tape.release(inputs[0]);
        }
    }
    x
}

struct Ran {
    output: Vec<u32>,
    gradients: Vec<u32>,
    peak: usize,
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

fn run(device: &Device, keep: Keep) -> Ran {
    let mut params = Slab::zeros(device, "test", &shapes()).unwrap();
    for i in 0..params.count() {
        let part = params.part_mut(i).f32_mut();
        let values = common::normals(i as u32, part.len(), 0.3);
        part.copy_from_slice(&values);
    }
    let mut grads = Slab::zeros(device, "test", &shapes()).unwrap();
    let before = device.arena().used();
    let x = Tensor::from_slice(device, "test", [2, 50, WIDTH], &common::normals(99, 100 * WIDTH, 1.0));
    if keep == Keep::Nothing {
        let mut tape = Tape::inference(device, &params);
        let x = tape.input(x);
        let y = u_shaped(&mut tape, x);
        let output = bits(tape.value(y).f32());
        drop(tape);
        assert_eq!(device.arena().used(), before, "an inference tape frees everything");
        return Ran { output, gradients: vec![], peak: device.arena().peak() - before };
    }
    let mut tape = Tape::training(device, &params, &mut grads, Accumulate::Set, keep);
    let x = tape.input(x);
    let y = u_shaped(&mut tape, x);
    let output = bits(tape.value(y).f32());
    let upstream = Tensor::from_slice(device, "test", [2, 50, WIDTH], &common::normals(98, 100 * WIDTH, 1.0));
    tape.close(y, upstream);
    tape.backward();
    assert_eq!(device.arena().used(), before, "backward frees everything");
    Ran { output, gradients: bits(grads.flat(grads.count())), peak: device.arena().peak() - before }
}

#[test]
fn long_skips_give_the_same_bits_whatever_is_kept() {
    let mut first = HashMap::new();
    for (name, device) in common::all_cpus() {
        // The least first: a device remembers the highest peak that it ever had.
        let modes = [Keep::Nothing, Keep::BlockOutputs, Keep::Everything];
        let [nothing, outputs, everything] = modes.map(|keep| run(&device, keep));
        assert!(everything.output == outputs.output && everything.output == nothing.output, "{name}: the output");
        assert!(everything.gradients == outputs.gradients, "{name}: the gradients");
        assert!(everything.gradients.iter().all(|&bits| f32::from_bits(bits).is_finite()), "{name}: they are numbers");
        assert!(everything.peak > outputs.peak && outputs.peak > nothing.peak, "{name}: each keeps less than the last");
        let bits = (everything.output, everything.gradients);
        let first = first.entry(common::kind(&device)).or_insert_with(|| bits.clone());
        assert!(*first == bits, "{name}: another number of threads");
    }
}

fn toy(keep: Keep, f: impl FnOnce(&Device, &mut Tape)) {
    let device = common::cpu(1);
    let shapes = [Shape::new(&[3, 3]), Shape::new(&[3])];
    let params = Slab::zeros(&device, "test", &shapes).unwrap();
    let mut grads = Slab::zeros(&device, "test", &shapes).unwrap();
    f(&device, &mut Tape::training(&device, &params, &mut grads, Accumulate::Set, keep));
}

#[test]
#[should_panic(expected = "two inputs of one operation")]
fn one_value_as_two_inputs_is_refused() {
    toy(Keep::Everything, |device, tape| {
        let x = tape.input(Tensor::from_slice(device, "test", [3], &[1.0f32, 2.0, 3.0]));
        tape.close(x, Tensor::from_slice(device, "test", [3], &[0.0f32; 3]));
        let _first = tape.open(x);
        tape.open(x);
    });
}

#[test]
#[should_panic(expected = "linear: x is [4, 5], W [3, 3]")]
fn a_wrong_shape_names_the_operation_and_both_shapes() {
    toy(Keep::Everything, |device, tape| {
        let x = tape.input(Tensor::from_slice(device, "test", [4, 5], &[0.0f32; 20]));
        tape.linear(x, Var::Param(0), Var::Param(1));
    });
}

#[test]
fn a_parameter_that_nothing_used_has_a_zero_gradient() {
    let device = common::cpu(1);
    let shapes = [Shape::new(&[3, 3]), Shape::new(&[3]), Shape::new(&[7])];
    let params = Slab::zeros(&device, "test", &shapes).unwrap();
    let mut grads = Slab::zeros(&device, "test", &shapes).unwrap();
    grads.part_mut(2).f32_mut().fill(f32::NAN);
    let mut tape = Tape::training(&device, &params, &mut grads, Accumulate::Set, Keep::Everything);
    let x = tape.input(Tensor::from_slice(&device, "test", [1, 3], &[1.0f32, 2.0, 3.0]));
    let y = tape.linear(x, Var::Param(0), Var::Param(1));
    let dy = Tensor::from_slice(&device, "test", [1, 3], &[1.0f32; 3]);
    tape.close(y, dy);
    tape.backward();
    assert_eq!(grads.part(2).f32(), [0.0; 7]);
    assert_eq!(grads.part(1).f32(), [1.0; 3]);
}
