//! f16 and bf16, alone and in pairs. Each operation rounds once from an f32 result that holds it exactly or, for
//! products and sums of 16-bit floats, holds enough bits for the second rounding to be innocent (p >= 2q + 2).

use super::{
    directed::{Towards, fma_to_odd, narrow},
    float::{max, min, nan_or, saturate},
};
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
    MinF16x2 ["min.f16x2"] (a: u32, b: u32) -> u32 { f16x2(a, b, |a, b| f16_nearest(min(a, b))) }
    MaxF16x2 ["max.f16x2"] (a: u32, b: u32) -> u32 { f16x2(a, b, |a, b| f16_nearest(max(a, b))) }
    NegF16x2 ["neg.f16x2", "neg.bf16x2"] (a: u32) -> u32 { a ^ 0x8000_8000 }
    AbsF16x2 ["abs.f16x2", "abs.bf16x2"] (a: u32) -> u32 { a & 0x7fff_7fff }
    FmaF16x2 ["fma.rn.f16x2"] (a: u32, b: u32, c: u32) -> u32 { fma16x2(a, b, c) }
    AddBf16 ["add.bf16", "add.rn.bf16"] (a: bf16, b: bf16) -> bf16 { fma_bf16(a, bf16::ONE, b) }
    SubBf16 ["sub.bf16", "sub.rn.bf16"] (a: bf16, b: bf16) -> bf16 { fma_bf16(b, bf16::NEG_ONE, a) }
    MulBf16 ["mul.bf16", "mul.rn.bf16"] (a: bf16, b: bf16) -> bf16 { bf16_nearest(a.to_f32() * b.to_f32()) }
    FmaBf16 ["fma.rn.bf16"] (a: bf16, b: bf16, c: bf16) -> bf16 { fma_bf16(a, b, c) }
    MinBf16 ["min.bf16"] (a: bf16, b: bf16) -> bf16 { bf16_nearest(min(a.to_f32(), b.to_f32())) }
    MaxBf16 ["max.bf16"] (a: bf16, b: bf16) -> bf16 { bf16_nearest(max(a.to_f32(), b.to_f32())) }
    AddBf16x2 ["add.bf16x2", "add.rn.bf16x2"] (a: u32, b: u32) -> u32 { fma_bf16x2(a, 0x3f80_3f80, b) }
    SubBf16x2 ["sub.bf16x2", "sub.rn.bf16x2"] (a: u32, b: u32) -> u32 { fma_bf16x2(b, 0xbf80_bf80, a) }
    MulBf16x2 ["mul.bf16x2", "mul.rn.bf16x2"] (a: u32, b: u32) -> u32 { fma_bf16x2(a, b, 0x8000_8000) }
    MinBf16x2 ["min.bf16x2"] (a: u32, b: u32) -> u32 { bf16x2(a, b, min) }
    MaxBf16x2 ["max.bf16x2"] (a: u32, b: u32) -> u32 { bf16x2(a, b, max) }
    MinF16 ["min.f16"] (a: f16, b: f16) -> f16 { f16_nearest(min(a.to_f32(), b.to_f32())) }
    MinNanF16 ["min.NaN.f16"] (a: f16, b: f16) -> f16 { f16_nearest(nan_or(a.to_f32(), b.to_f32(), min)) }
    MinNanF16x2 ["min.NaN.f16x2"] (a: u32, b: u32) -> u32 { f16x2(a, b, |a, b| f16_nearest(nan_or(a, b, min))) }
    MaxF16 ["max.f16"] (a: f16, b: f16) -> f16 { f16_nearest(max(a.to_f32(), b.to_f32())) }
    MaxNanF16 ["max.NaN.f16"] (a: f16, b: f16) -> f16 { f16_nearest(nan_or(a.to_f32(), b.to_f32(), max)) }
    MaxNanF16x2 ["max.NaN.f16x2"] (a: u32, b: u32) -> u32 { f16x2(a, b, |a, b| f16_nearest(nan_or(a, b, max))) }
    Ex2F16 ["ex2.approx.f16", "ex2.approx.ftz.f16"] (a: f16) -> f16 { f16_nearest(a.to_f32().exp2()) }
    Ex2F16x2 ["ex2.approx.f16x2", "ex2.approx.ftz.f16x2"] (a: u32) -> u32 { f16x2(a, a, |a, _| f16_nearest(a.exp2())) }
    TanhF16 ["tanh.approx.f16"] (a: f16) -> f16 { f16_nearest(a.to_f32().tanh()) }
    TanhF16x2 ["tanh.approx.f16x2"] (a: u32) -> u32 { f16x2(a, a, |a, _| f16_nearest(a.tanh())) }
    MinNanBf16 ["min.NaN.bf16"] (a: bf16, b: bf16) -> bf16 { bf16_nearest(nan_or(a.to_f32(), b.to_f32(), min)) }
    MinNanBf16x2 ["min.NaN.bf16x2"] (a: u32, b: u32) -> u32 { bf16x2(a, b, |a, b| nan_or(a, b, min)) }
    MaxNanBf16 ["max.NaN.bf16"] (a: bf16, b: bf16) -> bf16 { bf16_nearest(nan_or(a.to_f32(), b.to_f32(), max)) }
    MaxNanBf16x2 ["max.NaN.bf16x2"] (a: u32, b: u32) -> u32 { bf16x2(a, b, |a, b| nan_or(a, b, max)) }
    Ex2Bf16 ["ex2.approx.ftz.bf16"] (a: bf16) -> bf16 { bf16_nearest(a.to_f32().exp2()) }
    Ex2Bf16x2 ["ex2.approx.ftz.bf16x2"] (a: u32) -> u32 { bf16x2(a, a, |a, _| a.exp2()) }
    TanhBf16 ["tanh.approx.bf16"] (a: bf16) -> bf16 { bf16_nearest(a.to_f32().tanh()) }
    TanhBf16x2 ["tanh.approx.bf16x2"] (a: u32) -> u32 { bf16x2(a, a, |a, _| a.tanh()) }
    AddSatF16 ["add.sat.f16", "add.rn.sat.f16"] (a: f16, b: f16) -> f16 { f16_nearest(saturate(a.to_f32() + b.to_f32())) }
    AddSatF16x2 ["add.sat.f16x2", "add.rn.sat.f16x2"] (a: u32, b: u32) -> u32 { f16x2(a, b, |a, b| f16_nearest(saturate(a + b))) }
    SubSatF16 ["sub.sat.f16", "sub.rn.sat.f16"] (a: f16, b: f16) -> f16 { f16_nearest(saturate(a.to_f32() - b.to_f32())) }
    SubSatF16x2 ["sub.sat.f16x2", "sub.rn.sat.f16x2"] (a: u32, b: u32) -> u32 { f16x2(a, b, |a, b| f16_nearest(saturate(a - b))) }
    MulSatF16 ["mul.sat.f16", "mul.rn.sat.f16"] (a: f16, b: f16) -> f16 { f16_nearest(saturate(a.to_f32() * b.to_f32())) }
    MulSatF16x2 ["mul.sat.f16x2", "mul.rn.sat.f16x2"] (a: u32, b: u32) -> u32 { f16x2(a, b, |a, b| f16_nearest(saturate(a * b))) }
    FmaSatF16 ["fma.rn.sat.f16"] (a: f16, b: f16, c: f16) -> f16 { f16_nearest(saturate(fma16(a, b, c).to_f32())) }
    FmaSatF16x2 ["fma.rn.sat.f16x2"] (a: u32, b: u32, c: u32) -> u32 {
        let sum = fma16x2(a, b, c);
        f16x2(sum, sum, |x, _| f16_nearest(saturate(x)))
    }
    FmaReluF16 ["fma.rn.relu.f16"] (a: f16, b: f16, c: f16) -> f16 { f16_nearest(relu(fma16(a, b, c).to_f32())) }
    FmaReluF16x2 ["fma.rn.relu.f16x2"] (a: u32, b: u32, c: u32) -> u32 {
        let sum = fma16x2(a, b, c);
        f16x2(sum, sum, |x, _| f16_nearest(relu(x)))
    }
    FmaReluBf16 ["fma.rn.relu.bf16"] (a: bf16, b: bf16, c: bf16) -> bf16 { bf16_nearest(relu(fma_bf16(a, b, c).to_f32())) }
    FmaReluBf16x2 ["fma.rn.relu.bf16x2"] (a: u32, b: u32, c: u32) -> u32 {
        let sum = fma_bf16x2(a, b, c);
        bf16x2(sum, sum, |x, _| relu(x))
    }
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

/// Negative numbers as +0; a NaN stays one.
#[inline(always)]
pub fn relu(x: f32) -> f32 {
    if x > 0.0 || x.is_nan() { x } else { 0.0 }
}

/// An f64 to nearest even, rounded once.
pub fn bf16_from_f64(x: f64) -> bf16 {
    bf16_nearest(odd_f32(x))
}

/// An f64 to nearest even, rounded once. (`f16::from_f64` rounds to f32 first where the processor converts.)
pub fn f16_from_f64(x: f64) -> f16 {
    f16_nearest(odd_f32(x))
}

/// An f64 rounded to odd, which keeps what a second rounding to 16 bits needs.
fn odd_f32(x: f64) -> f32 {
    let toward_zero = narrow(x, Towards::Zero);
    let sticky = u32::from(toward_zero.is_finite() && f64::from(toward_zero) != x);
    f32::from_bits(toward_zero.to_bits() | sticky)
}

/// An integer as an f64, rounded to odd where 53 bits do not hold it.
pub fn odd_f64(x: i128) -> f64 {
    let lost = (128 - x.unsigned_abs().leading_zeros()).saturating_sub(53);
    let kept = x.unsigned_abs() >> lost;
    let sticky = u128::from(kept << lost != x.unsigned_abs());
    let magnitude = ((kept | sticky) << lost) as f64;
    if x < 0 { -magnitude } else { magnitude }
}

/// Rounded in a direction.
pub fn bf16_directed(x: f32, towards: Towards) -> bf16 {
    let cut = bf16_truncate(x);
    let away = if x < 0.0 { Towards::Minus } else { Towards::Plus };
    let outward = x.is_finite() && cut.to_f32() != x && towards == away;
    bf16::from_bits(cut.to_bits() + u16::from(outward))
}

/// Rounded in a direction.
pub fn f16_directed(x: f32, towards: Towards) -> f16 {
    let nearest = f16_nearest(x);
    let bits = nearest.to_bits();
    if x.is_nan() || x.is_infinite() || nearest.to_f32() == x {
        return nearest;
    }
    let (above, negative) = (nearest.to_f32() > x, x < 0.0);
    let want_below = match towards {
        Towards::Zero => !negative,
        Towards::Minus => true,
        Towards::Plus => false,
    };
    // One step away from zero or back, by the bits of the magnitude.
    match (want_below, above) {
        (true, true) => f16::from_bits(if negative { bits + 1 } else { bits - 1 }),
        (false, false) => f16::from_bits(if negative { bits - 1 } else { bits + 1 }),
        _ => nearest,
    }
}

fn fma16x2(a: u32, b: u32, c: u32) -> u32 {
    let half = |shift: u32| {
        let part = |word: u32| f16::from_bits((word >> shift) as u16);
        u32::from(fma16(part(a), part(b), part(c)).to_bits()) << shift
    };
    half(0) | half(16)
}

/// A product of two f16 is exact in f64, and 53 bits leave the sum's second rounding innocent in f16's range.
fn fma16(a: f16, b: f16, c: f16) -> f16 {
    f16_from_f64(a.to_f64() * b.to_f64() + c.to_f64())
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
    let odd = fma_to_odd(a.to_f32(), b.to_f32(), c.to_f32());
    let toward_zero = narrow(odd, Towards::Zero);
    // An inexact result carries its sticky bit in the lowest of the 16 bits that bf16 drops.
    let sticky = u32::from(f64::from(toward_zero) != odd && toward_zero.is_finite());
    bf16_nearest(f32::from_bits(toward_zero.to_bits() | sticky))
}

fn fma_bf16x2(a: u32, b: u32, c: u32) -> u32 {
    let half = |shift: u32| {
        let part = |word: u32| bf16::from_bits((word >> shift) as u16);
        u32::from(fma_bf16(part(a), part(b), part(c)).to_bits()) << shift
    };
    half(0) | half(16)
}
