//! An operation against its specification.

use super::devices::{cards_under, cpus, kind, normals};
use super::graph::{Ran, prefill, run};
use super::input::{Input, Kind, Place, cast};
use super::probes::{Probe, derivatives, probes};
use super::{Bf16Factors, Float};
use emulator::Checks;
use engine::base::{Accumulate, DType};
use engine::device::Device;
use engine::tape::{Tape, Var};
use half::bf16;

/// The specification of an operation: naive code over any [`Float`], from the inputs to the outputs.
pub trait Oracle {
    fn run<F: Float>(&self, inputs: &[Vec<F>]) -> Vec<Vec<F>>;
}

/// Checks an operation on every device against its oracle.
///
/// The devices are the processor with every instruction set, and emulated cards with activations of either type.
///
/// - Forward against the oracle in f64; backward, under a random gradient of every output, against the oracle's exact
///   derivative (forward-mode dual numbers in f64): along single coordinates, the corners of every array among them, and
///   along one direction of random signs, which every coordinate takes part in.
/// - The tolerance is twice the error of the oracle run in f32 and one unit in the last place: see [`Naive::tolerance`]. Errors
///   are relative to the largest value of an array.
/// - Outputs are NaN before they are written; gradients are checked as first and as later writer; a second run must be the
///   same bits, and so must every number of threads.
pub fn check<O: Oracle>(oracle: &O, inputs: Vec<Input>, graph: impl Fn(&mut Tape, &[Var]) -> Vec<Var>) {
    let expected = Expected::new(oracle, inputs);
    let checks = expected.checks();
    let devices = [cpus(DType::F32), cards_under(checks, DType::F32)].concat();
    expected.check::<f32>(oracle, devices, &graph);
    expected.rounded(oracle).check::<Bf16Factors>(oracle, cards_under(checks, DType::BF16), &graph);
}

/// As [`check`], for an operation made of products: on devices that multiply in bf16 as well, where the naive operation is
/// the oracle whose multiplications round their factors to bf16.
pub fn check_products<O: Oracle>(oracle: &O, inputs: Vec<Input>, graph: impl Fn(&mut Tape, &[Var]) -> Vec<Var>) {
    let expected = Expected::new(oracle, inputs);
    let checks = expected.checks();
    let devices = [cpus(DType::F32), cards_under(checks, DType::F32)].concat();
    expected.check::<f32>(oracle, devices, &graph);
    expected.check::<Bf16Factors>(oracle, cpus(DType::BF16), &graph);
    expected.rounded(oracle).check::<Bf16Factors>(oracle, cards_under(checks, DType::BF16), &graph);
}

/// The inputs of an operation, and what the oracle makes of them in f64.
struct Expected {
    inputs: Vec<Input>,
    upstream: Vec<Vec<f32>>,
    outputs: Vec<Vec<f64>>,
    probes: Vec<Vec<Probe>>,
    /// By input and probe.
    derivatives: Vec<Vec<f64>>,
    /// Inputs and upstream gradients are numbers of bf16.
    rounded: bool,
}

impl Expected {
    fn new(oracle: &impl Oracle, inputs: Vec<Input>) -> Expected {
        Expected::drawn(oracle, inputs, 0, false)
    }

    /// Races in global memory are looked for where that does not take long.
    fn checks(&self) -> Checks {
        const SMALL: usize = 1 << 13;
        let all = self.inputs.iter().map(Input::len).sum::<usize>() <= SMALL;
        if all { Checks::ALL } else { Checks::USUAL }
    }

    /// The same with every input and every gradient that arrives rounded to bf16, which is how such a device is given them.
    fn rounded(self, oracle: &impl Oracle) -> Expected {
        Expected::drawn(oracle, self.inputs, 0, true)
    }

    /// For draw number `draw` of the inputs and of the gradients that arrive.
    fn drawn(oracle: &impl Oracle, mut inputs: Vec<Input>, draw: u32, rounded: bool) -> Expected {
        let values = |name: u32, len, scale| {
            let mut values = normals(1000 * draw + name, len, scale);
            if rounded {
                values.iter_mut().for_each(|x| *x = bf16::from_f32(*x).to_f32());
            }
            values
        };
        for (i, input) in (0..).zip(&mut inputs) {
            input.values = values(i, input.len(), input.scale);
        }
        let outputs = oracle.run::<f64>(&cast(&inputs));
        let upstream: Vec<_> = (0..).zip(&outputs).map(|(i, out)| values(100 + i, out.len(), 1.0)).collect();
        let probes: Vec<_> = inputs.iter().enumerate().map(|(i, input)| probes(i, input)).collect();
        let derivatives = derivatives::<f64>(oracle, &inputs, &upstream, &probes);
        Expected { inputs, upstream, outputs, probes, derivatives, rounded }
    }

    /// Checks devices; `N` are the numbers of the naive operation.
    fn check<N: Float>(
        &self,
        oracle: &impl Oracle,
        devices: Vec<(String, Device)>,
        graph: &impl Fn(&mut Tape, &[Var]) -> Vec<Var>,
    ) {
        let Expected { inputs, upstream, .. } = self;
        let [naive_outputs, naive_gradients] = self.naive::<N>(oracle);
        let mut bits: Vec<(String, Ran)> = vec![];
        for (name, device) in devices {
            let kind = kind(&device);
            let ran = run(&device, inputs, upstream, Accumulate::Set, graph);
            for (i, (out, truth)) in ran.outputs.iter().zip(&self.outputs).enumerate() {
                assert_eq!(out.len(), truth.len(), "{name}: output {i} has another length than the oracle's");
                let tolerance = naive_outputs[i].tolerance(device.activations());
                for (j, (&out, &truth)) in out.iter().zip(truth).enumerate() {
                    let error = (f64::from(out) - truth).abs();
                    assert!(
                        error <= tolerance,
                        "{name}: output {i} at {j} is {out}, not {truth}; tolerance {tolerance:e}"
                    );
                }
            }
            for (i, gradient) in ran.gradients.iter().enumerate() {
                let single = naive_gradients[i].tolerance(device.activations());
                for (probe, &truth) in self.probes[i].iter().zip(&self.derivatives[i]) {
                    let got = probe.along(gradient);
                    // The signs are independent of the n errors, each within the tolerance of a single coordinate, so the
                    // standard deviation of their sum is at most sqrt(n) times that, and in practice a quarter of it.
                    let tolerance = single * (probe.len() as f64).sqrt();
                    assert!(
                        (got - truth).abs() <= tolerance,
                        "{name}: the derivative by input {i} along {probe} is {got}, not {truth}; tolerance {tolerance:e}"
                    );
                }
            }
            for (other_kind, other) in &bits {
                assert!(
                    *other_kind != kind || other.same_bits(&ran),
                    "{name}: another number of threads, or another policy, gives other bits"
                );
            }
            // A card under the other policy has done the rest.
            if matches!(device, Device::Cuda(_)) && bits.iter().any(|(other_kind, _)| *other_kind == kind) {
                continue;
            }
            let added = run(&device, inputs, upstream, Accumulate::Add, graph);
            for (i, (set, added)) in ran.gradients.iter().zip(&added.gradients).enumerate() {
                let before = prefill(i, set.len());
                let largest = set.iter().fold(1.0f32, |a, &b| a.max(b.abs()));
                for ((&set, &added), &before) in set.iter().zip(added).zip(&before) {
                    let expected = if inputs[i].place == Place::SoleReader { set } else { set + before };
                    let error = (added - expected).abs();
                    // The gradient alone is rounded, the sum in memory, and the sum here: half a unit of values of which the
                    // second and third are up to twice the largest.
                    let unit = match (inputs[i].place, device.activations()) {
                        (Place::Node | Place::SoleReader, DType::BF16) => bf16::EPSILON.to_f32(),
                        _ => f32::EPSILON,
                    };
                    assert!(
                        error <= 2.5 * unit * largest.max(before.abs()),
                        "{name}: input {i}: {added} for {expected}"
                    );
                }
            }
            let again = run(&device, inputs, upstream, Accumulate::Set, graph);
            assert!(again.same_bits(&ran), "{name}: a second run gives other bits");
            bits.push((kind, ran));
        }
    }

    /// What the naive operation does to each output, and to the gradient of each input along single coordinates.
    ///
    /// Errors are judged together: those of all outputs, and those of all gradients of a kind. One array's own are a draw of a
    /// few; but matrices, which are sums over rows, say nothing of the stream.
    fn naive<N: Float>(&self, oracle: &impl Oracle) -> [Vec<Naive>; 2] {
        let mut draws = vec![self.arrays::<N>(oracle)];
        let kinds: Vec<Kind> = self.inputs.iter().map(Input::kind).collect();
        let alike = [vec![Kind::Stream; self.outputs.len()], kinds];
        let of = |draws: &[[Vec<Array>; 2]], which: usize| -> Vec<Naive> {
            let kinds = &alike[which];
            let scale = |i: usize| draws.iter().fold(0.0, |most: f64, draw| most.max(largest(&draw[which][i].truth)));
            let naive = |i: usize| {
                let like = (0..kinds.len()).filter(|&other| kinds[other] == kinds[i]);
                let arrays = like.flat_map(|other| draws.iter().map(move |draw| (&draw[which][other], scale(other))));
                let start = Naive { scale: scale(i), worst: 0.0, values: 0 };
                arrays.fold(start, |naive, (array, scale)| naive.and(array, scale))
            };
            (0..kinds.len()).map(naive).collect()
        };
        loop {
            let naive = [0, 1].map(|which| of(&draws, which));
            if naive.iter().flatten().all(|naive| naive.values >= ENOUGH) {
                return naive;
            }
            let again = Expected::drawn(oracle, self.inputs.clone(), draws.len() as u32, self.rounded);
            draws.push(again.arrays::<N>(oracle));
        }
    }

    /// The outputs and the gradients beside those of the naive operation in the numbers `N`.
    fn arrays<N: Float>(&self, oracle: &impl Oracle) -> [Vec<Array>; 2] {
        let Expected { inputs, upstream, outputs, probes, derivatives: truth, .. } = self;
        let naive = oracle.run::<N>(&cast(inputs)).into_iter().map(|out| out.into_iter().map(N::to_f64).collect());
        let outputs = outputs.iter().cloned().zip(naive).map(|(truth, naive)| Array { truth, naive });
        let naive = derivatives::<N>(oracle, inputs, upstream, probes);
        let gradients = truth.iter().zip(naive).map(|(truth, naive)| {
            // The last probe is of all coordinates.
            let singles = truth.len() - 1;
            Array { truth: truth[..singles].to_vec(), naive: naive[..singles].to_vec() }
        });
        [outputs.collect(), gradients.collect()]
    }
}

/// Values of which the worst error tells what an error may be: of n that are spread evenly, the worst is below half of their
/// bound once in 2^n. Where an operation has fewer, the naive one is run on further draws of its inputs.
const ENOUGH: usize = 16;

/// Values beside those of the naive operation.
struct Array {
    truth: Vec<f64>,
    naive: Vec<f64>,
}

/// What the naive operation does to an array.
#[derive(Clone, Copy)]
struct Naive {
    /// The largest true value of the array in any draw.
    scale: f64,
    /// The worst error of the arrays like it, each relative to its own scale, and of how many values.
    worst: f64,
    values: usize,
}

impl Naive {
    fn and(self, Array { truth, naive }: &Array, scale: f64) -> Naive {
        assert!(naive.iter().all(|naive| naive.is_finite()), "the oracle overflows in f32: scale its inputs down");
        let off = truth.iter().zip(naive).fold(0.0, |worst: f64, (truth, naive)| worst.max((truth - naive).abs()));
        let off = off / scale.max(f64::MIN_POSITIVE);
        Naive { worst: self.worst.max(off), values: self.values + truth.len(), ..self }
    }

    /// What an operation that stores activations in `stored` may be off.
    ///
    /// Twice the naive error; a unit in the last place of f32; and the rounding to bf16 of a stored result, or of the stored
    /// numbers that it is a sum of, which the naive operation lacks.
    fn tolerance(self, stored: DType) -> f64 {
        let stored = if stored == DType::BF16 { bf16::EPSILON.to_f64() / 2.0 } else { 0.0 };
        (2.0 * self.worst + f64::from(f32::EPSILON) + stored) * self.scale
    }
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |worst, value| worst.max(value.abs()))
}
