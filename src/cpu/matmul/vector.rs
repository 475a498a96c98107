//! What the product asks of an instruction set.

use super::pack::rounded;
use super::tile::Tile;

/// Elements of a vector, and the width of the strips that operands are packed in: one AVX-512 register of words.
pub(super) const LANES: usize = 16;

/// Sixteen sums of one instruction set, and the shape of its tiles.
///
/// A packed operand is made of words of 32 bits: one f32, or two bf16 of consecutive k, the first in the lower half. Both
/// have the same layout, so packing, blocking and the tile are written once.
///
/// # Safety
/// Every function needs the instruction set; `load` and `store` need `LANES` words of memory at the pointer.
pub(super) trait Vector: Copy {
    /// Elements of consecutive k in a word.
    const DEPTH: usize;
    /// Rows of a tile; divides `LANES`.
    const ROWS: usize;
    /// Most vectors in a row of a tile, such that the sums, a row of B and an element of A fit into the registers.
    const VECTORS: usize;

    unsafe fn zero() -> Self;
    unsafe fn load(from: *const u32) -> Self;
    unsafe fn store(self, to: *mut u32);
    /// `self + a b` for a word of A and the words of B; a word of two bf16 adds two products.
    unsafe fn add_product(self, a: u32, b: Self) -> Self;
    /// `self + x` of sums.
    unsafe fn add(self, x: Self) -> Self;
    /// The tile of `vectors <= VECTORS` vectors in a row.
    unsafe fn tile(vectors: usize, tile: Tile);
    /// Runs `work` compiled for the instruction set.
    unsafe fn run(work: impl Work);

    /// `LANES` words of neighbours in memory, which lie along k, each element rounded to bf16 if `round`.
    #[inline(always)]
    unsafe fn along(from: *const f32, round: bool) -> Self {
        // SAFETY: the caller's.
        unsafe { Self::across(from, 0, round) }
    }

    /// The words of `LANES` neighbours in memory and, for `DEPTH` 2, of those `stride` further on, their next along k.
    #[inline(always)]
    unsafe fn across(from: *const f32, _stride: usize, round: bool) -> Self {
        // SAFETY: the caller's.
        unsafe {
            if !round {
                return Self::load(from.cast());
            }
            let mut words = from.cast::<[f32; LANES]>().read();
            for x in &mut words {
                *x = rounded(*x);
            }
            Self::load(words.as_ptr().cast())
        }
    }

    /// Exchanges rows and columns.
    #[inline(always)]
    unsafe fn transpose(x: &mut [Self; LANES]) {
        let mut square = [[0; LANES]; LANES];
        // SAFETY: the caller's.
        unsafe {
            for (i, x) in x.iter().enumerate() {
                let mut row = [0; LANES];
                x.store(row.as_mut_ptr());
                for (column, word) in square.iter_mut().zip(row) {
                    column[i] = word;
                }
            }
            for (x, row) in x.iter_mut().zip(&square) {
                *x = Self::load(row.as_ptr());
            }
        }
    }
}

/// Something to run compiled for an instruction set; `run` must be `#[inline(always)]`.
pub(super) trait Work {
    fn run<V: Vector>(self);
}

/// Plain Rust, for every processor. Products and sums are rounded separately.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; LANES]);

impl Vector for Portable {
    const DEPTH: usize = 1;
    const ROWS: usize = 2;
    const VECTORS: usize = 1;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Portable([0.0; LANES])
    }

    #[inline(always)]
    unsafe fn load(from: *const u32) -> Self {
        // SAFETY: the caller's.
        Portable(unsafe { from.cast::<[f32; LANES]>().read() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u32) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[f32; LANES]>().write(self.0) };
    }

    #[inline(always)]
    unsafe fn add_product(mut self, a: u32, b: Self) -> Self {
        let a = f32::from_bits(a);
        for (sum, b) in self.0.iter_mut().zip(b.0) {
            *sum += a * b;
        }
        self
    }

    #[inline(always)]
    unsafe fn add(mut self, x: Self) -> Self {
        for (sum, x) in self.0.iter_mut().zip(x.0) {
            *sum += x;
        }
        self
    }

    #[inline(always)]
    unsafe fn tile(_vectors: usize, tile: Tile) {
        // SAFETY: the caller's.
        unsafe { tile.compute::<Self, 2, 1>() };
    }

    unsafe fn run(work: impl Work) {
        work.run::<Self>();
    }
}
