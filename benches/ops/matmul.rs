use criterion::{Criterion, Throughput};
use engine::base::rng::{Purpose, Stream};
use engine::base::{Accumulate, Cost, DType};
use engine::cpu::matmul::{Matrix, product};
use engine::cpu::peak;
use engine::device::{Cpu, Device};
use engine::tensor::Tensor;
use gemm::Parallelism;
use half::bf16;
use std::num::NonZero;
use std::time::{Duration, Instant};

/// One product, and whether its operands are stored transposed.
struct Shape {
    name: String,
    m: usize,
    n: usize,
    k: usize,
    transposed: (bool, bool),
}

/// The three products of a linear layer on `rows` rows: `y = x W^T`, `dx = dy W`, `dW = dy^T x`, W being (out, in).
fn linear(name: &str, rows: usize, inputs: usize, outputs: usize) -> [Shape; 3] {
    let shape = |pass, m, n, k, transposed| Shape { name: format!("{name} {pass}"), m, n, k, transposed };
    [
        shape("forward", rows, outputs, inputs, (false, true)),
        shape("dx", rows, inputs, outputs, (false, false)),
        shape("dW", outputs, inputs, rows, (true, false)),
    ]
}

/// The layers of a block of width `d` on 8 images of 256 tokens.
fn block(preset: &str, d: usize) -> Vec<Shape> {
    let layers = [("qkv", d, 3 * d), ("proj", d, d), ("fc1", d, 4 * d), ("fc2", 4 * d, d)];
    layers
        .iter()
        .flat_map(|&(layer, inputs, outputs)| linear(&format!("{preset} {layer}"), 2048, inputs, outputs))
        .collect()
}

/// Times the products of a training step of SiT-S/2 on one thread and on all, with the modulation of its layers, and those of
/// SiT-XL/2 on all: by turns with the peer on the same operands, so warm, and without what a layer adds to its product.
/// Returns a table.
pub fn bench(criterion: &mut Criterion) -> Vec<String> {
    let all = std::thread::available_parallelism().map_or(1, NonZero::get);
    let mut rows = vec![];
    for products in [DType::F32, DType::BF16] {
        for threads in if all == 1 { vec![1] } else { vec![1, all] } {
            let mut shapes = block("S", 384);
            shapes.extend(linear("S condition", 8, 384, (12 * 6 + 2) * 384));
            if threads == all {
                shapes.extend(block("XL", 1152));
            }
            rows.extend(shapes.iter().filter_map(|shape| row(criterion, threads, products, shape)));
        }
    }
    if !rows.is_empty() {
        rows.insert(0, format!("\n{:58}        ms    GB/s  GFLOP/s  % of peak  x gemm f32", ""));
    }
    rows
}

fn normals(device: &Device, label: &'static str, sample: u32, rows: usize, cols: usize) -> Tensor {
    let mut tensor = Tensor::new(device, label, [rows, cols], DType::F32);
    Stream::new(0, sample, 0, Purpose::Fixture).fill_normals(tensor.f32_mut());
    tensor
}

/// The peer, `c = a b` by the crate `gemm`, in f32.
fn peer(shape: &Shape, threads: usize, a: &[f32], b: &[f32], c: &mut [f32]) {
    let &Shape { m, n, k, transposed: (left, right), .. } = shape;
    let parallelism = if threads == 1 { Parallelism::None } else { Parallelism::Rayon(threads) };
    let strides = |transposed, rows, cols| if transposed { (rows as isize, 1) } else { (1, cols as isize) };
    let ((a_cs, a_rs), (b_cs, b_rs)) = (strides(left, m, k), strides(right, k, n));
    let (c, c_cs, c_rs) = (c.as_mut_ptr(), 1, n as isize);
    let (a, b) = (a.as_ptr(), b.as_ptr());
    // SAFETY: the strides describe the three slices.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c,
            c_cs,
            c_rs,
            false,
            a,
            a_cs,
            a_rs,
            b,
            b_cs,
            b_rs,
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Compares with the peer on the operands as the engine reads them. Two sums of k products in f32, in whatever order, are
/// each within `k eps / 2` times the sum of the products' sizes.
fn verify(shape: &Shape, products: DType, a: &[f32], b: &[f32], got: &[f32]) {
    let read = |x: &[f32]| -> Vec<f32> {
        x.iter().map(|&x| if products == DType::BF16 { bf16::from_f32(x).to_f32() } else { x }).collect()
    };
    let (a, b) = (read(a), read(b));
    let mut expected = vec![0.0; got.len()];
    peer(shape, 1, &a, &b, &mut expected);
    let [a, b] = [a, b].map(|x| x.iter().map(|x| x.abs()).collect::<Vec<_>>());
    let mut sizes = vec![0.0; got.len()];
    peer(shape, 1, &a, &b, &mut sizes);
    for ((&got, &expected), &size) in got.iter().zip(&expected).zip(&sizes) {
        let tolerance = shape.k as f32 * f32::EPSILON * size;
        assert!((got - expected).abs() <= tolerance, "{}: {got}, not {expected}; no time is posted", shape.name);
    }
}

/// A line of the table; `None` where it was not asked for.
fn row(criterion: &mut Criterion, threads: usize, products: DType, shape: &Shape) -> Option<String> {
    let &Shape { m, n, k, transposed: (left, right), .. } = shape;
    let cpu = Cpu::new(NonZero::new(threads), products).expect("the processor is there");
    // Operands live where the engine keeps them, in an arena with large pages.
    let arena = Device::cpu(Cpu::new(NonZero::new(1), DType::F32).expect("the processor is there"));
    let ((a_rows, a_cols), (b_rows, b_cols)) =
        (if left { (k, m) } else { (m, k) }, if right { (n, k) } else { (k, n) });
    let (a, b) = (normals(&arena, "a", 0, a_rows, a_cols), normals(&arena, "b", 1, b_rows, b_cols));
    let mut c = Tensor::new(&arena, "c", [m, n], DType::F32);
    let (a, b, c) = (a.f32(), b.f32(), c.f32_mut());
    let [a_matrix, b_matrix] =
        [(a, a_rows, a_cols, left), (b, b_rows, b_cols, right)].map(|(x, rows, cols, transposed)| {
            let matrix = Matrix::new(x, rows, cols);
            if transposed { matrix.transposed() } else { matrix }
        });

    let cost = Cost::product(m, n, k, DType::F32.size());
    let mut best: Option<(f64, f64, f64)> = None;
    let mut group = criterion.benchmark_group("matmul");
    group.throughput(Throughput::Elements(cost.flops));
    let plural = if threads == 1 { "thread" } else { "threads" };
    let name = format!("{} {m}x{n}x{k} {products:?} {threads} {plural}", shape.name);
    group.bench_function(&name, |bencher| {
        bencher.iter_custom(|iterations| {
            let (mut time, mut peer_time, mut flops) =
                best.unwrap_or_else(|| (f64::INFINITY, f64::INFINITY, peak::flops(&cpu, 20)));
            let mut total = Duration::ZERO;
            for _ in 0..iterations {
                let start = Instant::now();
                product(&cpu, a_matrix, b_matrix, c, Accumulate::Set);
                let elapsed = start.elapsed();
                total += elapsed;
                time = time.min(elapsed.as_secs_f64());
                if best.is_none() {
                    verify(shape, products, a, b, c);
                }
                let start = Instant::now();
                peer(shape, threads, a, b, c);
                peer_time = peer_time.min(start.elapsed().as_secs_f64());
                flops = flops.max(peak::flops(&cpu, 1));
                best = Some((time, peer_time, flops));
            }
            total
        });
    });
    group.finish();
    best.map(|(time, peer_time, peak)| {
        let rate = |amount: u64| amount as f64 / time / 1e9;
        let [ms, share, faster] = [time * 1e3, 100.0 * cost.flops as f64 / time / peak, peer_time / time];
        let [gb, gflop] = [cost.bytes, cost.flops].map(rate);
        format!("{name:58} {ms:9.3} {gb:7.1} {gflop:8.1} {share:10.0} {faster:11.2}")
    })
}
