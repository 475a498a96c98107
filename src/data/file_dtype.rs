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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_that_is_read_keeps_its_values() {
        let bytes = |dtype: FileDType, x: i8| -> Vec<u8> {
            match dtype {
                F64 => f64::from(x).to_le_bytes().to_vec(),
                F32 => f32::from(x).to_le_bytes().to_vec(),
                F16 => f16::from(x).to_le_bytes().to_vec(),
                BF16 => bf16::from(x).to_le_bytes().to_vec(),
                I64 => i64::from(x).to_le_bytes().to_vec(),
                I32 => i32::from(x).to_le_bytes().to_vec(),
                U32 => u32::from(x as u8).to_le_bytes().to_vec(),
                U8 => vec![x as u8],
                other => vec![x as u8; other.size() as usize],
            }
        };
        for (dtype, x, real, whole) in [
            (F64, -3, true, false),
            (F32, -3, true, false),
            (F16, -3, true, false),
            (BF16, -3, true, false),
            (I64, -3, true, true),
            (I32, -3, true, true),
            (U32, 3, true, true),
            (U8, 3, true, true),
            (F8E4M3, 3, false, false),
            (F8E5M2, 3, false, false),
            (I16, 3, false, false),
            (I8, 3, false, false),
            (U64, 3, false, false),
            (U16, 3, false, false),
            (Bool, 1, false, false),
        ] {
            let bytes = bytes(dtype, x);
            assert_eq!(bytes.len() as u64, dtype.size(), "{dtype:?}");
            let (mut float, mut integer) = ([0.0], [0]);
            assert_eq!(dtype.floats(&bytes, &mut float).is_some(), real, "{dtype:?}");
            assert_eq!(dtype.integers(&bytes, &mut integer).is_some(), whole, "{dtype:?}");
            assert!(!real || float == [f32::from(x)], "{dtype:?}: {float:?}");
            assert!(!whole || integer == [i64::from(x)], "{dtype:?}: {integer:?}");
        }
    }
}
