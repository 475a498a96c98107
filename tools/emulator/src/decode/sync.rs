//! Barriers and fences.

use super::{Lower, Opcode};
use crate::{
    error::LoadError,
    ir::{Barrier, BarrierReduce, Fence, Op},
    parse::Operand,
    types::Ty,
};

impl Lower<'_> {
    pub(super) fn barrier(&mut self, opcode: &mut Opcode, operands: &[Operand]) -> Result<Op, LoadError> {
        if opcode.eat_all("warp.sync") {
            let [members] = self.exactly(operands)?;
            return Ok(Op::WarpSync { members: self.source(members, Ty::B32)? });
        }
        if opcode.eat("cluster") {
            let arrives = opcode.next();
            let relaxed = opcode.one_of(&["release", "relaxed", "acquire"]) == Some("relaxed");
            let aligned = opcode.eat("aligned");
            return match arrives {
                "arrive" => Ok(Op::ClusterArrive { relaxed, aligned }),
                "wait" => Ok(Op::ClusterWait { aligned }),
                _ => Err(self.error("not implemented by the emulator")),
            };
        }
        let by_definition = opcode.head() == "bar";
        opcode.eat("cta");
        let kind = opcode.next();
        // `bar` is aligned by definition; `barrier` without `.aligned` lets lanes arrive apart, which is refused at run
        // time where it happens.
        let aligned = |opcode: &mut Opcode| opcode.eat("aligned") || by_definition;
        match kind {
            "sync" | "arrive" => {
                let aligned = aligned(opcode);
                let (id, count) = match operands {
                    [id] if kind == "sync" => (id, None),
                    [id, count] => (id, Some(self.source(count, Ty::U32)?)),
                    _ => return Err(self.error("a barrier and, for arrive, a number of threads are needed")),
                };
                let id = self.source(id, Ty::U32)?;
                let kind = if kind == "sync" { Barrier::Sync } else { Barrier::Arrive };
                Ok(Op::Barrier { kind, id, count, aligned })
            }
            "red" => {
                let how = match opcode.next() {
                    "popc" => BarrierReduce::Popc,
                    "and" => BarrierReduce::And,
                    "or" => BarrierReduce::Or,
                    other => return Err(self.error(&format!(".{other}: not a reduction"))),
                };
                let aligned = aligned(opcode);
                let ty = if how == BarrierReduce::Popc { Ty::U32 } else { Ty::Pred };
                if Ty::parse(opcode.next()) != Some(ty) {
                    return Err(self.error(&format!("its result has the type {ty:?}")));
                }
                let (out, id, count, value) = match operands {
                    [out, id, value] => (out, id, None, value),
                    [out, id, count, value] => (out, id, Some(self.source(count, Ty::U32)?), value),
                    _ => return Err(self.error("the wrong number of operands")),
                };
                let (value, negated) = self.predicate(value)?;
                let (id, out) = (self.source(id, Ty::U32)?, self.dest(out, ty)?);
                Ok(Op::Barrier { kind: Barrier::Reduce { how, out, value, negated }, id, count, aligned })
            }
            _ => Err(self.error("not implemented by the emulator")),
        }
    }

    pub(super) fn fence(&mut self, opcode: &mut Opcode) -> Result<Op, LoadError> {
        if opcode.eat_all("proxy.async") {
            let global = opcode.one_of(&["global", "shared::cta", "shared::cluster"]) == Some("global");
            return Ok(Op::Fence(if global { Fence::AsyncProxyGlobal } else { Fence::AsyncProxy }));
        }
        if opcode.eat_all("mbarrier_init.release.cluster") {
            return Ok(Op::Fence(Fence::MbarrierInit));
        }
        opcode.one_of(&["sc", "acq_rel"]);
        match self.scope(opcode) {
            Some(scope) => Ok(Op::Fence(Fence::Memory { scope })),
            None => Err(self.error("not a fence of the emulator")),
        }
    }
}
