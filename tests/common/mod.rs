//! The one harness that tests every operation from its specification.

#![allow(dead_code)] // each test crate uses its own part

mod dual;
mod emulated;

pub use dual::{Bf16Factors, Dual, Float};

pub use emulated::Emulated;
use emulator::Policy;
use engine::base::rng::{Purpose, Stream};
use engine::base::{Accumulate, DType, Shape};
use engine::device::cuda::{Cuda, MODULES, Nvidia};
use engine::device::{Cpu, Device, Isa};
use engine::tape::{Backward, Keep, Output, Tape, Var};
use engine::tensor::{Slab, Tensor};
use half::bf16;
use std::fmt;
use std::io::Write;
use std::num::NonZero;
use std::sync::{Arc, Once};

/// Standard normals scaled by `scale`; `name` picks the stream.
pub fn normals(name: u32, len: usize, scale: f32) -> Vec<f32> {
    let mut values = vec![0.0; len];
    Stream::new(0x5eed, name, 0, Purpose::Fixture).fill_normals(&mut values);
    values.iter_mut().for_each(|x| *x *= scale);
    values
}

/// Every processor device that this machine can be: each instruction set, one thread and several.
pub fn cpus(products: DType) -> Vec<(String, Device)> {
    static SAID: Once = Once::new();
    let mut devices = vec![];
    for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16] {
        if isa > Isa::detect() {
            continue;
        }
        for threads in [1, 3] {
            let cpu = Cpu::new(NonZero::new(threads), products).unwrap().with_isa(isa).poisoned();
            devices.push((format!("{isa}, {products:?} products, {threads} threads"), Device::cpu(cpu)));
        }
    }
    // Past the capture of a test's output, which would keep it from whoever reads that all is well.
    SAID.call_once(|| {
        let skipped = [Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16].into_iter().filter(|&isa| isa > Isa::detect());
        let names: Vec<String> = skipped.map(|isa| isa.to_string()).collect();
        if !names.is_empty() {
            let _ = writeln!(std::io::stderr(), "not tested, since this processor lacks it: {}", names.join(", "));
        }
    });
    devices
}

/// Every emulated card with activations of this type; none where the engine was built without nvcc. With `ENGINE_TEST_CARD=N`
/// it is card N of this machine instead.
///
/// Asynchronous work happens as early as it may on one emulated card, and as late on another.
pub fn cards(activations: DType) -> Vec<(String, Device)> {
    static SAID: Once = Once::new();
    if MODULES.is_empty() {
        SAID.call_once(|| {
            let _ = writeln!(std::io::stderr(), "not tested, since the engine was built without nvcc: CUDA kernels");
        });
        return vec![];
    }
    if let Some(number) = std::env::var_os("ENGINE_TEST_CARD") {
        let number = number.to_str().and_then(|number| number.parse().ok()).expect("ENGINE_TEST_CARD is a number");
        let driver = Arc::new(Nvidia::open(number).unwrap());
        // Many tests share the card.
        let cuda = Cuda::within(driver, activations, 1 << 30).unwrap().poisoned();
        return vec![(format!("{}, {activations:?}", cuda.card().name), Device::cuda(cuda))];
    }
    let kinds: &[_] = match activations {
        DType::F32 => &[((8, 0), Policy::Lazy)],
        _ => &[((8, 0), Policy::Eager), ((9, 0), Policy::Lazy), ((9, 0), Policy::Eager)],
    };
    let card = |&(capability, policy)| {
        let cuda = Cuda::new(Arc::new(Emulated::new(capability, policy)), activations).unwrap();
        (format!("{}, {activations:?}", cuda.card().name), Device::cuda(cuda))
    };
    kinds.iter().map(card).collect()
}

/// Every device that computes with f32 activations.
pub fn devices() -> Vec<(String, Device)> {
    cpus(DType::F32).into_iter().chain(cards(DType::F32)).collect()
}

/// Writes numbers to a tensor of either type of activations.
pub fn put(tensor: &mut Tensor, values: &[f32]) {
    match tensor.dtype() {
        DType::BF16 => tensor.write(&values.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>()),
        _ => tensor.write(values),
    }
}

/// The numbers of a tensor of either type of activations.
pub fn get(tensor: &Tensor) -> Vec<f32> {
    match tensor.dtype() {
        DType::BF16 => tensor.to_vec::<bf16>().into_iter().map(bf16::to_f32).collect(),
        _ => tensor.to_vec(),
    }
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

    /// What its gradient is like.
    fn kind(&self) -> Kind {
        match (self.place, self.shape.len()) {
            (Place::Node | Place::SoleReader, _) => Kind::Stream,
            (Place::Constant, _) => Kind::Constant,
            (_, 1) => Kind::Bias,
            _ => Kind::Weight,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stream,
    Weight,
    Bias,
    /// Never written, so never compared.
    Constant,
}

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
/// - The tolerance is twice the error of the oracle run in f32, plus a few roundings, since a naive loop may be exact by
///   luck: see [`tolerance`]. Errors are relative to the largest value of an array.
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
        let output_errors: Vec<f64> = naive.iter().zip(&self.outputs).map(|(n, t)| relative_error(t, n)).collect();
        let output_error = output_errors.into_iter().fold(0.0, f64::max);
        let gradient_errors = self.gradient_errors(&derivatives::<N>(oracle, inputs, upstream, &self.probes));

        let mut bits: Vec<(String, Ran)> = vec![];
        for (name, device) in devices {
            // Cards of one capability are to agree with each other, as processors of one instruction set are.
            let kind = match &device {
                Device::Cpu(cpu) => cpu.isa().to_string(),
                Device::Cuda(card) => format!("{:?}", card.card().capability),
            };
            let ran = run(&device, inputs, upstream, Accumulate::Set, graph);
            for (i, (out, truth)) in ran.outputs.iter().zip(&self.outputs).enumerate() {
                assert_eq!(out.len(), truth.len(), "{name}: output {i} has another length than the oracle's");
                let tolerance = tolerance(output_error, products, truth);
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
                let single = tolerance(gradient_errors[i], products, &self.derivatives[i][..singles]);
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
    fn gradient_errors(&self, naive: &[Vec<f64>]) -> Vec<f64> {
        let own = |i: usize| {
            let singles = self.probes[i].len() - 1;
            relative_error(&self.derivatives[i][..singles], &naive[i][..singles])
        };
        let of_kind = |kind| {
            let same = (0..naive.len()).filter(|&i| self.inputs[i].kind() == kind);
            same.map(own).fold(0.0, f64::max)
        };
        self.inputs.iter().map(|input| of_kind(input.kind())).collect()
    }
}

/// The largest error relative to the largest value.
fn relative_error(truth: &[f64], naive: &[f64]) -> f64 {
    assert!(naive.iter().all(|naive| naive.is_finite()), "the oracle overflows in f32: scale its inputs down");
    let error = truth.iter().zip(naive).fold(0.0, |worst: f64, (truth, naive)| worst.max((truth - naive).abs()));
    error / largest(truth).max(f64::MIN_POSITIVE)
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |worst, value| worst.max(value.abs()))
}

/// Twice the naive error, plus four units in the last place: four roundings of f32 is what any of these operations needs.
/// With bf16 factors it is two units, which are four roundings of a factor: those of a product of two products.
fn tolerance(naive_error: f64, products: DType, truth: &[f64]) -> f64 {
    let roundings = match products {
        DType::BF16 => 2.0 * half::bf16::EPSILON.to_f64(),
        _ => 4.0 * f64::from(f32::EPSILON),
    };
    (2.0 * naive_error + roundings) * largest(truth)
}

fn cast<F: Float>(inputs: &[Input]) -> Vec<Vec<F>> {
    inputs.iter().map(|input| input.values.iter().map(|&x| F::from_f64(f64::from(x))).collect()).collect()
}

/// A direction in which an input is varied.
enum Probe {
    /// One coordinate.
    Coordinate(usize),
    /// All of them, each by plus or minus one.
    Signs(Vec<f32>),
}

impl Probe {
    fn len(&self) -> usize {
        match self {
            Probe::Coordinate(_) => 1,
            Probe::Signs(signs) => signs.len(),
        }
    }

    /// The derivative along the probe by the gradient.
    fn along(&self, gradient: &[f32]) -> f64 {
        match self {
            Probe::Coordinate(at) => f64::from(gradient[*at]),
            Probe::Signs(signs) => signs.iter().zip(gradient).map(|(&sign, &g)| f64::from(sign) * f64::from(g)).sum(),
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probe::Coordinate(at) => write!(f, "coordinate {at}"),
            Probe::Signs(_) => f.write_str("random signs"),
        }
    }
}

/// Every coordinate of a small array; of a large one the corners, some of the last row and column, where a kernel's tails
/// are, and some of all. The last probe is the random signs.
fn probes(input: usize, of: &Input) -> Vec<Probe> {
    const SAMPLES: usize = 16;
    const TAILS: usize = 4;
    let (len, cols) = (of.len(), *of.shape.last().unwrap());
    let stream = Stream::new(1, input as u32, 0, Purpose::Fixture);
    let mut coordinates: Vec<usize> = if len <= SAMPLES {
        (0..len).collect()
    } else {
        let below = |draw: usize, bound: usize| stream.below(draw as u32, bound as u64) as usize;
        let anywhere = (0..SAMPLES).map(|i| below(i, len));
        let last_row = (SAMPLES..).take(TAILS).map(|i| len - cols + below(i, cols));
        let last_column = (SAMPLES + TAILS..).take(TAILS).map(|i| below(i, len / cols) * cols + cols - 1);
        anywhere.chain(last_row).chain(last_column).chain([0, cols - 1, len - cols, len - 1]).collect()
    };
    coordinates.sort_unstable();
    coordinates.dedup();
    let signs = normals(300 + input as u32, len, 1.0).iter().map(|x| x.signum()).collect();
    coordinates.into_iter().map(Probe::Coordinate).chain([Probe::Signs(signs)]).collect()
}

/// Derivatives of `sum upstream . outputs` along the probes of each input.
fn derivatives<F: Float>(
    oracle: &impl Oracle,
    inputs: &[Input],
    upstream: &[Vec<f32>],
    probes: &[Vec<Probe>],
) -> Vec<Vec<f64>> {
    let along = |input: usize, probe: &Probe| {
        let mut duals = cast::<Dual<F>>(inputs);
        match probe {
            Probe::Coordinate(at) => duals[input][*at].rate = F::from_f64(1.0),
            Probe::Signs(signs) => {
                duals[input].iter_mut().zip(signs).for_each(|(x, &sign)| x.rate = F::from_f64(f64::from(sign)));
            }
        }
        let outputs = oracle.run(&duals);
        let terms = outputs.iter().flatten().zip(upstream.iter().flatten());
        terms.map(|(out, &up)| out.rate * F::from_f64(f64::from(up))).sum::<F>().to_f64()
    };
    probes.iter().enumerate().map(|(i, probes)| probes.iter().map(|probe| along(i, probe)).collect()).collect()
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
    normals(200 + input as u32, len, 1.0).into_iter().map(|x| bf16::from_f32(x).to_f32()).collect()
}

fn run(
    device: &Device,
    inputs: &[Input],
    upstream: &[Vec<f32>],
    accumulate: Accumulate,
    graph: impl Fn(&mut Tape, &[Var]) -> Vec<Var>,
) -> Ran {
    let shapes: Vec<Shape> = inputs.iter().map(|input| Shape::new(&input.shape)).collect();
    let mut params = Slab::typed(device, "test", &shapes, device.activations()).unwrap();
    let trained = inputs.iter().take_while(|input| input.place != Place::Constant).count();
    let mut grads = Slab::zeros(device, "test", &shapes[..trained]).unwrap();
    for (i, input) in inputs.iter().enumerate() {
        put(params.part_mut(i), &input.values);
        if i >= trained {
            continue;
        }
        // As first writer an operation finds NaN here and must overwrite it.
        let before = if accumulate == Accumulate::Set { vec![f32::NAN; input.len()] } else { prefill(i, input.len()) };
        grads.part_mut(i).write(&before);
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
    let values = outputs.iter().map(|&out| get(tape.value(out))).collect();
    for (i, (&out, upstream)) in outputs.iter().zip(upstream).enumerate() {
        let mut grad = tape.gradient(*tape.value(out).shape());
        assert_eq!(grad.len(), upstream.len(), "output {i} has another length than the oracle's");
        put(&mut grad, upstream);
        tape.close(out, grad);
    }
    tape.backward();
    let gradients = (0..trained).map(|i| grads.part(i).to_vec()).collect();
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
            to.write(&get(&from));
            tape.close(self.0, to);
        }
    }
    let value = tape.value(param).copied(tape.device(), "test");
    let [node] = tape.push([value], Leaf(param));
    if accumulate == Accumulate::Add && place == Place::Node {
        let Var::Param(i) = param else { unreachable!("a leaf is made of a parameter") };
        let mut grad = tape.gradient(*tape.value(param).shape());
        let before = prefill(i as usize, grad.len());
        put(&mut grad, &before);
        tape.close(node, grad);
    }
    node
}
