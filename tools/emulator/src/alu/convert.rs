//! `cvt`: between integers, floats and the 16-bit floats. Float to integer clamps, and NaN becomes 0.

use super::{
    directed::{Towards, narrow},
    float::{CANONICAL_NAN, ftz},
    packed,
};
use crate::regs::Halves;
use half::{bf16, f16};

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
    RziS64 ["cvt.rzi.s64.f32"] (a: f32) -> i64 { a as i64 }
    RziU64 ["cvt.rzi.u64.f32"] (a: f32) -> u64 { a as u64 }
    RziU16 ["cvt.rzi.u16.f32"] (a: f32) -> u16 { a as u16 }
    RziS16 ["cvt.rzi.s16.f32"] (a: f32) -> i16 { a as i16 }
    RziS32F64 ["cvt.rzi.s32.f64"] (a: f64) -> i32 { a as i32 }
    RniS32F64 ["cvt.rni.s32.f64"] (a: f64) -> i32 { a.round_ties_even() as i32 }
    RziU32F64 ["cvt.rzi.u32.f64"] (a: f64) -> u32 { a as u32 }
    RziS64F64 ["cvt.rzi.s64.f64"] (a: f64) -> i64 { a as i64 }
    RziU64F64 ["cvt.rzi.u64.f64"] (a: f64) -> u64 { a as u64 }
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
    // max drops the NaN, which saturates to +0.
    SatF32 ["cvt.sat.f32.f32"] (a: f32) -> f32 { if a > 0.0 { a.min(1.0) } else { 0.0 } }
    SatFtzF32 ["cvt.ftz.sat.f32.f32", "cvt.sat.ftz.f32.f32"] (a: f32) -> f32 {
        if ftz(a) > 0.0 { a.min(1.0) } else { 0.0 }
    }
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
    F16F64 ["cvt.rn.f16.f64"] (a: f64) -> f16 { f16::from_f64(a) }
    // The first source fills the high half.
    Bf16x2F32 ["cvt.rn.bf16x2.f32"] (high: f32, low: f32) -> u32 {
        u32::from(packed::bf16_nearest(high).to_bits()) << 16 | u32::from(packed::bf16_nearest(low).to_bits())
    }
    Bf16x2Relu ["cvt.rn.relu.bf16x2.f32"] (high: f32, low: f32) -> u32 {
        let relu = |x: f32| if x > 0.0 || x.is_nan() { x } else { 0.0 };
        u32::from(packed::bf16_nearest(relu(high)).to_bits()) << 16
            | u32::from(packed::bf16_nearest(relu(low)).to_bits())
    }
    F16x2F32 ["cvt.rn.f16x2.f32"] (high: f32, low: f32) -> u32 {
        u32::from(packed::f16_nearest(high).to_bits()) << 16 | u32::from(packed::f16_nearest(low).to_bits())
    }
    Tf32F32 ["cvt.rna.tf32.f32"] (a: f32) -> f32 {
        // Ten bits of mantissa remain; a tie goes away from zero.
        if a.is_nan() { CANONICAL_NAN } else { f32::from_bits(a.to_bits().wrapping_add(0x1000) & !0x1fff) }
    }
}
