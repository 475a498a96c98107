//! Approximate functions and conversions, one lane each.

use super::{Bound, Vector, Want, common::kernel};
use std::f64::consts::PI;

/// f32 bits that bring out what approximations do: all exponents, both signs, edges.
fn floats() -> Vec<u32> {
    let mut out = vec![0, 1, 0x007f_ffff, 0x0080_0000, 0x7f7f_ffff, 0x7f80_0000, 0x7fc0_0000, 0x3f7f_ffff];
    out.extend((1..255).step_by(2).map(|exponent| (exponent << 23) | ((exponent * 0x9e37) & 0x007f_ffff)));
    let negative: Vec<u32> = out.iter().map(|bits| bits | 1 << 31).collect();
    out.extend(negative);
    out.resize(256, 0x4049_0fdb);
    out
}

/// `n` units in the last place of an f32.
fn ulps(n: f64, y: f64) -> Option<f64> {
    Some(n * 2f64.powf(y.abs().log2().floor().max(-126.0) - 23.0))
}

/// Beyond 2^126 the reciprocal that `div.approx` multiplies with is zero.
fn reciprocal_by_division(x: f64) -> f64 {
    if x.abs() <= 2f64.powi(126) { 1.0 / x } else { 0.0f64.copysign(x) }
}

/// The manual's bound of a sine or cosine, near zero and further out (9.7.3.18 and 19).
fn of_a_wave(x: f64, _: f64) -> Option<f64> {
    match x.abs() {
        near if near <= 2.0 * PI => Some(2f64.powf(-20.5)),
        far if far <= 100.0 * PI => Some(2f64.powf(-14.7)),
        _ => None,
    }
}

pub fn vectors() -> Vec<Vector> {
    let input: Vec<u8> = floats().iter().flat_map(|bits| bits.to_le_bytes()).collect();
    type Function = (&'static str, fn(f64) -> f64, Bound);
    // Of the PTX ISA 9.1: ex2 9.7.3.21, lg2 20, rsqrt 16, sqrt 15, rcp 13, div 8, tanh 22.
    let approximate: [Function; 11] = [
        ("ex2.approx.f32", f64::exp2, |_, y| ulps(2.0, y)),
        ("ex2.approx.ftz.f32", f64::exp2, |_, y| ulps(2.0, y)),
        ("lg2.approx.f32", f64::log2, |x, y| Some(if 0.5 < x && x < 2.0 { 1.0 } else { y.abs() } * 2f64.powi(-22))),
        ("rsqrt.approx.f32", |x| 1.0 / x.sqrt(), |_, y| Some(y * 2f64.powf(-22.9))),
        ("sqrt.approx.f32", f64::sqrt, |_, y| Some(y * 2f64.powi(-23))),
        ("rcp.approx.ftz.f32", |x| 1.0 / x, |_, y| ulps(1.0, y)),
        ("div.approx.f32", reciprocal_by_division, |_, y| if y == 0.0 { Some(0.0) } else { ulps(2.0, y) }),
        ("div.full.f32", |x| 1.0 / x, |_, y| ulps(2.0, y)),
        ("tanh.approx.f32", f64::tanh, |_, y| Some(y.abs() * 2f64.powi(-11))),
        ("sin.approx.f32", f64::sin, of_a_wave),
        ("cos.approx.f32", f64::cos, of_a_wave),
    ];
    let exact = [
        "rcp.rn.f32",
        "sqrt.rn.f32",
        "cvt.rni.f32.f32",
        "cvt.rzi.s32.f32",
        "cvt.rmi.s32.f32",
        "cvt.sat.f32.f32",
        "cvt.rna.tf32.f32",
        "cvt.rn.bf16x2.f32",
        "cvt.rn.f16x2.f32",
    ];
    let approximate = approximate.into_iter().map(|(opcode, value, bound)| (opcode, Want::About { value, bound }));
    approximate
        .chain(exact.into_iter().map(|opcode| (opcode, Want::Recorded)))
        .map(|(opcode, want)| {
            let out = if opcode.contains("s32") || opcode.contains("x2") || opcode.contains("tf32") { "%i" } else { "%y" };
            let sources = match opcode {
                // 1 / x
                div if div.starts_with("div") => "0f3f800000, %x",
                pair if pair.contains("x2.f32") => "%x, %x",
                _ => "%x",
            };
            let body = format!(
                ".reg .f32 %x, %y;\n.reg .b32 %i;\nld.global.f32 %x, [%in];\n{opcode} {out}, {sources};\nst.global.b32 [%out], {out};"
            );
            let mut vector =
                Vector::warp(opcode.replace('.', "-"), kernel(&body, 4, 4), input.clone(), 1024, want);
            vector.threads = 256;
            vector
        })
        .collect()
}
