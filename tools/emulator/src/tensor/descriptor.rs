//! The 64-bit descriptors by which `wgmma` finds a matrix in shared memory (PTX ISA, matrix-descriptor).

use super::swizzle::Swizzle;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// First byte, as a shared address.
    pub start: u32,
    /// Leading and stride byte offsets between groups of core matrices.
    pub leading: u32,
    pub stride: u32,
    pub base_offset: u32,
    pub swizzle: Swizzle,
}

impl Descriptor {
    /// The fields of a descriptor.
    pub fn decode(bits: u64) -> Self {
        let field = |at: u32| ((bits >> at & 0x3fff) << 4) as u32;
        Self {
            start: field(0),
            leading: field(16),
            stride: field(32),
            base_offset: (bits >> 49 & 7) as u32,
            swizzle: match bits >> 62 {
                0 => Swizzle::None,
                1 => Swizzle::B128,
                2 => Swizzle::B64,
                _ => Swizzle::B32,
            },
        }
    }

    /// Why the matrix cannot be read where it lies, if it cannot.
    pub fn refusal(&self) -> Option<String> {
        if self.base_offset != 0 {
            return Some(format!("base offset {}: only patterns that start at their alignment", self.base_offset));
        }
        // Within an atom the start may only move along a row, as steps along K do.
        let (row, atom) = (self.swizzle.row(), self.swizzle.atom());
        if self.start % atom >= row {
            return Some(format!(
                "start {:#x} under {}: its swizzle atom is not aligned to {atom} bytes",
                self.start, self.swizzle
            ));
        }
        None
    }

    /// Address of the 16 bytes that hold line `line` (along M or N) at byte `byte` along K of a K-major matrix.
    pub fn k_major(&self, line: usize, byte: usize) -> u32 {
        let (line, byte) = (line as u32, byte as u32);
        let linear = match self.swizzle {
            Swizzle::None => line / 8 * self.stride + line % 8 * 16 + byte / 16 * self.leading,
            swizzle => line / 8 * self.stride + line % 8 * swizzle.row() + byte,
        };
        self.swizzle.apply(self.start.wrapping_add(linear))
    }

    /// Address of the 16 bytes that hold lines `line..line + 8` at `k` of a matrix of 16-bit elements with M or N
    /// contiguous.
    pub fn mn_major(&self, line: usize, k: usize) -> u32 {
        let (line, k) = (line as u32, k as u32);
        let linear = match self.swizzle {
            Swizzle::None => line / 8 * self.stride + k / 8 * self.leading + k % 8 * 16,
            swizzle => {
                let lines = swizzle.row() / 2;
                line / lines * self.leading + line % lines * 2 + k / 8 * self.stride + k % 8 * swizzle.row()
            }
        };
        self.swizzle.apply(self.start.wrapping_add(linear))
    }
}
