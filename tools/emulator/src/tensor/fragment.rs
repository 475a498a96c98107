//! Which lane holds which element of the matrices of `mma.sync` and `wgmma` (PTX ISA, matrix fragments).
//!
//! With g = lane / 4 and t = lane % 4, and e elements in a 32-bit register: register q of A holds row g + 8 (q & 1) and
//! columns 4 e (q >> 1) + e t + (0..e); register q of B holds the same columns along K of column g.

use crate::regs::LANES;

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

/// The element at a place of a register, right-aligned.
#[inline(always)]
pub fn part(word: u32, index: usize, per_register: usize) -> u32 {
    match per_register {
        1 => word,
        2 => word >> (16 * index) & 0xffff,
        _ => word >> (8 * index) & 0xff,
    }
}

/// The accumulators of a warp as `n`-wide rows.
pub fn gather<T>(
    rows: &[[u32; LANES]],
    n: usize,
    packed: bool,
    of: impl Fn(u32) -> T,
    half: impl Fn(u16) -> T,
) -> Vec<T>
where
    T: Copy + Default,
{
    let mut out = vec![T::default(); 16 * n];
    for (register, words) in rows.iter().enumerate() {
        for (lane, word) in words.iter().enumerate() {
            if packed {
                let (row, column) = packed_accumulator(lane, register);
                out[row * n + column] = half(*word as u16);
                out[row * n + column + 1] = half((word >> 16) as u16);
            } else {
                let (row, column) = accumulator(lane, register);
                out[row * n + column] = of(*word);
            }
        }
    }
    out
}

/// Rows back to the registers of a warp.
pub fn scatter<T>(
    values: &[T],
    n: usize,
    registers: usize,
    packed: bool,
    of: impl Fn(T) -> u32,
    half: impl Fn(T) -> u16,
) -> Vec<[u32; LANES]>
where
    T: Copy,
{
    (0..registers)
        .map(|register| {
            std::array::from_fn(|lane| {
                if packed {
                    let (row, column) = packed_accumulator(lane, register);
                    let at = row * n + column;
                    u32::from(half(values[at])) | u32::from(half(values[at + 1])) << 16
                } else {
                    let (row, column) = accumulator(lane, register);
                    of(values[row * n + column])
                }
            })
        })
        .collect()
}
