//! Matrix products `C (m, n) = A (m, k) B (k, n)`.
//!
//! B is packed once into strips of sixteen columns, shared by all threads. A task takes some rows of A, packs them, and
//! goes through the strips of B by tiles whose sums stay in registers. An epilogue takes the finished sums of a tile to C.
//!
//! Sums are f32. Every output is one chain of sums over increasing k, interrupted but never regrouped by the blocking, so
//! its bits depend on neither the number of threads nor the shape of the rest.

mod block;
mod epilogue;
mod matrix;
mod pack;
mod scratch;
mod tile;
mod vector;

pub use epilogue::{Bias, Epilogue, GeluBackward};
pub use matrix::{Map, Matrix};

use crate::base::DType;
use crate::device::{Chunks, Cpu, Isa};
use block::{Block, Output, Pack};
use scratch::Scratch;
use vector::{LANES, Vector};

/// Rows up to which packing all of B for all threads costs more than it saves: tasks then take columns.
const FEW_ROWS: usize = 64;

/// Strips of B that are packed together: 256 bytes of a row.
const PACKED: usize = 4;

/// Words of B that a task packs for itself: a quarter of an L2 cache of 1 MiB.
const B_WORDS: usize = 64 * 1024;

/// `C = epilogue(A B)` on all threads, C being row-major (m, n).
///
/// The operands are read as `cpu.products`: as they are for `F32`, rounded to nearest even for `BF16`.
pub fn product(cpu: &Cpu, a: Matrix, b: Matrix, c: &mut [f32], epilogue: impl Epilogue) {
    assert_eq!(c.len(), a.rows * b.cols, "product: the output of {} x {} has {} elements", a.rows, b.cols, c.len());
    let output = Output::new(c, a.rows, b.cols, b.cols);
    with_instruction_set(cpu, Product { cpu, a, b, output, epilogue }, true);
}

/// The same on the calling thread alone, for use inside a task of another kernel. The rows of C start `c_stride` apart.
pub fn product_in_task(cpu: &Cpu, a: Matrix, b: Matrix, c: &mut [f32], c_stride: usize, epilogue: impl Epilogue) {
    let output = Output::new(c, a.rows, b.cols, c_stride);
    with_instruction_set(cpu, Product { cpu, a, b, output, epilogue }, false);
}

fn with_instruction_set(cpu: &Cpu, product: Product<impl Epilogue>, all_threads: bool) {
    let (a, b) = (&product.a, &product.b);
    assert_eq!(a.cols, b.rows, "product: A is {} x {}, B is {} x {}", a.rows, a.cols, b.rows, b.cols);
    if a.rows == 0 || b.cols == 0 {
        return;
    }
    match (cpu.isa(), cpu.products) {
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512Bf16, DType::BF16) => product.run::<vector::x86::Avx512Bf16>(all_threads),
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512 | Isa::Avx512Bf16, _) => product.run::<vector::x86::Avx512>(all_threads),
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, _) => product.run::<vector::x86::Avx2>(all_threads),
        _ => product.run::<vector::Portable>(all_threads),
    }
}

struct Product<'a, E> {
    cpu: &'a Cpu,
    a: Matrix<'a>,
    b: Matrix<'a>,
    output: Output<'a>,
    epilogue: E,
}

impl<E: Epilogue> Product<'_, E> {
    fn run<V: Vector>(&self, all_threads: bool) {
        if !all_threads {
            self.columns::<V>(0, self.b.cols);
        } else if self.a.rows <= FEW_ROWS {
            let strip = self.steps::<V>() * LANES;
            let cols = self.b.cols.div_ceil(4 * self.cpu.threads.count()).next_multiple_of(3 * LANES);
            let cols = cols.min((B_WORDS / strip * LANES).max(1).next_multiple_of(3 * LANES));
            self.cpu.threads.run(self.b.cols.div_ceil(cols), |i| {
                self.columns::<V>(i * cols, self.b.cols.min((i + 1) * cols));
            });
        } else {
            let threads = &self.cpu.threads;
            let strip = self.steps::<V>() * LANES;
            let mut packed = Scratch::new(&scratch::B, self.b.cols.div_ceil(LANES) * strip);
            threads.each(Chunks::new(packed.words(), PACKED * strip), 1, |i, out| {
                self.pack::<V>(i * PACKED * LANES, out);
            });
            let packed = &*packed.words();
            let size = block::rows_per_task(self.a.rows, self.steps::<V>(), threads.count());
            threads.run(self.a.rows.div_ceil(size), |i| {
                let rows = i * size..self.a.rows.min((i + 1) * size);
                self.block::<V>(rows, packed, 0..self.b.cols);
            });
        }
    }

    /// All rows of some columns, on this thread.
    fn columns<V: Vector>(&self, start: usize, end: usize) {
        let strip = self.steps::<V>() * LANES;
        let mut packed = Scratch::new(&scratch::B, (end - start).div_ceil(LANES) * strip);
        self.pack::<V>(start, packed.words());
        let size = block::rows_per_task(self.a.rows, self.steps::<V>(), 1);
        for first in (0..self.a.rows).step_by(size) {
            self.block::<V>(first..self.a.rows.min(first + size), packed.words(), start..end);
        }
    }

    fn pack<V: Vector>(&self, first: usize, out: &mut [u32]) {
        let pack = Pack { source: &self.b.transposed(), first, round: self.round(), steps: self.steps::<V>(), out };
        // SAFETY: `V` was chosen by the device's instruction set.
        unsafe { V::run(pack) };
    }

    fn block<V: Vector>(&self, rows: std::ops::Range<usize>, b: &[u32], cols: std::ops::Range<usize>) {
        let (a, epilogue) = (&self.a, &self.epilogue);
        let block =
            Block { a, rows, b, cols, steps: self.steps::<V>(), round: self.round(), output: self.output, epilogue };
        // SAFETY: `V` was chosen by the device's instruction set; each block is one rectangle of the output.
        unsafe { V::run(block) };
    }

    fn steps<V: Vector>(&self) -> usize {
        pack::steps::<V>(self.a.cols)
    }

    fn round(&self) -> bool {
        self.cpu.products == DType::BF16
    }
}
