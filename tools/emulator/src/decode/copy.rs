//! Asynchronous copies: `cp.async`, bulk copies and tensor tiles, and the mbarriers they complete on.

use super::{Lower, Opcode};
use crate::{
    error::LoadError,
    ir::{AtomicOp, Bulk, BulkShape, BulkWay, LaneCopy, Mbarrier, MbarrierOp, Op, Phase},
    parse::Operand,
    types::{Scope, Ty},
};

impl Lower<'_> {
    pub(super) fn copy_async(&mut self, opcode: &mut Opcode, operands: &[Operand]) -> Result<Op, LoadError> {
        if opcode.eat("reduce") {
            if opcode.eat_all("async.bulk") {
                return self.bulk(opcode, operands, true);
            }
            return Err(self.error("not implemented by the emulator"));
        }
        if !opcode.eat("async") {
            return Err(self.error("not implemented by the emulator"));
        }
        match opcode.peek() {
            "bulk" => {
                opcode.next();
                self.bulk(opcode, operands, false)
            }
            "commit_group" => {
                opcode.next();
                Ok(Op::CopyCommit)
            }
            "wait_group" => {
                opcode.next();
                Ok(Op::CopyWait { pending: self.pending(operands)? })
            }
            "wait_all" => {
                opcode.next();
                Ok(Op::CopyWaitAll)
            }
            "mbarrier" => {
                let noinc = opcode.eat_all("mbarrier.arrive.noinc");
                if !noinc && !opcode.eat_all("mbarrier.arrive") {
                    return Err(self.error("not implemented by the emulator"));
                }
                opcode.one_of(&["shared", "shared::cta"]);
                opcode.eat("b64");
                let [address] = self.exactly(operands)?;
                Ok(Op::CopyArrive { address: self.address(address)?, noinc })
            }
            _ => self.lane_copy(opcode, operands),
        }
    }

    /// The constant of a wait: groups that may stay under way.
    pub(super) fn pending(&self, operands: &[Operand]) -> Result<u32, LoadError> {
        match self.exactly(operands)? {
            [Operand::Int(pending)] if (0..=1 << 16).contains(pending) => Ok(*pending as u32),
            [other] => Err(self.error(&format!("{other:?}: a small constant is needed"))),
        }
    }

    fn lane_copy(&mut self, opcode: &mut Opcode, operands: &[Operand]) -> Result<Op, LoadError> {
        let cached_everywhere = match opcode.one_of(&["ca", "cg"]) {
            Some(level) => level == "ca",
            None => return Err(self.error("not implemented by the emulator")),
        };
        if !opcode.eat_all("shared.global") && !opcode.eat_all("shared::cta.global") {
            return Err(self.error("only copies from global to shared memory are defined"));
        }
        let hinted = opcode.eat("L2::cache_hint");
        opcode.one_of(&["L2::64B", "L2::128B", "L2::256B"]);
        let operands = match operands.split_last() {
            Some((policy, rest)) if hinted => {
                self.source(policy, Ty::B64)?;
                rest
            }
            _ => operands,
        };
        let [to, from, Operand::Int(size), rest @ ..] = operands else {
            return Err(self.error("two addresses and a constant size are needed"));
        };
        if !(*size == 16 || cached_everywhere && matches!(size, 4 | 8)) {
            return Err(self.error(&format!("{size} bytes cannot be copied; .cg copies 16, .ca 4, 8 or 16")));
        }
        let (mut read, mut ignore) = (None, None);
        match rest {
            [] => {}
            [Operand::Reg(reg)] if self.type_of(*reg) == Ty::Pred => ignore = Some(self.predicate(&rest[0])?),
            [Operand::Not(_)] => ignore = Some(self.predicate(&rest[0])?),
            [bytes] => read = Some(self.source(bytes, Ty::U32)?),
            _ => return Err(self.error("too many operands")),
        }
        let (to, from) = (self.address(to)?, self.address(from)?);
        Ok(Op::Copy(Box::new(LaneCopy { to, from, size: *size as u32, read, ignore })))
    }

    fn bulk(&mut self, opcode: &mut Opcode, operands: &[Operand], reduces: bool) -> Result<Op, LoadError> {
        if opcode.eat("commit_group") {
            return Ok(Op::BulkCommit);
        }
        if opcode.eat("wait_group") {
            let read = opcode.eat("read");
            return Ok(Op::BulkWait { pending: self.pending(operands)?, read });
        }
        if opcode.eat("prefetch") {
            while !opcode.finished() {
                opcode.next();
            }
            return Ok(Op::Hint);
        }
        let rank = match opcode.eat("tensor") {
            true => match opcode.next() {
                "1d" => Some(1),
                "2d" => Some(2),
                "3d" => Some(3),
                other => return Err(self.error(&format!("tiles of .{other} are not supported; 1d to 3d are"))),
            },
            false => None,
        };
        let load = opcode.eat_all("shared::cluster.global") || opcode.eat_all("shared::cta.global");
        let forward = !load && rank.is_none() && opcode.eat_all("shared::cluster.shared::cta");
        if !load && !forward && !opcode.eat_all("global.shared::cta") {
            return Err(self.error("copies go between global and shared memory, or within a cluster's shared memory"));
        }
        if reduces && (load || forward) {
            return Err(self.error("only reductions into global memory are supported"));
        }
        if rank.is_some() {
            opcode.eat("tile");
        }
        let (mechanism, hint) =
            if load || forward { ("mbarrier::complete_tx::bytes", "multicast::cluster") } else { ("bulk_group", "") };
        // A tensor's reduction stands before the way it completes, a row's behind.
        let mut reduce = None;
        if reduces && rank.is_some() {
            reduce = Some((opcode.next(), ""));
        }
        opcode.eat("tile");
        if !opcode.eat(mechanism) {
            return Err(self.error(&format!("completion by .{mechanism} is needed")));
        }
        let multicast = !hint.is_empty() && opcode.eat(hint);
        let cache_hint = opcode.eat("L2::cache_hint");
        if reduces && rank.is_none() {
            let op = opcode.next();
            opcode.eat("noftz");
            reduce = Some((op, opcode.next()));
        }
        let mut operands = operands.to_vec();
        if cache_hint && let Some(policy) = operands.pop() {
            self.source(&policy, Ty::B64)?;
        }
        let multicast = match multicast.then(|| operands.pop()).flatten() {
            Some(mask) => Some(self.source(&mask, Ty::B16)?),
            None => None,
        };
        self.bulk_operands(rank, load, forward, reduce, &operands, multicast)
    }

    fn bulk_operands(
        &mut self,
        rank: Option<usize>,
        load: bool,
        forward: bool,
        reduce: Option<(&str, &str)>,
        operands: &[Operand],
        multicast: Option<crate::regs::Slot>,
    ) -> Result<Op, LoadError> {
        let (shape, way, shared) = match (rank, operands) {
            (None, [to, from, bytes, mbarrier]) if load || forward => {
                let mbarrier = self.address(mbarrier)?;
                let shape = BulkShape::Row { other: self.address(from)?, bytes: self.source(bytes, Ty::U32)? };
                let way = if load { BulkWay::Load { mbarrier } } else { BulkWay::Forward { mbarrier } };
                (shape, way, self.address(to)?)
            }
            (None, [to, from, bytes]) if !load && !forward => {
                let shape = BulkShape::Row { other: self.address(to)?, bytes: self.source(bytes, Ty::U32)? };
                (shape, BulkWay::Store { reduce: self.reduction(reduce)? }, self.address(from)?)
            }
            (Some(rank), [to, from, mbarrier]) if load => {
                let shape = self.tile(from, rank)?;
                (shape, BulkWay::Load { mbarrier: self.address(mbarrier)? }, self.address(to)?)
            }
            (Some(rank), [to, from]) if !load => {
                let reduce = match reduce {
                    None => None,
                    Some(("add", _)) => Some((AtomicOp::Add, Ty::B8)),
                    Some((other, _)) => return Err(self.error(&format!("tile reduction .{other} is not supported"))),
                };
                (self.tile(to, rank)?, BulkWay::Store { reduce }, self.address(from)?)
            }
            _ => return Err(self.error("the wrong number of operands")),
        };
        Ok(Op::Bulk(Box::new(Bulk { shape, way, shared, multicast })))
    }

    /// `[map, {x, y}]`
    fn tile(&mut self, operand: &Operand, rank: usize) -> Result<BulkShape, LoadError> {
        let Operand::Address { base, offset, coordinates } = operand else {
            return Err(self.error("a tensor map with coordinates is needed"));
        };
        if coordinates.len() != rank {
            return Err(self.error(&format!("{} coordinates given, {rank} expected", coordinates.len())));
        }
        let coordinates = coordinates.iter().map(|c| self.source(c, Ty::S32)).collect::<Result<_, _>>()?;
        Ok(BulkShape::Tile { map: self.base(base, *offset)?, coordinates })
    }

    /// The reductions of bulk rows into global memory.
    fn reduction(&self, reduce: Option<(&str, &str)>) -> Result<Option<(AtomicOp, Ty)>, LoadError> {
        let Some((op, ty)) = reduce else { return Ok(None) };
        match (op, Ty::parse(ty)) {
            ("add", Some(ty @ (Ty::F32 | Ty::F64 | Ty::F16 | Ty::Bf16 | Ty::U32 | Ty::S32 | Ty::U64))) => {
                Ok(Some((AtomicOp::Add, ty)))
            }
            ("min", Some(ty @ (Ty::U32 | Ty::S32 | Ty::U64 | Ty::S64))) => Ok(Some((AtomicOp::Min, ty))),
            ("max", Some(ty @ (Ty::U32 | Ty::S32 | Ty::U64 | Ty::S64))) => Ok(Some((AtomicOp::Max, ty))),
            _ => Err(self.error(&format!("reduction .{op}.{ty} is not supported"))),
        }
    }

    pub(super) fn mbarrier(&mut self, opcode: &mut Opcode, operands: &[Operand]) -> Result<Op, LoadError> {
        let verb = opcode.next();
        let expects = verb == "arrive" && opcode.eat("expect_tx");
        let parity = matches!(verb, "try_wait" | "test_wait") && opcode.eat("parity");
        if verb != "expect_tx" && opcode.has("relaxed") {
            return Err(self.error(".relaxed is not supported; .release and .acquire are"));
        }
        opcode.one_of(&["release", "acquire", "relaxed"]);
        let own = opcode.one_of(&["cta", "cluster"]) == Some("cta");
        let scope = if own { Scope::Cta } else { Scope::Cluster };
        let cluster = opcode.eat("shared::cluster");
        if !cluster {
            opcode.one_of(&["shared", "shared::cta"]);
        }
        if !opcode.eat("b64") {
            return Err(self.error("an mbarrier has the type .b64"));
        }
        let (address, op) = match (verb, operands) {
            ("init", [address, count]) => (address, MbarrierOp::Init { count: self.source(count, Ty::U32)? }),
            ("inval", [address]) => (address, MbarrierOp::Invalidate),
            ("expect_tx", [address, bytes]) => (address, MbarrierOp::ExpectTx { bytes: self.source(bytes, Ty::U32)? }),
            ("arrive" | "arrive_drop", [state, address, rest @ ..]) if rest.len() <= 1 => {
                let state = if *state == Operand::Sink { None } else { Some(self.dest(state, Ty::B64)?) };
                let amount = match rest {
                    [amount] => Some(self.source(amount, Ty::U32)?),
                    _ => None,
                };
                if expects && amount.is_none() {
                    return Err(self.error("the number of bytes is missing"));
                }
                let (expect, count) = if expects { (amount, None) } else { (None, amount) };
                (address, MbarrierOp::Arrive { expect, count, state, drop: verb == "arrive_drop" })
            }
            ("try_wait" | "test_wait", [out, address, phase, rest @ ..]) if rest.len() <= 1 => {
                let phase = if parity {
                    Phase::Parity(self.source(phase, Ty::U32)?)
                } else {
                    Phase::State(self.source(phase, Ty::B64)?)
                };
                // A hint how long to suspend.
                for hint in rest {
                    self.source(hint, Ty::U32)?;
                }
                let out = self.dest(out, Ty::Pred)?;
                (address, MbarrierOp::Wait { out, phase, suspends: verb == "try_wait", ignored: false, retried: false })
            }
            _ => return Err(self.error("not implemented by the emulator")),
        };
        let address = self.address(address)?;
        Ok(Op::Mbarrier(Box::new(Mbarrier { address, op, cluster, scope })))
    }
}
