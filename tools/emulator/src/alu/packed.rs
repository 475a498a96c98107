//! f16 and bf16, alone and in pairs. Each operation rounds once from an f32 result that holds it exactly or, for
//! products and sums of 16-bit floats, holds enough bits for the second rounding to be innocent (p >= 2q + 2).

use half::{bf16, f16};

super::operations! {
    /// 16-bit floating-point operations.
    Packed
    AddF16 ["add.f16", "add.rn.f16"] (a: f16, b: f16) -> f16 { f16_nearest(a.to_f32() + b.to_f32()) }
    SubF16 ["sub.f16", "sub.rn.f16"] (a: f16, b: f16) -> f16 { f16_nearest(a.to_f32() - b.to_f32()) }
    MulF16 ["mul.f16", "mul.rn.f16"] (a: f16, b: f16) -> f16 { f16_nearest(a.to_f32() * b.to_f32()) }
    FmaF16 ["fma.rn.f16"] (a: f16, b: f16, c: f16) -> f16 { fma16(a, b, c) }
    NegF16 ["neg.f16"] (a: u16) -> u16 { a ^ 0x8000 }
    AbsF16 ["abs.f16"] (a: u16) -> u16 { a & 0x7fff }
    AddF16x2 ["add.f16x2", "add.rn.f16x2"] (a: u32, b: u32) -> u32 { f16x2(a, b, |a, b| f16_nearest(a + b)) }
    SubF16x2 ["sub.f16x2", "sub.rn.f16x2"] (a: u32, b: u32) -> u32 { f16x2(a, b, |a, b| f16_nearest(a - b)) }
    MulF16x2 ["mul.f16x2", "mul.rn.f16x2"] (a: u32, b: u32) -> u32 { f16x2(a, b, |a, b| f16_nearest(a * b)) }
    MinF16x2 ["min.f16x2"] (a: u32, b: u32) -> u32 { f16x2(a, b, |a, b| f16_nearest(super::float::min(a, b))) }
    MaxF16x2 ["max.f16x2"] (a: u32, b: u32) -> u32 { f16x2(a, b, |a, b| f16_nearest(super::float::max(a, b))) }
    NegF16x2 ["neg.f16x2", "neg.bf16x2"] (a: u32) -> u32 { a ^ 0x8000_8000 }
    AbsF16x2 ["abs.f16x2", "abs.bf16x2"] (a: u32) -> u32 { a & 0x7fff_7fff }
    FmaF16x2 ["fma.rn.f16x2"] (a: u32, b: u32, c: u32) -> u32 {
        let half = |shift: u32| {
            let part = |word: u32| f16::from_bits((word >> shift) as u16);
            u32::from(fma16(part(a), part(b), part(c)).to_bits()) << shift
        };
        half(0) | half(16)
    }
    AddBf16 ["add.bf16", "add.rn.bf16"] (a: bf16, b: bf16) -> bf16 { fma_bf16(a, bf16::ONE, b) }
    SubBf16 ["sub.bf16", "sub.rn.bf16"] (a: bf16, b: bf16) -> bf16 { fma_bf16(b, bf16::NEG_ONE, a) }
    MulBf16 ["mul.bf16", "mul.rn.bf16"] (a: bf16, b: bf16) -> bf16 { bf16_nearest(a.to_f32() * b.to_f32()) }
    FmaBf16 ["fma.rn.bf16"] (a: bf16, b: bf16, c: bf16) -> bf16 { fma_bf16(a, b, c) }
    MinBf16 ["min.bf16"] (a: bf16, b: bf16) -> bf16 { bf16_nearest(super::float::min(a.to_f32(), b.to_f32())) }
    MaxBf16 ["max.bf16"] (a: bf16, b: bf16) -> bf16 { bf16_nearest(super::float::max(a.to_f32(), b.to_f32())) }
    AddBf16x2 ["add.bf16x2", "add.rn.bf16x2"] (a: u32, b: u32) -> u32 { fma_bf16x2(a, 0x3f80_3f80, b) }
    SubBf16x2 ["sub.bf16x2", "sub.rn.bf16x2"] (a: u32, b: u32) -> u32 { fma_bf16x2(b, 0xbf80_bf80, a) }
    MulBf16x2 ["mul.bf16x2", "mul.rn.bf16x2"] (a: u32, b: u32) -> u32 { fma_bf16x2(a, b, 0x8000_8000) }
    MinBf16x2 ["min.bf16x2"] (a: u32, b: u32) -> u32 { bf16x2(a, b, super::float::min) }
    MaxBf16x2 ["max.bf16x2"] (a: u32, b: u32) -> u32 { bf16x2(a, b, super::float::max) }
    FmaBf16x2 ["fma.rn.bf16x2"] (a: u32, b: u32, c: u32) -> u32 { fma_bf16x2(a, b, c) }
}

/// To nearest even, with the device's NaN.
#[inline(always)]
pub fn bf16_nearest(x: f32) -> bf16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    bf16::from_bits(if x.is_nan() { 0x7fff } else { rounded as u16 })
}

#[inline(always)]
pub fn bf16_truncate(x: f32) -> bf16 {
    bf16::from_bits(if x.is_nan() { 0x7fff } else { (x.to_bits() >> 16) as u16 })
}

/// To nearest even, with the device's NaN.
#[inline(always)]
pub fn f16_nearest(x: f32) -> f16 {
    if x.is_nan() { f16::from_bits(0x7fff) } else { f16::from_f32(x) }
}

/// A product of two f16 is exact in f64, and 53 bits leave the sum's second rounding innocent in f16's range.
fn fma16(a: f16, b: f16, c: f16) -> f16 {
    let sum = a.to_f64() * b.to_f64() + c.to_f64();
    if sum.is_nan() { f16::from_bits(0x7fff) } else { f16::from_f64(sum) }
}

fn f16x2(a: u32, b: u32, f: impl Fn(f32, f32) -> f16) -> u32 {
    let half = |shift: u32| {
        let part = |word: u32| f16::from_bits((word >> shift) as u16).to_f32();
        u32::from(f(part(a), part(b)).to_bits()) << shift
    };
    half(0) | half(16)
}

fn bf16x2(a: u32, b: u32, f: impl Fn(f32, f32) -> f32) -> u32 {
    let half = |shift: u32| {
        let part = |word: u32| bf16::from_bits((word >> shift) as u16).to_f32();
        u32::from(bf16_nearest(f(part(a), part(b))).to_bits()) << shift
    };
    half(0) | half(16)
}

/// The exponents of bf16 span more than 53 bits, so the sum is rounded to odd before it is rounded to bf16.
fn fma_bf16(a: bf16, b: bf16, c: bf16) -> bf16 {
    let toward_zero = super::directed::fma(a.to_f32(), b.to_f32(), c.to_f32(), super::directed::Towards::Zero);
    let exact = f64::from(a.to_f32()) * f64::from(b.to_f32()) + f64::from(c.to_f32()) == f64::from(toward_zero);
    // An inexact result carries its sticky bit in the lowest of the 16 bits that bf16 drops.
    let sticky = u32::from(!exact && toward_zero.is_finite());
    bf16_nearest(f32::from_bits(toward_zero.to_bits() | sticky))
}

fn fma_bf16x2(a: u32, b: u32, c: u32) -> u32 {
    let half = |shift: u32| {
        let part = |word: u32| bf16::from_bits((word >> shift) as u16);
        u32::from(fma_bf16(part(a), part(b), part(c)).to_bits()) << shift
    };
    half(0) | half(16)
}
