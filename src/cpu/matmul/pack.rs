//! Packing: an operand as strips of `LANES` rows (of A) or columns (of B), the words of one step side by side, so that the
//! inner loop reads both operands from end to end. Missing rows and the rest of the last step are zero.

use super::matrix::{Map, Matrix};
use super::vector::{LANES, Vector};
use crate::cpu::math;

/// Words of one row (or column) along k, at least one: an empty sum is a sum of zeros.
pub(super) fn steps<V: Vector>(k: usize) -> usize {
    k.div_ceil(if V::PAIRS { 2 } else { 1 }).max(1)
}

/// Rows `first..first + LANES` of `source` as a strip: word i of step s at `s * LANES + i`.
///
/// `source` is A, or B transposed: its columns run along k. With `round` each element is rounded to bf16.
#[inline(always)]
pub(super) fn strip<V: Vector>(source: &Matrix, first: usize, round: bool, out: &mut [u32]) {
    let depth = if V::PAIRS { 2 } else { 1 };
    if source.col_stride == 1 {
        for (block, out) in out.chunks_mut(LANES * LANES).enumerate() {
            let col = block * LANES * depth;
            let mut square = [[0; LANES]; LANES];
            for (i, words) in square.iter_mut().enumerate() {
                *words = along_k::<V>(source, first + i, col, round);
            }
            // SAFETY: the packing runs inside `V::run`.
            let square = unsafe { V::transpose(&square) };
            out.copy_from_slice(&square.as_flattened()[..out.len()]);
        }
    } else {
        for (step, out) in out.chunks_exact_mut(LANES).enumerate() {
            let words = across_k::<V>(source, first, step * depth, round);
            out.copy_from_slice(&words);
        }
    }
}

/// `LANES` words of one row of `source`, from column `col` on.
#[inline(always)]
fn along_k<V: Vector>(source: &Matrix, row: usize, col: usize, round: bool) -> [u32; LANES] {
    if V::PAIRS {
        let x: [f32; 2 * LANES] = read(source, row < source.rows, row * source.row_stride + col, source.cols - col);
        let x = mapped(x, source.map);
        let mut words = [0; LANES];
        for (i, word) in words.iter_mut().enumerate() {
            *word = pair(x[2 * i], x[2 * i + 1]);
        }
        words
    } else {
        let x = read(source, row < source.rows, row * source.row_stride + col, source.cols - col);
        singles(mapped(x, source.map), round)
    }
}

/// The words of step `col / depth` in rows `first..first + LANES`, neighbours in memory.
#[inline(always)]
fn across_k<V: Vector>(source: &Matrix, first: usize, col: usize, round: bool) -> [u32; LANES] {
    let low = neighbours(source, first, col);
    if V::PAIRS {
        let high = neighbours(source, first, col + 1);
        let mut words = [0; LANES];
        for (i, word) in words.iter_mut().enumerate() {
            *word = pair(low[i], high[i]);
        }
        words
    } else {
        singles(low, round)
    }
}

/// Rows `first..first + LANES` of one column of `source`.
#[inline(always)]
fn neighbours(source: &Matrix, first: usize, col: usize) -> [f32; LANES] {
    let x = read(source, col < source.cols, first + col * source.col_stride, source.rows - first);
    mapped(x, source.map)
}

/// `N` elements from `start` on, of which `present` exist (none if not `inside`); zero for the others.
#[inline(always)]
fn read<const N: usize>(source: &Matrix, inside: bool, start: usize, present: usize) -> [f32; N] {
    let mut x = [0.0; N];
    if !inside {
        return x;
    }
    if present >= N {
        x.copy_from_slice(&source.data[start..start + N]);
    } else {
        x[..present].copy_from_slice(&source.data[start..start + present]);
    }
    x
}

#[inline(always)]
fn mapped<const N: usize>(mut x: [f32; N], map: Map) -> [f32; N] {
    if map == Map::Gelu {
        for x in &mut x {
            *x = math::gelu(*x);
        }
    }
    x
}

#[inline(always)]
fn singles(x: [f32; LANES], round: bool) -> [u32; LANES] {
    let mut words = [0; LANES];
    for (word, x) in words.iter_mut().zip(x) {
        *word = if round { rounded(x) & 0xffff_0000 } else { x.to_bits() };
    }
    words
}

/// Two elements as bf16, the first in the lower half.
#[inline(always)]
fn pair(first: f32, second: f32) -> u32 {
    (rounded(first) >> 16) | (rounded(second) & 0xffff_0000)
}

/// `x` rounded to the nearest bf16, ties to even, in the upper half; the lower half is left over.
///
/// By integers and not by the processor's conversion, which flushes subnormal numbers to zero.
#[inline(always)]
fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    // A NaN whose payload sits in the lower half would round to infinity; the quiet bit keeps it a NaN.
    if x.is_nan() { bits | 0x0040_0000 } else { nearest }
}
