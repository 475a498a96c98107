//! Matrix arithmetic apart from any machine state: fragments, descriptors, swizzles, products.
//!
//! Products of 16-bit and tf32 elements are exact in f32 and are added one after another along K with fused rounding.
//! Hardware adds several at a time with truncation, so results agree only to a few units in the last place of f32.

pub mod descriptor;
pub mod fragment;
pub mod swizzle;

use crate::ir::Element;
use half::{bf16, f16};

/// An element as the number it stands for. tf32 ignores the 13 low bits.
#[inline(always)]
pub fn number(element: Element, bits: u32) -> f32 {
    match element {
        Element::Bf16 => bf16::from_bits(bits as u16).to_f32(),
        Element::F16 => f16::from_bits(bits as u16).to_f32(),
        Element::Tf32 => f32::from_bits(bits & !0x1fff),
        Element::S8 => f32::from(bits as i8),
        Element::U8 => f32::from(bits as u8),
    }
}

/// An integer element.
#[inline(always)]
pub fn integer(element: Element, bits: u32) -> i32 {
    match element {
        Element::S8 => i32::from(bits as i8),
        _ => i32::from(bits as u8),
    }
}

/// row += a * b over K, where `b` holds K rows as long as `row`.
#[inline(always)]
pub fn accumulate(row: &mut [f32], a: &[f32], b: &[f32]) {
    // Eight columns at a time stay in one vector register for all of K.
    let width = row.len();
    for (block, out) in row.chunks_exact_mut(8).enumerate() {
        let mut sums: [f32; 8] = (&*out).try_into().expect("chunks of 8");
        for (k, a) in a.iter().enumerate() {
            let b: &[f32; 8] = b[k * width + block * 8..][..8].try_into().expect("8 columns");
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = a.mul_add(*b, *sum);
            }
        }
        out.copy_from_slice(&sums);
    }
}

/// The same for integers, which wrap.
#[inline(always)]
pub fn accumulate_integers(row: &mut [i32], a: &[i32], b: &[i32]) {
    let width = row.len();
    for (k, a) in a.iter().enumerate() {
        for (sum, b) in row.iter_mut().zip(&b[k * width..][..width]) {
            *sum = sum.wrapping_add(a.wrapping_mul(*b));
        }
    }
}
