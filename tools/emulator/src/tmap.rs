//! Tensor maps: what `cuTensorMapEncodeTiled` makes, with its checks, in a layout of our own. Kernels only hand them on.

use crate::{
    driver::{Argument, Error, Result},
    tensor::swizzle::Swizzle,
    types::Ty,
};

/// Bytes of a tensor map, as in the driver.
pub const SIZE: usize = 128;
const MAGIC: u64 = u64::from_le_bytes(*b"emu-tmap");
/// Tiles of more dimensions are not supported.
const MOST_DIMENSIONS: usize = 3;

/// Element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TensorType {
    U8,
    U16,
    U32,
    S32,
    U64,
    S64,
    F16,
    F32,
    F64,
    Bf16,
}

impl TensorType {
    const ALL: [TensorType; 10] = [
        TensorType::U8,
        TensorType::U16,
        TensorType::U32,
        TensorType::S32,
        TensorType::U64,
        TensorType::S64,
        TensorType::F16,
        TensorType::F32,
        TensorType::F64,
        TensorType::Bf16,
    ];

    pub fn size(self) -> u32 {
        self.ty().size()
    }

    pub(crate) fn ty(self) -> Ty {
        match self {
            TensorType::U8 => Ty::U8,
            TensorType::U16 => Ty::U16,
            TensorType::U32 => Ty::U32,
            TensorType::S32 => Ty::S32,
            TensorType::U64 => Ty::U64,
            TensorType::S64 => Ty::S64,
            TensorType::F16 => Ty::F16,
            TensorType::F32 => Ty::F32,
            TensorType::F64 => Ty::F64,
            TensorType::Bf16 => Ty::Bf16,
        }
    }
}

/// A tensor in global memory and the box that one copy moves, innermost dimension first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorMap {
    pub ty: TensorType,
    pub base: u64,
    /// Elements of each dimension.
    pub extents: Vec<u64>,
    /// Bytes from one index to the next of each dimension but the first.
    pub strides: Vec<u64>,
    /// Elements of the box.
    pub tile: Vec<u32>,
    pub swizzle: Swizzle,
}

impl TensorMap {
    /// A tensor map without interleave and with element strides of 1; what lies outside the tensor reads as zeros.
    ///
    /// # Errors
    /// For whatever the driver refuses: a base or stride that is not a multiple of 16 bytes, a box side over 256, an inner
    /// side that is not a multiple of 16 bytes or exceeds the swizzle's row. And for what is not validated: more than three
    /// dimensions, and an inner side narrower than the swizzle's row.
    pub fn tiled(
        ty: TensorType,
        base: u64,
        extents: &[u64],
        strides: &[u64],
        tile: &[u32],
        swizzle: Swizzle,
    ) -> Result<Self> {
        let refuse = |message: String| Err(Error::Invalid(format!("tensor map: {message}")));
        let rank = extents.len();
        if !(1..=MOST_DIMENSIONS).contains(&rank) || strides.len() != rank - 1 || tile.len() != rank {
            return refuse(format!(
                "{rank} extents, {} strides, {} box sides: n, n - 1, n for n = 1 to {MOST_DIMENSIONS}",
                strides.len(),
                tile.len()
            ));
        }
        if !base.is_multiple_of(16) {
            return refuse(format!("base {base:#x}: not a multiple of 16 bytes"));
        }
        if let Some(extent) = extents.iter().find(|e| **e == 0 || **e > 1 << 32) {
            return refuse(format!("extent {extent}: 1 to 2^32 is allowed"));
        }
        let mut least = extents[0] * u64::from(ty.size());
        for (stride, extent) in strides.iter().zip(&extents[1..]) {
            if !stride.is_multiple_of(16) || *stride >= 1 << 40 || *stride < least {
                return refuse(format!("stride {stride}: a multiple of 16 bytes from {least} to 2^40 is needed"));
            }
            least = stride.saturating_mul(*extent);
        }
        if let Some(side) = tile.iter().find(|s| !(1..=256).contains(*s)) {
            return refuse(format!("box side {side}: 1 to 256 is allowed"));
        }
        let inner = tile[0] * ty.size();
        if swizzle == Swizzle::None && !inner.is_multiple_of(16) {
            return refuse(format!("inner box of {inner} bytes: a multiple of 16 is needed"));
        }
        if swizzle != Swizzle::None && inner != swizzle.row() {
            return refuse(format!(
                "inner box of {inner} bytes under {swizzle}: the driver takes no more than {}, and how narrower rows lie \
                 in shared memory is not validated; make it that wide",
                swizzle.row()
            ));
        }
        Ok(Self { ty, base, extents: extents.into(), strides: strides.into(), tile: tile.into(), swizzle })
    }

    /// Bytes that one copy of the box moves, zeros for what lies outside included.
    pub fn tile_bytes(&self) -> u32 {
        self.tile.iter().product::<u32>() * self.ty.size()
    }

    /// The 128 bytes that a kernel receives.
    pub fn encode(&self) -> [u8; SIZE] {
        let kind = TensorType::ALL.iter().position(|ty| *ty == self.ty).unwrap_or(0) as u64;
        let swizzle = [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128];
        let swizzle = swizzle.iter().position(|s| *s == self.swizzle).unwrap_or(0) as u64;
        let mut words = vec![MAGIC, kind | swizzle << 8 | (self.extents.len() as u64) << 16, self.base];
        let padded = |values: &[u64]| (0..MOST_DIMENSIONS).map(|k| values.get(k).copied().unwrap_or(0)).collect();
        words.extend::<Vec<u64>>(padded(&self.extents));
        words.extend::<Vec<u64>>(padded(&self.strides));
        words.extend::<Vec<u64>>(padded(&self.tile.iter().map(|s| u64::from(*s)).collect::<Vec<_>>()));
        let mut bytes = [0; SIZE];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The map in these bytes, or None when they hold none.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let words: Vec<u64> =
            bytes.chunks_exact(8).map(|c| u64::from_le_bytes(c.try_into().expect("chunks of 8"))).collect();
        let rank = (words.get(1)? >> 16) as usize;
        if words[0] != MAGIC || words.len() < 12 || !(1..=MOST_DIMENSIONS).contains(&rank) {
            return None;
        }
        let ty = *TensorType::ALL.get((words[1] & 0xff) as usize)?;
        let swizzle = [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128];
        let swizzle = *swizzle.get((words[1] >> 8 & 0xff) as usize)?;
        let tile: Vec<u32> = words[9..9 + rank].iter().map(|w| *w as u32).collect();
        Self::tiled(ty, words[2], &words[3..3 + rank], &words[6..6 + rank - 1], &tile, swizzle).ok()
    }
}

impl Argument for TensorMap {
    fn bytes(&self) -> Vec<u8> {
        self.encode().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_survives_its_encoding() {
        let map = TensorMap::tiled(TensorType::Bf16, 0x7f00_0000_0000, &[100, 7], &[208], &[64, 5], Swizzle::B128);
        let map = map.expect("it is legal");
        assert_eq!(TensorMap::decode(&map.encode()), Some(map.clone()));
        assert_eq!(map.tile_bytes(), 640);
        assert_eq!(TensorMap::decode(&[0; SIZE]), None);
    }

    #[test]
    fn what_the_driver_refuses_is_refused() {
        let map = |base, stride, side| {
            TensorMap::tiled(TensorType::Bf16, base, &[100, 7], &[stride], &[side, 5], Swizzle::B64).is_ok()
        };
        assert!(map(256, 208, 32));
        assert!(!map(8, 208, 32) && !map(256, 200, 32) && !map(256, 192, 32));
        assert!(!map(256, 208, 64) && !map(256, 208, 16) && !map(256, 208, 4) && !map(256, 208, 0));
    }
}
