//! `cvt`: between integers, floats and the 16-bit floats. Float to integer clamps. A NaN becomes 0 where neither side has 64 bits,
//! and the top bit alone otherwise (PTX manual, `cvt`).

use super::{
    directed::{Towards, narrow},
    float::{CANONICAL_NAN, ftz, saturate},
    packed,
};
use crate::regs::Halves;
use half::{bf16, f16};

/// Integers that floats clamp to.
trait Integer {
    /// What a NaN becomes where 64 bits are involved: the top bit alone.
    const TOP: Self;
    fn clamped(x: f64) -> Self;
}

macro_rules! integers {
    ($($ty:ident)*) => {$(
        impl Integer for $ty {
            const TOP: Self = 1 << ($ty::BITS - 1);
            fn clamped(x: f64) -> Self {
                x as $ty
            }
        }
    )*};
}
integers!(i8 u8 i16 u16 i32 u32 i64 u64);

/// A whole number from an f64, or for 64 bits.
#[inline(always)]
fn top<I: Integer>(x: impl Into<f64>) -> I {
    let x = x.into();
    if x.is_nan() { I::TOP } else { I::clamped(x) }
}

super::operations! {
    /// Conversions.
    Convert
    U16U8 ["cvt.u16.u8", "cvt.s16.u8"] (a: u8) -> u16 { a.into() }
    S16S8 ["cvt.s16.s8", "cvt.u16.s8"] (a: i8) -> i16 { a.into() }
    U32U8 ["cvt.u32.u8", "cvt.s32.u8"] (a: u8) -> u32 { a.into() }
    S32S8 ["cvt.s32.s8", "cvt.u32.s8"] (a: i8) -> i32 { a.into() }
    U64U8 ["cvt.u64.u8", "cvt.s64.u8"] (a: u8) -> u64 { a.into() }
    S64S8 ["cvt.s64.s8", "cvt.u64.s8"] (a: i8) -> i64 { a.into() }
    U8U16 ["cvt.u8.u16", "cvt.u8.s16"] (a: u16) -> u8 { a as u8 }
    S8S16 ["cvt.s8.s16", "cvt.s8.u16"] (a: u16) -> i8 { a as i8 }
    U8U32 ["cvt.u8.u32", "cvt.u8.s32"] (a: u32) -> u8 { a as u8 }
    S8S32 ["cvt.s8.s32", "cvt.s8.u32"] (a: u32) -> i8 { a as i8 }
    U8U64 ["cvt.u8.u64", "cvt.u8.s64"] (a: u64) -> u8 { a as u8 }
    S8S64 ["cvt.s8.s64", "cvt.s8.u64"] (a: u64) -> i8 { a as i8 }
    U32U16 ["cvt.u32.u16", "cvt.s32.u16"] (a: u16) -> u32 { a.into() }
    S32S16 ["cvt.s32.s16", "cvt.u32.s16"] (a: i16) -> i32 { a.into() }
    U64U16 ["cvt.u64.u16", "cvt.s64.u16"] (a: u16) -> u64 { a.into() }
    S64S16 ["cvt.s64.s16", "cvt.u64.s16"] (a: i16) -> i64 { a.into() }
    U16U32 ["cvt.u16.u32", "cvt.u16.s32", "cvt.s16.s32", "cvt.s16.u32"] (a: u32) -> u16 { a as u16 }
    U16U64 ["cvt.u16.u64", "cvt.u16.s64", "cvt.s16.s64", "cvt.s16.u64"] (a: u64) -> u16 { a as u16 }
    U64U32 ["cvt.u64.u32", "cvt.s64.u32"] (a: u32) -> Halves { Halves { low: a, high: 0 } }
    S64S32 ["cvt.s64.s32", "cvt.u64.s32"] (a: i32) -> Halves { Halves { low: a as u32, high: (a >> 31) as u32 } }
    U32U64 ["cvt.u32.u64", "cvt.u32.s64", "cvt.s32.s64", "cvt.s32.u64"] (a: Halves) -> u32 { a.low }
    SatS8S32 ["cvt.sat.s8.s32"] (a: i32) -> i8 { a.clamp(-128, 127) as i8 }
    SatU8S32 ["cvt.sat.u8.s32"] (a: i32) -> u8 { a.clamp(0, 255) as u8 }
    F32U8 ["cvt.rn.f32.u8"] (a: u8) -> f32 { a.into() }
    F32S8 ["cvt.rn.f32.s8"] (a: i8) -> f32 { a.into() }
    F32U16 ["cvt.rn.f32.u16"] (a: u16) -> f32 { a.into() }
    F32S16 ["cvt.rn.f32.s16"] (a: i16) -> f32 { a.into() }
    F32U32 ["cvt.rn.f32.u32"] (a: u32) -> f32 { a as f32 }
    F32S32 ["cvt.rn.f32.s32"] (a: i32) -> f32 { a as f32 }
    F32U64 ["cvt.rn.f32.u64"] (a: u64) -> f32 { a as f32 }
    F32S64 ["cvt.rn.f32.s64"] (a: i64) -> f32 { a as f32 }
    RzF32S32 ["cvt.rz.f32.s32"] (a: i32) -> f32 { narrow(a.into(), Towards::Zero) }
    RzF32U32 ["cvt.rz.f32.u32"] (a: u32) -> f32 { narrow(a.into(), Towards::Zero) }
    RmF32S32 ["cvt.rm.f32.s32"] (a: i32) -> f32 { narrow(a.into(), Towards::Minus) }
    RmF32U32 ["cvt.rm.f32.u32"] (a: u32) -> f32 { narrow(a.into(), Towards::Minus) }
    RpF32S32 ["cvt.rp.f32.s32"] (a: i32) -> f32 { narrow(a.into(), Towards::Plus) }
    RpF32U32 ["cvt.rp.f32.u32"] (a: u32) -> f32 { narrow(a.into(), Towards::Plus) }
    F64U32 ["cvt.rn.f64.u32"] (a: u32) -> f64 { a.into() }
    F64S32 ["cvt.rn.f64.s32"] (a: i32) -> f64 { a.into() }
    F64U64 ["cvt.rn.f64.u64"] (a: u64) -> f64 { a as f64 }
    F64S64 ["cvt.rn.f64.s64"] (a: i64) -> f64 { a as f64 }
    RziS32 ["cvt.rzi.s32.f32"] (a: f32) -> i32 { a as i32 }
    RniS32 ["cvt.rni.s32.f32"] (a: f32) -> i32 { a.round_ties_even() as i32 }
    RmiS32 ["cvt.rmi.s32.f32"] (a: f32) -> i32 { a.floor() as i32 }
    RpiS32 ["cvt.rpi.s32.f32"] (a: f32) -> i32 { a.ceil() as i32 }
    RziU32 ["cvt.rzi.u32.f32"] (a: f32) -> u32 { a as u32 }
    RniU32 ["cvt.rni.u32.f32"] (a: f32) -> u32 { a.round_ties_even() as u32 }
    RmiU32 ["cvt.rmi.u32.f32"] (a: f32) -> u32 { a.floor() as u32 }
    RpiU32 ["cvt.rpi.u32.f32"] (a: f32) -> u32 { a.ceil() as u32 }
    RziFtzS32 ["cvt.rzi.ftz.s32.f32"] (a: f32) -> i32 { ftz(a) as i32 }
    RniFtzS32 ["cvt.rni.ftz.s32.f32"] (a: f32) -> i32 { ftz(a).round_ties_even() as i32 }
    RziFtzU32 ["cvt.rzi.ftz.u32.f32"] (a: f32) -> u32 { ftz(a) as u32 }
    RziS64 ["cvt.rzi.s64.f32"] (a: f32) -> i64 { top(a) }
    RziU64 ["cvt.rzi.u64.f32"] (a: f32) -> u64 { top(a) }
    RziU16 ["cvt.rzi.u16.f32"] (a: f32) -> u16 { a as u16 }
    RziS16 ["cvt.rzi.s16.f32"] (a: f32) -> i16 { a as i16 }
    RziS32F64 ["cvt.rzi.s32.f64"] (a: f64) -> i32 { top(a) }
    RniS32F64 ["cvt.rni.s32.f64"] (a: f64) -> i32 { top(a.round_ties_even()) }
    RziU32F64 ["cvt.rzi.u32.f64"] (a: f64) -> u32 { top(a) }
    RziS64F64 ["cvt.rzi.s64.f64"] (a: f64) -> i64 { top(a) }
    RziU64F64 ["cvt.rzi.u64.f64"] (a: f64) -> u64 { top(a) }
    RziF32 ["cvt.rzi.f32.f32"] (a: f32) -> f32 { a.trunc() }
    RniF32 ["cvt.rni.f32.f32"] (a: f32) -> f32 { a.round_ties_even() }
    RmiF32 ["cvt.rmi.f32.f32"] (a: f32) -> f32 { a.floor() }
    RpiF32 ["cvt.rpi.f32.f32"] (a: f32) -> f32 { a.ceil() }
    RziFtzF32 ["cvt.rzi.ftz.f32.f32"] (a: f32) -> f32 { ftz(a).trunc() }
    RniFtzF32 ["cvt.rni.ftz.f32.f32"] (a: f32) -> f32 { ftz(a).round_ties_even() }
    RmiFtzF32 ["cvt.rmi.ftz.f32.f32"] (a: f32) -> f32 { ftz(a).floor() }
    RpiFtzF32 ["cvt.rpi.ftz.f32.f32"] (a: f32) -> f32 { ftz(a).ceil() }
    RmiF64 ["cvt.rmi.f64.f64"] (a: f64) -> f64 { a.floor() }
    RniF64 ["cvt.rni.f64.f64"] (a: f64) -> f64 { a.round_ties_even() }
    SatF32 ["cvt.sat.f32.f32"] (a: f32) -> f32 { saturate(a) }
    SatFtzF32 ["cvt.ftz.sat.f32.f32", "cvt.sat.ftz.f32.f32"] (a: f32) -> f32 { saturate(ftz(a)) }
    F64F32 ["cvt.f64.f32"] (a: f32) -> f64 { a.into() }
    F32F64 ["cvt.rn.f32.f64"] (a: f64) -> f32 { a as f32 }
    RzF32F64 ["cvt.rz.f32.f64"] (a: f64) -> f32 { narrow(a, Towards::Zero) }
    RmF32F64 ["cvt.rm.f32.f64"] (a: f64) -> f32 { narrow(a, Towards::Minus) }
    RpF32F64 ["cvt.rp.f32.f64"] (a: f64) -> f32 { narrow(a, Towards::Plus) }
    F32Bf16 ["cvt.f32.bf16"] (a: u16) -> f32 { f32::from_bits(u32::from(a) << 16) }
    F32F16 ["cvt.f32.f16"] (a: f16) -> f32 { a.into() }
    Bf16F32 ["cvt.rn.bf16.f32"] (a: f32) -> bf16 { packed::bf16_nearest(a) }
    RzBf16F32 ["cvt.rz.bf16.f32"] (a: f32) -> bf16 { packed::bf16_truncate(a) }
    F16F32 ["cvt.rn.f16.f32"] (a: f32) -> f16 { packed::f16_nearest(a) }
    F16U16 ["cvt.rn.f16.u16"] (a: u16) -> f16 { packed::f16_nearest(f32::from(a)) }
    F16S16 ["cvt.rn.f16.s16"] (a: i16) -> f16 { packed::f16_nearest(f32::from(a)) }
    F16F64 ["cvt.rn.f16.f64"] (a: f64) -> f16 { packed::f16_from_f64(a) }
    RziS16F64 ["cvt.rzi.s16.f64"] (a: f64) -> i16 { top(a.trunc()) }
    RziS16F16 ["cvt.rzi.s16.f16"] (a: f16) -> i16 { a.to_f32().trunc() as i16 }
    RziS16Bf16 ["cvt.rzi.s16.bf16"] (a: bf16) -> i16 { a.to_f32().trunc() as i16 }
    RziU16F64 ["cvt.rzi.u16.f64"] (a: f64) -> u16 { top(a.trunc()) }
    RziU16F16 ["cvt.rzi.u16.f16"] (a: f16) -> u16 { a.to_f32().trunc() as u16 }
    RziU16Bf16 ["cvt.rzi.u16.bf16"] (a: bf16) -> u16 { a.to_f32().trunc() as u16 }
    RziS32F16 ["cvt.rzi.s32.f16"] (a: f16) -> i32 { a.to_f32().trunc() as i32 }
    RziS32Bf16 ["cvt.rzi.s32.bf16"] (a: bf16) -> i32 { a.to_f32().trunc() as i32 }
    RziU32F16 ["cvt.rzi.u32.f16"] (a: f16) -> u32 { a.to_f32().trunc() as u32 }
    RziU32Bf16 ["cvt.rzi.u32.bf16"] (a: bf16) -> u32 { a.to_f32().trunc() as u32 }
    RziS64F16 ["cvt.rzi.s64.f16"] (a: f16) -> i64 { top(a.to_f32().trunc()) }
    RziS64Bf16 ["cvt.rzi.s64.bf16"] (a: bf16) -> i64 { top(a.to_f32().trunc()) }
    RziFtzS64F32 ["cvt.rzi.ftz.s64.f32"] (a: f32) -> i64 { top(ftz(a).trunc()) }
    RziU64F16 ["cvt.rzi.u64.f16"] (a: f16) -> u64 { top(a.to_f32().trunc()) }
    RziU64Bf16 ["cvt.rzi.u64.bf16"] (a: bf16) -> u64 { top(a.to_f32().trunc()) }
    RziFtzU64F32 ["cvt.rzi.ftz.u64.f32"] (a: f32) -> u64 { top(ftz(a).trunc()) }
    RziS8F32 ["cvt.rzi.s8.f32"] (a: f32) -> i8 { a.trunc() as i8 }
    RziS8F64 ["cvt.rzi.s8.f64"] (a: f64) -> i8 { top(a.trunc()) }
    RziS8F16 ["cvt.rzi.s8.f16"] (a: f16) -> i8 { a.to_f32().trunc() as i8 }
    RziS8Bf16 ["cvt.rzi.s8.bf16"] (a: bf16) -> i8 { a.to_f32().trunc() as i8 }
    RziU8F32 ["cvt.rzi.u8.f32"] (a: f32) -> u8 { a.trunc() as u8 }
    RziU8F64 ["cvt.rzi.u8.f64"] (a: f64) -> u8 { top(a.trunc()) }
    RziU8F16 ["cvt.rzi.u8.f16"] (a: f16) -> u8 { a.to_f32().trunc() as u8 }
    RziU8Bf16 ["cvt.rzi.u8.bf16"] (a: bf16) -> u8 { a.to_f32().trunc() as u8 }
    RziF16 ["cvt.rzi.f16.f16"] (a: f16) -> f16 { packed::f16_nearest(a.to_f32().trunc()) }
    RziBf16 ["cvt.rzi.bf16.bf16"] (a: bf16) -> bf16 { packed::bf16_nearest(a.to_f32().trunc()) }
    RziF64F64 ["cvt.rzi.f64.f64"] (a: f64) -> f64 { a.trunc() }
    RniS16F32 ["cvt.rni.s16.f32"] (a: f32) -> i16 { a.round_ties_even() as i16 }
    RniS16F64 ["cvt.rni.s16.f64"] (a: f64) -> i16 { top(a.round_ties_even()) }
    RniS16F16 ["cvt.rni.s16.f16"] (a: f16) -> i16 { a.to_f32().round_ties_even() as i16 }
    RniS16Bf16 ["cvt.rni.s16.bf16"] (a: bf16) -> i16 { a.to_f32().round_ties_even() as i16 }
    RniU16F32 ["cvt.rni.u16.f32"] (a: f32) -> u16 { a.round_ties_even() as u16 }
    RniU16F64 ["cvt.rni.u16.f64"] (a: f64) -> u16 { top(a.round_ties_even()) }
    RniU16F16 ["cvt.rni.u16.f16"] (a: f16) -> u16 { a.to_f32().round_ties_even() as u16 }
    RniU16Bf16 ["cvt.rni.u16.bf16"] (a: bf16) -> u16 { a.to_f32().round_ties_even() as u16 }
    RniS32F16 ["cvt.rni.s32.f16"] (a: f16) -> i32 { a.to_f32().round_ties_even() as i32 }
    RniS32Bf16 ["cvt.rni.s32.bf16"] (a: bf16) -> i32 { a.to_f32().round_ties_even() as i32 }
    RniU32F64 ["cvt.rni.u32.f64"] (a: f64) -> u32 { top(a.round_ties_even()) }
    RniU32F16 ["cvt.rni.u32.f16"] (a: f16) -> u32 { a.to_f32().round_ties_even() as u32 }
    RniU32Bf16 ["cvt.rni.u32.bf16"] (a: bf16) -> u32 { a.to_f32().round_ties_even() as u32 }
    RniFtzU32F32 ["cvt.rni.ftz.u32.f32"] (a: f32) -> u32 { ftz(a).round_ties_even() as u32 }
    RniS64F32 ["cvt.rni.s64.f32"] (a: f32) -> i64 { top(a.round_ties_even()) }
    RniS64F64 ["cvt.rni.s64.f64"] (a: f64) -> i64 { top(a.round_ties_even()) }
    RniS64F16 ["cvt.rni.s64.f16"] (a: f16) -> i64 { top(a.to_f32().round_ties_even()) }
    RniS64Bf16 ["cvt.rni.s64.bf16"] (a: bf16) -> i64 { top(a.to_f32().round_ties_even()) }
    RniFtzS64F32 ["cvt.rni.ftz.s64.f32"] (a: f32) -> i64 { top(ftz(a).round_ties_even()) }
    RniU64F32 ["cvt.rni.u64.f32"] (a: f32) -> u64 { top(a.round_ties_even()) }
    RniU64F64 ["cvt.rni.u64.f64"] (a: f64) -> u64 { top(a.round_ties_even()) }
    RniU64F16 ["cvt.rni.u64.f16"] (a: f16) -> u64 { top(a.to_f32().round_ties_even()) }
    RniU64Bf16 ["cvt.rni.u64.bf16"] (a: bf16) -> u64 { top(a.to_f32().round_ties_even()) }
    RniFtzU64F32 ["cvt.rni.ftz.u64.f32"] (a: f32) -> u64 { top(ftz(a).round_ties_even()) }
    RniS8F32 ["cvt.rni.s8.f32"] (a: f32) -> i8 { a.round_ties_even() as i8 }
    RniS8F64 ["cvt.rni.s8.f64"] (a: f64) -> i8 { top(a.round_ties_even()) }
    RniS8F16 ["cvt.rni.s8.f16"] (a: f16) -> i8 { a.to_f32().round_ties_even() as i8 }
    RniS8Bf16 ["cvt.rni.s8.bf16"] (a: bf16) -> i8 { a.to_f32().round_ties_even() as i8 }
    RniU8F32 ["cvt.rni.u8.f32"] (a: f32) -> u8 { a.round_ties_even() as u8 }
    RniU8F64 ["cvt.rni.u8.f64"] (a: f64) -> u8 { top(a.round_ties_even()) }
    RniU8F16 ["cvt.rni.u8.f16"] (a: f16) -> u8 { a.to_f32().round_ties_even() as u8 }
    RniU8Bf16 ["cvt.rni.u8.bf16"] (a: bf16) -> u8 { a.to_f32().round_ties_even() as u8 }
    RniF16 ["cvt.rni.f16.f16"] (a: f16) -> f16 { packed::f16_nearest(a.to_f32().round_ties_even()) }
    RniBf16 ["cvt.rni.bf16.bf16"] (a: bf16) -> bf16 { packed::bf16_nearest(a.to_f32().round_ties_even()) }
    RmiS16F32 ["cvt.rmi.s16.f32"] (a: f32) -> i16 { a.floor() as i16 }
    RmiS16F64 ["cvt.rmi.s16.f64"] (a: f64) -> i16 { top(a.floor()) }
    RmiS16F16 ["cvt.rmi.s16.f16"] (a: f16) -> i16 { a.to_f32().floor() as i16 }
    RmiS16Bf16 ["cvt.rmi.s16.bf16"] (a: bf16) -> i16 { a.to_f32().floor() as i16 }
    RmiU16F32 ["cvt.rmi.u16.f32"] (a: f32) -> u16 { a.floor() as u16 }
    RmiU16F64 ["cvt.rmi.u16.f64"] (a: f64) -> u16 { top(a.floor()) }
    RmiU16F16 ["cvt.rmi.u16.f16"] (a: f16) -> u16 { a.to_f32().floor() as u16 }
    RmiU16Bf16 ["cvt.rmi.u16.bf16"] (a: bf16) -> u16 { a.to_f32().floor() as u16 }
    RmiS32F64 ["cvt.rmi.s32.f64"] (a: f64) -> i32 { top(a.floor()) }
    RmiS32F16 ["cvt.rmi.s32.f16"] (a: f16) -> i32 { a.to_f32().floor() as i32 }
    RmiS32Bf16 ["cvt.rmi.s32.bf16"] (a: bf16) -> i32 { a.to_f32().floor() as i32 }
    RmiFtzS32F32 ["cvt.rmi.ftz.s32.f32"] (a: f32) -> i32 { ftz(a).floor() as i32 }
    RmiU32F64 ["cvt.rmi.u32.f64"] (a: f64) -> u32 { top(a.floor()) }
    RmiU32F16 ["cvt.rmi.u32.f16"] (a: f16) -> u32 { a.to_f32().floor() as u32 }
    RmiU32Bf16 ["cvt.rmi.u32.bf16"] (a: bf16) -> u32 { a.to_f32().floor() as u32 }
    RmiFtzU32F32 ["cvt.rmi.ftz.u32.f32"] (a: f32) -> u32 { ftz(a).floor() as u32 }
    RmiS64F32 ["cvt.rmi.s64.f32"] (a: f32) -> i64 { top(a.floor()) }
    RmiS64F64 ["cvt.rmi.s64.f64"] (a: f64) -> i64 { top(a.floor()) }
    RmiS64F16 ["cvt.rmi.s64.f16"] (a: f16) -> i64 { top(a.to_f32().floor()) }
    RmiS64Bf16 ["cvt.rmi.s64.bf16"] (a: bf16) -> i64 { top(a.to_f32().floor()) }
    RmiFtzS64F32 ["cvt.rmi.ftz.s64.f32"] (a: f32) -> i64 { top(ftz(a).floor()) }
    RmiU64F32 ["cvt.rmi.u64.f32"] (a: f32) -> u64 { top(a.floor()) }
    RmiU64F64 ["cvt.rmi.u64.f64"] (a: f64) -> u64 { top(a.floor()) }
    RmiU64F16 ["cvt.rmi.u64.f16"] (a: f16) -> u64 { top(a.to_f32().floor()) }
    RmiU64Bf16 ["cvt.rmi.u64.bf16"] (a: bf16) -> u64 { top(a.to_f32().floor()) }
    RmiFtzU64F32 ["cvt.rmi.ftz.u64.f32"] (a: f32) -> u64 { top(ftz(a).floor()) }
    RmiS8F32 ["cvt.rmi.s8.f32"] (a: f32) -> i8 { a.floor() as i8 }
    RmiS8F64 ["cvt.rmi.s8.f64"] (a: f64) -> i8 { top(a.floor()) }
    RmiS8F16 ["cvt.rmi.s8.f16"] (a: f16) -> i8 { a.to_f32().floor() as i8 }
    RmiS8Bf16 ["cvt.rmi.s8.bf16"] (a: bf16) -> i8 { a.to_f32().floor() as i8 }
    RmiU8F32 ["cvt.rmi.u8.f32"] (a: f32) -> u8 { a.floor() as u8 }
    RmiU8F64 ["cvt.rmi.u8.f64"] (a: f64) -> u8 { top(a.floor()) }
    RmiU8F16 ["cvt.rmi.u8.f16"] (a: f16) -> u8 { a.to_f32().floor() as u8 }
    RmiU8Bf16 ["cvt.rmi.u8.bf16"] (a: bf16) -> u8 { a.to_f32().floor() as u8 }
    RmiF16 ["cvt.rmi.f16.f16"] (a: f16) -> f16 { packed::f16_nearest(a.to_f32().floor()) }
    RmiBf16 ["cvt.rmi.bf16.bf16"] (a: bf16) -> bf16 { packed::bf16_nearest(a.to_f32().floor()) }
    RpiS16F32 ["cvt.rpi.s16.f32"] (a: f32) -> i16 { a.ceil() as i16 }
    RpiS16F64 ["cvt.rpi.s16.f64"] (a: f64) -> i16 { top(a.ceil()) }
    RpiS16F16 ["cvt.rpi.s16.f16"] (a: f16) -> i16 { a.to_f32().ceil() as i16 }
    RpiS16Bf16 ["cvt.rpi.s16.bf16"] (a: bf16) -> i16 { a.to_f32().ceil() as i16 }
    RpiU16F32 ["cvt.rpi.u16.f32"] (a: f32) -> u16 { a.ceil() as u16 }
    RpiU16F64 ["cvt.rpi.u16.f64"] (a: f64) -> u16 { top(a.ceil()) }
    RpiU16F16 ["cvt.rpi.u16.f16"] (a: f16) -> u16 { a.to_f32().ceil() as u16 }
    RpiU16Bf16 ["cvt.rpi.u16.bf16"] (a: bf16) -> u16 { a.to_f32().ceil() as u16 }
    RpiS32F64 ["cvt.rpi.s32.f64"] (a: f64) -> i32 { top(a.ceil()) }
    RpiS32F16 ["cvt.rpi.s32.f16"] (a: f16) -> i32 { a.to_f32().ceil() as i32 }
    RpiS32Bf16 ["cvt.rpi.s32.bf16"] (a: bf16) -> i32 { a.to_f32().ceil() as i32 }
    RpiFtzS32F32 ["cvt.rpi.ftz.s32.f32"] (a: f32) -> i32 { ftz(a).ceil() as i32 }
    RpiU32F64 ["cvt.rpi.u32.f64"] (a: f64) -> u32 { top(a.ceil()) }
    RpiU32F16 ["cvt.rpi.u32.f16"] (a: f16) -> u32 { a.to_f32().ceil() as u32 }
    RpiU32Bf16 ["cvt.rpi.u32.bf16"] (a: bf16) -> u32 { a.to_f32().ceil() as u32 }
    RpiFtzU32F32 ["cvt.rpi.ftz.u32.f32"] (a: f32) -> u32 { ftz(a).ceil() as u32 }
    RpiS64F32 ["cvt.rpi.s64.f32"] (a: f32) -> i64 { top(a.ceil()) }
    RpiS64F64 ["cvt.rpi.s64.f64"] (a: f64) -> i64 { top(a.ceil()) }
    RpiS64F16 ["cvt.rpi.s64.f16"] (a: f16) -> i64 { top(a.to_f32().ceil()) }
    RpiS64Bf16 ["cvt.rpi.s64.bf16"] (a: bf16) -> i64 { top(a.to_f32().ceil()) }
    RpiFtzS64F32 ["cvt.rpi.ftz.s64.f32"] (a: f32) -> i64 { top(ftz(a).ceil()) }
    RpiU64F32 ["cvt.rpi.u64.f32"] (a: f32) -> u64 { top(a.ceil()) }
    RpiU64F64 ["cvt.rpi.u64.f64"] (a: f64) -> u64 { top(a.ceil()) }
    RpiU64F16 ["cvt.rpi.u64.f16"] (a: f16) -> u64 { top(a.to_f32().ceil()) }
    RpiU64Bf16 ["cvt.rpi.u64.bf16"] (a: bf16) -> u64 { top(a.to_f32().ceil()) }
    RpiFtzU64F32 ["cvt.rpi.ftz.u64.f32"] (a: f32) -> u64 { top(ftz(a).ceil()) }
    RpiS8F32 ["cvt.rpi.s8.f32"] (a: f32) -> i8 { a.ceil() as i8 }
    RpiS8F64 ["cvt.rpi.s8.f64"] (a: f64) -> i8 { top(a.ceil()) }
    RpiS8F16 ["cvt.rpi.s8.f16"] (a: f16) -> i8 { a.to_f32().ceil() as i8 }
    RpiS8Bf16 ["cvt.rpi.s8.bf16"] (a: bf16) -> i8 { a.to_f32().ceil() as i8 }
    RpiU8F32 ["cvt.rpi.u8.f32"] (a: f32) -> u8 { a.ceil() as u8 }
    RpiU8F64 ["cvt.rpi.u8.f64"] (a: f64) -> u8 { top(a.ceil()) }
    RpiU8F16 ["cvt.rpi.u8.f16"] (a: f16) -> u8 { a.to_f32().ceil() as u8 }
    RpiU8Bf16 ["cvt.rpi.u8.bf16"] (a: bf16) -> u8 { a.to_f32().ceil() as u8 }
    RpiF16 ["cvt.rpi.f16.f16"] (a: f16) -> f16 { packed::f16_nearest(a.to_f32().ceil()) }
    RpiBf16 ["cvt.rpi.bf16.bf16"] (a: bf16) -> bf16 { packed::bf16_nearest(a.to_f32().ceil()) }
    RpiF64F64 ["cvt.rpi.f64.f64"] (a: f64) -> f64 { a.ceil() }
    Bf16S16 ["cvt.rn.bf16.s16"] (a: i16) -> bf16 { packed::bf16_from_f64(packed::odd_f64(a.into())) }
    RzF32S16 ["cvt.rz.f32.s16"] (a: i16) -> f32 { narrow(packed::odd_f64(a.into()), Towards::Zero) }
    RmF32S16 ["cvt.rm.f32.s16"] (a: i16) -> f32 { narrow(packed::odd_f64(a.into()), Towards::Minus) }
    RpF32S16 ["cvt.rp.f32.s16"] (a: i16) -> f32 { narrow(packed::odd_f64(a.into()), Towards::Plus) }
    F64S16 ["cvt.rn.f64.s16"] (a: i16) -> f64 { a.into() }
    Bf16U16 ["cvt.rn.bf16.u16"] (a: u16) -> bf16 { packed::bf16_from_f64(packed::odd_f64(a.into())) }
    RzF32U16 ["cvt.rz.f32.u16"] (a: u16) -> f32 { narrow(packed::odd_f64(a.into()), Towards::Zero) }
    RmF32U16 ["cvt.rm.f32.u16"] (a: u16) -> f32 { narrow(packed::odd_f64(a.into()), Towards::Minus) }
    RpF32U16 ["cvt.rp.f32.u16"] (a: u16) -> f32 { narrow(packed::odd_f64(a.into()), Towards::Plus) }
    F64U16 ["cvt.rn.f64.u16"] (a: u16) -> f64 { a.into() }
    F16S32 ["cvt.rn.f16.s32"] (a: i32) -> f16 { packed::f16_from_f64(packed::odd_f64(a.into())) }
    Bf16S32 ["cvt.rn.bf16.s32"] (a: i32) -> bf16 { packed::bf16_from_f64(packed::odd_f64(a.into())) }
    F16U32 ["cvt.rn.f16.u32"] (a: u32) -> f16 { packed::f16_from_f64(packed::odd_f64(a.into())) }
    Bf16U32 ["cvt.rn.bf16.u32"] (a: u32) -> bf16 { packed::bf16_from_f64(packed::odd_f64(a.into())) }
    F16S64 ["cvt.rn.f16.s64"] (a: i64) -> f16 { packed::f16_from_f64(packed::odd_f64(a.into())) }
    Bf16S64 ["cvt.rn.bf16.s64"] (a: i64) -> bf16 { packed::bf16_from_f64(packed::odd_f64(a.into())) }
    RzF32S64 ["cvt.rz.f32.s64"] (a: i64) -> f32 { narrow(packed::odd_f64(a.into()), Towards::Zero) }
    RmF32S64 ["cvt.rm.f32.s64"] (a: i64) -> f32 { narrow(packed::odd_f64(a.into()), Towards::Minus) }
    RpF32S64 ["cvt.rp.f32.s64"] (a: i64) -> f32 { narrow(packed::odd_f64(a.into()), Towards::Plus) }
    F16U64 ["cvt.rn.f16.u64"] (a: u64) -> f16 { packed::f16_from_f64(packed::odd_f64(a.into())) }
    Bf16U64 ["cvt.rn.bf16.u64"] (a: u64) -> bf16 { packed::bf16_from_f64(packed::odd_f64(a.into())) }
    RzF32U64 ["cvt.rz.f32.u64"] (a: u64) -> f32 { narrow(packed::odd_f64(a.into()), Towards::Zero) }
    RmF32U64 ["cvt.rm.f32.u64"] (a: u64) -> f32 { narrow(packed::odd_f64(a.into()), Towards::Minus) }
    RpF32U64 ["cvt.rp.f32.u64"] (a: u64) -> f32 { narrow(packed::odd_f64(a.into()), Towards::Plus) }
    F16S8 ["cvt.rn.f16.s8"] (a: i8) -> f16 { packed::f16_from_f64(packed::odd_f64(a.into())) }
    Bf16S8 ["cvt.rn.bf16.s8"] (a: i8) -> bf16 { packed::bf16_from_f64(packed::odd_f64(a.into())) }
    RzF32S8 ["cvt.rz.f32.s8"] (a: i8) -> f32 { narrow(packed::odd_f64(a.into()), Towards::Zero) }
    RmF32S8 ["cvt.rm.f32.s8"] (a: i8) -> f32 { narrow(packed::odd_f64(a.into()), Towards::Minus) }
    RpF32S8 ["cvt.rp.f32.s8"] (a: i8) -> f32 { narrow(packed::odd_f64(a.into()), Towards::Plus) }
    F64S8 ["cvt.rn.f64.s8"] (a: i8) -> f64 { a.into() }
    F16U8 ["cvt.rn.f16.u8"] (a: u8) -> f16 { packed::f16_from_f64(packed::odd_f64(a.into())) }
    Bf16U8 ["cvt.rn.bf16.u8"] (a: u8) -> bf16 { packed::bf16_from_f64(packed::odd_f64(a.into())) }
    RzF32U8 ["cvt.rz.f32.u8"] (a: u8) -> f32 { narrow(packed::odd_f64(a.into()), Towards::Zero) }
    RmF32U8 ["cvt.rm.f32.u8"] (a: u8) -> f32 { narrow(packed::odd_f64(a.into()), Towards::Minus) }
    RpF32U8 ["cvt.rp.f32.u8"] (a: u8) -> f32 { narrow(packed::odd_f64(a.into()), Towards::Plus) }
    F64U8 ["cvt.rn.f64.u8"] (a: u8) -> f64 { a.into() }
    Bf16F64 ["cvt.rn.bf16.f64"] (a: f64) -> bf16 { packed::bf16_from_f64(a) }
    RzF16F32 ["cvt.rz.f16.f32"] (a: f32) -> f16 { packed::f16_directed(a, Towards::Zero) }
    RmF16F32 ["cvt.rm.f16.f32"] (a: f32) -> f16 { packed::f16_directed(a, Towards::Minus) }
    RmBf16F32 ["cvt.rm.bf16.f32"] (a: f32) -> bf16 { packed::bf16_directed(a, Towards::Minus) }
    RpF16F32 ["cvt.rp.f16.f32"] (a: f32) -> f16 { packed::f16_directed(a, Towards::Plus) }
    RpBf16F32 ["cvt.rp.bf16.f32"] (a: f32) -> bf16 { packed::bf16_directed(a, Towards::Plus) }
    F64F16 ["cvt.f64.f16"] (a: f16) -> f64 { a.to_f64() }
    F64Bf16 ["cvt.f64.bf16"] (a: bf16) -> f64 { a.to_f64() }
    F16ReluF32 ["cvt.rn.relu.f16.f32"] (a: f32) -> f16 { packed::f16_nearest(packed::relu(a)) }
    Bf16ReluF32 ["cvt.rn.relu.bf16.f32"] (a: f32) -> bf16 { packed::bf16_nearest(packed::relu(a)) }
    F16SatF32 ["cvt.rn.sat.f16.f32"] (a: f32) -> f16 { packed::f16_nearest(saturate(a)) }
    // The first source fills the high half.
    Bf16x2F32 ["cvt.rn.bf16x2.f32"] (high: f32, low: f32) -> u32 {
        u32::from(packed::bf16_nearest(high).to_bits()) << 16 | u32::from(packed::bf16_nearest(low).to_bits())
    }
    Bf16x2Relu ["cvt.rn.relu.bf16x2.f32"] (high: f32, low: f32) -> u32 {
        u32::from(packed::bf16_nearest(packed::relu(high)).to_bits()) << 16
            | u32::from(packed::bf16_nearest(packed::relu(low)).to_bits())
    }
    F16x2Relu ["cvt.rn.relu.f16x2.f32"] (high: f32, low: f32) -> u32 {
        u32::from(packed::f16_nearest(packed::relu(high)).to_bits()) << 16
            | u32::from(packed::f16_nearest(packed::relu(low)).to_bits())
    }
    RzBf16x2F32 ["cvt.rz.bf16x2.f32"] (high: f32, low: f32) -> u32 {
        u32::from(packed::bf16_truncate(high).to_bits()) << 16 | u32::from(packed::bf16_truncate(low).to_bits())
    }
    F16x2F32 ["cvt.rn.f16x2.f32"] (high: f32, low: f32) -> u32 {
        u32::from(packed::f16_nearest(high).to_bits()) << 16 | u32::from(packed::f16_nearest(low).to_bits())
    }
    Tf32F32 ["cvt.rna.tf32.f32"] (a: f32) -> f32 {
        // Ten bits of mantissa remain; a tie goes away from zero.
        if a.is_nan() { CANONICAL_NAN } else { f32::from_bits(a.to_bits().wrapping_add(0x1000) & !0x1fff) }
    }
}
