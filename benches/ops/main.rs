//! Every operation against its floor: `cargo bench`, or `cargo bench -- attention` for one.
//!
//! An operation is first compared with itself on plain Rust; a wrong answer posts no time. Then it runs on
//! all threads, cold: before every run a pass over the memory evicts the caches. The products that layers are made of come first,
//! alone, warm and beside another library. Criterion keeps the history; the table at
//! the end has one row for each direction,
//!
//! ```text
//! floor = max(bytes / bandwidth, flops / peak)
//! ```
//! with the least bytes and operations from the `cost` beside the operation, and bandwidth and peak measured between the
//! runs. Times are the fastest of the samples, as bandwidth and peak are the best of their rounds: on a busy machine all
//! three are what it does when left alone, and the last line says how far the median was from that.

mod attention;
mod condition;
mod extra_tokens;
mod gated_norm;
mod join;
mod layer_norm;
mod linear;
mod mask;
mod masked_loss;
mod matmul;
mod mlp;
mod noise;
mod patch_embed;
mod score;
mod solver;
mod step;
mod tape;
mod unpatchify;
mod update;

use criterion::{Criterion, SamplingMode};
use engine::base::rng::{Purpose, Stream};
use engine::base::{Cost, DType, PatchGrid, Path, Prediction, Times, Weighting};
use engine::cpu::peak;
use engine::device::{Cpu, Device, Isa};
use engine::nn::{Config, Size as Preset};
use engine::ops::noise::Noise;
use engine::tensor::Tensor;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// The noise of a training step.
pub const NOISE: Noise = Noise {
    path: Path::Linear,
    prediction: Prediction::V,
    times: Times::UNIFORM,
    weighting: Weighting::None,
    label_dropout: 0.1,
    null_label: 1000,
    seed: 1,
};

pub const F32: &[DType] = &[DType::F32];
pub const BOTH: &[DType] = &[DType::F32, DType::BF16];

/// What separates two right answers: the roundings of the longest chain of sums here, relative to the largest value.
const TOLERANCE: f32 = 8192.0 * f32::EPSILON;

/// Values of an output that are compared.
const SAMPLES: usize = 1 << 14;

/// A batch of one model.
#[derive(Clone, Copy)]
pub struct Size {
    pub preset: &'static str,
    pub batch: usize,
}

pub const S: Size = Size { preset: "sit-s-2", batch: 8 };
pub const XL: Size = Size { preset: "sit-xl-2", batch: 2 };

impl Size {
    /// The model on latents of 32 x 32 x 4, with the classes of ImageNet.
    pub fn model(&self) -> Config {
        let Preset { family, depth, width, heads, patch } = Preset::preset(self.preset).expect("a preset");
        let grid = PatchGrid { channels: 4, height: 32, width: 32, patch };
        Config { family, grid, depth, width, heads, classes: 1000, learn_sigma: false }
    }

    pub fn rows(&self) -> usize {
        self.batch * self.model().grid.tokens()
    }

    fn name(&self) -> String {
        format!("{} x {}", self.preset, self.batch)
    }
}

/// Standard normals; `name` picks the stream.
pub fn normals(name: u32, len: usize) -> Vec<f32> {
    let mut values = vec![0.0; len];
    Stream::new(0x5eed, name, 0, Purpose::Fixture).fill_normals(&mut values);
    values
}

/// A tensor of standard normals.
pub fn random(device: &Device, name: u32, shape: &[usize]) -> Tensor {
    let values = normals(name, shape.iter().product());
    Tensor::from_slice(device, "bench", engine::base::Shape::new(shape), &values)
}

/// What a fixture times itself with.
pub struct Clock<'a> {
    device: &'a Device,
    /// `None` while answers are compared.
    memory: Option<&'a mut peak::Memory>,
    bandwidth: f64,
    laps: Vec<f64>,
    outputs: Vec<Vec<f32>>,
}

impl<'a> Clock<'a> {
    fn new(device: &'a Device, memory: Option<&'a mut peak::Memory>) -> Clock<'a> {
        Clock { device, memory, bandwidth: 0.0, laps: vec![], outputs: vec![] }
    }

    /// Times `work`, which finds cold caches.
    pub fn lap<R>(&mut self, work: impl FnOnce() -> R) -> R {
        if let Some(memory) = &mut self.memory {
            let Device::Cpu(cpu) = self.device else { panic!("benches run on the processor") };
            self.bandwidth = self.bandwidth.max(memory.pass(cpu));
        }
        let start = Instant::now();
        let result = black_box(work());
        self.laps.push(start.elapsed().as_secs_f64());
        result
    }

    /// Shows an output of the laps, of which evenly spread values are compared.
    pub fn output(&mut self, values: &[f32]) {
        if self.memory.is_none() {
            let stride = values.len().div_ceil(SAMPLES) | 1;
            self.outputs.push(values.iter().step_by(stride).copied().collect());
        }
    }
}

/// One line of the table.
struct Row {
    name: String,
    costs: Vec<Cost>,
    products: DType,
    seconds: Vec<f64>,
}

/// Runs the benches and keeps the best that the machine has shown.
pub struct Bench {
    criterion: Criterion,
    device: [Device; 2],
    memory: peak::Memory,
    bandwidth: f64,
    peak: [f64; 2],
    rows: Vec<Row>,
}

impl Bench {
    fn new() -> Bench {
        let criterion = Criterion::default()
            .sample_size(10)
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_millis(600))
            .nresamples(1000)
            .configure_from_args();
        let device = [DType::F32, DType::BF16].map(|products| Device::cpu(Cpu::new(None, products).expect("a device")));
        let memory = peak::Memory::new(&device[0]);
        Bench { criterion, device, memory, bandwidth: 0.0, peak: [0.0; 2], rows: vec![] }
    }

    /// Times an operation whose fixture on a device is one run of it, each lap of which costs what `laps` says.
    pub fn run<F: FnMut(&mut Clock)>(
        &mut self,
        op: &str,
        size: Size,
        products: &[DType],
        laps: &[(&str, &[Cost])],
        fixture: impl Fn(&Device) -> F,
    ) {
        let mut group = self.criterion.benchmark_group(op);
        group.sampling_mode(SamplingMode::Flat);
        for &products in products {
            let kind = usize::from(products == DType::BF16);
            let Device::Cpu(cpu) = &self.device[kind] else { panic!("benches run on the processor") };
            let mut ready = None;
            let row = |(lap, costs): &(&str, &[Cost])| Row {
                name: format!("{:28} {:14} {products:?}", format!("{op} {lap}"), size.name()),
                costs: costs.to_vec(),
                products,
                seconds: vec![],
            };
            let mut rows: Vec<Row> = laps.iter().map(row).collect();
            group.bench_function(format!("{} {products:?}", size.name()), |bencher| {
                let run = ready.get_or_insert_with(|| verified(op, &self.device[kind], &fixture));
                self.peak[kind] = self.peak[kind].max(peak::flops(cpu, 5));
                bencher.iter_custom(|runs| {
                    let mut total = 0.0;
                    for _ in 0..runs {
                        let mut clock = Clock::new(&self.device[kind], Some(&mut self.memory));
                        run(&mut clock);
                        self.bandwidth = self.bandwidth.max(clock.bandwidth);
                        total += clock.laps.iter().sum::<f64>();
                        rows.iter_mut().zip(&clock.laps).for_each(|(row, &lap)| row.seconds.push(lap));
                    }
                    Duration::from_secs_f64(total)
                });
            });
            self.rows.extend(rows.into_iter().filter(|row| !row.seconds.is_empty()));
        }
        group.finish();
    }

    fn table(&mut self) {
        println!("\n{:59}        ms    GB/s  GFLOP/s  % of floor", "");
        let mut delays = vec![];
        for row in &mut self.rows {
            let median = median(&mut row.seconds);
            let best = row.seconds[0];
            delays.push(median / best);
            let peak = self.peak[usize::from(row.products == DType::BF16)];
            let floor: f64 = row.costs.iter().map(|cost| cost.floor(self.bandwidth, peak)).sum();
            let total: Cost = row.costs.iter().copied().sum();
            let rate = |amount: u64| amount as f64 / best / 1e9;
            let [ms, gb, gflop, share] = [best * 1e3, rate(total.bytes), rate(total.flops), 100.0 * floor / best];
            println!("{:59} {ms:9.3} {gb:7.1} {gflop:8.1} {share:11.0}", row.name);
        }
        if !delays.is_empty() {
            let delay = median(&mut delays);
            let Device::Cpu(cpu) = &self.device[0] else { panic!("benches run on the processor") };
            let [f32, bf16] = self.peak.map(|peak| peak / 1e9);
            println!(
                "\n{} threads, {}: {:.1} GB/s, {f32:.0} GFLOP/s on f32, {bf16:.0} on bf16; the fastest of the samples, \
                 the median run took {delay:.2} times as long",
                cpu.threads.count(),
                cpu.isa(),
                self.bandwidth / 1e9,
            );
        }
    }
}

/// The middle of the values, or the mean of the two in the middle; sorts them.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let count = values.len();
    (values[(count - 1) / 2] + values[count / 2]) / 2.0
}

/// The fixture on `device`, whose first run gives what plain Rust gives.
fn verified<F: FnMut(&mut Clock)>(op: &str, device: &Device, fixture: impl Fn(&Device) -> F) -> F {
    let outputs = |device: &Device, run: &mut F| {
        let mut clock = Clock::new(device, None);
        run(&mut clock);
        clock.outputs
    };
    let Device::Cpu(cpu) = device else { panic!("benches run on the processor") };
    let plain = Cpu::new(None, cpu.products).expect("a device").with_isa(Isa::Portable);
    let plain = Device::cpu(plain);
    let expected = outputs(&plain, &mut fixture(&plain));
    let mut run = fixture(device);
    let got = outputs(device, &mut run);
    assert!(!got.is_empty() && got.len() == expected.len(), "{op} shows {} outputs", got.len());
    for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
        let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        let error = got.iter().zip(expected).fold(0.0f32, |worst, (x, y)| worst.max((x - y).abs()));
        let right = largest > 0.0 && error <= TOLERANCE * largest && got.iter().all(|x| x.is_finite());
        assert!(right, "{op}: output {i} is off by {error} where the largest value is {largest}");
    }
    run
}

fn main() {
    let mut bench = Bench::new();
    let products = matmul::bench(&mut bench.criterion);
    for size in [S, XL] {
        linear::bench(&mut bench, size);
        attention::bench(&mut bench, size);
        mlp::bench(&mut bench, size);
        gated_norm::bench(&mut bench, size);
    }
    condition::bench(&mut bench, S);
    layer_norm::bench(&mut bench, S);
    join::bench(&mut bench, S);
    extra_tokens::bench(&mut bench, S);
    patch_embed::bench(&mut bench, S);
    noise::bench(&mut bench, S);
    mask::bench(&mut bench, S);
    masked_loss::bench(&mut bench, S);
    update::bench(&mut bench, S);
    solver::bench(&mut bench, S);
    unpatchify::bench(&mut bench, S);
    score::bench(&mut bench);
    step::bench(&mut bench, S);
    products.iter().for_each(|row| println!("{row}"));
    bench.table();
    bench.criterion.final_summary();
}
