//! Operations among the lanes of one warp.

use super::{Lower, Opcode};
use crate::{
    error::LoadError,
    ir::{Op, Redux, Shuffle, ShuffleMode, Vote},
    parse::Operand,
    types::Ty,
};

impl Lower<'_> {
    fn synchronised(&self, opcode: &mut Opcode) -> Result<(), LoadError> {
        if opcode.eat("sync") { Ok(()) } else { Err(self.error("the form without .sync has no defined members")) }
    }

    pub(super) fn shuffle(&mut self, opcode: &mut Opcode, operands: &[Operand]) -> Result<Op, LoadError> {
        self.synchronised(opcode)?;
        let mode = match opcode.next() {
            "up" => ShuffleMode::Up,
            "down" => ShuffleMode::Down,
            "bfly" => ShuffleMode::Butterfly,
            "idx" => ShuffleMode::Index,
            other => return Err(self.error(&format!(".{other}: not a shuffle mode"))),
        };
        if !opcode.eat("b32") {
            return Err(self.error("only .b32 is shuffled"));
        }
        let [out, value, lane, clamp, members] = self.exactly(operands)?;
        let (out, valid) = match out {
            Operand::Pair(out, valid) => (out.as_ref(), Some(self.dest(valid, Ty::Pred)?)),
            out => (out, None),
        };
        let (value, lane) = (self.source(value, Ty::B32)?, self.source(lane, Ty::B32)?);
        let (clamp, members) = (self.source(clamp, Ty::B32)?, self.source(members, Ty::B32)?);
        let out = self.dest(out, Ty::B32)?;
        Ok(Op::Shuffle(Box::new(Shuffle { mode, out, valid, value, lane, clamp, members })))
    }

    pub(super) fn vote(&mut self, opcode: &mut Opcode, operands: &[Operand]) -> Result<Op, LoadError> {
        self.synchronised(opcode)?;
        let mode = match opcode.next() {
            "all" => Vote::All,
            "any" => Vote::Any,
            "uni" => Vote::Uniform,
            "ballot" => Vote::Ballot,
            other => return Err(self.error(&format!(".{other}: not a vote"))),
        };
        let ty = if mode == Vote::Ballot { Ty::B32 } else { Ty::Pred };
        if Ty::parse(opcode.next()) != Some(ty) {
            return Err(self.error(&format!("its result has the type {ty:?}")));
        }
        let [out, value, members] = self.exactly(operands)?;
        let (value, negated) = self.predicate(value)?;
        let members = self.source(members, Ty::B32)?;
        Ok(Op::Vote { mode, out: self.dest(out, ty)?, value, negated, members })
    }

    pub(super) fn match_values(&mut self, opcode: &mut Opcode, operands: &[Operand]) -> Result<Op, LoadError> {
        let all = opcode.next() == "all";
        self.synchronised(opcode)?;
        let ty = Ty::parse(opcode.next()).filter(|ty| matches!(ty, Ty::B32 | Ty::B64));
        let ty = ty.ok_or_else(|| self.error("values of .b32 or .b64 are matched"))?;
        let [out, value, members] = self.exactly(operands)?;
        let (out, agree) = match out {
            Operand::Pair(out, agree) if all => (out.as_ref(), Some(self.dest(agree, Ty::Pred)?)),
            out => (out, None),
        };
        let (value, members) = (self.source(value, ty)?, self.source(members, Ty::B32)?);
        Ok(Op::Match { all, out: self.dest(out, Ty::B32)?, agree, value, wide: ty == Ty::B64, members })
    }

    pub(super) fn redux(&mut self, opcode: &mut Opcode, operands: &[Operand]) -> Result<Op, LoadError> {
        self.synchronised(opcode)?;
        let op = match (opcode.next(), opcode.next()) {
            ("add", "s32" | "u32") => Redux::Add,
            ("min", "u32") => Redux::MinU,
            ("max", "u32") => Redux::MaxU,
            ("min", "s32") => Redux::MinS,
            ("max", "s32") => Redux::MaxS,
            ("and", "b32") => Redux::And,
            ("or", "b32") => Redux::Or,
            ("xor", "b32") => Redux::Xor,
            (op, ty) => return Err(self.error(&format!(".{op}.{ty}: not a reduction of the emulator"))),
        };
        let [out, value, members] = self.exactly(operands)?;
        let (value, members) = (self.source(value, Ty::B32)?, self.source(members, Ty::B32)?);
        Ok(Op::Redux { op, out: self.dest(out, Ty::B32)?, value, members })
    }

    pub(super) fn active_mask(&mut self, opcode: &mut Opcode, operands: &[Operand]) -> Result<Op, LoadError> {
        opcode.eat("b32");
        let [out] = self.exactly(operands)?;
        Ok(Op::ActiveMask { out: self.dest(out, Ty::B32)? })
    }

    pub(super) fn elect(&mut self, opcode: &mut Opcode, operands: &[Operand]) -> Result<Op, LoadError> {
        self.synchronised(opcode)?;
        let [out, members] = self.exactly(operands)?;
        let Operand::Pair(leader, out) = out else {
            return Err(self.error("its result is a pair leader|predicate"));
        };
        let leader = if **leader == Operand::Sink { None } else { Some(self.dest(leader, Ty::B32)?) };
        let members = self.source(members, Ty::B32)?;
        Ok(Op::Elect { leader, out: self.dest(out, Ty::Pred)?, members })
    }
}
