//! Bytes of every state space, and which of them have been written.

mod bits;
mod global;
mod shared;
mod touched;

pub use {
    bits::Bits,
    global::{Allocation, Global},
    shared::Shared,
    touched::SECTOR,
};

/// Fills fresh memory and registers: nothing is zero by accident, and as a float it is about -4.3e8.
pub const POISON: u8 = 0xcd;

/// Bytes with a mark for each that has been written.
#[derive(Debug, Clone)]
pub struct Block {
    pub bytes: Vec<u8>,
    pub written: Bits,
}

impl Block {
    pub fn new(size: usize) -> Self {
        Self { bytes: vec![POISON; size], written: Bits::new(size) }
    }

    /// Back to unwritten poison.
    pub fn reset(&mut self) {
        self.bytes.fill(POISON);
        self.written.clear();
    }

    /// Writes bytes and marks them.
    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.written.set(at, bytes.len());
    }
}
