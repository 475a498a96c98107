use half::{bf16, f16};
use serde::{Deserialize, Serialize};

/// The element types that files hold, under the names of the safetensors format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum FileDType {
    F64,
    F32,
    F16,
    BF16,
    #[serde(rename = "F8_E4M3")]
    F8E4M3,
    #[serde(rename = "F8_E5M2")]
    F8E5M2,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
}

use FileDType::*;

impl FileDType {
    /// Bytes of one element.
    pub const fn size(self) -> u64 {
        match self {
            F64 | I64 | U64 => 8,
            F32 | I32 | U32 => 4,
            F16 | BF16 | I16 | U16 => 2,
            F8E4M3 | F8E5M2 | I8 | U8 | Bool => 1,
        }
    }

    /// Converts little-endian elements to f32, rounding to nearest; `None` for a type that the engine does not read.
    pub fn floats(self, bytes: &[u8], out: &mut [f32]) -> Option<()> {
        match self {
            F32 => each(bytes, out, f32::from_le_bytes),
            F16 => each(bytes, out, |x| f16::from_le_bytes(x).to_f32()),
            BF16 => each(bytes, out, |x| bf16::from_le_bytes(x).to_f32()),
            F64 => each(bytes, out, |x| f64::from_le_bytes(x) as f32),
            I64 => each(bytes, out, |x| i64::from_le_bytes(x) as f32),
            I32 => each(bytes, out, |x| i32::from_le_bytes(x) as f32),
            U32 => each(bytes, out, |x| u32::from_le_bytes(x) as f32),
            U8 => each(bytes, out, |[x]: [u8; 1]| f32::from(x)),
            _ => return None,
        }
        Some(())
    }

    /// Converts little-endian elements to integers; `None` for a type that the engine does not read as one.
    pub fn integers(self, bytes: &[u8], out: &mut [i64]) -> Option<()> {
        match self {
            I64 => each(bytes, out, i64::from_le_bytes),
            I32 => each(bytes, out, |x| i64::from(i32::from_le_bytes(x))),
            U32 => each(bytes, out, |x| i64::from(u32::from_le_bytes(x))),
            U8 => each(bytes, out, |[x]: [u8; 1]| i64::from(x)),
            _ => return None,
        }
        Some(())
    }
}

fn each<const N: usize, T>(bytes: &[u8], out: &mut [T], value: impl Fn([u8; N]) -> T) {
    assert_eq!(bytes.len(), out.len() * N, "as many elements in as out");
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
        *out = value(*bytes);
    }
}

#[cfg(target_endian = "big")]
compile_error!("stores and tensors are written as they lie in memory, which is little-endian in every format");
