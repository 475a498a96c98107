//! Integers, bits and predicates. Shifts clamp their amount to the width; division by zero gives all ones.

use crate::regs::Halves;

super::operations! {
    /// Integer, bit and predicate operations.
    Int
    Mov16 ["mov.b16", "mov.u16", "mov.s16"] (a: u16) -> u16 { a }
    Mov32 ["mov.b32", "mov.u32", "mov.s32", "mov.f32"] (a: u32) -> u32 { a }
    Mov64 ["mov.b64", "mov.u64", "mov.s64", "mov.f64"] (a: Halves) -> Halves { a }
    MovPred ["mov.pred"] (a: bool) -> bool { a }
    Add16 ["add.s16", "add.u16"] (a: u16, b: u16) -> u16 { a.wrapping_add(b) }
    Add32 ["add.s32", "add.u32"] (a: u32, b: u32) -> u32 { a.wrapping_add(b) }
    Add64 ["add.s64", "add.u64"] (a: Halves, b: Halves) -> Halves { add(a, b) }
    AddSat32 ["add.sat.s32"] (a: i32, b: i32) -> i32 { a.saturating_add(b) }
    Sub16 ["sub.s16", "sub.u16"] (a: u16, b: u16) -> u16 { a.wrapping_sub(b) }
    Sub32 ["sub.s32", "sub.u32"] (a: u32, b: u32) -> u32 { a.wrapping_sub(b) }
    Sub64 ["sub.s64", "sub.u64"] (a: Halves, b: Halves) -> Halves { sub(a, b) }
    SubSat32 ["sub.sat.s32"] (a: i32, b: i32) -> i32 { a.saturating_sub(b) }
    MulLo16 ["mul.lo.s16", "mul.lo.u16"] (a: u16, b: u16) -> u16 { a.wrapping_mul(b) }
    MulLo32 ["mul.lo.s32", "mul.lo.u32"] (a: u32, b: u32) -> u32 { a.wrapping_mul(b) }
    MulLo64 ["mul.lo.s64", "mul.lo.u64"] (a: u64, b: u64) -> u64 { a.wrapping_mul(b) }
    MulHiU32 ["mul.hi.u32"] (a: u32, b: u32) -> u32 { (u64::from(a) * u64::from(b) >> 32) as u32 }
    MulHiS32 ["mul.hi.s32"] (a: i32, b: i32) -> i32 { (i64::from(a) * i64::from(b) >> 32) as i32 }
    MulHiU64 ["mul.hi.u64"] (a: u64, b: u64) -> u64 { (u128::from(a) * u128::from(b) >> 64) as u64 }
    MulHiS64 ["mul.hi.s64"] (a: i64, b: i64) -> i64 { (i128::from(a) * i128::from(b) >> 64) as i64 }
    MulWideU16 ["mul.wide.u16"] (a: u16, b: u16) -> u32 { u32::from(a) * u32::from(b) }
    MulWideS16 ["mul.wide.s16"] (a: i16, b: i16) -> i32 { i32::from(a) * i32::from(b) }
    MulWideU32 ["mul.wide.u32"] (a: u32, b: u32) -> Halves {
        Halves { low: a.wrapping_mul(b), high: (u64::from(a) * u64::from(b) >> 32) as u32 }
    }
    MulWideS32 ["mul.wide.s32"] (a: i32, b: i32) -> Halves {
        Halves { low: a.wrapping_mul(b) as u32, high: (i64::from(a) * i64::from(b) >> 32) as u32 }
    }
    MadLo16 ["mad.lo.s16", "mad.lo.u16"] (a: u16, b: u16, c: u16) -> u16 { a.wrapping_mul(b).wrapping_add(c) }
    MadLo32 ["mad.lo.s32", "mad.lo.u32"] (a: u32, b: u32, c: u32) -> u32 { a.wrapping_mul(b).wrapping_add(c) }
    MadLo64 ["mad.lo.s64", "mad.lo.u64"] (a: u64, b: u64, c: u64) -> u64 { a.wrapping_mul(b).wrapping_add(c) }
    MadHiU32 ["mad.hi.u32"] (a: u32, b: u32, c: u32) -> u32 {
        ((u64::from(a) * u64::from(b) >> 32) as u32).wrapping_add(c)
    }
    MadWideU32 ["mad.wide.u32"] (a: u32, b: u32, c: u64) -> u64 { (u64::from(a) * u64::from(b)).wrapping_add(c) }
    MadWideS32 ["mad.wide.s32"] (a: i32, b: i32, c: i64) -> i64 { (i64::from(a) * i64::from(b)).wrapping_add(c) }
    DivU16 ["div.u16"] (a: u16, b: u16) -> u16 { a.checked_div(b).unwrap_or(u16::MAX) }
    DivU32 ["div.u32"] (a: u32, b: u32) -> u32 { a.checked_div(b).unwrap_or(u32::MAX) }
    DivU64 ["div.u64"] (a: u64, b: u64) -> u64 { a.checked_div(b).unwrap_or(u64::MAX) }
    DivS16 ["div.s16"] (a: i16, b: i16) -> i16 { if b == 0 { -1 } else { a.wrapping_div(b) } }
    DivS32 ["div.s32"] (a: i32, b: i32) -> i32 { if b == 0 { -1 } else { a.wrapping_div(b) } }
    DivS64 ["div.s64"] (a: i64, b: i64) -> i64 { if b == 0 { -1 } else { a.wrapping_div(b) } }
    RemU16 ["rem.u16"] (a: u16, b: u16) -> u16 { a.checked_rem(b).unwrap_or(a) }
    RemU32 ["rem.u32"] (a: u32, b: u32) -> u32 { a.checked_rem(b).unwrap_or(a) }
    RemU64 ["rem.u64"] (a: u64, b: u64) -> u64 { a.checked_rem(b).unwrap_or(a) }
    RemS16 ["rem.s16"] (a: i16, b: i16) -> i16 { if b == 0 { a } else { a.wrapping_rem(b) } }
    RemS32 ["rem.s32"] (a: i32, b: i32) -> i32 { if b == 0 { a } else { a.wrapping_rem(b) } }
    RemS64 ["rem.s64"] (a: i64, b: i64) -> i64 { if b == 0 { a } else { a.wrapping_rem(b) } }
    MinU16 ["min.u16"] (a: u16, b: u16) -> u16 { a.min(b) }
    MinS16 ["min.s16"] (a: i16, b: i16) -> i16 { a.min(b) }
    MinU32 ["min.u32"] (a: u32, b: u32) -> u32 { a.min(b) }
    MinS32 ["min.s32"] (a: i32, b: i32) -> i32 { a.min(b) }
    MinU64 ["min.u64"] (a: u64, b: u64) -> u64 { a.min(b) }
    MinS64 ["min.s64"] (a: i64, b: i64) -> i64 { a.min(b) }
    MaxU16 ["max.u16"] (a: u16, b: u16) -> u16 { a.max(b) }
    MaxS16 ["max.s16"] (a: i16, b: i16) -> i16 { a.max(b) }
    MaxU32 ["max.u32"] (a: u32, b: u32) -> u32 { a.max(b) }
    MaxS32 ["max.s32"] (a: i32, b: i32) -> i32 { a.max(b) }
    MaxU64 ["max.u64"] (a: u64, b: u64) -> u64 { a.max(b) }
    MaxS64 ["max.s64"] (a: i64, b: i64) -> i64 { a.max(b) }
    NegS16 ["neg.s16"] (a: i16) -> i16 { a.wrapping_neg() }
    NegS32 ["neg.s32"] (a: i32) -> i32 { a.wrapping_neg() }
    NegS64 ["neg.s64"] (a: i64) -> i64 { a.wrapping_neg() }
    AbsS16 ["abs.s16"] (a: i16) -> i16 { a.wrapping_abs() }
    AbsS32 ["abs.s32"] (a: i32) -> i32 { a.wrapping_abs() }
    AbsS64 ["abs.s64"] (a: i64) -> i64 { a.wrapping_abs() }
    SadU32 ["sad.u32"] (a: u32, b: u32, c: u32) -> u32 { a.abs_diff(b).wrapping_add(c) }
    Sad16 ["sad.u16"] (a: u16, b: u16, c: u16) -> u16 { a.abs_diff(b).wrapping_add(c) }
    SadS16 ["sad.s16"] (a: i16, b: i16, c: i16) -> i16 { (a.abs_diff(b) as i16).wrapping_add(c) }
    SadS32 ["sad.s32"] (a: i32, b: i32, c: i32) -> i32 { (a.abs_diff(b) as i32).wrapping_add(c) }
    SadU64 ["sad.u64"] (a: u64, b: u64, c: u64) -> u64 { a.abs_diff(b).wrapping_add(c) }
    SadS64 ["sad.s64"] (a: i64, b: i64, c: i64) -> i64 { (a.abs_diff(b) as i64).wrapping_add(c) }
    MulHiU16 ["mul.hi.u16"] (a: u16, b: u16) -> u16 { (u32::from(a) * u32::from(b) >> 16) as u16 }
    MulHiS16 ["mul.hi.s16"] (a: i16, b: i16) -> i16 { (i32::from(a) * i32::from(b) >> 16) as i16 }
    Mul24U32 ["mul24.lo.u32"] (a: u32, b: u32) -> u32 { (a & 0xff_ffff).wrapping_mul(b & 0xff_ffff) }
    Mul24S32 ["mul24.lo.s32"] (a: i32, b: i32) -> i32 { (a << 8 >> 8).wrapping_mul(b << 8 >> 8) }
    MadHiS32 ["mad.hi.s32"] (a: i32, b: i32, c: i32) -> i32 {
        ((i64::from(a) * i64::from(b) >> 32) as i32).wrapping_add(c)
    }
    MadHiU64 ["mad.hi.u64"] (a: u64, b: u64, c: u64) -> u64 {
        ((u128::from(a) * u128::from(b) >> 64) as u64).wrapping_add(c)
    }
    MadWideU16 ["mad.wide.u16"] (a: u16, b: u16, c: u32) -> u32 { (u32::from(a) * u32::from(b)).wrapping_add(c) }
    MadWideS16 ["mad.wide.s16"] (a: i16, b: i16, c: i32) -> i32 { (i32::from(a) * i32::from(b)).wrapping_add(c) }
    Cnot32 ["cnot.b32"] (a: u32) -> u32 { u32::from(a == 0) }
    Cnot64 ["cnot.b64"] (a: u64) -> u64 { u64::from(a == 0) }
    SlctS32 ["slct.s32.s32", "slct.u32.s32", "slct.b32.s32", "slct.f32.s32"] (a: u32, b: u32, c: i32) -> u32 {
        if c >= 0 { a } else { b }
    }
    SlctF32 ["slct.s32.f32", "slct.u32.f32", "slct.b32.f32", "slct.f32.f32"] (a: u32, b: u32, c: f32) -> u32 {
        if c >= 0.0 { a } else { b }
    }
    BmskClamp ["bmsk.clamp.b32"] (a: u32, b: u32) -> u32 { field(a.min(32), b.min(32), 32) as u32 }
    BfindS64 ["bfind.s64"] (a: i64) -> u32 { ((a ^ a >> 63) as u64).checked_ilog2().unwrap_or(u32::MAX) }
    BfindShiftU64 ["bfind.shiftamt.u64"] (a: u64) -> u32 { if a == 0 { u32::MAX } else { a.leading_zeros() } }
    BfindShiftS32 ["bfind.shiftamt.s32"] (a: i32) -> u32 {
        let a = (a ^ a >> 31) as u32;
        if a == 0 { u32::MAX } else { a.leading_zeros() }
    }
    Add16x2 ["add.s16x2", "add.u16x2"] (a: u32, b: u32) -> u32 { pairs(a, b, |x, y| x.wrapping_add(y)) }
    MinU16x2 ["min.u16x2"] (a: u32, b: u32) -> u32 { pairs(a, b, |x, y| x.min(y)) }
    MinS16x2 ["min.s16x2"] (a: u32, b: u32) -> u32 { pairs(a, b, |x, y| (x as i16).min(y as i16) as u16) }
    MaxU16x2 ["max.u16x2"] (a: u32, b: u32) -> u32 { pairs(a, b, |x, y| x.max(y)) }
    MaxS16x2 ["max.s16x2"] (a: u32, b: u32) -> u32 { pairs(a, b, |x, y| (x as i16).max(y as i16) as u16) }
    Dp2aLoS32 ["dp2a.lo.s32.s32"] (a: u32, b: u32, c: i32) -> i32 { dp2a(a, b, c, 0) }
    Dp2aHiS32 ["dp2a.hi.s32.s32"] (a: u32, b: u32, c: i32) -> i32 { dp2a(a, b, c, 2) }
    And16 ["and.b16"] (a: u16, b: u16) -> u16 { a & b }
    And32 ["and.b32"] (a: u32, b: u32) -> u32 { a & b }
    And64 ["and.b64"] (a: Halves, b: Halves) -> Halves { both(a, b, |a, b| a & b) }
    AndPred ["and.pred"] (a: bool, b: bool) -> bool { a & b }
    Or16 ["or.b16"] (a: u16, b: u16) -> u16 { a | b }
    Or32 ["or.b32"] (a: u32, b: u32) -> u32 { a | b }
    Or64 ["or.b64"] (a: Halves, b: Halves) -> Halves { both(a, b, |a, b| a | b) }
    OrPred ["or.pred"] (a: bool, b: bool) -> bool { a | b }
    Xor16 ["xor.b16"] (a: u16, b: u16) -> u16 { a ^ b }
    Xor32 ["xor.b32"] (a: u32, b: u32) -> u32 { a ^ b }
    Xor64 ["xor.b64"] (a: Halves, b: Halves) -> Halves { both(a, b, |a, b| a ^ b) }
    XorPred ["xor.pred"] (a: bool, b: bool) -> bool { a ^ b }
    Not16 ["not.b16"] (a: u16) -> u16 { !a }
    Not32 ["not.b32"] (a: u32) -> u32 { !a }
    Not64 ["not.b64"] (a: Halves) -> Halves { not(a) }
    NotPred ["not.pred"] (a: bool) -> bool { !a }
    Shl16 ["shl.b16"] (a: u16, n: u32) -> u16 { a.checked_shl(n).unwrap_or(0) }
    Shl32 ["shl.b32"] (a: u32, n: u32) -> u32 { shl32(a, n) }
    Shl64 ["shl.b64"] (a: Halves, n: u32) -> Halves { shl(a, n) }
    ShrU16 ["shr.u16", "shr.b16"] (a: u16, n: u32) -> u16 { a.checked_shr(n).unwrap_or(0) }
    ShrU32 ["shr.u32", "shr.b32"] (a: u32, n: u32) -> u32 { shr32(a, n) }
    ShrU64 ["shr.u64", "shr.b64"] (a: Halves, n: u32) -> Halves { shr(a, n) }
    ShrS16 ["shr.s16"] (a: i16, n: u32) -> i16 { a >> n.min(15) }
    ShrS32 ["shr.s32"] (a: i32, n: u32) -> i32 { a >> n.min(31) }
    ShrS64 ["shr.s64"] (a: i64, n: u32) -> i64 { a >> n.min(63) }
    ShfLWrap ["shf.l.wrap.b32"] (a: u32, b: u32, n: u32) -> u32 { (pair(a, b) << (n & 31) >> 32) as u32 }
    ShfLClamp ["shf.l.clamp.b32"] (a: u32, b: u32, n: u32) -> u32 { (pair(a, b) << n.min(32) >> 32) as u32 }
    ShfRWrap ["shf.r.wrap.b32"] (a: u32, b: u32, n: u32) -> u32 { (pair(a, b) >> (n & 31)) as u32 }
    ShfRClamp ["shf.r.clamp.b32"] (a: u32, b: u32, n: u32) -> u32 { (pair(a, b) >> n.min(32)) as u32 }
    Selp16 ["selp.b16", "selp.u16", "selp.s16"] (a: u16, b: u16, p: bool) -> u16 { if p { a } else { b } }
    Selp32 ["selp.b32", "selp.u32", "selp.s32", "selp.f32"] (a: u32, b: u32, p: bool) -> u32 { if p { a } else { b } }
    Selp64 ["selp.b64", "selp.u64", "selp.s64", "selp.f64"] (a: Halves, b: Halves, p: bool) -> Halves {
        both(a, b, |a, b| if p { a } else { b })
    }
    Popc32 ["popc.b32"] (a: u32) -> u32 { a.count_ones() }
    Popc64 ["popc.b64"] (a: u64) -> u32 { a.count_ones() }
    Clz32 ["clz.b32"] (a: u32) -> u32 { a.leading_zeros() }
    Clz64 ["clz.b64"] (a: u64) -> u32 { a.leading_zeros() }
    Brev32 ["brev.b32"] (a: u32) -> u32 { a.reverse_bits() }
    Brev64 ["brev.b64"] (a: u64) -> u64 { a.reverse_bits() }
    BfindU32 ["bfind.u32"] (a: u32) -> u32 { a.checked_ilog2().unwrap_or(u32::MAX) }
    BfindU64 ["bfind.u64"] (a: u64) -> u32 { a.checked_ilog2().unwrap_or(u32::MAX) }
    BfindS32 ["bfind.s32"] (a: i32) -> u32 { ((a ^ a >> 31) as u32).checked_ilog2().unwrap_or(u32::MAX) }
    BfindShiftU32 ["bfind.shiftamt.u32"] (a: u32) -> u32 { if a == 0 { u32::MAX } else { a.leading_zeros() } }
    BfiB32 ["bfi.b32"] (a: u32, b: u32, at: u32, length: u32) -> u32 {
        let mask = field(at, length, 32) as u32;
        b & !mask | a.checked_shl(at & 255).unwrap_or(0) & mask
    }
    BfiB64 ["bfi.b64"] (a: u64, b: u64, at: u32, length: u32) -> u64 {
        let mask = field(at, length, 64);
        b & !mask | a.checked_shl(at & 255).unwrap_or(0) & mask
    }
    BfeU32 ["bfe.u32"] (a: u32, at: u32, length: u32) -> u32 {
        a.checked_shr(at & 255).unwrap_or(0) & field(0, length, 32) as u32
    }
    BfeU64 ["bfe.u64"] (a: u64, at: u32, length: u32) -> u64 {
        a.checked_shr(at & 255).unwrap_or(0) & field(0, length, 64)
    }
    BfeS32 ["bfe.s32"] (a: i32, at: u32, length: u32) -> i32 { signed_field(i64::from(a), at, length, 32) as i32 }
    BfeS64 ["bfe.s64"] (a: i64, at: u32, length: u32) -> i64 { signed_field(a, at, length, 64) }
    Prmt ["prmt.b32"] (a: u32, b: u32, selectors: u32) -> u32 {
        let bytes = u64::from(a) | u64::from(b) << 32;
        let mut out = 0;
        for k in 0..4 {
            let selector = selectors >> (4 * k) & 15;
            let byte = (bytes >> (8 * (selector & 7))) as u32 & 255;
            // Bit 3 of a selector replicates the sign of the byte.
            let byte = if selector & 8 != 0 { if byte & 128 != 0 { 255 } else { 0 } } else { byte };
            out |= byte << (8 * k);
        }
        out
    }
    Lop3 ["lop3.b32"] (a: u32, b: u32, c: u32, table: u32) -> u32 {
        let mut out = 0;
        for row in 0..8 {
            let pick = |word: u32, bit: u32| if row >> bit & 1 != 0 { word } else { !word };
            let hits = pick(a, 2) & pick(b, 1) & pick(c, 0);
            out |= if table >> row & 1 != 0 { hits } else { 0 };
        }
        out
    }
    Dp4aS32 ["dp4a.s32.s32"] (a: u32, b: u32, c: i32) -> i32 {
        let product = |k: usize| i32::from(a.to_le_bytes()[k] as i8) * i32::from(b.to_le_bytes()[k] as i8);
        c.wrapping_add(product(0) + product(1) + product(2) + product(3))
    }
    Dp4aU32 ["dp4a.u32.u32"] (a: u32, b: u32, c: u32) -> u32 {
        let product = |k: usize| u32::from(a.to_le_bytes()[k]) * u32::from(b.to_le_bytes()[k]);
        c.wrapping_add(product(0) + product(1) + product(2) + product(3))
    }
}

/// Both 16-bit halves.
#[inline(always)]
fn pairs(a: u32, b: u32, f: impl Fn(u16, u16) -> u16) -> u32 {
    u32::from(f(a as u16, b as u16)) | u32::from(f((a >> 16) as u16, (b >> 16) as u16)) << 16
}

/// The 16-bit halves of a times two bytes of b.
fn dp2a(a: u32, b: u32, c: i32, first: usize) -> i32 {
    let product = |k: usize| i32::from((a >> (16 * k)) as i16) * i32::from(b.to_le_bytes()[first + k] as i8);
    c.wrapping_add(product(0) + product(1))
}

#[inline(always)]
fn add(a: Halves, b: Halves) -> Halves {
    let low = a.low.wrapping_add(b.low);
    Halves { low, high: a.high.wrapping_add(b.high).wrapping_add(u32::from(low < b.low)) }
}

#[inline(always)]
fn sub(a: Halves, b: Halves) -> Halves {
    let high = a.high.wrapping_sub(b.high).wrapping_sub(u32::from(a.low < b.low));
    Halves { low: a.low.wrapping_sub(b.low), high }
}

#[inline(always)]
fn both(a: Halves, b: Halves, f: impl Fn(u32, u32) -> u32) -> Halves {
    Halves { low: f(a.low, b.low), high: f(a.high, b.high) }
}

#[inline(always)]
fn not(a: Halves) -> Halves {
    Halves { low: !a.low, high: !a.high }
}

#[inline(always)]
fn shl32(a: u32, n: u32) -> u32 {
    if n < 32 { a << n } else { 0 }
}

#[inline(always)]
fn shr32(a: u32, n: u32) -> u32 {
    if n < 32 { a >> n } else { 0 }
}

/// Of the three parts of the high word, those out of range are zero: differences below zero wrap.
#[inline(always)]
fn shl(a: Halves, n: u32) -> Halves {
    let crossing = shr32(a.low, 32u32.wrapping_sub(n)) | shl32(a.low, n.wrapping_sub(32));
    Halves { low: shl32(a.low, n), high: shl32(a.high, n) | crossing }
}

#[inline(always)]
fn shr(a: Halves, n: u32) -> Halves {
    let crossing = shl32(a.high, 32u32.wrapping_sub(n)) | shr32(a.high, n.wrapping_sub(32));
    Halves { low: shr32(a.low, n) | crossing, high: shr32(a.high, n) }
}

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// `length` ones from bit `at` on, both read as bytes and clamped to `width`.
fn field(at: u32, length: u32, width: u32) -> u64 {
    let (at, length) = ((at & 255).min(width), (length & 255).min(width));
    let ones = if length == 64 { u64::MAX } else { (1 << length) - 1 };
    let in_width = if width == 64 { u64::MAX } else { (1 << width) - 1 };
    ones.checked_shl(at).unwrap_or(0) & in_width
}

/// The field as a signed number; past the top it is filled with the sign of `a`.
fn signed_field(a: i64, at: u32, length: u32, width: u32) -> i64 {
    let (at, length) = (at & 255, length & 255);
    if length == 0 {
        return 0;
    }
    let top = (at + length - 1).min(width - 1);
    let sign = a >> top & 1;
    let low = (a >> at.min(63)) & field(0, (top + 1).saturating_sub(at), 64) as i64;
    if sign != 0 { low | !(field(0, (top + 1).saturating_sub(at), 64) as i64) } else { low }
}
