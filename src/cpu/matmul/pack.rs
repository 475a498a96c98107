//! Packing: an operand as strips of `LANES` rows (of A) or columns (of B), the words of one step side by side, so that the
//! inner loop reads both operands from end to end. Missing rows and what follows the last k are zero.

use super::ahead::prefetch;
use super::matrix::{Map, Matrix};
use super::vector::{LANES, Vector, Work};
use crate::base::Gelu;
use crate::cpu::math;
use std::ops::Range;

/// Elements along k between a prefetch and its use: the time of a few squares, about that of a read from memory.
const AHEAD: usize = 64;

/// The elements of a square of words, of two elements at most.
type Square = [f32; 2 * LANES * LANES];

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
        let along_k = source.col_stride == 1;
        // Of `LANES` lines of memory; across k, more of them would crowd each other out of the nearest cache.
        let words = if along_k { LANES } else { LANES / V::DEPTH };
        let blocks = steps.len().div_ceil(words);
        let mut copy = [0.0; _];
        for i in 0..strips * blocks {
            // In the order of memory, where the strips are side by side in it, and where they are not.
            let (strip, block) = if along_k { (i / blocks, i % blocks) } else { (i % strips, i / strips) };
            let out = &mut out[strip * size..][..size][block * words * LANES..];
            let (row, col) = (first + strip * LANES, (steps.start + block * words) * V::DEPTH);
            // SAFETY: this runs inside `V::run`.
            unsafe { square::<V>(source, row, col, words * V::DEPTH, round, &mut copy, out) };
        }
    }
}

/// The words of `LANES` rows from `row` on, of `depth` elements from column `col` on as far as there is room, to `out`.
#[inline(always)]
unsafe fn square<V: Vector>(
    m: &Matrix,
    row: usize,
    col: usize,
    depth: usize,
    round: bool,
    copy: &mut Square,
    out: &mut [u32],
) {
    let x = elements(m, row, col, depth, copy);
    // Along k the square after the next few; across k the one below, since those beside it share its pages.
    let ahead = if m.col_stride == 1 { AHEAD } else { LANES * x.stride };
    for i in 0..LANES {
        prefetch::<1>(x.start.wrapping_add(i * x.stride + ahead).cast());
    }
    let out = out.chunks_exact_mut(LANES);
    // SAFETY: the caller's; x points to all elements of the square.
    unsafe {
        if m.col_stride == 1 {
            let mut words = [V::zero(); LANES];
            for (i, words) in words.iter_mut().enumerate() {
                *words = V::along(x.start.add(i * x.stride), round);
            }
            V::transpose(&mut words);
            for (out, words) in out.zip(words) {
                words.store(out.as_mut_ptr());
            }
        } else {
            for (i, out) in out.take(depth / V::DEPTH).enumerate() {
                V::across(x.start.add(i * V::DEPTH * x.stride), x.stride, round).store(out.as_mut_ptr());
            }
        }
    }
}

/// Lines of neighbours, so many elements apart.
struct Elements {
    start: *const f32,
    stride: usize,
}

/// `LANES` rows from `row` on of `depth` elements from column `col` on, in the order of memory: where they are if all are
/// there and as they should be, otherwise mapped, with zeros for what is missing, in `copy`.
#[inline(always)]
fn elements(m: &Matrix, row: usize, col: usize, depth: usize, copy: &mut Square) -> Elements {
    let start = row * m.row_stride + col * m.col_stride;
    let (rows, cols) = ((m.rows - row).min(LANES), m.cols.saturating_sub(col).min(depth));
    let (stride, lines, width, line) =
        if m.col_stride == 1 { (m.row_stride, rows, cols, depth) } else { (m.col_stride, cols, rows, LANES) };
    if (rows, cols) == (LANES, depth) && m.map == Map::None {
        return Elements { start: m.data[start..start + (lines - 1) * stride + line].as_ptr(), stride };
    }
    copy[..LANES * depth].fill(0.0);
    for (i, copy) in copy.chunks_exact_mut(line).take(lines).enumerate() {
        map(m.map, &m.data[start + i * stride..][..width], copy);
    }
    Elements { start: copy.as_ptr(), stride: line }
}

/// Maps `x` to the start of `out`, by vectors as far as it goes.
#[inline(always)]
fn map(map: Map, x: &[f32], out: &mut [f32]) {
    match map {
        Map::None => out[..x.len()].copy_from_slice(x),
        Map::Gelu(Gelu::Tanh) => each(math::gelu, x, out),
        Map::Gelu(Gelu::Erf) => each(math::gelu_erf, x, out),
    }
}

#[inline(always)]
fn each(f: impl Fn(f32) -> f32, x: &[f32], out: &mut [f32]) {
    let ((x, x_rest), (out, out_rest)) = (x.as_chunks::<LANES>(), out[..x.len()].as_chunks_mut::<LANES>());
    for (out, x) in out.iter_mut().zip(x) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = f(x);
        }
    }
    for (out, &x) in out_rest.iter_mut().zip(x_rest) {
        *out = f(x);
    }
}

/// `x` rounded to the nearest bf16, ties to even.
///
/// For processors without products of bf16.
#[inline(always)]
pub(super) fn rounded(x: f32) -> f32 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    // A NaN whose payload sits in the lower half would round to infinity; the quiet bit keeps it a NaN.
    let nearest = if x.is_nan() { bits | 0x0040_0000 } else { nearest };
    f32::from_bits(nearest & 0xffff_0000)
}
