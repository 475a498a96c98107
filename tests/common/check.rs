//! An operation against its specification.

use super::devices::{cards, cpus, devices, kind, normals};
use super::graph::{Ran, prefill, run};
use super::input::{Input, Kind, Place, cast};
use super::probes::{Probe, derivatives, probes};
use super::{Bf16Factors, Float};
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
/// - The tolerance is twice the error of the oracle run in f32 and a few roundings: see [`NaiveError::tolerance`]. Errors are
///   relative to the largest value of an array.
/// - Outputs are NaN before they are written; gradients are checked as first and as later writer; a second run must be the
///   same bits, and so must every number of threads.
pub fn check<O: Oracle>(oracle: &O, inputs: Vec<Input>, graph: impl Fn(&mut Tape, &[Var]) -> Vec<Var>) {
    let expected = Expected::new(oracle, inputs);
    expected.check::<f32>(oracle, devices(), DType::F32, &graph);
    expected.rounded(oracle).check::<Bf16Factors>(oracle, cards(DType::BF16), DType::BF16, &graph);
}

/// As [`check`], for an operation made of products: on devices that multiply in bf16 as well, where the naive operation is
/// the oracle whose multiplications round their factors to bf16.
pub fn check_products<O: Oracle>(oracle: &O, inputs: Vec<Input>, graph: impl Fn(&mut Tape, &[Var]) -> Vec<Var>) {
    let expected = Expected::new(oracle, inputs);
    expected.check::<f32>(oracle, devices(), DType::F32, &graph);
    expected.check::<Bf16Factors>(oracle, cpus(DType::BF16), DType::BF16, &graph);
    expected.rounded(oracle).check::<Bf16Factors>(oracle, cards(DType::BF16), DType::BF16, &graph);
}

/// The inputs of an operation, and what the oracle makes of them in f64.
struct Expected {
    inputs: Vec<Input>,
    upstream: Vec<Vec<f32>>,
    outputs: Vec<Vec<f64>>,
    probes: Vec<Vec<Probe>>,
    /// By input and probe.
    derivatives: Vec<Vec<f64>>,
}

impl Expected {
    fn new(oracle: &impl Oracle, mut inputs: Vec<Input>) -> Expected {
        for (i, input) in inputs.iter_mut().enumerate() {
            input.values = normals(i as u32, input.len(), input.scale);
        }
        let outputs = oracle.run::<f64>(&cast(&inputs));
        let upstream = (0..).zip(&outputs).map(|(i, out)| normals(100 + i, out.len(), 1.0)).collect();
        Expected::of(oracle, inputs, upstream)
    }

    /// The same with every input and every gradient that arrives rounded to bf16, which is how such a device is given them.
    fn rounded(self, oracle: &impl Oracle) -> Expected {
        let Expected { mut inputs, mut upstream, .. } = self;
        let values = inputs.iter_mut().map(|input| &mut input.values).chain(&mut upstream).flatten();
        values.for_each(|x| *x = bf16::from_f32(*x).to_f32());
        Expected::of(oracle, inputs, upstream)
    }

    fn of(oracle: &impl Oracle, inputs: Vec<Input>, upstream: Vec<Vec<f32>>) -> Expected {
        let outputs = oracle.run::<f64>(&cast(&inputs));
        let probes: Vec<_> = inputs.iter().enumerate().map(|(i, input)| probes(i, input)).collect();
        let derivatives = derivatives::<f64>(oracle, &inputs, &upstream, &probes);
        Expected { inputs, upstream, outputs, probes, derivatives }
    }

    /// Checks devices that multiply in `products`; `N` are the numbers of the naive operation.
    fn check<N: Float>(
        &self,
        oracle: &impl Oracle,
        devices: Vec<(String, Device)>,
        products: DType,
        graph: &impl Fn(&mut Tape, &[Var]) -> Vec<Var>,
    ) {
        let Expected { inputs, upstream, .. } = self;
        let naive: Vec<Vec<f64>> =
            oracle.run::<N>(&cast(inputs)).into_iter().map(|out| out.into_iter().map(N::to_f64).collect()).collect();
        let output_error =
            NaiveError::of(self.outputs.iter().zip(&naive).map(|(truth, naive)| (&truth[..], &naive[..])));
        let gradient_errors = self.gradient_errors(&derivatives::<N>(oracle, inputs, upstream, &self.probes));

        let mut bits: Vec<(String, Ran)> = vec![];
        for (name, device) in devices {
            let kind = kind(&device);
            let ran = run(&device, inputs, upstream, Accumulate::Set, graph);
            for (i, (out, truth)) in ran.outputs.iter().zip(&self.outputs).enumerate() {
                assert_eq!(out.len(), truth.len(), "{name}: output {i} has another length than the oracle's");
                let tolerance = output_error.tolerance(products, device.activations()) * largest(truth);
                for (j, (&out, &truth)) in out.iter().zip(truth).enumerate() {
                    let error = (f64::from(out) - truth).abs();
                    assert!(
                        error <= tolerance,
                        "{name}: output {i} at {j} is {out}, not {truth}; tolerance {tolerance:e}"
                    );
                }
            }
            for (i, gradient) in ran.gradients.iter().enumerate() {
                let singles = self.probes[i].len() - 1;
                let single = gradient_errors[i].tolerance(products, device.activations())
                    * largest(&self.derivatives[i][..singles]);
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
            let added = run(&device, inputs, upstream, Accumulate::Add, graph);
            for (i, (set, added)) in ran.gradients.iter().zip(&added.gradients).enumerate() {
                let before = prefill(i, set.len());
                let largest = set.iter().fold(1.0f32, |a, &b| a.max(b.abs()));
                for ((&set, &added), &before) in set.iter().zip(added).zip(&before) {
                    let expected = if inputs[i].place == Place::SoleReader { set } else { set + before };
                    let error = (added - expected).abs();
                    // Adding in another order: one rounding of each of the two terms.
                    let unit = match (inputs[i].place, device.activations()) {
                        (Place::Node | Place::SoleReader, DType::BF16) => bf16::EPSILON.to_f32(),
                        _ => f32::EPSILON,
                    };
                    assert!(
                        error <= 4.0 * unit * largest.max(before.abs()),
                        "{name}: input {i}: {added} for {expected}"
                    );
                }
            }
            let again = run(&device, inputs, upstream, Accumulate::Set, graph);
            assert!(again.same_bits(&ran), "{name}: a second run gives other bits");
            for (other_kind, other) in &bits {
                assert!(
                    *other_kind != kind || other.same_bits(&ran),
                    "{name}: another number of threads, or another policy, gives other bits"
                );
            }
            bits.push((kind, ran));
        }
    }

    /// The naive error of each input's gradient: the worst of its kind. One array's own is a draw of a few, and of a single
    /// one where the array is that small; but matrices, which are sums over rows, say nothing of the stream.
    fn gradient_errors(&self, naive: &[Vec<f64>]) -> Vec<NaiveError> {
        let of_kind = |kind| {
            NaiveError::of((0..naive.len()).filter(|&i| self.inputs[i].kind() == kind).map(|i| {
                let singles = self.probes[i].len() - 1;
                (&self.derivatives[i][..singles], &naive[i][..singles])
            }))
        };
        self.inputs.iter().map(|input| of_kind(input.kind())).collect()
    }
}

/// How far the naive operation is off, relative to the largest value of an array.
#[derive(Clone, Copy)]
struct NaiveError {
    worst: f64,
    /// Of how many values it is the worst.
    values: usize,
}

impl NaiveError {
    /// Of some arrays, each beside the truth.
    fn of<'a>(arrays: impl Iterator<Item = (&'a [f64], &'a [f64])>) -> NaiveError {
        arrays.fold(NaiveError { worst: 0.0, values: 0 }, |error, (truth, naive)| {
            assert!(naive.iter().all(|naive| naive.is_finite()), "the oracle overflows in f32: scale its inputs down");
            let off = truth.iter().zip(naive).fold(0.0, |worst: f64, (truth, naive)| worst.max((truth - naive).abs()));
            let off = off / largest(truth).max(f64::MIN_POSITIVE);
            NaiveError { worst: error.worst.max(off), values: error.values + truth.len() }
        })
    }

    /// What an operation that multiplies in `products` and stores activations in `stored` may be off, relative to the largest
    /// value.
    ///
    /// Twice the naive error; four roundings of f32, which any of these operations needs and the naive one has elsewhere;
    /// and that to bf16 of a stored result, or of the stored numbers that it is a sum of, which the naive operation lacks. Factors are rounded to bf16 as often as in the
    /// naive operation, so twice its error covers that, unless it is small by luck: of n errors that are spread evenly, the
    /// worst is below half of their bound once in 2^n. Of a few values four more roundings of a factor are allowed, those of
    /// a product of two products.
    fn tolerance(self, products: DType, stored: DType) -> f64 {
        const FEW: usize = 16;
        let rounding = |dtype| match dtype {
            DType::BF16 => bf16::EPSILON.to_f64() / 2.0,
            _ => f64::from(f32::EPSILON) / 2.0,
        };
        let luck = if self.values < FEW { 4.0 * rounding(products) } else { 0.0 };
        let stored = if stored == DType::BF16 { rounding(stored) } else { 0.0 };
        2.0 * self.worst + 4.0 * rounding(DType::F32) + stored + luck
    }
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |worst, value| worst.max(value.abs()))
}
