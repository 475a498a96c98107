//! Matrix loads, stores and products.

use super::Address;
use crate::regs::Slot;

/// 8x8 matrices of 16-bit elements between shared memory and registers, one of each for every matrix.
#[derive(Debug, Clone)]
pub struct Matrices {
    pub slots: Box<[Slot]>,
    pub address: Address,
    pub transposed: bool,
}

/// Element types of matrix operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Element {
    Bf16,
    F16,
    Tf32,
    S8,
    U8,
}

impl Element {
    /// Bytes in memory.
    pub fn size(self) -> usize {
        match self {
            Element::Bf16 | Element::F16 => 2,
            Element::Tf32 => 4,
            Element::S8 | Element::U8 => 1,
        }
    }
}

/// Type of a matrix operation's accumulators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Accumulator {
    F32,
    F16,
    S32,
}

/// `mma.sync` m16n8kK: D = A B + C.
#[derive(Debug, Clone)]
pub struct Mma {
    pub k: usize,
    pub a_type: Element,
    pub b_type: Element,
    pub accumulator: Accumulator,
    pub d: Box<[Slot]>,
    pub a: Box<[Slot]>,
    pub b: Box<[Slot]>,
    pub c: Box<[Slot]>,
}

/// `wgmma.mma_async` m64nNkK: D = A B + D, or A B where `scale_d` does not hold.
#[derive(Debug, Clone)]
pub struct Wgmma {
    pub n: usize,
    pub a_type: Element,
    pub b_type: Element,
    pub accumulator: Accumulator,
    pub d: Box<[Slot]>,
    pub a: WgmmaA,
    /// Descriptor.
    pub b: Slot,
    pub scale_d: (Slot, bool),
    pub negate_a: bool,
    pub negate_b: bool,
    /// Stored with M (or N) contiguous instead of K.
    pub a_transposed: bool,
    pub b_transposed: bool,
    /// No `wgmma.fence` comes before it, or an accumulator or a register of A may have been touched since.
    pub unfenced: bool,
}

#[derive(Debug, Clone)]
pub enum WgmmaA {
    Descriptor(Slot),
    Registers([Slot; 4]),
}
