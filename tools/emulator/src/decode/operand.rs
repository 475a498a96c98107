//! Operands to slots: registers, constants, special registers and addresses, each checked against the type it must have.

use super::Lower;
use crate::{
    error::LoadError,
    ir::{Address, Elements, LaneMask, Special},
    parse::{Operand, Reg},
    regs::Slot,
    types::{Space, Ty},
    window,
};

impl Lower<'_> {
    pub(super) fn error(&self, message: &str) -> LoadError {
        let (line, op) = self.current.map_or((0, ""), |s| (s.line, s.op.as_str()));
        LoadError::at(line, format!("{op}: {message}"))
    }

    pub(super) fn new_rows(&mut self, rows: u32) -> Slot {
        self.rows += rows;
        Slot(self.rows - rows)
    }

    pub(super) fn new_mask(&mut self) -> Slot {
        self.masks += 1;
        Slot(self.masks - 1)
    }

    pub(super) fn take_effects(&mut self, guarded: bool) -> crate::cfg::Effects {
        let mut effects = std::mem::take(&mut self.effects);
        effects.guarded = guarded;
        effects
    }

    /// A slot that holds `value` in every lane; its first row holds the low word.
    pub(super) fn constant(&mut self, value: u64) -> Slot {
        if let Some(slot) = self.constants.get(&value) {
            return *slot;
        }
        let slot = self.new_rows(2);
        self.constants.insert(value, slot);
        slot
    }

    /// A predicate that is always true.
    pub(super) fn truth(&mut self) -> Slot {
        if self.truth.is_none() {
            self.truth = Some(self.new_mask());
        }
        self.truth.expect("set above")
    }

    /// A predicate that is never true: nothing writes it.
    fn falsehood(&mut self) -> Slot {
        if self.falsehood.is_none() {
            self.falsehood = Some(self.new_mask());
        }
        self.falsehood.expect("set above")
    }

    /// The carry flag.
    pub(super) fn carry_flag(&mut self) -> Slot {
        if self.flag.is_none() {
            self.flag = Some(self.new_mask());
        }
        self.flag.expect("set above")
    }

    pub(super) fn type_of(&self, reg: Reg) -> Ty {
        self.function.registers[reg.0 as usize]
    }

    fn slot_of(&self, reg: Reg) -> Slot {
        self.slots[reg.0 as usize]
    }

    fn fits(&self, reg: Reg, ty: Ty) -> Result<(), LoadError> {
        let held = self.type_of(reg);
        // No register has 8 bits: such values ride in registers of 16 or 32.
        let fits = held.size() == ty.size() || ty.size() == 1 && matches!(held.size(), 2 | 4);
        if fits { Ok(()) } else { Err(self.error(&format!("register of type {held:?}: {ty:?} is needed"))) }
    }

    /// The slot a source of type `ty` is read from.
    pub(super) fn source(&mut self, operand: &Operand, ty: Ty) -> Result<Slot, LoadError> {
        match operand {
            Operand::Reg(reg) => {
                self.fits(*reg, ty)?;
                self.effects.reads.push(reg.0);
                Ok(self.slot_of(*reg))
            }
            // nvcc writes true as -1.
            Operand::Int(value) if ty == Ty::Pred => Ok(if *value != 0 { self.truth() } else { self.falsehood() }),
            Operand::Int(_) | Operand::F32(_) | Operand::F64(_) => {
                let value = self.literal(operand, ty)?;
                Ok(self.constant(value))
            }
            Operand::Name(name) => {
                let name = name.clone();
                self.named(&name, ty)
            }
            other => Err(self.error(&format!("operand {other:?}: a register or a constant is needed"))),
        }
    }

    fn literal(&self, operand: &Operand, ty: Ty) -> Result<u64, LoadError> {
        Ok(match (operand, ty) {
            (Operand::F32(bits), Ty::F32 | Ty::B32) => u64::from(*bits),
            (Operand::F64(bits), Ty::F64 | Ty::B64) => *bits,
            (Operand::F64(bits), Ty::F32) => u64::from((f64::from_bits(*bits) as f32).to_bits()),
            (Operand::Int(value), ty) if !matches!(ty, Ty::F32 | Ty::F64 | Ty::Pred) => *value as u64,
            // `mov.f32` shares its table line with the integers.
            (Operand::F32(bits), Ty::U32) => u64::from(*bits),
            (Operand::F64(bits), Ty::U64) => *bits,
            _ => return Err(self.error(&format!("literal {operand:?}: {ty:?} is needed"))),
        })
    }

    /// A special register, or the address of a variable or parameter.
    fn named(&mut self, name: &str, ty: Ty) -> Result<Slot, LoadError> {
        if let Some(special) = special(name) {
            if ty.size() > 4 {
                return Err(self.error(&format!("{name}: a register of 32 bits is needed for it")));
            }
            if let Some(slot) = self.specials.get(&special) {
                return Ok(*slot);
            }
            let slot = self.new_rows(1);
            self.specials.insert(special, slot);
            return Ok(slot);
        }
        if name == "WARP_SZ" {
            return Ok(self.constant(32));
        }
        match self.symbols.get(name).copied() {
            Some((_, address)) if ty.size() == 8 || ty.size() == 4 && u32::try_from(address).is_ok() => {
                Ok(self.constant(address))
            }
            Some((_, address)) if ty.size() == 4 => {
                Err(self.error(&format!("{name}: its address {address:#x} does not fit 32 bits")))
            }
            // The runtime's workspace, where cooperative groups count the CTAs of the grid.
            _ if name.starts_with("%envreg") => Err(self.error(&format!(
                "{name}: a barrier of the grid (cooperative groups) needs CTAs that run side by side, and here they run one \
                 after another; end the kernel at the barrier and launch another"
            ))),
            _ => Err(self.error(&format!("{name}: no such register, variable or parameter"))),
        }
    }

    /// The slot a result of type `ty` is written to.
    pub(super) fn dest(&mut self, operand: &Operand, ty: Ty) -> Result<Slot, LoadError> {
        match operand {
            Operand::Reg(reg) => {
                self.fits(*reg, ty)?;
                self.effects.writes.push(reg.0);
                Ok(self.slot_of(*reg))
            }
            Operand::Sink if ty == Ty::Pred => Ok(self.new_mask()),
            Operand::Sink => Ok(self.new_rows(2)),
            other => Err(self.error(&format!("operand {other:?}: a destination register is needed"))),
        }
    }

    /// A predicate source and whether it is negated.
    pub(super) fn predicate(&mut self, operand: &Operand) -> Result<(Slot, bool), LoadError> {
        match operand {
            Operand::Not(reg) => Ok((self.source(&Operand::Reg(*reg), Ty::Pred)?, true)),
            Operand::Int(value @ (0 | 1)) => Ok((self.truth(), *value == 0)),
            other => Ok((self.source(other, Ty::Pred)?, false)),
        }
    }

    /// `[base+offset]` without coordinates.
    pub(super) fn address(&mut self, operand: &Operand) -> Result<Address, LoadError> {
        match operand {
            Operand::Address { base, offset, coordinates } if coordinates.is_empty() => self.base(base, *offset),
            other => Err(self.error(&format!("operand {other:?}: an address is needed"))),
        }
    }

    pub(super) fn base(&mut self, base: &Operand, offset: i64) -> Result<Address, LoadError> {
        let wide = match base {
            Operand::Reg(reg) => self.type_of(*reg).size() == 8,
            _ => true,
        };
        let base = self.source(base, if wide { Ty::B64 } else { Ty::B32 })?;
        Ok(Address { base, wide, offset })
    }

    /// The registers of a load (`write`) or store. They may be wider than the type that moves.
    pub(super) fn elements(
        &mut self,
        operand: &Operand,
        count: usize,
        ty: Ty,
        write: bool,
    ) -> Result<Elements, LoadError> {
        let list = match operand {
            Operand::Vector(list) => list.as_slice(),
            single => std::slice::from_ref(single),
        };
        if list.len() != count {
            return Err(self.error(&format!("{} registers given, {count} expected", list.len())));
        }
        let mut rows = ty.size().div_ceil(4);
        let mut slots = Vec::with_capacity(count);
        for element in list {
            slots.push(match element {
                Operand::Sink if write => None,
                Operand::Reg(reg) => {
                    let held = self.type_of(*reg);
                    if held.size() < ty.size() || held == Ty::Pred {
                        return Err(self.error(&format!("register of type {held:?}: too narrow for {ty:?}")));
                    }
                    if write {
                        self.effects.writes.push(reg.0);
                        rows = held.size().div_ceil(4);
                    } else {
                        self.effects.reads.push(reg.0);
                    }
                    Some(self.slot_of(*reg))
                }
                other if !write => Some(self.source(other, ty)?),
                other => return Err(self.error(&format!("operand {other:?}: a register is needed"))),
            });
        }
        Ok(Elements { slots: slots.into(), ty, rows })
    }

    pub(super) fn exactly<'o, const N: usize>(&self, operands: &'o [Operand]) -> Result<&'o [Operand; N], LoadError> {
        operands.try_into().map_err(|_| self.error(&format!("{} operands given, {N} expected", operands.len())))
    }

    /// The window a space's addresses are moved to when they become generic.
    pub(super) fn window(&mut self, space: Space) -> Slot {
        self.constant(window::base(space))
    }
}

fn special(name: &str) -> Option<Special> {
    let axis = |suffix: &str| match suffix {
        "x" => Some(0),
        "y" => Some(1),
        "z" => Some(2),
        _ => None,
    };
    if let Some((head, tail)) = name.rsplit_once('.')
        && let Some(axis) = axis(tail)
    {
        return Some(match head {
            "%tid" => Special::Tid(axis),
            "%ntid" => Special::Ntid(axis),
            "%ctaid" => Special::Ctaid(axis),
            "%nctaid" => Special::Nctaid(axis),
            "%clusterid" => Special::ClusterId(axis),
            "%nclusterid" => Special::NumClusters(axis),
            "%cluster_ctaid" => Special::ClusterCtaid(axis),
            "%cluster_nctaid" => Special::ClusterNctaid(axis),
            _ => return None,
        });
    }
    Some(match name {
        "%laneid" => Special::LaneId,
        "%warpid" => Special::WarpId,
        "%nwarpid" => Special::NumWarps,
        "%lanemask_eq" => Special::LaneMask(LaneMask::Eq),
        "%lanemask_le" => Special::LaneMask(LaneMask::Le),
        "%lanemask_lt" => Special::LaneMask(LaneMask::Lt),
        "%lanemask_ge" => Special::LaneMask(LaneMask::Ge),
        "%lanemask_gt" => Special::LaneMask(LaneMask::Gt),
        "%cluster_ctarank" => Special::ClusterCtarank,
        "%cluster_nctarank" => Special::ClusterNctarank,
        "%dynamic_smem_size" => Special::DynamicShared,
        // One multiprocessor, one grid: enough for code that only spreads work by them.
        "%smid" | "%gridid" => Special::Zero,
        _ => return None,
    })
}
