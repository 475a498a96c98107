//! Which lane holds which element of the matrices of `mma.sync` and `wgmma` (PTX ISA, matrix fragments).
//!
//! With g = lane / 4 and t = lane % 4, and P elements in a 32-bit register: register q of A holds row g + 8 (q & 1) and
//! columns P (4 (q >> 1) + t) + (0..P); register q of B holds the rows P (4 q + t) + (0..P) along K of column g. Both
//! become K rows, so that a product runs along contiguous rows and columns. Two registers of 32-bit accumulators, or one
//! of packed 16-bit ones, hold row g + 8 (pair & 1) and columns 8 (pair >> 1) + 2 t + (0..2).

use crate::{
    ir::Element,
    regs::{LANES, Regs, Slot, each},
    tensor::Number,
};

/// Puts the elements of register `register` of A into K rows of 16.
#[inline(always)]
pub fn gather_a<T: Number>(words: &[u32; LANES], register: usize, element: Element, out: &mut [T]) {
    along_k(words, element, register >> 1, 8 * (register & 1), 16, out);
}

/// Puts the elements of register `register` of B into K rows of 8.
#[inline(always)]
pub fn gather_b<T: Number>(words: &[u32; LANES], register: usize, element: Element, out: &mut [T]) {
    along_k(words, element, register, 0, 8, out);
}

/// Spreads a register over the `block`-th 4 P rows along K, from column `column` on.
#[inline(always)]
fn along_k<T: Number>(
    words: &[u32; LANES],
    element: Element,
    block: usize,
    column: usize,
    stride: usize,
    out: &mut [T],
) {
    let mut by_t = [[0; 8]; 4];
    for g in 0..8 {
        for t in 0..4 {
            by_t[t][g] = words[4 * g + t];
        }
    }
    let per_register = 4 / element.size();
    for (t, words) in by_t.iter().enumerate() {
        let parts = T::unpack(element, words);
        for (i, part) in parts.iter().take(per_register).enumerate() {
            out[(per_register * (4 * block + t) + i) * stride + column..][..8].copy_from_slice(part);
        }
    }
}

/// Puts the accumulators of a warp into 16 rows of `columns`.
#[inline(always)]
pub fn gather<T: Number>(regs: &Regs, slots: &[Slot], packed: bool, columns: usize, out: &mut [T]) {
    for (pair, slots) in slots.chunks_exact(if packed { 1 } else { 2 }).enumerate() {
        let (row, column) = (8 * (pair & 1), 8 * (pair >> 1));
        let parts: [[T; LANES]; 2] = if packed {
            let words = regs.row(slots[0]);
            [each(|l| T::from_half(words[l] as u16)), each(|l| T::from_half((words[l] >> 16) as u16))]
        } else {
            let (first, second) = (regs.row(slots[0]), regs.row(slots[1]));
            [each(|l| T::from_word(first[l])), each(|l| T::from_word(second[l]))]
        };
        for g in 0..8 {
            let out = &mut out[(row + g) * columns + column..][..8];
            for t in 0..4 {
                (out[2 * t], out[2 * t + 1]) = (parts[0][4 * g + t], parts[1][4 * g + t]);
            }
        }
    }
}

/// The reverse.
#[inline(always)]
pub fn scatter<T: Number>(values: &[T], packed: bool, columns: usize, slots: &[Slot], regs: &mut Regs) {
    for (pair, slots) in slots.chunks_exact(if packed { 1 } else { 2 }).enumerate() {
        let (row, column) = (8 * (pair & 1), 8 * (pair >> 1));
        let mut parts = [[T::default(); LANES]; 2];
        for g in 0..8 {
            let from = &values[(row + g) * columns + column..][..8];
            for t in 0..4 {
                (parts[0][4 * g + t], parts[1][4 * g + t]) = (from[2 * t], from[2 * t + 1]);
            }
        }
        if packed {
            let row = regs.row_mut(slots[0]);
            for lane in 0..LANES {
                row[lane] = u32::from(parts[0][lane].to_half()) | u32::from(parts[1][lane].to_half()) << 16;
            }
        } else {
            for (slot, part) in slots.iter().zip(&parts) {
                let row = regs.row_mut(*slot);
                for lane in 0..LANES {
                    row[lane] = part[lane].to_word();
                }
            }
        }
    }
}
