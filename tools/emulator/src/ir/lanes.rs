//! What lanes compute beyond the table of lane-wise operations, and what they tell each other.

use crate::{alu::Alu, regs::Slot, types::Ty};

/// `setp` and `set`.
#[derive(Debug, Clone)]
pub struct Compared {
    pub op: Alu,
    pub args: [Slot; 2],
    /// The arguments are 16-bit floats, which are compared as f32.
    pub halving: Option<Halving>,
    pub ftz: bool,
    /// What the result is combined with, and whether that is negated.
    pub combine: Option<(Combine, (Slot, bool))>,
    pub out: Outcome,
    /// Two rows and a mask for what happens in between.
    pub scratch: (Slot, Slot),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Halving {
    pub bf16: bool,
    /// Two of them in a register.
    pub pair: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Combine {
    And,
    Or,
    Xor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Predicates {
        first: Slot,
        second: Option<Slot>,
    },
    /// A register of these bits where it holds.
    Value {
        out: Slot,
        one: u32,
    },
}

/// Sums that take the carry flag, or give it.
#[derive(Debug, Clone)]
pub struct Carry {
    pub kind: CarryKind,
    pub ty: Ty,
    pub takes: bool,
    pub gives: bool,
    pub out: Slot,
    pub args: [Slot; 3],
    pub flag: Slot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CarryKind {
    Add,
    Subtract,
    MultiplyLow,
    MultiplyHigh,
}

#[derive(Debug, Clone)]
pub struct Shuffle {
    pub mode: ShuffleMode,
    pub out: Slot,
    /// Set where the source lane was in range.
    pub valid: Option<Slot>,
    pub value: Slot,
    pub lane: Slot,
    pub clamp: Slot,
    pub members: Slot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShuffleMode {
    Up,
    Down,
    Butterfly,
    Index,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vote {
    All,
    Any,
    Uniform,
    Ballot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redux {
    Add,
    MinU,
    MaxU,
    MinS,
    MaxS,
    And,
    Or,
    Xor,
}
