//! Matrix products `C (m, n) = A (m, k) B (k, n)`.
//!
//! The smaller operand is packed once, by all threads for all of them. A task takes some rows (or columns) of the other,
//! packs them block by block of k, and goes through the shared one by tiles whose sums stay in registers. An epilogue takes
//! the finished sums of a tile to C. While a tile is computed, the memory that the next tiles and the next task read and
//! write is asked for, so that none of them waits for it.
//!
//! Sums are f32. Every output is a sum over blocks of at most 512 steps of k, in order, each a chain of sums over increasing
//! k: its bits depend on neither the number of threads nor the shape of the rest, and its error grows with the length of a
//! block and the number of blocks rather than with k.

mod ahead;
mod block;
mod epilogue;
mod matrix;
mod pack;
mod tile;
mod vector;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use epilogue::{Bias, Epilogue, GeluBackward};
pub use matrix::{Map, Matrix};

use crate::base::DType;
use crate::cpu::scratch::Scratch;
use crate::device::{Chunks, Cpu, Isa, Threads};
use block::{Block, Output, Shared};
use pack::Pack;
use vector::{LANES, Vector};

/// Strips of the shared operand that are packed together: where it lies across k, 256 bytes of a row of memory.
const PACKED: usize = 4;

/// `C = epilogue(A B)` on all threads, C being row-major (m, n).
///
/// The operands are read as `cpu.products`: as they are for `F32`, rounded to nearest even for `BF16`. Processors that have
/// products of bf16 take subnormal numbers for zeros there.
pub fn product(cpu: &Cpu, a: Matrix, b: Matrix, c: &mut [f32], epilogue: impl Epilogue) {
    assert_eq!(c.len(), a.rows * b.cols, "product: the output of {} x {} has {} elements", a.rows, b.cols, c.len());
    let output = Output::new(c, a.rows, b.cols, b.cols);
    Product::new(cpu, a, b, output, epilogue).run(cpu, Some(&cpu.threads));
}

/// The same on the calling thread alone, for use inside a task of another kernel. The rows of C start `c_stride` apart.
pub fn product_in_task(cpu: &Cpu, a: Matrix, b: Matrix, c: &mut [f32], c_stride: usize, epilogue: impl Epilogue) {
    let output = Output::new(c, a.rows, b.cols, c_stride);
    Product::new(cpu, a, b, output, epilogue).run(cpu, None);
}

struct Product<'a, E> {
    a: Matrix<'a>,
    /// B transposed: like A's, its rows are packed.
    b: Matrix<'a>,
    round: bool,
    output: Output<'a>,
    epilogue: E,
}

impl<'a, E: Epilogue> Product<'a, E> {
    fn new(cpu: &Cpu, a: Matrix<'a>, b: Matrix<'a>, output: Output<'a>, epilogue: E) -> Product<'a, E> {
        assert_eq!(a.cols, b.rows, "product: A is {} x {}, B is {} x {}", a.rows, a.cols, b.rows, b.cols);
        Product { a, b: b.transposed(), round: cpu.products == DType::BF16, output, epilogue }
    }

    fn run(&self, cpu: &Cpu, threads: Option<&Threads>) {
        if self.a.rows == 0 || self.b.rows == 0 {
            return;
        }
        match (cpu.isa(), cpu.products) {
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512Bf16, DType::BF16) => self.run_on::<x86::Avx512Bf16>(threads),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512 | Isa::Avx512Bf16, _) => self.run_on::<x86::Avx512>(threads),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, _) => self.run_on::<x86::Avx2>(threads),
            _ => self.run_on::<vector::Portable>(threads),
        }
    }

    /// Packs the shared operand, then works through the output by blocks, on `threads` or alone.
    fn run_on<V: Vector>(&self, threads: Option<&Threads>) {
        let steps = pack::steps::<V>(self.a.cols);
        let share_b = self.b.rows <= self.a.rows;
        let (shared, own, most) =
            if share_b { (&self.b, &self.a, block::ROWS) } else { (&self.a, &self.b, block::COLS) };

        let mut packed = Scratch::<u32>::new(shared.rows.div_ceil(LANES) * steps * LANES);
        let pack = |i: usize, out: &mut [u32]| {
            let pack = Pack { source: shared, first: i * PACKED * LANES, round: self.round, steps: 0..steps, out };
            // SAFETY: `V` was chosen by the device's instruction set.
            unsafe { V::run(pack) };
        };
        let size = PACKED * steps * LANES;
        match threads {
            Some(threads) => threads.each(Chunks::new(&mut packed, size), 1, pack),
            None => packed.chunks_mut(size).enumerate().for_each(|(i, out)| pack(i, out)),
        }

        let shared = if share_b { Shared::B(&packed) } else { Shared::A(&packed) };
        // Blocks of at most `most` rows, a few for each thread, and a number that divides the strips if there is one near.
        let strips = own.rows.div_ceil(LANES);
        let (team, few) = threads.map_or((1, 1), |threads| (threads.count(), 4 * threads.count()));
        let least = own.rows.div_ceil(most).max(few).next_multiple_of(team);
        let blocks = (least..2 * least).step_by(team).find(|blocks| strips % blocks == 0).unwrap_or(least).min(strips);
        let edge = |i: usize| own.rows.min(i * strips / blocks * LANES);
        let block = |i: usize| {
            let range = edge(i)..edge(i + 1);
            let ahead = edge(blocks.min(i + team))..edge(blocks.min(i + team + 1));
            let (rows, cols) = if share_b { (range, 0..self.b.rows) } else { (0..self.a.rows, range) };
            let Product { a, b, round, output, ref epilogue } = *self;
            // SAFETY: as above; each block is one rectangle of the output.
            unsafe { V::run(Block { a: &a, b: &b, shared, rows, cols, round, output, ahead, epilogue }) };
        };
        match threads {
            Some(threads) => threads.run(blocks, block),
            None => (0..blocks).for_each(block),
        }
    }
}
