//! Packing: an operand as strips of `LANES` rows (of A) or columns (of B), the words of one step side by side, so that the
//! inner loop reads both operands from end to end. Missing rows and what follows the last k are zero.

use super::matrix::{Map, Matrix};
use super::vector::{LANES, Vector, Work};
use crate::cpu::math;
use std::ops::Range;

/// Elements along k between a prefetch and its use: the time of a few squares, about that of a read from memory.
const AHEAD: usize = 64;

/// Words of one row (or column) along k, at least one: an empty sum is a sum of zeros.
pub(super) fn steps<V: Vector>(k: usize) -> usize {
    k.div_ceil(V::DEPTH).max(1)
}

/// The rows of `source` from `first` on as strips of some steps: word i of step s of a strip at `s * LANES + i`.
///
/// `source` is A, or B transposed: its columns run along k. With `round` each element is rounded to bf16.
pub(super) struct Pack<'a> {
    pub source: &'a Matrix<'a>,
    pub first: usize,
    pub steps: Range<usize>,
    pub round: bool,
    pub out: &'a mut [u32],
}

impl Work for Pack<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Pack { source, first, steps, round, out } = self;
        let size = steps.len() * LANES;
        let strips = out.len() / size;
        let blocks = (steps.len() * V::DEPTH).div_ceil(LANES);
        for i in 0..strips * blocks {
            // In the order of memory, where the strips are side by side in it, and where they are not.
            let along_k = source.col_stride == 1;
            let (strip, block) = if along_k { (i / blocks, i % blocks) } else { (i % strips, i / strips) };
            let out = &mut out[strip * size..][..size][block * LANES / V::DEPTH * LANES..];
            // SAFETY: this runs inside `V::run`.
            unsafe { square::<V>(source, first + strip * LANES, steps.start * V::DEPTH + block * LANES, round, out) };
        }
    }
}

/// Asks for the cache line at `place`, which need not exist.
#[inline(always)]
fn prefetch(place: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address is harmless.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(place.cast());
    }
}

/// `LANES` rows from `row` on by `LANES` elements from `col` on, to the words from the start of `out`.
#[inline(always)]
unsafe fn square<V: Vector>(source: &Matrix, row: usize, col: usize, round: bool, out: &mut [u32]) {
    // SAFETY: the caller's; the words stored lie in `out`.
    unsafe {
        let mut x = [V::zero(); LANES];
        // Along k the square after the next few; across k the one below, since those beside it share its pages.
        let ahead = if source.col_stride == 1 { AHEAD } else { LANES * source.col_stride };
        let next = source.data.as_ptr().wrapping_add(row * source.row_stride + col * source.col_stride + ahead);
        for i in 0..LANES {
            prefetch(next.wrapping_add(i * source.row_stride.max(source.col_stride)));
        }
        if source.col_stride == 1 {
            let present = source.cols.saturating_sub(col);
            for (i, x) in x.iter_mut().enumerate() {
                *x = read(source, row + i < source.rows, (row + i) * source.row_stride + col, present);
            }
            V::transpose(&mut x);
        } else {
            let present = source.rows.saturating_sub(row);
            for (i, x) in x.iter_mut().enumerate() {
                *x = read(source, col + i < source.cols, (col + i) * source.col_stride + row, present);
            }
        }
        for (out, x) in out.chunks_exact_mut(LANES).zip(x.chunks_exact(V::DEPTH)) {
            V::words(x, round).store(out.as_mut_ptr());
        }
    }
}

/// `LANES` neighbours in memory from `start` on, mapped; zero beyond the `present` ones, and if the run is not `inside`.
#[inline(always)]
unsafe fn read<V: Vector>(source: &Matrix, inside: bool, start: usize, present: usize) -> V {
    let mut x = [0.0; LANES];
    // SAFETY: as for `square`; the pointers are those of arrays of `LANES`.
    unsafe {
        if !inside || present == 0 {
            return V::zero();
        }
        if present >= LANES {
            let run = &source.data[start..start + LANES];
            if source.map == Map::None {
                return V::load(run.as_ptr().cast());
            }
            x.copy_from_slice(run);
        } else {
            for (x, &element) in x.iter_mut().zip(&source.data[start..start + present]) {
                *x = element;
            }
        }
        if source.map == Map::Gelu {
            for x in &mut x {
                *x = math::gelu(*x);
            }
        }
        V::load(x.as_ptr().cast())
    }
}

/// `x` rounded to the nearest bf16, ties to even.
///
/// By integers and not by the processor's conversion, which flushes subnormal numbers to zero.
#[inline(always)]
pub(super) fn rounded(x: f32) -> f32 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    // A NaN whose payload sits in the lower half would round to infinity; the quiet bit keeps it a NaN.
    let nearest = if x.is_nan() { bits | 0x0040_0000 } else { nearest };
    f32::from_bits(nearest & 0xffff_0000)
}
