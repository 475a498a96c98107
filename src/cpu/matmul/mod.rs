//! Matrix products `C (m, n) = A (m, k) B (k, n)`.
//!
//! Sums are f32. Every output is one chain of sums over increasing k, so it does not depend on how the work is split.

mod epilogue;
mod matrix;

pub use epilogue::{Bias, Epilogue, GeluBackward};
pub use matrix::{Map, Matrix};

use crate::base::DType;
use crate::device::{Chunks, Cpu};
use half::bf16;

/// `C = epilogue(A B)` on all threads, C being row-major (m, n).
///
/// The operands are read as `cpu.products`: as they are for `F32`, rounded to nearest even for `BF16`.
pub fn product(cpu: &Cpu, a: Matrix, b: Matrix, c: &mut [f32], epilogue: impl Epilogue) {
    check(&a, &b);
    assert_eq!(c.len(), a.rows * b.cols, "product: the output of {} x {} has {} elements", a.rows, b.cols, c.len());
    if !c.is_empty() {
        cpu.threads.each(Chunks::new(c, b.cols), 1, |row, out| product_row(cpu.products, a, b, row, out, &epilogue));
    }
}

/// The same on the calling thread alone, for use inside a task of another kernel. The rows of C start `c_stride` apart.
pub fn product_in_task(cpu: &Cpu, a: Matrix, b: Matrix, c: &mut [f32], c_stride: usize, epilogue: impl Epilogue) {
    check(&a, &b);
    assert!(b.cols <= c_stride || a.rows <= 1, "product: rows of {} columns start {c_stride} apart", b.cols);
    for row in 0..a.rows {
        let out = &mut c[row * c_stride..][..b.cols];
        product_row(cpu.products, a, b, row, out, &epilogue);
    }
}

fn check(a: &Matrix, b: &Matrix) {
    assert_eq!(a.cols, b.rows, "product: A is {} x {}, B is {} x {}", a.rows, a.cols, b.rows, b.cols);
}

fn product_row(products: DType, a: Matrix, b: Matrix, row: usize, out: &mut [f32], epilogue: &impl Epilogue) {
    let round = |x: f32| if products == DType::BF16 { bf16::from_f32(x).to_f32() } else { x };
    let mut sums = vec![0.0; b.cols];
    for i in 0..a.cols {
        let x = round(a.at(row, i));
        for (col, sum) in sums.iter_mut().enumerate() {
            *sum += x * round(b.at(i, col));
        }
    }
    epilogue.write(row, 0, &sums, out);
}
