//! `setp`: comparisons into a predicate. Ordered comparisons are false and unordered ones true when a NaN takes part.

macro_rules! comparisons {
    ($($op:ident $forms:tt $ty:ty: |$a:ident, $b:ident| $test:expr;)*) => {
        super::operations! {
            /// Comparisons.
            Compare
            $($op $forms ($a: $ty, $b: $ty) -> bool { $test })*
        }
    };
}

comparisons! {
    Eq16 ["setp.eq.s16", "setp.eq.u16", "setp.eq.b16"] u16: |a, b| a == b;
    Ne16 ["setp.ne.s16", "setp.ne.u16", "setp.ne.b16"] u16: |a, b| a != b;
    LtS16 ["setp.lt.s16"] i16: |a, b| a < b;
    LeS16 ["setp.le.s16"] i16: |a, b| a <= b;
    GtS16 ["setp.gt.s16"] i16: |a, b| a > b;
    GeS16 ["setp.ge.s16"] i16: |a, b| a >= b;
    LtU16 ["setp.lt.u16", "setp.lo.u16"] u16: |a, b| a < b;
    LeU16 ["setp.le.u16", "setp.ls.u16"] u16: |a, b| a <= b;
    GtU16 ["setp.gt.u16", "setp.hi.u16"] u16: |a, b| a > b;
    GeU16 ["setp.ge.u16", "setp.hs.u16"] u16: |a, b| a >= b;
    Eq32 ["setp.eq.s32", "setp.eq.u32", "setp.eq.b32"] u32: |a, b| a == b;
    Ne32 ["setp.ne.s32", "setp.ne.u32", "setp.ne.b32"] u32: |a, b| a != b;
    LtS32 ["setp.lt.s32"] i32: |a, b| a < b;
    LeS32 ["setp.le.s32"] i32: |a, b| a <= b;
    GtS32 ["setp.gt.s32"] i32: |a, b| a > b;
    GeS32 ["setp.ge.s32"] i32: |a, b| a >= b;
    LtU32 ["setp.lt.u32", "setp.lo.u32"] u32: |a, b| a < b;
    LeU32 ["setp.le.u32", "setp.ls.u32"] u32: |a, b| a <= b;
    GtU32 ["setp.gt.u32", "setp.hi.u32"] u32: |a, b| a > b;
    GeU32 ["setp.ge.u32", "setp.hs.u32"] u32: |a, b| a >= b;
    Eq64 ["setp.eq.s64", "setp.eq.u64", "setp.eq.b64"] u64: |a, b| a == b;
    Ne64 ["setp.ne.s64", "setp.ne.u64", "setp.ne.b64"] u64: |a, b| a != b;
    LtS64 ["setp.lt.s64"] i64: |a, b| a < b;
    LeS64 ["setp.le.s64"] i64: |a, b| a <= b;
    GtS64 ["setp.gt.s64"] i64: |a, b| a > b;
    GeS64 ["setp.ge.s64"] i64: |a, b| a >= b;
    LtU64 ["setp.lt.u64", "setp.lo.u64"] u64: |a, b| a < b;
    LeU64 ["setp.le.u64", "setp.ls.u64"] u64: |a, b| a <= b;
    GtU64 ["setp.gt.u64", "setp.hi.u64"] u64: |a, b| a > b;
    GeU64 ["setp.ge.u64", "setp.hs.u64"] u64: |a, b| a >= b;
    EqF32 ["setp.eq.f32"] f32: |a, b| a == b;
    NeF32 ["setp.ne.f32"] f32: |a, b| a != b && !(a.is_nan() || b.is_nan());
    LtF32 ["setp.lt.f32"] f32: |a, b| a < b;
    LeF32 ["setp.le.f32"] f32: |a, b| a <= b;
    GtF32 ["setp.gt.f32"] f32: |a, b| a > b;
    GeF32 ["setp.ge.f32"] f32: |a, b| a >= b;
    EquF32 ["setp.equ.f32"] f32: |a, b| a == b || a.is_nan() || b.is_nan();
    NeuF32 ["setp.neu.f32"] f32: |a, b| a != b;
    LtuF32 ["setp.ltu.f32"] f32: |a, b| a < b || a.is_nan() || b.is_nan();
    LeuF32 ["setp.leu.f32"] f32: |a, b| a <= b || a.is_nan() || b.is_nan();
    GtuF32 ["setp.gtu.f32"] f32: |a, b| a > b || a.is_nan() || b.is_nan();
    GeuF32 ["setp.geu.f32"] f32: |a, b| a >= b || a.is_nan() || b.is_nan();
    NumF32 ["setp.num.f32"] f32: |a, b| !a.is_nan() && !b.is_nan();
    NanF32 ["setp.nan.f32"] f32: |a, b| a.is_nan() || b.is_nan();
    EqF64 ["setp.eq.f64"] f64: |a, b| a == b;
    NeF64 ["setp.ne.f64"] f64: |a, b| a != b && !(a.is_nan() || b.is_nan());
    LtF64 ["setp.lt.f64"] f64: |a, b| a < b;
    LeF64 ["setp.le.f64"] f64: |a, b| a <= b;
    GtF64 ["setp.gt.f64"] f64: |a, b| a > b;
    GeF64 ["setp.ge.f64"] f64: |a, b| a >= b;
    EquF64 ["setp.equ.f64"] f64: |a, b| a == b || a.is_nan() || b.is_nan();
    NeuF64 ["setp.neu.f64"] f64: |a, b| a != b;
    LtuF64 ["setp.ltu.f64"] f64: |a, b| a < b || a.is_nan() || b.is_nan();
    LeuF64 ["setp.leu.f64"] f64: |a, b| a <= b || a.is_nan() || b.is_nan();
    GtuF64 ["setp.gtu.f64"] f64: |a, b| a > b || a.is_nan() || b.is_nan();
    GeuF64 ["setp.geu.f64"] f64: |a, b| a >= b || a.is_nan() || b.is_nan();
    NanF64 ["setp.nan.f64"] f64: |a, b| a.is_nan() || b.is_nan();
}
