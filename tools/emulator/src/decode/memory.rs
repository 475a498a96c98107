//! Loads, stores, atomics and address conversions.

use super::{CallParam, Lower, Opcode};
use crate::{
    alu::{Alu, Int},
    error::LoadError,
    ir::{Atomic, AtomicOp, Load, Op, Store},
    parse::Operand,
    regs::Slot,
    types::{Order, Scope, Space, Ty},
};

impl Lower<'_> {
    /// `volatile`, or an ordering and its scope.
    fn ordering(&self, opcode: &mut Opcode) -> Order {
        if opcode.one_of(&["volatile", "mmio"]).is_some() {
            return Order { scope: Some(Scope::Device), ..Order::default() };
        }
        if opcode.eat("weak") {
            return Order::default();
        }
        let order = opcode.one_of(&["relaxed", "acquire", "release", "acq_rel"]);
        let scope = self.scope(opcode);
        Order {
            scope: scope.or(order.map(|_| Scope::Device)),
            acquires: matches!(order, Some("acquire" | "acq_rel")),
            releases: matches!(order, Some("release" | "acq_rel")),
        }
    }

    pub(super) fn scope(&self, opcode: &mut Opcode) -> Option<Scope> {
        Some(match opcode.one_of(&["cta", "cluster", "gpu", "sys", "gl"])? {
            "cta" => Scope::Cta,
            "cluster" => Scope::Cluster,
            _ => Scope::Device,
        })
    }

    /// `.global`, `.shared::cluster`; without one the address is generic.
    fn space(&self, opcode: &mut Opcode) -> Space {
        if opcode.one_of(&["shared::cta", "shared::cluster"]).is_some() {
            return Space::Shared;
        }
        match opcode.one_of(&["global", "const", "shared", "local", "param"]) {
            Some(name) => Space::parse(name).expect("a space was taken"),
            None => Space::Generic,
        }
    }

    /// Modifiers that only steer caches; whether `.nc`, which also promises something, is among them.
    fn cache_hints(&self, opcode: &mut Opcode) -> bool {
        let hints = [
            "ca",
            "cg",
            "cs",
            "lu",
            "cv",
            "wb",
            "wt",
            "nc",
            "L1::evict_normal",
            "L1::evict_unchanged",
            "L1::evict_first",
            "L1::evict_last",
            "L1::no_allocate",
            "L2::64B",
            "L2::128B",
            "L2::256B",
        ];
        let mut constant = false;
        while let Some(hint) = opcode.one_of(&hints) {
            constant |= hint == "nc";
        }
        constant
    }

    /// The operands without the cache policy that `.L2::cache_hint` announces.
    pub(super) fn without_policy<'o>(
        &mut self,
        opcode: &mut Opcode,
        operands: &'o [Operand],
    ) -> Result<&'o [Operand], LoadError> {
        if !opcode.eat("L2::cache_hint") {
            return Ok(operands);
        }
        let Some((policy, rest)) = operands.split_last() else { return Err(self.error("no operands")) };
        self.source(policy, Ty::B64)?;
        Ok(rest)
    }

    /// `createpolicy`: a policy only steers caches, and is zero here.
    pub(super) fn policy(&mut self, opcode: &mut Opcode, operands: &[Operand]) -> Result<Op, LoadError> {
        while !opcode.finished() {
            opcode.next();
        }
        let [out, rest @ ..] = operands else { return Err(self.error("no destination")) };
        for operand in rest {
            match operand {
                Operand::Address { .. } => drop(self.address(operand)?),
                Operand::F32(_) | Operand::F64(_) => {}
                other => drop(self.source(other, Ty::B32)?),
            }
        }
        let zero = self.constant(0);
        Ok(Op::Alu { op: Alu::Int(Int::Mov64), out: self.dest(out, Ty::B64)?, args: [zero, Slot(0), Slot(0), Slot(0)] })
    }

    fn vector_of(&self, opcode: &mut Opcode) -> Result<(usize, Ty), LoadError> {
        let count = match opcode.one_of(&["v2", "v4", "v8"]) {
            Some("v2") => 2,
            Some("v4") => 4,
            Some(_) => return Err(self.error("vectors of 8 are not supported")),
            None => 1,
        };
        let ty = Ty::parse(opcode.next()).filter(|ty| !matches!(ty, Ty::Pred | Ty::B128));
        let ty = ty.ok_or_else(|| self.error("no type that memory holds"))?;
        if count * ty.size() as usize > 16 {
            return Err(self.error("one lane would move more than 16 bytes"));
        }
        Ok((count, ty))
    }

    pub(super) fn load(&mut self, opcode: &mut Opcode, operands: &[Operand]) -> Result<Op, LoadError> {
        let order = self.ordering(opcode);
        if order.releases {
            return Err(self.error("a load cannot release"));
        }
        let space = self.space(opcode);
        let constant = self.cache_hints(opcode);
        let operands = self.without_policy(opcode, operands)?;
        let (count, ty) = self.vector_of(opcode)?;
        let [to, from] = self.exactly(operands)?;
        if let Some(param) = self.call_param_at(space, from, ty)? {
            return self.copy(to, param, ty, true);
        }
        let address = self.address(from)?;
        Ok(Op::Load(Box::new(Load { space, to: self.elements(to, count, ty, true)?, address, order, constant })))
    }

    pub(super) fn store(&mut self, opcode: &mut Opcode, operands: &[Operand]) -> Result<Op, LoadError> {
        let order = self.ordering(opcode);
        if order.acquires {
            return Err(self.error("a store cannot acquire"));
        }
        let space = self.space(opcode);
        self.cache_hints(opcode);
        let operands = self.without_policy(opcode, operands)?;
        let (count, ty) = self.vector_of(opcode)?;
        let [to, from] = self.exactly(operands)?;
        if let Some(param) = self.call_param_at(space, to, ty)? {
            return self.copy(from, param, ty, false);
        }
        if matches!(space, Space::Const | Space::Param) {
            return Err(self.error("this space cannot be written"));
        }
        let address = self.address(to)?;
        Ok(Op::Store(Box::new(Store { space, from: self.elements(from, count, ty, false)?, address, order })))
    }

    /// The register that stands for a word of a call's parameter, when the address names one.
    fn call_param_at(&mut self, space: Space, address: &Operand, ty: Ty) -> Result<Option<Slot>, LoadError> {
        match address {
            Operand::Address { base, offset, .. } if space == Space::Param => match base.as_ref() {
                Operand::Name(name) if name.contains('#') => {
                    if ty.size() < 4 {
                        return Err(self.error("parameters of calls are words of 32 or 64 bits"));
                    }
                    self.call_param(name, *offset, ty.size()).map(Some)
                }
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// The register that stands for the bytes at an offset of a call's parameter, which must be the same words for all.
    pub(super) fn call_param(&mut self, name: &str, offset: i64, bytes: u32) -> Result<Slot, LoadError> {
        let words = self.call_params.entry(name.to_string()).or_default();
        let overlaps =
            |word: &&CallParam| offset < word.offset + i64::from(word.bytes) && word.offset < offset + i64::from(bytes);
        match words.iter().find(overlaps) {
            Some(word) if (word.offset, word.bytes) == (offset, bytes) => Ok(word.slot),
            Some(_) => Err(self.error("a parameter of a call is written and read in different words")),
            None => {
                let slot = self.new_rows(2);
                let words = self.call_params.entry(name.to_string()).or_default();
                words.push(CallParam { offset, bytes, slot });
                Ok(slot)
            }
        }
    }

    fn copy(&mut self, register: &Operand, param: Slot, ty: Ty, to_register: bool) -> Result<Op, LoadError> {
        let op = Alu::Int(if ty.size() == 8 { Int::Mov64 } else { Int::Mov32 });
        let (out, from) =
            if to_register { (self.dest(register, ty)?, param) } else { (param, self.source(register, ty)?) };
        Ok(Op::Alu { op, out, args: [from, Slot(0), Slot(0), Slot(0)] })
    }

    pub(super) fn atomic(&mut self, opcode: &mut Opcode, operands: &[Operand], returns: bool) -> Result<Op, LoadError> {
        // The ordering may stand before the space, behind it or behind the operation.
        let mut order = self.ordering(opcode);
        let mut more = |lower: &Self, opcode: &mut Opcode| {
            let found = lower.ordering(opcode);
            order = if found == Order::default() { order } else { found };
        };
        let space = self.space(opcode);
        if !matches!(space, Space::Generic | Space::Global | Space::Shared) {
            return Err(self.error("atomics work on global and shared memory"));
        }
        more(self, opcode);
        let op = match opcode.next() {
            "add" => AtomicOp::Add,
            "min" => AtomicOp::Min,
            "max" => AtomicOp::Max,
            "and" => AtomicOp::And,
            "or" => AtomicOp::Or,
            "xor" => AtomicOp::Xor,
            "inc" => AtomicOp::Inc,
            "dec" => AtomicOp::Dec,
            "exch" => AtomicOp::Exchange,
            "cas" => AtomicOp::CompareAndSwap,
            other => return Err(self.error(&format!(".{other}: not an atomic operation"))),
        };
        more(self, opcode);
        order.scope = order.scope.or(Some(Scope::Device));
        let noftz = opcode.eat("noftz");
        let operands = self.without_policy(opcode, operands)?;
        let count = match opcode.one_of(&["v2", "v4", "v8"]) {
            None => 1,
            Some(vector) => usize::from(vector.as_bytes()[1] - b'0'),
        };
        let ty = Ty::parse(opcode.next()).ok_or_else(|| self.error("an atomic needs a type"))?;
        let vector = count * ty.size() as usize <= 16 && space != Space::Shared && op_adds(op, ty);
        if !defined(op, ty)
            || count > 1 && !vector
            || noftz != (op == AtomicOp::Add && matches!(ty, Ty::F16 | Ty::Bf16 | Ty::F16x2 | Ty::Bf16x2))
        {
            return Err(self.error(&format!("{op:?} on {ty:?} is not an atomic that PTX defines")));
        }
        let (out, rest) = if returns {
            let [out, rest @ ..] = operands else { return Err(self.error("no operands")) };
            (self.each_of(out), rest)
        } else {
            (&[][..], operands)
        };
        let (address, values, swap) = match rest {
            [address, value] if op != AtomicOp::CompareAndSwap => (address, self.each_of(value), None),
            [address, value, swap] if op == AtomicOp::CompareAndSwap => {
                (address, self.each_of(value), Some(self.source(swap, ty)?))
            }
            _ => return Err(self.error("the wrong number of operands")),
        };
        if values.len() != count || returns && out.len() != count {
            return Err(self.error(&format!("{} registers given, {count} expected", values.len())));
        }
        let address = self.address(address)?;
        let mut elements = vec![];
        for (k, value) in values.iter().enumerate() {
            let out = match out.get(k) {
                None | Some(Operand::Sink) => None,
                Some(out) => Some(self.dest(out, ty)?),
            };
            elements.push((out, self.source(value, ty)?));
        }
        Ok(Op::Atomic(Box::new(Atomic { space, op, ty, address, order, elements: elements.into(), swap })))
    }

    fn each_of<'o>(&self, operand: &'o Operand) -> &'o [Operand] {
        match operand {
            Operand::Vector(list) => list,
            single => std::slice::from_ref(single),
        }
    }

    /// `cvta`: a space's addresses become generic or back by adding or subtracting its window.
    pub(super) fn convert_address(&mut self, opcode: &mut Opcode, operands: &[Operand]) -> Result<Op, LoadError> {
        let back = opcode.eat("to");
        let space = match self.space(opcode) {
            Space::Generic => return Err(self.error("no space that addresses are converted from")),
            space => space,
        };
        let ty = Ty::parse(opcode.next()).filter(|ty| *ty == Ty::U64);
        let ty = ty.ok_or_else(|| self.error("addresses have the type .u64"))?;
        let [out, from] = self.exactly(operands)?;
        let (from, window) = (self.source(from, ty)?, self.window(space));
        let op = Alu::Int(if back { Int::Sub64 } else { Int::Add64 });
        Ok(Op::Alu { op, out: self.dest(out, ty)?, args: [from, window, Slot(0), Slot(0)] })
    }

    pub(super) fn map_shared(&mut self, opcode: &mut Opcode, operands: &[Operand]) -> Result<Op, LoadError> {
        let generic = !opcode.eat("shared::cluster");
        let ty = Ty::parse(opcode.next()).filter(|ty| *ty == if generic { Ty::U64 } else { Ty::U32 });
        let ty = ty.ok_or_else(|| self.error("mapa.u64 and mapa.shared::cluster.u32 are supported"))?;
        let [out, address, rank] = self.exactly(operands)?;
        let (address, rank) = (self.source(address, ty)?, self.source(rank, Ty::U32)?);
        Ok(Op::MapShared { out: self.dest(out, ty)?, address, rank, generic })
    }

    pub(super) fn is_space(&mut self, opcode: &mut Opcode, operands: &[Operand]) -> Result<Op, LoadError> {
        let own = matches!(opcode.peek(), "shared" | "shared::cta");
        let space = self.space(opcode);
        let [out, address] = self.exactly(operands)?;
        let address = self.source(address, Ty::U64)?;
        Ok(Op::IsSpace { out: self.dest(out, Ty::Pred)?, address, space, own })
    }
}

/// Vectors of floats are added.
fn op_adds(op: AtomicOp, ty: Ty) -> bool {
    op == AtomicOp::Add && matches!(ty, Ty::F32 | Ty::F16 | Ty::Bf16 | Ty::F16x2 | Ty::Bf16x2)
}

/// The combinations in the tables of `atom` and `red`.
fn defined(op: AtomicOp, ty: Ty) -> bool {
    use {AtomicOp as A, Ty as T};
    match op {
        A::Add => matches!(ty, T::U32 | T::S32 | T::U64 | T::F32 | T::F64 | T::F16 | T::F16x2 | T::Bf16 | T::Bf16x2),
        A::Min | A::Max => matches!(ty, T::U32 | T::S32 | T::U64 | T::S64),
        A::And | A::Or | A::Xor => matches!(ty, T::B32 | T::B64),
        A::Inc | A::Dec => ty == T::U32,
        A::Exchange => matches!(ty, T::B32 | T::B64),
        A::CompareAndSwap => matches!(ty, T::B16 | T::B32 | T::B64),
    }
}
