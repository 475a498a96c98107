use engine::base::rng::{Purpose, Stream};
use engine::base::{Accumulate, DType, Gelu};
use engine::cpu::math;
use engine::cpu::matmul::{Bias, Epilogue, GeluBackward, Map, Matrix, product, product_in_task};
use engine::device::{Cpu, Isa};
use half::bf16;
use std::num::NonZero;

/// (m, n, k): empty, single, ragged against every tile and block size, and thin in each direction.
const SHAPES: &[(usize, usize, usize)] = &[
    (0, 3, 4),
    (3, 0, 4),
    (3, 4, 0),
    (1, 1, 1),
    (2, 3, 1),
    (7, 5, 3),
    (8, 48, 16),
    (9, 49, 17),
    (1, 257, 130),
    (8, 700, 384),
    (64, 64, 72),
    (65, 66, 64),
    (113, 203, 129),
    (239, 1, 77),
    (31, 33, 1100),
    (300, 97, 8),
    (200, 50, 1100),
    (130, 145, 2049),
];

fn normals(sample: u32, len: usize) -> Vec<f32> {
    let mut values = vec![0.0; len];
    Stream::new(1, sample, 0, Purpose::Fixture).fill_normals(&mut values);
    values
}

/// Every combination of instruction set and product type that this processor has.
fn devices(threads: usize) -> impl Iterator<Item = Cpu> {
    let isas = [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16];
    isas.into_iter().filter(|&isa| isa <= Isa::detect()).flat_map(move |isa| {
        [DType::F32, DType::BF16].map(|dtype| Cpu::new(NonZero::new(threads), dtype).unwrap().with_isa(isa))
    })
}

/// A stored operand (rows, cols): row-major or column-major, with gaps of NaN between its runs.
struct Operand {
    data: Vec<f32>,
    rows: usize,
    cols: usize,
    transposed: bool,
    map: Map,
}

impl Operand {
    fn new(sample: u32, rows: usize, cols: usize, transposed: bool, map: Map) -> Operand {
        let (runs, width) = if transposed { (cols, rows) } else { (rows, cols) };
        let mut data = vec![f32::NAN; runs * (width + 3)];
        for (run, values) in data.chunks_mut(width + 3).enumerate() {
            values[..width].copy_from_slice(&normals(sample + run as u32, width));
        }
        Operand { data, rows, cols, transposed, map }
    }

    fn matrix(&self) -> Matrix<'_> {
        let matrix = match self.transposed {
            false => Matrix::strided(&self.data, self.rows, self.cols, self.cols + 3),
            true => Matrix::strided(&self.data, self.cols, self.rows, self.rows + 3).transposed(),
        };
        matrix.mapped(self.map)
    }

    fn at(&self, row: usize, col: usize, products: DType) -> f32 {
        let x = self.data[if self.transposed { col * (self.rows + 3) + row } else { row * (self.cols + 3) + col }];
        let x = if self.map == Map::Gelu(Gelu::Tanh) { math::gelu(x) } else { x };
        if products == DType::BF16 { bf16::from_f32(x).to_f32() } else { x }
    }
}

/// The product in f64 of the operands as `products` reads them, and the largest error of the naive loop in f32.
fn oracle(a: &Operand, b: &Operand, products: DType) -> (Vec<f64>, f64) {
    let mut worst = 0_f64;
    let mut exact = Vec::with_capacity(a.rows * b.cols);
    let a_values: Vec<f32> = (0..a.rows * a.cols).map(|i| a.at(i / a.cols, i % a.cols, products)).collect();
    let b_values: Vec<f32> = (0..b.rows * b.cols).map(|i| b.at(i / b.cols, i % b.cols, products)).collect();
    for row in 0..a.rows {
        for col in 0..b.cols {
            let (mut wide, mut narrow) = (0_f64, 0_f32);
            for i in 0..a.cols {
                let (x, y) = (a_values[row * a.cols + i], b_values[i * b.cols + col]);
                wide += f64::from(x) * f64::from(y);
                narrow += x * y;
            }
            worst = worst.max((f64::from(narrow) - wide).abs());
            exact.push(wide);
        }
    }
    (exact, worst)
}

/// At most twice the error of the naive loop in f32, and one unit in the last place of the largest value.
fn assert_close(got: &[f32], exact: &[f64], naive_error: f64, what: &str) {
    let largest = exact.iter().fold(0_f64, |most, x| most.max(x.abs()));
    let tolerance = 2.0 * naive_error + largest * f64::from(f32::EPSILON);
    for (i, (&got, &exact)) in got.iter().zip(exact).enumerate() {
        let error = (f64::from(got) - exact).abs();
        assert!(error <= tolerance, "{what}: element {i} is {got}, not {exact}: off by {error:e} > {tolerance:e}");
    }
}

fn run(cpu: &Cpu, a: &Operand, b: &Operand, start: f32, epilogue: impl Epilogue) -> Vec<f32> {
    let mut c = vec![start; a.rows * b.cols];
    product(cpu, a.matrix(), b.matrix(), &mut c, epilogue);
    c
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn products_equal_the_f64_oracle_for_every_layout_shape_and_instruction_set() {
    for &(m, n, k) in SHAPES {
        for (left, right) in [(false, false), (false, true), (true, false), (true, true)] {
            let a = Operand::new(0, m, k, left, Map::None);
            let b = Operand::new(100_000, k, n, right, Map::None);
            for products in [DType::F32, DType::BF16] {
                let (exact, naive_error) = oracle(&a, &b, products);
                for cpu in devices(2).filter(|cpu| cpu.products == products) {
                    let what = format!("{m}x{n}x{k}, transposed {left} {right}, {} {products:?}", cpu.isa());
                    let set = run(&cpu, &a, &b, f32::NAN, Accumulate::Set);
                    assert_close(&set, &exact, naive_error, &what);
                    let added = run(&cpu, &a, &b, 0.75, Accumulate::Add);
                    let sums: Vec<f32> = set.iter().map(|x| 0.75 + x).collect();
                    assert_eq!(bits(&added), bits(&sums), "{what}: Add is Set and one addition");
                }
            }
        }
    }
}

#[test]
fn the_bits_do_not_depend_on_the_number_of_threads() {
    for &(m, n, k) in &[(113, 203, 1029), (1000, 400, 48), (8, 3000, 384), (700, 70, 8), (5, 40, 9000)] {
        for (left, right) in [(false, false), (false, true), (true, false)] {
            let a = Operand::new(0, m, k, left, Map::None);
            let b = Operand::new(100_000, k, n, right, Map::None);
            let one: Vec<_> = devices(1).map(|cpu| run(&cpu, &a, &b, f32::NAN, Accumulate::Set)).collect();
            for threads in [2, 3, 5] {
                for (cpu, one) in devices(threads).zip(&one) {
                    let many = run(&cpu, &a, &b, f32::NAN, Accumulate::Set);
                    assert_eq!(bits(&many), bits(one), "{m}x{n}x{k}, {} {:?}, {threads}", cpu.isa(), cpu.products);
                }
            }
        }
    }
}

#[test]
fn a_product_in_a_task_writes_its_rows_and_nothing_between_them() {
    for (m, n, k) in [(1, 1, 64), (17, 17, 72), (256, 256, 64), (77, 64, 77)] {
        for (left, right) in [(false, false), (false, true), (true, false)] {
            let a = Operand::new(0, m, k, left, Map::None);
            let b = Operand::new(100_000, k, n, right, Map::None);
            for cpu in devices(1) {
                let (exact, naive_error) = oracle(&a, &b, cpu.products);
                let mut c = vec![f32::NAN; m * (n + 5)];
                product_in_task(&cpu, a.matrix(), b.matrix(), &mut c, n + 5, Accumulate::Set);
                let rows: Vec<f32> = c.chunks(n + 5).flat_map(|row| row[..n].to_vec()).collect();
                assert_close(&rows, &exact, naive_error, &format!("{m}x{n}x{k} {}", cpu.isa()));
                assert!(c.chunks(n + 5).all(|row| row[n..].iter().all(|x| x.is_nan())), "the gaps are untouched");
            }
        }
    }
}

#[test]
fn epilogues_and_maps_are_what_they_say() {
    let (m, n, k) = (61, 107, 45);
    for (map, left, right) in
        [(Map::None, false, true), (Map::Gelu(Gelu::Tanh), false, false), (Map::Gelu(Gelu::Tanh), true, true)]
    {
        let a = Operand::new(0, m, k, left, map);
        let b = Operand::new(100_000, k, n, right, if left { map } else { Map::None });
        let (bias, pre) = (normals(7, n), normals(8, m * n));
        for cpu in devices(2) {
            let what = format!("{} {:?}", cpu.isa(), cpu.products);
            let sums = run(&cpu, &a, &b, f32::NAN, Accumulate::Set);
            let (exact, naive_error) = oracle(&a, &b, cpu.products);
            assert_close(&sums, &exact, naive_error, &what);
            let biased = run(&cpu, &a, &b, f32::NAN, Bias(&bias));
            let expected: Vec<f32> = sums.iter().enumerate().map(|(i, x)| x + bias[i % n]).collect();
            assert_eq!(bits(&biased), bits(&expected), "{what}: Bias");
            let backward = run(&cpu, &a, &b, f32::NAN, GeluBackward { pre: &pre, width: n, form: Gelu::Tanh });
            let expected: Vec<f32> = sums.iter().zip(&pre).map(|(x, &pre)| x * math::gelu_derivative(pre)).collect();
            assert_eq!(bits(&backward), bits(&expected), "{what}: GeluBackward");
        }
    }
}

#[test]
fn every_nan_reaches_the_product() {
    for payload in [0xffff_ffff, 0x7fff_ffff, 0x7f80_0001, 0x7fc0_0000] {
        for cpu in devices(1) {
            let mut c = [0.0; 4];
            let (a, b) = ([f32::from_bits(payload), 1.0], [1.0, 2.0]);
            product(&cpu, Matrix::new(&a, 2, 1), Matrix::new(&b, 1, 2), &mut c, Accumulate::Set);
            assert!(c[0].is_nan() && c[1].is_nan(), "{payload:x} on {} {:?}: {c:?}", cpu.isa(), cpu.products);
            assert_eq!(c[2..], [1.0, 2.0]);
        }
    }
}

#[test]
#[should_panic(expected = "product: A is 2 x 3, B is 4 x 5")]
fn operands_that_do_not_fit_are_named() {
    let (a, b) = ([0.0; 6], [0.0; 20]);
    let cpu = Cpu::new(NonZero::new(1), DType::F32).unwrap();
    product(&cpu, Matrix::new(&a, 2, 3), Matrix::new(&b, 4, 5), &mut [0.0; 10], Accumulate::Set);
}
