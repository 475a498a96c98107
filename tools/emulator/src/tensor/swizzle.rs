//! The swizzles of tensor tiles in shared memory: 16-byte chunks exchanged within an atom of eight rows.
//!
//! The exchange is an exclusive or on the bits of the shared address itself, the same for copies and for products, so
//! whatever lies in an atom that starts at a multiple of its size is found again.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Swizzle {
    None,
    B32,
    B64,
    B128,
}

impl fmt::Display for Swizzle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Swizzle::None => f.write_str("no swizzle"),
            swizzle => write!(f, "a swizzle of {} bytes", swizzle.row()),
        }
    }
}

impl Swizzle {
    /// Bytes of a row; without a swizzle, of a chunk.
    pub fn row(self) -> u32 {
        match self {
            Swizzle::None => 16,
            Swizzle::B32 => 32,
            Swizzle::B64 => 64,
            Swizzle::B128 => 128,
        }
    }

    /// Bytes of the eight rows after which the pattern repeats; its start must be a multiple of them.
    pub fn atom(self) -> u32 {
        match self {
            Swizzle::None => 16,
            swizzled => swizzled.row() * 8,
        }
    }

    /// Where the byte of a linear layout lies: address bits 4.. are exchanged by bits 7...
    #[inline(always)]
    pub fn apply(self, address: u32) -> u32 {
        let mask = match self {
            Swizzle::None => 0,
            Swizzle::B32 => 0x10,
            Swizzle::B64 => 0x30,
            Swizzle::B128 => 0x70,
        };
        address ^ (address >> 3 & mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_swizzle_permutes_its_atom() {
        for swizzle in [Swizzle::B32, Swizzle::B64, Swizzle::B128] {
            let mut chunks: Vec<u32> = (0..64).map(|c| swizzle.apply(c * 16)).collect();
            chunks.sort_unstable();
            assert_eq!(chunks, (0..64).map(|c| c * 16).collect::<Vec<_>>());
        }
    }

    #[test]
    fn eight_rows_of_a_column_lie_in_eight_different_bank_groups() {
        let groups: std::collections::BTreeSet<u32> =
            (0..8).map(|row| Swizzle::B128.apply(row * 128 + 32) / 16 % 8).collect();
        assert_eq!(groups.len(), 8);
    }
}
