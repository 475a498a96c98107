//! Branches, calls to what the runtime provides, and packing moves.

use super::{Lower, Opcode};
use crate::{
    error::LoadError,
    ir::{Op, Print},
    parse::Operand,
    types::Ty,
};

impl Lower<'_> {
    pub(super) fn branch(&mut self, opcode: &mut Opcode, operands: &[Operand]) -> Result<Op, LoadError> {
        opcode.eat("uni");
        let [target] = self.exactly(operands)?;
        match target {
            Operand::Label(label) => Ok(Op::Branch {
                target: u32::try_from(self.function.labels[*label]).unwrap_or(u32::MAX),
                join: u32::MAX,
            }),
            other => Err(self.error(&format!("{other:?}: a label of this entry is needed"))),
        }
    }

    /// `mov` between one register and several: the first part is the lowest.
    pub(super) fn pack(&mut self, opcode: &mut Opcode, operands: &[Operand]) -> Result<Op, LoadError> {
        let ty = Ty::parse(opcode.next()).filter(|ty| matches!(ty, Ty::B32 | Ty::B64));
        let ty = ty.ok_or_else(|| self.error("only .b32 and .b64 are packed"))?;
        match self.exactly(operands)? {
            [out, Operand::Vector(parts)] => {
                let part = self.part(ty, parts.len())?;
                let parts = parts.iter().map(|p| self.source(p, part)).collect::<Result<Box<[_]>, _>>()?;
                Ok(Op::Pack { out: self.dest(out, ty)?, parts, bits: part.size() * 8 })
            }
            [Operand::Vector(parts), from] => {
                let part = self.part(ty, parts.len())?;
                let from = self.source(from, ty)?;
                let parts = parts
                    .iter()
                    .map(|p| if *p == Operand::Sink { Ok(None) } else { self.dest(p, part).map(Some) })
                    .collect::<Result<Box<[_]>, _>>()?;
                Ok(Op::Unpack { parts, from, bits: part.size() * 8 })
            }
            _ => Err(self.error("one vector is needed among the operands")),
        }
    }

    fn part(&self, whole: Ty, parts: usize) -> Result<Ty, LoadError> {
        match whole.size() as usize * 8 / parts.max(1) {
            16 if parts > 1 => Ok(Ty::B16),
            32 if parts > 1 => Ok(Ty::B32),
            _ => Err(self.error(&format!("{parts} parts: their registers would not have 16 or 32 bits"))),
        }
    }

    /// Calls of the functions that the runtime provides; those with a body have been put in place of their calls.
    pub(super) fn call(&mut self, opcode: &mut Opcode, operands: &[Operand]) -> Result<Op, LoadError> {
        opcode.eat("uni");
        let (out, name, arguments) = match operands {
            [Operand::List(out), Operand::Name(name), Operand::List(arguments)] => (out.as_slice(), name, arguments),
            [Operand::Name(name), Operand::List(arguments)] => (&[][..], name, arguments),
            _ => return Err(self.error("not a call of a named function")),
        };
        let words: &[u32] = match name.as_str() {
            "vprintf" => &[8, 8],
            "__assertfail" => &[8, 8, 4, 8, 8],
            _ => &[],
        };
        let mut slots = vec![];
        for (argument, bytes) in arguments.iter().zip(words) {
            let Operand::Name(name) = argument else {
                return Err(self.error("an argument is not a .param variable"));
            };
            slots.push(self.call_param(name, 0, *bytes)?);
        }
        match (name.as_str(), slots.as_slice()) {
            ("vprintf", [format, arguments]) => {
                let out = match out {
                    [Operand::Name(name)] => Some(self.call_param(name, 0, 4)?),
                    _ => None,
                };
                Ok(Op::Print(Box::new(Print { format: *format, arguments: *arguments, out })))
            }
            ("__assertfail", [message, file, line, function, _]) => {
                Ok(Op::Assert { message: *message, file: *file, line: *line, function: *function })
            }
            _ => Err(self.error(&format!(
                "{name}: no body of it is here, and of the runtime only vprintf and __assertfail are"
            ))),
        }
    }

    pub(super) fn hint(&mut self, opcode: &mut Opcode, operands: &[Operand]) -> Result<Op, LoadError> {
        while !opcode.finished() {
            opcode.next();
        }
        for operand in operands {
            match operand {
                Operand::Address { .. } => drop(self.address(operand)?),
                other => drop(self.source(other, Ty::B32)?),
            }
        }
        Ok(Op::Hint)
    }
}
