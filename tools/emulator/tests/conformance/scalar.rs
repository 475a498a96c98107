//! Approximate functions and conversions, one lane each.

use super::{Vector, Want, common::kernel};

/// f32 bits that bring out what approximations do: all exponents, both signs, edges.
fn floats() -> Vec<u32> {
    let mut out = vec![0, 1, 0x007f_ffff, 0x0080_0000, 0x7f7f_ffff, 0x7f80_0000, 0x7fc0_0000, 0x3f7f_ffff];
    out.extend((1..255).step_by(2).map(|exponent| (exponent << 23) | ((exponent * 0x9e37) & 0x007f_ffff)));
    let negative: Vec<u32> = out.iter().map(|bits| bits | 1 << 31).collect();
    out.extend(negative);
    out.resize(256, 0x4049_0fdb);
    out
}

pub fn vectors() -> Vec<Vector> {
    let input: Vec<u8> = floats().iter().flat_map(|bits| bits.to_le_bytes()).collect();
    let approximate = [
        "ex2.approx.f32",
        "lg2.approx.f32",
        "rsqrt.approx.f32",
        "rcp.approx.ftz.f32",
        "sin.approx.f32",
        "cos.approx.f32",
        "tanh.approx.f32",
        "sqrt.approx.f32",
        "ex2.approx.ftz.f32",
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
    // 2^-21: what the manual grants the coarsest of them but tanh.
    let approximate = approximate.iter().map(|opcode| (opcode, Want::About(2f32.powi(-21))));
    approximate
        .chain(exact.iter().map(|opcode| (opcode, Want::Recorded)))
        .map(|(opcode, want)| {
            let out = if opcode.contains("s32") || opcode.contains("x2") || opcode.contains("tf32") { "%i" } else { "%y" };
            let sources = if opcode.contains("x2.f32") { "%x, %x" } else { "%x" };
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
