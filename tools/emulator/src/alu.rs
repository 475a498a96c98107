//! Lane-wise operations: what one lane computes from its own registers, one line of a table each.
//!
//! A table line names the operation, the opcode forms that mean it, the types of its operands and its result, and the
//! expression of one lane. The macro makes of it an enum, the decoder's table and the loop over 32 lanes, compiled with
//! the vector instructions that `cpu.rs` asks for.

mod compare;
mod convert;
mod directed;
pub mod float;
mod int;
pub mod packed;

pub use {compare::Compare, convert::Convert, float::Float, int::Int, packed::Packed};

use crate::{
    regs::{Halves, Regs, Slot},
    types::Ty,
};
use half::{bf16, f16};

/// The operand and result types of an operation.
#[derive(Debug, Clone, Copy)]
pub struct Signature {
    pub out: Ty,
    pub args: &'static [Ty],
}

/// The register type a lane type is held in.
trait Typed {
    const TY: Ty;
}

macro_rules! typed {
    ($($t:ty: $ty:ident),*) => {$(impl Typed for $t { const TY: Ty = Ty::$ty; })*};
}

typed!(bool: Pred, u8: U8, i8: S8, u16: U16, i16: S16, f16: F16, bf16: Bf16);
typed!(u32: U32, i32: S32, f32: F32, u64: U64, i64: S64, f64: F64, Halves: U64);

/// A family of lane-wise operations; see the module's documentation.
macro_rules! operations {
    ($(#[$doc:meta])* $family:ident $($op:ident $forms:tt ($($arg:ident: $ty:ty),*) -> $out:ty $body:block)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $family { $($op),* }

        impl $family {
            const TABLE: &'static [(&'static [&'static str], Self)] = &[$((&$forms, Self::$op)),*];

            /// The operation that a whole opcode names. Kernels have thousands, so they are looked up in an index.
            pub fn parse(opcode: &str) -> Option<Self> {
                static INDEX: std::sync::OnceLock<std::collections::HashMap<&str, $family>> = std::sync::OnceLock::new();
                let all = || Self::TABLE.iter().flat_map(|(forms, op)| forms.iter().map(|form| (*form, *op))).collect();
                INDEX.get_or_init(all).get(opcode).copied()
            }

            pub fn signature(self) -> $crate::alu::Signature {
                match self {
                    $(Self::$op => $crate::alu::Signature {
                        out: <$out as $crate::alu::Typed>::TY,
                        args: &[$(<$ty as $crate::alu::Typed>::TY),*],
                    }),*
                }
            }

            /// Computes the lanes in `active`.
            #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt"))]
            pub fn run(
                self,
                regs: &mut $crate::regs::Regs,
                active: u32,
                out: $crate::regs::Slot,
                args: &[$crate::regs::Slot; 4],
            ) {
                use $crate::regs::Lane;
                match self {
                    $(Self::$op => {
                        let mut rows = <$out as Lane>::rows();
                        {
                            let mut slots = args.iter();
                            $(let $arg = <$ty as Lane>::view(regs, *slots.next().expect("at most four operands"));)*
                            for lane in 0..$crate::regs::LANES {
                                $(let $arg = <$ty as Lane>::at(&$arg, lane);)*
                                let result: $out = $body;
                                result.keep(&mut rows, lane);
                            }
                        }
                        <$out as Lane>::put_rows(regs, out, active, &rows);
                    })*
                }
            }
        }
    };
}
pub(crate) use operations;

/// A lane-wise operation of any family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alu {
    Int(Int),
    Float(Float),
    Packed(Packed),
    Compare(Compare),
    Convert(Convert),
}

impl Alu {
    pub fn parse(opcode: &str) -> Option<Self> {
        Int::parse(opcode)
            .map(Alu::Int)
            .or_else(|| Float::parse(opcode).map(Alu::Float))
            .or_else(|| Packed::parse(opcode).map(Alu::Packed))
            .or_else(|| Compare::parse(opcode).map(Alu::Compare))
            .or_else(|| Convert::parse(opcode).map(Alu::Convert))
    }

    pub fn signature(self) -> Signature {
        match self {
            Alu::Int(op) => op.signature(),
            Alu::Float(op) => op.signature(),
            Alu::Packed(op) => op.signature(),
            Alu::Compare(op) => op.signature(),
            Alu::Convert(op) => op.signature(),
        }
    }

    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt"))]
    #[inline]
    pub fn run(self, regs: &mut Regs, active: u32, out: Slot, args: &[Slot; 4]) {
        match self {
            Alu::Int(op) => op.run(regs, active, out, args),
            Alu::Float(op) => op.run(regs, active, out, args),
            Alu::Packed(op) => op.run(regs, active, out, args),
            Alu::Compare(op) => op.run(regs, active, out, args),
            Alu::Convert(op) => op.run(regs, active, out, args),
        }
    }
}
