//! Global memory: named allocations with a gap behind each, so that one cannot run over into the next.

use super::{
    Block,
    touched::{SECTOR, Touched},
};
use crate::window;

/// Addresses between the end of one allocation and the start of the next.
const GAP: u64 = 64 << 10;

#[derive(Debug)]
pub struct Allocation {
    pub name: String,
    pub base: u64,
    pub block: Block,
    pub freed: bool,
    /// Bytes, also once it is freed.
    size: usize,
    /// Sectors that this launch has read or written.
    pub touched: Touched,
}

#[derive(Debug)]
pub struct Global {
    /// By ascending base.
    allocations: Vec<Allocation>,
    next: u64,
    /// Where the last access was found: the next is often there too.
    last: usize,
}

impl Default for Global {
    fn default() -> Self {
        Self { allocations: vec![], next: window::GLOBAL, last: 0 }
    }
}

impl Global {
    /// A fresh allocation of poison, aligned to 256 bytes like the driver's.
    pub fn alloc(&mut self, name: &str, size: usize) -> u64 {
        let base = self.reserve(size);
        self.insert(Allocation::new(name, base, size));
        base
    }

    /// Addresses that no allocation gets unless it is put there.
    pub fn reserve(&mut self, size: usize) -> u64 {
        let base = self.next;
        self.next = (base + size as u64 + GAP).next_multiple_of(256);
        base
    }

    /// A fresh allocation of poison inside reserved addresses, in place of freed ones; false if a live one is in the way.
    pub fn alloc_at(&mut self, base: u64, name: &str, size: usize) -> bool {
        let end = base + size as u64;
        let from = self.allocations.partition_point(|a| a.end() <= base && a.base < base);
        let to = from + self.allocations[from..].partition_point(|a| a.base < end);
        if self.allocations[from..to].iter().any(|a| !a.freed) {
            return false;
        }
        self.allocations.splice(from..to, [Allocation::new(name, base, size)]);
        true
    }

    fn insert(&mut self, allocation: Allocation) {
        let at = self.allocations.partition_point(|a| a.base < allocation.base);
        self.allocations.insert(at, allocation);
    }

    /// The allocation that an address lies in or, failing that, lies closest behind.
    pub fn nearest(&self, address: u64) -> Option<&Allocation> {
        let after = self.allocations.partition_point(|a| a.base <= address);
        after.checked_sub(1).map(|k| &self.allocations[k])
    }

    /// The allocation that holds `size` bytes at an address, and the offset in it.
    #[inline]
    pub fn find(&mut self, address: u64, size: usize) -> Option<(&mut Allocation, usize)> {
        if !self.allocations.get(self.last).is_some_and(|a| a.holds(address, size)) {
            let after = self.allocations.partition_point(|a| a.base <= address);
            self.last = after.checked_sub(1)?;
            if !self.allocations[self.last].holds(address, size) {
                return None;
            }
        }
        let allocation = &mut self.allocations[self.last];
        let offset = (address - allocation.base) as usize;
        Some((allocation, offset))
    }

    /// Marks an allocation freed. Its addresses are not given out again.
    pub fn free(&mut self, base: u64) -> bool {
        match self.allocations.iter_mut().find(|a| a.base == base && !a.freed) {
            Some(allocation) => {
                allocation.freed = true;
                allocation.block = Block::new(0);
                allocation.touched = Touched::default();
                true
            }
            None => false,
        }
    }

    /// Bytes of the sectors touched since the last call.
    pub fn take_touched(&mut self) -> u64 {
        self.allocations.iter_mut().map(|a| a.touched.take()).sum::<u64>() * SECTOR as u64
    }
}

impl Allocation {
    fn new(name: &str, base: u64, size: usize) -> Self {
        let touched = Touched::new(size);
        Self { name: name.to_string(), base, block: Block::new(size), freed: false, size, touched }
    }

    /// Just behind its last byte, also once it is freed.
    fn end(&self) -> u64 {
        self.base + self.size as u64
    }

    #[inline]
    fn holds(&self, address: u64, size: usize) -> bool {
        let length = self.block.bytes.len();
        address >= self.base && size <= length && address - self.base <= (length - size) as u64
    }
}
