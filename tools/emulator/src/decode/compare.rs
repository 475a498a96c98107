//! Comparisons beyond the table of lane-wise ones: two results, a further predicate, pairs of 16-bit floats, `set`.

use super::{Lower, Opcode};
use crate::{
    alu::{Alu, Compare},
    error::LoadError,
    ir::{Combine, Compared, Halving, Op, Outcome},
    parse::Operand,
    regs::Slot,
    types::Ty,
};

impl Lower<'_> {
    /// `setp.lt.and.s32 p|q, a, b, c` and `set.lt.u32.f32 d, a, b`.
    pub(super) fn compare(
        &mut self,
        opcode: &mut Opcode,
        operands: &[Operand],
        predicate: bool,
    ) -> Result<Op, LoadError> {
        let test = opcode.next();
        let combine = match opcode.one_of(&["and", "or", "xor"]) {
            Some("and") => Some(Combine::And),
            Some("or") => Some(Combine::Or),
            Some(_) => Some(Combine::Xor),
            None => None,
        };
        let ftz = opcode.eat("ftz");
        let result = if predicate { None } else { Some(self.result_of_set(opcode.next())?) };
        let name = opcode.next();
        let ty = Ty::parse(name).ok_or_else(|| self.error(&format!(".{name}: not a type")))?;
        if ftz && !matches!(ty, Ty::F32 | Ty::F16 | Ty::F16x2) {
            return Err(self.error(&format!(".ftz: not defined for .{name}")));
        }
        let halving = match ty {
            Ty::F16 => Some(Halving { bf16: false, pair: false }),
            Ty::Bf16 => Some(Halving { bf16: true, pair: false }),
            Ty::F16x2 => Some(Halving { bf16: false, pair: true }),
            Ty::Bf16x2 => Some(Halving { bf16: true, pair: true }),
            _ => None,
        };
        let held = if halving.is_some() { "f32" } else { name };
        let op = Compare::parse(&format!("setp.{test}.{held}"));
        let op = op.ok_or_else(|| self.error(&format!(".{test} of .{name} is not a comparison of the emulator")))?;
        let [out, a, b, rest @ ..] = operands else { return Err(self.error("the wrong number of operands")) };
        let combine = match (combine, rest) {
            (Some(how), [with]) => Some((how, self.predicate(with)?)),
            (None, []) => None,
            _ => return Err(self.error("the wrong number of operands")),
        };
        let args = [self.source(a, ty)?, self.source(b, ty)?];
        let pair = halving.is_some_and(|h| h.pair);
        let out = match (result, out) {
            (Some((ty, one)), out) if ty == Ty::U32 || pair == matches!(ty, Ty::F16x2 | Ty::Bf16x2) => {
                Outcome::Value { out: self.dest(out, ty)?, one }
            }
            (None, Operand::Pair(first, second)) => {
                Outcome::Predicates { first: self.dest(first, Ty::Pred)?, second: Some(self.dest(second, Ty::Pred)?) }
            }
            (None, out) if !pair => Outcome::Predicates { first: self.dest(out, Ty::Pred)?, second: None },
            _ => return Err(self.error("its result does not fit the comparison")),
        };
        let scratch = (self.new_rows(2), self.new_mask());
        Ok(Op::Compare(Box::new(Compared { op: Alu::Compare(op), args, halving, ftz, combine, out, scratch })))
    }

    /// The type of a `set`, and the bits that stand for true.
    fn result_of_set(&self, name: &str) -> Result<(Ty, u32), LoadError> {
        Ok(match name {
            "u32" | "s32" => (Ty::U32, u32::MAX),
            "f32" => (Ty::F32, 1f32.to_bits()),
            "f16" => (Ty::F16, 0x3c00),
            "bf16" => (Ty::Bf16, 0x3f80),
            "f16x2" => (Ty::F16x2, 0x3c00_3c00),
            "bf16x2" => (Ty::Bf16x2, 0x3f80_3f80),
            "u16" | "s16" => (Ty::U16, 0xffff),
            other => return Err(self.error(&format!(".{other}: not a result of set"))),
        })
    }

    /// `add.cc`, `addc`, `sub.cc`, `subc`, `mad.lo.cc`, `madc.hi.cc`: sums that hand on their carry.
    pub(super) fn carry(&mut self, opcode: &mut Opcode, operands: &[Operand]) -> Result<Op, LoadError> {
        use crate::ir::{Carry, CarryKind};
        let head = opcode.head();
        let multiplies = head.starts_with("mad");
        let (takes, carries) = (head.ends_with('c'), opcode.has("cc"));
        if !takes && !carries {
            return Err(self.error("not implemented by the emulator"));
        }
        let kind = match (multiplies, if multiplies { opcode.next() } else { "" }) {
            (true, "lo") => CarryKind::MultiplyLow,
            (true, "hi") => CarryKind::MultiplyHigh,
            (false, _) if head.starts_with("add") => CarryKind::Add,
            (false, _) => CarryKind::Subtract,
            (_, other) => return Err(self.error(&format!(".{other}: not a half of a product"))),
        };
        let gives = opcode.eat("cc");
        let ty = Ty::parse(opcode.next()).filter(|ty| matches!(ty, Ty::U32 | Ty::S32 | Ty::U64 | Ty::S64));
        let ty = ty.ok_or_else(|| self.error("carries need integers of 32 or 64 bits"))?;
        let expected = if multiplies { 4 } else { 3 };
        let [out, sources @ ..] = operands else { return Err(self.error("no destination")) };
        if operands.len() != expected {
            return Err(self.error(&format!("{} operands given, {expected} expected", operands.len())));
        }
        let mut args = [Slot(0); 3];
        for (slot, source) in args.iter_mut().zip(sources) {
            *slot = self.source(source, ty)?;
        }
        let flag = self.carry_flag();
        Ok(Op::Carry(Box::new(Carry { kind, ty, takes, gives, out: self.dest(out, ty)?, args, flag })))
    }
}
