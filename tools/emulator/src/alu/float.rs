//! f32 and f64. Basic arithmetic is IEEE; `.approx` functions are host mathematics and not the bits of the MUFU unit. Their
//! values at zeros, infinities and NaNs are those of the tables of the PTX ISA 9.1, sections 9.7.3.8 and 9.7.3.13 to 22.

use super::directed::{Towards, fma, mul, narrow};

super::operations! {
    /// Floating-point operations.
    Float
    AddF32 ["add.f32", "add.rn.f32"] (a: f32, b: f32) -> f32 { a + b }
    AddRz ["add.rz.f32"] (a: f32, b: f32) -> f32 { fma(a, 1.0, b, Towards::Zero) }
    AddRm ["add.rm.f32"] (a: f32, b: f32) -> f32 { fma(a, 1.0, b, Towards::Minus) }
    AddRp ["add.rp.f32"] (a: f32, b: f32) -> f32 { fma(a, 1.0, b, Towards::Plus) }
    AddFtz ["add.ftz.f32", "add.rn.ftz.f32"] (a: f32, b: f32) -> f32 { ftz(ftz(a) + ftz(b)) }
    AddF64 ["add.f64", "add.rn.f64"] (a: f64, b: f64) -> f64 { a + b }
    SubF32 ["sub.f32", "sub.rn.f32"] (a: f32, b: f32) -> f32 { a - b }
    SubFtz ["sub.ftz.f32", "sub.rn.ftz.f32"] (a: f32, b: f32) -> f32 { ftz(ftz(a) - ftz(b)) }
    SubF64 ["sub.f64", "sub.rn.f64"] (a: f64, b: f64) -> f64 { a - b }
    MulF32 ["mul.f32", "mul.rn.f32"] (a: f32, b: f32) -> f32 { a * b }
    MulRz ["mul.rz.f32"] (a: f32, b: f32) -> f32 { mul(a, b, Towards::Zero) }
    MulFtz ["mul.ftz.f32", "mul.rn.ftz.f32"] (a: f32, b: f32) -> f32 { ftz(ftz(a) * ftz(b)) }
    MulF64 ["mul.f64", "mul.rn.f64"] (a: f64, b: f64) -> f64 { a * b }
    FmaF32 ["fma.rn.f32"] (a: f32, b: f32, c: f32) -> f32 { a.mul_add(b, c) }
    FmaRz ["fma.rz.f32"] (a: f32, b: f32, c: f32) -> f32 { fma(a, b, c, Towards::Zero) }
    FmaRm ["fma.rm.f32"] (a: f32, b: f32, c: f32) -> f32 { fma(a, b, c, Towards::Minus) }
    FmaRp ["fma.rp.f32"] (a: f32, b: f32, c: f32) -> f32 { fma(a, b, c, Towards::Plus) }
    FmaFtz ["fma.rn.ftz.f32"] (a: f32, b: f32, c: f32) -> f32 { ftz(ftz(a).mul_add(ftz(b), ftz(c))) }
    FmaF64 ["fma.rn.f64"] (a: f64, b: f64, c: f64) -> f64 { a.mul_add(b, c) }
    DivF32 ["div.rn.f32"] (a: f32, b: f32) -> f32 { a / b }
    DivApprox ["div.approx.f32"] (a: f32, b: f32) -> f32 { quotient(a, b) }
    DivApproxFtz ["div.approx.ftz.f32"] (a: f32, b: f32) -> f32 { ftz(quotient(ftz(a), ftz(b))) }
    DivFull ["div.full.f32"] (a: f32, b: f32) -> f32 { a / b }
    DivFullFtz ["div.full.ftz.f32"] (a: f32, b: f32) -> f32 { ftz(ftz(a) / ftz(b)) }
    DivF64 ["div.rn.f64"] (a: f64, b: f64) -> f64 { a / b }
    RcpF32 ["rcp.rn.f32", "rcp.approx.f32"] (a: f32) -> f32 { 1.0 / a }
    RcpFtz ["rcp.approx.ftz.f32"] (a: f32) -> f32 { ftz(1.0 / ftz(a)) }
    RcpF64 ["rcp.rn.f64"] (a: f64) -> f64 { 1.0 / a }
    SqrtF32 ["sqrt.rn.f32", "sqrt.approx.f32"] (a: f32) -> f32 { a.sqrt() }
    SqrtFtz ["sqrt.approx.ftz.f32"] (a: f32) -> f32 { ftz(ftz(a).sqrt()) }
    SqrtF64 ["sqrt.rn.f64"] (a: f64) -> f64 { a.sqrt() }
    RsqrtF32 ["rsqrt.approx.f32"] (a: f32) -> f32 { (1.0 / f64::from(a).sqrt()) as f32 }
    RsqrtFtz ["rsqrt.approx.ftz.f32"] (a: f32) -> f32 { (1.0 / f64::from(ftz(a)).sqrt()) as f32 }
    Ex2F32 ["ex2.approx.f32"] (a: f32) -> f32 { a.exp2() }
    Ex2Ftz ["ex2.approx.ftz.f32"] (a: f32) -> f32 { ftz(ftz(a).exp2()) }
    Lg2F32 ["lg2.approx.f32"] (a: f32) -> f32 { a.log2() }
    Lg2Ftz ["lg2.approx.ftz.f32"] (a: f32) -> f32 { ftz(a).log2() }
    SinF32 ["sin.approx.f32"] (a: f32) -> f32 { a.sin() }
    SinFtz ["sin.approx.ftz.f32"] (a: f32) -> f32 { ftz(ftz(a).sin()) }
    CosF32 ["cos.approx.f32"] (a: f32) -> f32 { a.cos() }
    CosFtz ["cos.approx.ftz.f32"] (a: f32) -> f32 { ftz(a).cos() }
    TanhF32 ["tanh.approx.f32"] (a: f32) -> f32 { a.tanh() }
    NegF32 ["neg.f32"] (a: f32) -> f32 { -a }
    NegFtz ["neg.ftz.f32"] (a: f32) -> f32 { ftz(-a) }
    NegF64 ["neg.f64"] (a: f64) -> f64 { -a }
    AbsF32 ["abs.f32"] (a: f32) -> f32 { a.abs() }
    AbsFtz ["abs.ftz.f32"] (a: f32) -> f32 { ftz(a.abs()) }
    AbsF64 ["abs.f64"] (a: f64) -> f64 { a.abs() }
    MinF32 ["min.f32"] (a: f32, b: f32) -> f32 { min(a, b) }
    MinFtz ["min.ftz.f32"] (a: f32, b: f32) -> f32 { min(ftz(a), ftz(b)) }
    MinNan ["min.NaN.f32"] (a: f32, b: f32) -> f32 { nan_or(a, b, min) }
    MinF64 ["min.f64"] (a: f64, b: f64) -> f64 {
        if a.is_nan() || b < a || b == a && b.is_sign_negative() { b } else { a }
    }
    MaxF32 ["max.f32"] (a: f32, b: f32) -> f32 { max(a, b) }
    MaxFtz ["max.ftz.f32"] (a: f32, b: f32) -> f32 { max(ftz(a), ftz(b)) }
    MaxNan ["max.NaN.f32"] (a: f32, b: f32) -> f32 { nan_or(a, b, max) }
    MaxF64 ["max.f64"] (a: f64, b: f64) -> f64 {
        if a.is_nan() || b > a || b == a && b.is_sign_positive() { b } else { a }
    }
    CopysignF32 ["copysign.f32"] (a: f32, b: f32) -> f32 { b.copysign(a) }
    CopysignF64 ["copysign.f64"] (a: f64, b: f64) -> f64 { b.copysign(a) }
    DivRz ["div.rz.f32"] (a: f32, b: f32) -> f32 { narrow(f64::from(a) / f64::from(b), Towards::Zero) }
    DivRm ["div.rm.f32"] (a: f32, b: f32) -> f32 { narrow(f64::from(a) / f64::from(b), Towards::Minus) }
    DivRp ["div.rp.f32"] (a: f32, b: f32) -> f32 { narrow(f64::from(a) / f64::from(b), Towards::Plus) }
    RcpRz ["rcp.rz.f32"] (a: f32) -> f32 { narrow(1.0 / f64::from(a), Towards::Zero) }
    RcpRm ["rcp.rm.f32"] (a: f32) -> f32 { narrow(1.0 / f64::from(a), Towards::Minus) }
    RcpRp ["rcp.rp.f32"] (a: f32) -> f32 { narrow(1.0 / f64::from(a), Towards::Plus) }
    SqrtRz ["sqrt.rz.f32"] (a: f32) -> f32 { narrow(f64::from(a).sqrt(), Towards::Zero) }
    SqrtRm ["sqrt.rm.f32"] (a: f32) -> f32 { narrow(f64::from(a).sqrt(), Towards::Minus) }
    SqrtRp ["sqrt.rp.f32"] (a: f32) -> f32 { narrow(f64::from(a).sqrt(), Towards::Plus) }
    MulRm ["mul.rm.f32"] (a: f32, b: f32) -> f32 { mul(a, b, Towards::Minus) }
    MulRp ["mul.rp.f32"] (a: f32, b: f32) -> f32 { mul(a, b, Towards::Plus) }
    SubRz ["sub.rz.f32"] (a: f32, b: f32) -> f32 { fma(b, -1.0, a, Towards::Zero) }
    SubRm ["sub.rm.f32"] (a: f32, b: f32) -> f32 { fma(b, -1.0, a, Towards::Minus) }
    SubRp ["sub.rp.f32"] (a: f32, b: f32) -> f32 { fma(b, -1.0, a, Towards::Plus) }
    AddSat ["add.sat.f32", "add.rn.sat.f32"] (a: f32, b: f32) -> f32 { saturate(a + b) }
    MulSat ["mul.sat.f32", "mul.rn.sat.f32"] (a: f32, b: f32) -> f32 { saturate(a * b) }
    FmaSat ["fma.rn.sat.f32"] (a: f32, b: f32, c: f32) -> f32 { saturate(a.mul_add(b, c)) }
    // The high word of the reciprocal alone: the low one is zero, and Newton steps follow.
    RcpApproxF64 ["rcp.approx.ftz.f64"] (a: f64) -> f64 { f64::from_bits((1.0 / a).to_bits() & !0xffff_ffff) }
    RsqrtApproxF64 ["rsqrt.approx.ftz.f64", "rsqrt.approx.f64"] (a: f64) -> f64 {
        f64::from_bits((1.0 / a.sqrt()).to_bits() & !0xffff_ffff)
    }
    MinNanFtz ["min.NaN.ftz.f32", "min.ftz.NaN.f32"] (a: f32, b: f32) -> f32 { nan_or(ftz(a), ftz(b), min) }
    MaxNanFtz ["max.NaN.ftz.f32", "max.ftz.NaN.f32"] (a: f32, b: f32) -> f32 { nan_or(ftz(a), ftz(b), max) }
    IsFinite ["testp.finite.f32"] (a: f32) -> bool { a.is_finite() }
    IsInfinite ["testp.infinite.f32"] (a: f32) -> bool { a.is_infinite() }
    IsNan ["testp.notanumber.f32"] (a: f32) -> bool { a.is_nan() }
}

/// The NaN that arithmetic on the device returns.
pub const CANONICAL_NAN: f32 = f32::from_bits(0x7fff_ffff);

/// `div.approx`: a times 1 / b, which vanishes where b is beyond 2^126 (PTX ISA 9.1, 9.7.3.8).
#[inline(always)]
fn quotient(a: f32, b: f32) -> f32 {
    const LARGEST: f32 = 1.0 / f32::MIN_POSITIVE;
    if b.abs() <= LARGEST || b.is_nan() { a / b } else { a * 0.0f32.copysign(b) }
}

/// To 0..1; a NaN becomes +0.
#[inline(always)]
pub fn saturate(x: f32) -> f32 {
    if x > 0.0 { x.min(1.0) } else { 0.0 }
}

/// A NaN where one takes part.
#[inline(always)]
pub fn nan_or(a: f32, b: f32, f: impl Fn(f32, f32) -> f32) -> f32 {
    if a.is_nan() || b.is_nan() { CANONICAL_NAN } else { f(a, b) }
}

/// A subnormal as zero of its sign.
#[inline(always)]
pub fn ftz(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE { 0.0f32.copysign(x) } else { x }
}

/// The smaller, with -0 below +0; a NaN loses against a number.
#[inline(always)]
pub fn min(a: f32, b: f32) -> f32 {
    if b.is_nan() || a < b || a == b && a.is_sign_negative() { canonical(a) } else { b }
}

/// The larger, with +0 above -0; a NaN loses against a number.
#[inline(always)]
pub fn max(a: f32, b: f32) -> f32 {
    if b.is_nan() || a > b || a == b && a.is_sign_positive() { canonical(a) } else { b }
}

#[inline(always)]
fn canonical(x: f32) -> f32 {
    if x.is_nan() { CANONICAL_NAN } else { x }
}
