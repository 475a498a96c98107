//! Matrix arithmetic apart from any machine state: fragments, descriptors, swizzles, products.
//!
//! Products of 16-bit and tf32 elements are exact in f32 and are added one after another along K with fused rounding.
//! Hardware adds several at a time with truncation, so results agree only to a few units in the last place of f32.

pub mod descriptor;
pub mod fragment;
pub mod swizzle;

use crate::{
    alu::packed::f16_nearest,
    ir::Element,
    regs::{LANES, each},
};
use half::f16;

/// What matrix elements are computed with: f32, or i32 for 8-bit integers.
pub trait Number: Copy + Default {
    /// The elements of a row of registers, the lowest bits of each first. Registers hold 4 / size elements.
    fn unpack(element: Element, words: &[u32; LANES]) -> [[Self; LANES]; 4];

    /// Elements that lie next to each other in memory.
    fn read(element: Element, bytes: &[u8], negate: bool, each: impl FnMut(Self));

    /// C += A B for C of `columns` columns, a multiple of 8, and A of `k`: rows of all three are contiguous.
    fn accumulate(c: &mut [Self], a: &[Self], b: &[Self], columns: usize, k: usize);

    fn negated(self) -> Self;

    /// An accumulator as a 32-bit register holds it, and as half of one does.
    fn from_word(word: u32) -> Self;
    fn to_word(self) -> u32;
    fn from_half(half: u16) -> Self;
    fn to_half(self) -> u16;
}

/// tf32 ignores the 13 low bits of an f32.
fn tf32(bits: u32) -> f32 {
    f32::from_bits(bits & !0x1fff)
}

impl Number for f32 {
    #[inline(always)]
    fn unpack(element: Element, words: &[u32; LANES]) -> [[f32; LANES]; 4] {
        let none = [0.0; LANES];
        match element {
            Element::Bf16 => {
                let low = each(|l| f32::from_bits(words[l] << 16));
                [low, each(|l| f32::from_bits(words[l] & 0xffff_0000)), none, none]
            }
            Element::F16 => {
                let low = each(|l| f16::from_bits(words[l] as u16).to_f32());
                [low, each(|l| f16::from_bits((words[l] >> 16) as u16).to_f32()), none, none]
            }
            Element::Tf32 => [each(|l| tf32(words[l])), none, none, none],
            Element::S8 | Element::U8 => unreachable!("8-bit integers are multiplied as i32"),
        }
    }

    #[inline(always)]
    fn read(element: Element, bytes: &[u8], negate: bool, mut each: impl FnMut(f32)) {
        let sign = if negate { -1.0 } else { 1.0 };
        let halves = bytes.chunks_exact(2).map(|b| u16::from_le_bytes(b.try_into().expect("chunks of 2")));
        let words = bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().expect("chunks of 4")));
        match element {
            Element::Bf16 => halves.for_each(|h| each(sign * f32::from_bits(u32::from(h) << 16))),
            Element::F16 => halves.for_each(|h| each(sign * f16::from_bits(h).to_f32())),
            Element::Tf32 => words.for_each(|w| each(sign * tf32(w))),
            Element::S8 | Element::U8 => unreachable!("8-bit integers are multiplied as i32"),
        }
    }

    #[inline(always)]
    fn accumulate(c: &mut [f32], a: &[f32], b: &[f32], columns: usize, k: usize) {
        // Four rows by eight columns stay in vector registers for all of K.
        for (c, a) in c.chunks_exact_mut(4 * columns).zip(a.chunks_exact(4 * k)) {
            for column in (0..columns).step_by(8) {
                let mut sums = [[0f32; 8]; 4];
                for (row, sums) in sums.iter_mut().enumerate() {
                    sums.copy_from_slice(&c[row * columns + column..][..8]);
                }
                for at in 0..k {
                    let b: &[f32; 8] = b[at * columns + column..][..8].try_into().expect("8 columns");
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let a = a[row * k + at];
                        for (sum, b) in sums.iter_mut().zip(b) {
                            *sum = a.mul_add(*b, *sum);
                        }
                    }
                }
                for (row, sums) in sums.iter().enumerate() {
                    c[row * columns + column..][..8].copy_from_slice(sums);
                }
            }
        }
    }

    #[inline(always)]
    fn negated(self) -> f32 {
        -self
    }
    #[inline(always)]
    fn from_word(word: u32) -> f32 {
        f32::from_bits(word)
    }
    #[inline(always)]
    fn to_word(self) -> u32 {
        self.to_bits()
    }
    #[inline(always)]
    fn from_half(half: u16) -> f32 {
        f16::from_bits(half).to_f32()
    }
    #[inline(always)]
    fn to_half(self) -> u16 {
        f16_nearest(self).to_bits()
    }
}

impl Number for i32 {
    #[inline(always)]
    fn unpack(element: Element, words: &[u32; LANES]) -> [[i32; LANES]; 4] {
        let part = |shift: u32| {
            if element == Element::S8 {
                each(|l| i32::from((words[l] >> shift) as i8))
            } else {
                each(|l| i32::from((words[l] >> shift) as u8))
            }
        };
        [part(0), part(8), part(16), part(24)]
    }

    #[inline(always)]
    fn read(element: Element, bytes: &[u8], _: bool, mut each: impl FnMut(i32)) {
        bytes.iter().for_each(|b| each(if element == Element::S8 { (*b as i8).into() } else { (*b).into() }));
    }

    /// Sums wrap.
    #[inline(always)]
    fn accumulate(c: &mut [i32], a: &[i32], b: &[i32], columns: usize, k: usize) {
        for (c, a) in c.chunks_exact_mut(columns).zip(a.chunks_exact(k)) {
            for (a, b) in a.iter().zip(b.chunks_exact(columns)) {
                for (sum, b) in c.iter_mut().zip(b) {
                    *sum = sum.wrapping_add(a.wrapping_mul(*b));
                }
            }
        }
    }

    fn negated(self) -> i32 {
        self.wrapping_neg()
    }
    #[inline(always)]
    fn from_word(word: u32) -> i32 {
        word as i32
    }
    #[inline(always)]
    fn to_word(self) -> u32 {
        self as u32
    }
    /// Integers are never packed.
    fn from_half(half: u16) -> i32 {
        half.into()
    }
    fn to_half(self) -> u16 {
        self as u16
    }
}
