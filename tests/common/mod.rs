//! The one harness that tests every operation from its specification.

#![allow(dead_code)] // each test crate uses its own part

mod dual;

pub use dual::{Dual, Float};

use engine::base::rng::{Purpose, Stream};
use engine::base::{Accumulate, DType, Shape};
use engine::device::{Cpu, Device, Isa};
use engine::tape::{Backward, Keep, Output, Tape, Var};
use engine::tensor::Slab;
use std::num::NonZero;

/// Standard normals scaled by `scale`; `name` picks the stream.
pub fn normals(name: u32, len: usize, scale: f32) -> Vec<f32> {
    let mut values = vec![0.0; len];
    Stream::new(0x5eed, name, 0, Purpose::Fixture).fill_normals(&mut values);
    values.iter_mut().for_each(|x| *x *= scale);
    values
}

/// Every processor device that this machine can be: each instruction set, one thread and several.
pub fn cpus(products: DType) -> Vec<(String, Device)> {
    let mut devices = vec![];
    for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16] {
        for threads in [1, 3] {
            if isa <= Isa::detect() {
                let cpu = Cpu::new(NonZero::new(threads), products).unwrap().with_isa(isa).poisoned();
                devices.push((format!("{isa}, {threads} threads"), Device::cpu(cpu)));
            }
        }
    }
    devices
}

/// The fastest device, for tests of whole systems.
pub fn cpu(threads: usize) -> Device {
    Device::cpu(Cpu::new(NonZero::new(threads), DType::F32).unwrap().poisoned())
}

/// Where an input of an operation lives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Computed by an earlier operation.
    Node,
    /// A parameter.
    Param,
    /// A parameter that is not trained: its gradient is never written.
    Constant,
    /// Computed, and by contract read by this operation alone: its gradient is always `Set`.
    SoleReader,
}

pub struct Input {
    shape: Vec<usize>,
    place: Place,
    scale: f32,
    values: Vec<f32>,
}

impl Input {
    pub fn node(shape: &[usize]) -> Input {
        Input::new(shape, Place::Node)
    }

    pub fn param(shape: &[usize]) -> Input {
        Input::new(shape, Place::Param)
    }

    pub fn sole(shape: &[usize]) -> Input {
        Input::new(shape, Place::SoleReader)
    }

    pub fn constant(shape: &[usize]) -> Input {
        Input::new(shape, Place::Constant)
    }

    fn new(shape: &[usize], place: Place) -> Input {
        Input { shape: shape.to_vec(), place, scale: 1.0, values: vec![] }
    }

    /// Values of this standard deviation rather than one.
    pub fn scaled(self, scale: f32) -> Input {
        Input { scale, ..self }
    }

    fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The specification of an operation: naive code over any [`Float`], from the inputs to the outputs.
pub trait Oracle {
    fn run<F: Float>(&self, inputs: &[Vec<F>]) -> Vec<Vec<F>>;
}

/// Checks an operation on every device against its oracle.
///
/// - Forward against the oracle in f64; backward, under a random gradient of every output, against the oracle's exact
///   derivative (forward-mode dual numbers in f64), for all coordinates of small inputs and a sample of large ones.
/// - The tolerance is twice the error of the oracle run in f32, plus four units in the last place of the largest value:
///   a naive f32 loop may be exact by luck, and four roundings is what any of these operations needs. Errors are relative
///   to the largest value of an array, and the naive error is the worst of all outputs, or of all gradients, since a
///   single array's is a draw of a few.
/// - Outputs are NaN before they are written; gradients are checked as first and as later writer; a second run must be the
///   same bits, and so must every number of threads.
pub fn check(oracle: &impl Oracle, mut inputs: Vec<Input>, graph: impl Fn(&mut Tape, &[Var]) -> Vec<Var>) {
    for (i, input) in inputs.iter_mut().enumerate() {
        input.values = normals(i as u32, input.len(), input.scale);
    }
    let truth = oracle.run::<f64>(&cast(&inputs));
    let naive = oracle.run::<f32>(&cast(&inputs));
    let upstream: Vec<Vec<f32>> =
        truth.iter().enumerate().map(|(i, out)| normals(100 + i as u32, out.len(), 1.0)).collect();
    let samples = sampled_gradients(oracle, &inputs, &upstream);

    let pairs = |i: usize| truth[i].iter().zip(&naive[i]).map(|(&t, &n)| (t, f64::from(n)));
    let output_error = (0..truth.len()).map(|i| relative_error(pairs(i))).fold(0.0, f64::max);
    let of = |samples: &[Sample]| relative_error(samples.iter().map(|s| (s.truth, s.naive)));
    let gradient_error = samples.iter().map(|samples| of(samples)).fold(0.0, f64::max);

    let mut bits: Vec<(Isa, Ran)> = vec![];
    for (name, device) in cpus(DType::F32) {
        let Device::Cpu(cpu) = &device;
        let ran = run(&device, &inputs, &upstream, Accumulate::Set, &graph);
        for (i, out) in ran.outputs.iter().enumerate() {
            assert_eq!(out.len(), truth[i].len(), "{name}: output {i} has another length than the oracle's");
            let tolerance = tolerance(output_error, truth[i].iter().copied());
            for (j, (&out, &truth)) in out.iter().zip(&truth[i]).enumerate() {
                let error = (f64::from(out) - truth).abs();
                assert!(error <= tolerance, "{name}: output {i} at {j} is {out}, not {truth}; tolerance {tolerance:e}");
            }
        }
        for (i, samples) in samples.iter().enumerate().take(ran.gradients.len()) {
            let tolerance = tolerance(gradient_error, samples.iter().map(|s| s.truth));
            for Sample { at, truth, .. } in samples {
                let got = ran.gradients[i][*at];
                let error = (f64::from(got) - truth).abs();
                assert!(
                    error <= tolerance,
                    "{name}: the gradient of input {i} at {at} is {got}, not {truth}; tolerance {tolerance:e}"
                );
            }
        }
        let added = run(&device, &inputs, &upstream, Accumulate::Add, &graph);
        for (i, (set, added)) in ran.gradients.iter().zip(&added.gradients).enumerate() {
            let before = prefill(i, set.len());
            let largest = set.iter().fold(1.0f32, |a, &b| a.max(b.abs()));
            for ((&set, &added), &before) in set.iter().zip(added).zip(&before) {
                let expected = if inputs[i].place == Place::SoleReader { set } else { set + before };
                let error = (added - expected).abs();
                // Adding in another order: one rounding of each of the two terms.
                assert!(
                    error <= 4.0 * f32::EPSILON * largest.max(before.abs()),
                    "{name}: input {i}: {added} for {expected}"
                );
            }
        }
        let again = run(&device, &inputs, &upstream, Accumulate::Set, &graph);
        assert!(again.same_bits(&ran), "{name}: a second run gives other bits");
        for (isa, other) in &bits {
            assert!(*isa != cpu.isa() || other.same_bits(&ran), "{name}: another number of threads gives other bits");
        }
        bits.push((cpu.isa(), ran));
    }
}

/// The largest error of (truth, naive) pairs, relative to the largest value.
fn relative_error(pairs: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    assert!(pairs.clone().all(|(_, naive)| naive.is_finite()), "the oracle overflows in f32: scale its inputs down");
    let error = pairs.clone().fold(0.0, |worst: f64, (truth, naive)| worst.max((truth - naive).abs()));
    let largest = pairs.fold(f64::MIN_POSITIVE, |worst: f64, (truth, _)| worst.max(truth.abs()));
    error / largest
}

/// Twice the naive error plus four units in the last place, for an array of these values.
fn tolerance(naive_error: f64, truth: impl Iterator<Item = f64>) -> f64 {
    let largest = truth.fold(0.0, |worst: f64, truth| worst.max(truth.abs()));
    (2.0 * naive_error + 4.0 * f64::from(f32::EPSILON)) * largest
}

fn cast<F: Float>(inputs: &[Input]) -> Vec<Vec<F>> {
    inputs.iter().map(|input| input.values.iter().map(|&x| F::from_f64(f64::from(x))).collect()).collect()
}

struct Sample {
    at: usize,
    truth: f64,
    naive: f64,
}

/// Derivatives of `sum upstream . outputs` by single coordinates of each input.
fn sampled_gradients(oracle: &impl Oracle, inputs: &[Input], upstream: &[Vec<f32>]) -> Vec<Vec<Sample>> {
    const SAMPLES: usize = 16;
    let derivative = |input: usize, at: usize| {
        fn along<F: Float>(
            oracle: &impl Oracle,
            inputs: &[Input],
            upstream: &[Vec<f32>],
            input: usize,
            at: usize,
        ) -> F {
            let mut duals = cast::<Dual<F>>(inputs);
            duals[input][at].rate = F::from_f64(1.0);
            let outputs = oracle.run(&duals);
            let terms = outputs.iter().flatten().zip(upstream.iter().flatten());
            terms.fold(F::from_f64(0.0), |sum, (out, &up)| sum + out.rate * F::from_f64(f64::from(up)))
        }
        let truth = along::<f64>(oracle, inputs, upstream, input, at);
        let naive = along::<f32>(oracle, inputs, upstream, input, at);
        Sample { at, truth, naive: f64::from(naive) }
    };
    let stream = Stream::new(1, 0, 0, Purpose::Fixture);
    let pick = |input: usize, i: usize, len: usize| {
        if len <= SAMPLES { i } else { stream.below((input * SAMPLES + i) as u32, len as u64) as usize }
    };
    let of = |input: usize, len: usize| (0..len.min(SAMPLES)).map(|i| derivative(input, pick(input, i, len))).collect();
    inputs.iter().enumerate().map(|(i, input)| of(i, input.len())).collect()
}

struct Ran {
    outputs: Vec<Vec<f32>>,
    gradients: Vec<Vec<f32>>,
}

impl Ran {
    fn same_bits(&self, other: &Ran) -> bool {
        let bits = |values: &[Vec<f32>]| values.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>();
        bits(&self.outputs) == bits(&other.outputs) && bits(&self.gradients) == bits(&other.gradients)
    }
}

/// What a gradient holds before an operation adds to it.
fn prefill(input: usize, len: usize) -> Vec<f32> {
    normals(200 + input as u32, len, 1.0)
}

fn run(
    device: &Device,
    inputs: &[Input],
    upstream: &[Vec<f32>],
    accumulate: Accumulate,
    graph: impl Fn(&mut Tape, &[Var]) -> Vec<Var>,
) -> Ran {
    let shapes: Vec<Shape> = inputs.iter().map(|input| Shape::new(&input.shape)).collect();
    let mut params = Slab::zeros(device, "test", &shapes).unwrap();
    let trained = inputs.iter().take_while(|input| input.place != Place::Constant).count();
    let mut grads = Slab::zeros(device, "test", &shapes[..trained]).unwrap();
    for (i, input) in inputs.iter().enumerate() {
        params.part_mut(i).f32_mut().copy_from_slice(&input.values);
        if i >= trained {
            continue;
        }
        // As first writer an operation finds NaN here and must overwrite it.
        let before = if accumulate == Accumulate::Set { vec![f32::NAN; input.len()] } else { prefill(i, input.len()) };
        grads.part_mut(i).f32_mut().copy_from_slice(&before);
    }
    let mut tape = Tape::training(device, &params, &mut grads, accumulate, Keep::Everything);
    let vars: Vec<Var> = (0..inputs.len())
        .map(|i| {
            let param = Var::Param(i as u32);
            match inputs[i].place {
                Place::Param | Place::Constant => param,
                Place::Node | Place::SoleReader => leaf(&mut tape, param, accumulate, inputs[i].place),
            }
        })
        .collect();
    let outputs = graph(&mut tape, &vars);
    assert_eq!(outputs.len(), upstream.len(), "the graph has as many outputs as the oracle");
    let values = outputs.iter().map(|&out| tape.value(out).f32().to_vec()).collect();
    for (i, (&out, upstream)) in outputs.iter().zip(upstream).enumerate() {
        let mut grad = tape.gradient(*tape.value(out).shape());
        assert_eq!(grad.len(), upstream.len(), "output {i} has another length than the oracle's");
        grad.f32_mut().copy_from_slice(upstream);
        tape.close(out, grad);
    }
    tape.backward();
    let gradients = (0..trained).map(|i| grads.part(i).f32().to_vec()).collect();
    Ran { outputs: values, gradients }
}

/// A node with the value of a parameter, whose gradient goes to the parameter. In `Add` mode another reader has already
/// written to the node's gradient.
fn leaf(tape: &mut Tape, param: Var, accumulate: Accumulate, place: Place) -> Var {
    struct Leaf(Var);
    impl Backward for Leaf {
        fn backward(self: Box<Self>, outputs: Vec<Output>, tape: &mut Tape) {
            let from = Output::only_grad(outputs);
            let (mut to, _) = tape.open(self.0);
            to.f32_mut().copy_from_slice(from.f32());
            tape.close(self.0, to);
        }
    }
    let mut value = tape.output(*tape.value(param).shape());
    value.f32_mut().copy_from_slice(tape.value(param).f32());
    let [node] = tape.push([value], Leaf(param));
    if accumulate == Accumulate::Add && place == Place::Node {
        let Var::Param(i) = param else { unreachable!("a leaf is made of a parameter") };
        let mut grad = tape.gradient(*tape.value(param).shape());
        let before = prefill(i as usize, grad.len());
        grad.f32_mut().copy_from_slice(&before);
        tape.close(node, grad);
    }
    node
}
