//! Matrix arithmetic apart from any machine state: fragments, descriptors, swizzles, products.
//!
//! Products of 16-bit and tf32 elements are exact in f32 and are added one after another along K with fused rounding.
//! Hardware adds several at a time with truncation, so results agree only to a few units in the last place of f32.

pub mod descriptor;
pub mod fragment;
pub mod swizzle;

use crate::{alu::packed::f16_nearest, ir::Element};
use half::f16;

/// What matrix elements are computed with: f32, or i32 for 8-bit integers.
pub trait Number: Copy + Default {
    /// The elements of eight registers, the lowest bits of each first. Registers hold 4 / size elements.
    fn unpack(element: Element, words: &[u32; 8]) -> [[Self; 8]; 4];

    /// Elements that lie next to each other in memory.
    fn read(element: Element, bytes: &[u8], negate: bool, each: impl FnMut(Self));

    /// self * b + c: with one rounding, or wrapping.
    fn multiply_add(self, b: Self, c: Self) -> Self;

    fn negated(self) -> Self;

    /// An accumulator as a 32-bit register holds it, and as half of one does.
    fn from_word(word: u32) -> Self;
    fn to_word(self) -> u32;
    fn from_half(half: u16) -> Self;
    fn to_half(self) -> u16;
}

/// C += A B for C of `rows` rows of `columns`, A as K rows of `rows` and B as K rows of `columns`. Both extents are
/// multiples of 8.
#[inline(always)]
pub fn accumulate<T: Number>(c: &mut [T], a: &[T], b: &[T], rows: usize, columns: usize) {
    // Eight vectors of eight sums stay in registers for all of K: enough to hide the latency of a multiply-add.
    let wide = columns / 16 * 16;
    for row in (0..rows).step_by(4) {
        for column in (0..wide).step_by(16) {
            block::<T, 4, 2>(c, a, b, (row, rows), (column, columns));
        }
    }
    if wide < columns {
        for row in (0..rows).step_by(8) {
            block::<T, 8, 1>(c, a, b, (row, rows), (wide, columns));
        }
    }
}

/// The sums of R rows by 8 V columns.
#[inline(always)]
fn block<T: Number, const R: usize, const V: usize>(
    c: &mut [T],
    a: &[T],
    b: &[T],
    (row, rows): (usize, usize),
    (column, columns): (usize, usize),
) {
    let mut sums = [[[T::default(); 8]; V]; R];
    for r in 0..R {
        for v in 0..V {
            sums[r][v].copy_from_slice(&c[(row + r) * columns + column + 8 * v..][..8]);
        }
    }
    for (a, b) in a.chunks_exact(rows).zip(b.chunks_exact(columns)) {
        let (a, b) = (&a[row..][..R], &b[column..][..8 * V]);
        for r in 0..R {
            for v in 0..V {
                for lane in 0..8 {
                    sums[r][v][lane] = a[r].multiply_add(b[8 * v + lane], sums[r][v][lane]);
                }
            }
        }
    }
    for r in 0..R {
        for v in 0..V {
            c[(row + r) * columns + column + 8 * v..][..8].copy_from_slice(&sums[r][v]);
        }
    }
}

/// A value for each of eight registers; always inlined, as `regs::each` is.
#[inline(always)]
fn each<T: Copy + Default>(f: impl Fn(usize) -> T) -> [T; 8] {
    let mut out = [T::default(); 8];
    for (register, value) in out.iter_mut().enumerate() {
        *value = f(register);
    }
    out
}

/// tf32 ignores the 13 low bits of an f32.
fn tf32(bits: u32) -> f32 {
    f32::from_bits(bits & !0x1fff)
}

impl Number for f32 {
    #[inline(always)]
    fn unpack(element: Element, words: &[u32; 8]) -> [[f32; 8]; 4] {
        let none = [0.0; 8];
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
    fn multiply_add(self, b: f32, c: f32) -> f32 {
        self.mul_add(b, c)
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
    fn unpack(element: Element, words: &[u32; 8]) -> [[i32; 8]; 4] {
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

    #[inline(always)]
    fn multiply_add(self, b: i32, c: i32) -> i32 {
        c.wrapping_add(self.wrapping_mul(b))
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
