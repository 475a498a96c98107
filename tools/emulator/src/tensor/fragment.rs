//! Which lane holds which element of the matrices of `mma.sync` and `wgmma` (PTX ISA, matrix fragments).
//!
//! With g = lane / 4 and t = lane % 4, and e elements in a 32-bit register: register q of A holds row g + 8 (q & 1) and
//! columns 4 e (q >> 1) + e t + (0..e); register q of B holds the same columns along K of column g.

use crate::{
    ir::Element,
    regs::{LANES, each},
    tensor::Number,
};

/// Row and first column of a register of A.
#[inline(always)]
pub fn a(lane: usize, register: usize, per_register: usize) -> (usize, usize) {
    let (g, t) = (lane / 4, lane % 4);
    (g + 8 * (register & 1), per_register * (4 * (register >> 1) + t))
}

/// First row (along K) and column of a register of B.
#[inline(always)]
pub fn b(lane: usize, register: usize, per_register: usize) -> (usize, usize) {
    let (g, t) = (lane / 4, lane % 4);
    (per_register * (4 * register + t), g)
}

/// Row and column of a 32-bit accumulator: of 8 columns for each four registers.
#[inline(always)]
pub fn accumulator(lane: usize, register: usize) -> (usize, usize) {
    let (g, t) = (lane / 4, lane % 4);
    (g + 8 * (register >> 1 & 1), 8 * (register >> 2) + 2 * t + (register & 1))
}

/// Row and first column of a register that holds two 16-bit accumulators.
#[inline(always)]
pub fn packed_accumulator(lane: usize, register: usize) -> (usize, usize) {
    let (g, t) = (lane / 4, lane % 4);
    (g + 8 * (register & 1), 8 * (register >> 1) + 2 * t)
}

/// Puts the accumulators of one register of a warp into rows of `columns`.
#[inline(always)]
pub fn gather<T: Number>(words: &[u32; LANES], register: usize, packed: bool, columns: usize, out: &mut [T]) {
    if packed {
        for (lane, word) in words.iter().enumerate() {
            let (row, column) = packed_accumulator(lane, register);
            out[row * columns + column] = T::from_half(*word as u16);
            out[row * columns + column + 1] = T::from_half((word >> 16) as u16);
        }
    } else {
        for (lane, word) in words.iter().enumerate() {
            let (row, column) = accumulator(lane, register);
            out[row * columns + column] = T::from_word(*word);
        }
    }
}

/// The reverse.
#[inline(always)]
pub fn scatter<T: Number>(values: &[T], register: usize, packed: bool, columns: usize) -> [u32; LANES] {
    if packed {
        each(|lane| {
            let (row, column) = packed_accumulator(lane, register);
            let at = row * columns + column;
            u32::from(values[at].to_half()) | u32::from(values[at + 1].to_half()) << 16
        })
    } else {
        each(|lane| {
            let (row, column) = accumulator(lane, register);
            values[row * columns + column].to_word()
        })
    }
}

/// Puts the elements of one register of A into rows of `k`.
#[inline(always)]
pub fn gather_a<T: Number>(words: &[u32; LANES], register: usize, element: Element, k: usize, out: &mut [T]) {
    let per_register = 4 / element.size();
    let parts = T::unpack(element, words);
    for lane in 0..LANES {
        let (row, column) = a(lane, register, per_register);
        for (out, part) in out[row * k + column..][..per_register].iter_mut().zip(&parts) {
            *out = part[lane];
        }
    }
}

/// Puts the elements of one register of B into rows of 8.
#[inline(always)]
pub fn gather_b<T: Number>(words: &[u32; LANES], register: usize, element: Element, out: &mut [T]) {
    let per_register = 4 / element.size();
    for (i, part) in T::unpack(element, words).iter().take(per_register).enumerate() {
        for (lane, value) in part.iter().enumerate() {
            let (row, column) = b(lane, register, per_register);
            out[(row + i) * 8 + column] = *value;
        }
    }
}
