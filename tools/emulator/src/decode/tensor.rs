//! Matrix loads, stores and products.

use super::{Lower, Opcode};
use crate::{
    error::LoadError,
    ir::{Accumulator, Element, Matrices, Mma, Op, Wgmma, WgmmaA},
    parse::Operand,
    regs::Slot,
    types::Ty,
};

impl Lower<'_> {
    pub(super) fn matrices(&mut self, opcode: &mut Opcode, operands: &[Operand], load: bool) -> Result<Op, LoadError> {
        if !opcode.eat_all("sync.aligned.m8n8") {
            return Err(self.error("only .sync.aligned.m8n8 is supported"));
        }
        let count = match opcode.next() {
            "x1" => 1,
            "x2" => 2,
            "x4" => 4,
            other => return Err(self.error(&format!(".{other}: not a number of matrices"))),
        };
        let transposed = opcode.eat("trans");
        opcode.one_of(&["shared", "shared::cta"]);
        if !opcode.eat("b16") {
            return Err(self.error("only elements of .b16 are supported"));
        }
        let (registers, address) = match (load, operands) {
            (true, [registers, address]) | (false, [address, registers]) => (registers, address),
            _ => return Err(self.error("an address and a vector of registers are needed")),
        };
        let slots = self.fragment(registers, count, Ty::B32, load)?;
        let address = self.address(address)?;
        let matrices = Box::new(Matrices { slots, address, transposed });
        Ok(if load { Op::LdMatrix(matrices) } else { Op::StMatrix(matrices) })
    }

    /// The registers of a matrix fragment.
    fn fragment(&mut self, operand: &Operand, count: usize, ty: Ty, write: bool) -> Result<Box<[Slot]>, LoadError> {
        let list = match operand {
            Operand::Vector(list) => list.as_slice(),
            single => std::slice::from_ref(single),
        };
        if list.len() != count {
            return Err(self.error(&format!("{} registers given, a fragment has {count}", list.len())));
        }
        list.iter().map(|r| if write { self.dest(r, ty) } else { self.source(r, ty) }).collect()
    }

    fn element(&self, name: &str) -> Result<Element, LoadError> {
        Ok(match name {
            "bf16" => Element::Bf16,
            "f16" => Element::F16,
            "tf32" => Element::Tf32,
            "s8" => Element::S8,
            "u8" => Element::U8,
            other => return Err(self.error(&format!("elements of .{other} are not supported"))),
        })
    }

    fn accumulator(&self, name: &str) -> Result<Accumulator, LoadError> {
        Ok(match name {
            "f32" => Accumulator::F32,
            "f16" => Accumulator::F16,
            "s32" => Accumulator::S32,
            other => return Err(self.error(&format!("accumulators of .{other} are not supported"))),
        })
    }

    /// Whether these types multiply, and the type of the registers that hold accumulators.
    fn types_agree(&self, a: Element, b: Element, accumulator: Accumulator) -> Result<Ty, LoadError> {
        use {Accumulator as C, Element as E};
        let agree = match (a, b) {
            (E::S8 | E::U8, E::S8 | E::U8) => accumulator == C::S32,
            (E::F16, E::F16) => matches!(accumulator, C::F32 | C::F16),
            (a, b) => a == b && accumulator == C::F32,
        };
        if !agree {
            return Err(self.error(&format!("{a:?} times {b:?} into {accumulator:?} is not a product of PTX")));
        }
        Ok(match accumulator {
            C::F32 => Ty::F32,
            C::F16 | C::S32 => Ty::B32,
        })
    }

    pub(super) fn mma(&mut self, opcode: &mut Opcode, operands: &[Operand]) -> Result<Op, LoadError> {
        if !opcode.eat_all("sync.aligned") {
            return Err(self.error("only .sync.aligned is supported"));
        }
        let shape = opcode.next();
        let k: usize = shape.strip_prefix("m16n8k").and_then(|k| k.parse().ok()).unwrap_or(0);
        if !opcode.eat_all("row.col") {
            return Err(self.error("only .row.col is supported"));
        }
        let d_type = self.accumulator(opcode.next())?;
        let (a_type, b_type) = (self.element(opcode.next())?, self.element(opcode.next())?);
        if self.accumulator(opcode.next())? != d_type {
            return Err(self.error("C and D of different types are not supported"));
        }
        let held = self.types_agree(a_type, b_type, d_type)?;
        // A register row of 16 bytes per row of 8 lanes' quads: K is 1 or 2 blocks of 4 lanes x 4 bytes.
        let block = 16 / a_type.size();
        if k != block && k != 2 * block {
            return Err(self.error(&format!("{shape} of {a_type:?} is not supported")));
        }
        let [d, a, b, c] = self.exactly(operands)?;
        let accumulators = if d_type == Accumulator::F16 { 2 } else { 4 };
        let a = self.fragment(a, 2 * k / block, Ty::B32, false)?;
        let b = self.fragment(b, k / block, Ty::B32, false)?;
        let c = self.fragment(c, accumulators, held, false)?;
        let d = self.fragment(d, accumulators, held, true)?;
        Ok(Op::Mma(Box::new(Mma { k, a_type, b_type, accumulator: d_type, d, a, b, c })))
    }

    pub(super) fn wgmma(&mut self, opcode: &mut Opcode, operands: &[Operand]) -> Result<Op, LoadError> {
        match opcode.next() {
            "fence" if opcode.eat_all("sync.aligned") => Ok(Op::WgmmaFence),
            "commit_group" if opcode.eat_all("sync.aligned") => Ok(Op::WgmmaCommit),
            "wait_group" if opcode.eat_all("sync.aligned") => Ok(Op::WgmmaWait { pending: self.pending(operands)? }),
            "mma_async" if opcode.eat_all("sync.aligned") => self.wgmma_product(opcode, operands),
            _ => Err(self.error("not implemented by the emulator")),
        }
    }

    fn wgmma_product(&mut self, opcode: &mut Opcode, operands: &[Operand]) -> Result<Op, LoadError> {
        let shape = opcode.next();
        let (n, k): (usize, usize) = shape
            .strip_prefix("m64n")
            .and_then(|s| s.split_once('k'))
            .and_then(|(n, k)| Some((n.parse().ok()?, k.parse().ok()?)))
            .ok_or_else(|| self.error(&format!(".{shape}: not a shape m64nNkK")))?;
        let accumulator = self.accumulator(opcode.next())?;
        let (a_type, b_type) = (self.element(opcode.next())?, self.element(opcode.next())?);
        let held = self.types_agree(a_type, b_type, accumulator)?;
        let integer = accumulator == Accumulator::S32;
        let n_fits = n.is_multiple_of(8) && (8..=256).contains(&n) && (!integer || n.is_multiple_of(16) || n <= 32);
        if k * a_type.size() != 32 || !n_fits {
            return Err(self.error(&format!(".{shape} of {a_type:?} is not a shape of PTX")));
        }
        let [d, a, b, scale_d, rest @ ..] = operands else {
            return Err(self.error("the wrong number of operands"));
        };
        let in_registers = matches!(a, Operand::Vector(_));
        let movable = a_type.size() == 2;
        // Scales for floats, and for 16-bit elements the major-ness of what lies in shared memory.
        let expected = if integer { 0 } else { 2 } + if movable { 1 + usize::from(!in_registers) } else { 0 };
        let flags: Vec<i64> =
            rest.iter().filter_map(|o| if let Operand::Int(value) = o { Some(*value) } else { None }).collect();
        if flags.len() != rest.len() || flags.len() != expected {
            return Err(self.error(&format!("{expected} immediate operands are needed after scale-d")));
        }
        let (scales, majors) = flags.split_at(if integer { 0 } else { 2 });
        if scales.iter().any(|s| s.abs() != 1) || majors.iter().any(|m| !matches!(m, 0 | 1)) {
            return Err(self.error("imm-scale is 1 or -1, imm-trans 0 or 1"));
        }
        let accumulators = if accumulator == Accumulator::F16 { n / 4 } else { n / 2 };
        // The accumulators are read as well as written.
        self.fragment(d, accumulators, held, false)?;
        let d = self.fragment(d, accumulators, held, true)?;
        let a = if in_registers {
            let slots = self.fragment(a, 4, Ty::B32, false)?;
            WgmmaA::Registers([slots[0], slots[1], slots[2], slots[3]])
        } else {
            WgmmaA::Descriptor(self.source(a, Ty::B64)?)
        };
        let b = self.source(b, Ty::B64)?;
        Ok(Op::Wgmma(Box::new(Wgmma {
            n,
            a_type,
            b_type,
            accumulator,
            d,
            a,
            b,
            scale_d: self.predicate(scale_d)?,
            negate_a: scales.first() == Some(&-1),
            negate_b: scales.get(1) == Some(&-1),
            a_transposed: !in_registers && majors.first() == Some(&1),
            b_transposed: majors.last() == Some(&1),
            unfenced: false,
        })))
    }

    pub(super) fn set_max_registers(&mut self, opcode: &mut Opcode, operands: &[Operand]) -> Result<Op, LoadError> {
        if opcode.one_of(&["inc", "dec"]).is_none() || !opcode.eat_all("sync.aligned.u32") {
            return Err(self.error("only .inc and .dec.sync.aligned.u32 are defined"));
        }
        match self.exactly(operands)? {
            [Operand::Int(count)] if (24..=256).contains(count) && count % 8 == 0 => {
                Ok(Op::SetMaxRegisters { count: *count as u32 })
            }
            [other] => Err(self.error(&format!("{other:?}: a multiple of 8 from 24 to 256 is needed"))),
        }
    }
}
