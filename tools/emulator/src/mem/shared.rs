//! Shared memory of one CTA.

use super::Block;
use crate::window::SHARED_BASE;

#[derive(Debug, Clone)]
pub struct Shared {
    pub block: Block,
}

impl Shared {
    pub fn new(size: u32) -> Self {
        Self { block: Block::new(size as usize) }
    }

    /// Offset of `size` bytes at a shared address, when they are inside.
    #[inline]
    pub fn offset(&self, address: u32, size: usize) -> Option<usize> {
        let offset = address.checked_sub(SHARED_BASE)? as usize;
        (offset + size <= self.block.bytes.len()).then_some(offset)
    }
}
