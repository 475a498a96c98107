//! Atomics: the lanes of a warp one after another.

use super::{
    World,
    access::{Access, addresses},
    global::outside,
    shared::Place,
    warp::Warp,
    words::{Words, write_back},
};
use crate::{
    alu::{float, packed},
    check::{Checked, Kind, accuse},
    ir::{Atomic, AtomicOp, Elements},
    regs::{LANES, lanes},
    types::{Space, Ty},
};
use half::{bf16, f16};

impl World<'_> {
    pub(super) fn atomic(&mut self, warp: &mut Warp, atomic: &Atomic, active: u32) -> Checked {
        let (size, count) = (atomic.ty.size() as usize, atomic.elements.len());
        let mut access = Access::new(addresses(&warp.regs, atomic.address), active, size * count, atomic.order);
        let space = self.resolve(atomic.space, &mut access.addresses, active)?;
        access.aligned()?;
        match space {
            Space::Global => {
                self.count_global(warp, &access);
                self.pass_on(warp, &access, space, true, true)?;
                self.judge_global(warp, self.moment(warp), &access, true)?;
            }
            Space::Shared => {
                self.count_shared(warp, &access);
                self.pass_on(warp, &access, space, true, true)?;
            }
            _ => return accuse(Kind::Memory, None, "an atomic on memory that is neither global nor shared"),
        }
        let swaps = atomic.swap.map(|slot| self.operand(warp, atomic.ty, slot));
        for (k, (out, value)) in atomic.elements.iter().enumerate() {
            let values = self.operand(warp, atomic.ty, *value);
            let access =
                Access::new(access.addresses.map(|a| a.wrapping_add((k * size) as u64)), active, size, atomic.order);
            let old = self.update(warp, atomic, space, &access, &values, swaps.as_ref())?;
            if let Some(out) = out {
                let to = Elements { slots: Box::new([Some(*out)]), ty: atomic.ty, rows: atomic.ty.size().div_ceil(4) };
                write_back(&mut warp.regs, &to, active, &old);
            }
        }
        Ok(())
    }

    /// Changes one element of each lane and returns what was there.
    fn update(
        &mut self,
        warp: &Warp,
        atomic: &Atomic,
        space: Space,
        access: &Access,
        values: &[u64; LANES],
        swaps: Option<&[u64; LANES]>,
    ) -> Checked<Words> {
        let mut old = [[0; LANES]; 4];
        for lane in lanes(access.active) {
            let before = match space {
                Space::Global => self.atomic_global(access, lane)?,
                _ => self.atomic_shared(warp, access, lane)?,
            };
            let value = values[lane];
            let after = match (atomic.op, swaps) {
                (AtomicOp::CompareAndSwap, Some(swaps)) if before == value => swaps[lane],
                (AtomicOp::CompareAndSwap, _) => before,
                (op, _) if space == Space::Global => combine_global(op, atomic.ty, before, value),
                (op, _) => combine(op, atomic.ty, before, value),
            };
            let bytes = &after.to_le_bytes()[..access.size];
            match space {
                Space::Global => {
                    let found = self.global.find(access.addresses[lane], access.size);
                    let (allocation, at) = found.expect("the load found its allocation");
                    allocation.block.write(at, bytes);
                }
                _ => {
                    let Place { cta, offset } = self.shared_place(warp, access, lane)?;
                    self.ctas[cta].shared.block.write(offset, bytes);
                }
            }
            old[0][lane] = before as u32;
            old[1][lane] = (before >> 32) as u32;
        }
        Ok(old)
    }

    fn operand(&self, warp: &Warp, ty: Ty, slot: crate::regs::Slot) -> [u64; LANES] {
        match ty.size() {
            8 => warp.regs.get(slot),
            2 => warp.regs.get::<u16>(slot).map(u64::from),
            _ => warp.regs.row(slot).map(u64::from),
        }
    }

    fn atomic_global(&mut self, access: &Access, lane: usize) -> Checked<u64> {
        let (address, init) = (access.addresses[lane], self.settings.checks.init);
        let Some((allocation, at)) = self.global.find(address, access.size) else {
            return outside(self.global, address, access.size, lane);
        };
        if init && !allocation.block.written.all(at, access.size) {
            let message = format!("{}, offset {at:#x}: atomic on memory that is not written", allocation.name);
            return accuse(Kind::Init, lane, message);
        }
        Ok(word(&allocation.block.bytes[at..at + access.size]))
    }

    fn atomic_shared(&mut self, warp: &Warp, access: &Access, lane: usize) -> Checked<u64> {
        let Place { cta, offset } = self.shared_place(warp, access, lane)?;
        self.apart_from_mbarriers(cta, offset, access.size, lane)?;
        let touch = access.touch(offset, lane);
        self.shared_readable(warp, cta, touch, access.order)?;
        self.touch_shared(warp, cta, [touch], true, access.order)?;
        Ok(word(&self.ctas[cta].shared.block.bytes[offset..offset + access.size]))
    }
}

/// Up to eight bytes as a word.
pub(super) fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// The same for a word of global memory, where sums of f32 flush subnormal numbers to zeros of their sign (PTX ISA, atom and
/// red); in shared memory they do not.
pub(super) fn combine_global(op: AtomicOp, ty: Ty, old: u64, value: u64) -> u64 {
    if (op, ty) != (AtomicOp::Add, Ty::F32) {
        return combine(op, ty, old, value);
    }
    let [old, value] = [old, value].map(|bits| float::ftz(f32::from_bits(bits as u32)));
    float::ftz(old + value).to_bits().into()
}

/// The new value of a word. The decoder has refused the combinations that PTX does not define.
pub(super) fn combine(op: AtomicOp, ty: Ty, old: u64, value: u64) -> u64 {
    let f32s = (f32::from_bits(old as u32), f32::from_bits(value as u32));
    let half = |shift: u32| ((old >> shift) as u16, (value >> shift) as u16);
    let add_f16 = |(a, b)| packed::f16_nearest(f16::from_bits(a).to_f32() + f16::from_bits(b).to_f32()).to_bits();
    let add_bf16 = |(a, b)| packed::bf16_nearest(bf16::from_bits(a).to_f32() + bf16::from_bits(b).to_f32()).to_bits();
    match (op, ty) {
        (AtomicOp::Add, Ty::F32) => (f32s.0 + f32s.1).to_bits().into(),
        (AtomicOp::Add, Ty::F64) => (f64::from_bits(old) + f64::from_bits(value)).to_bits(),
        (AtomicOp::Add, Ty::F16) => add_f16(half(0)).into(),
        (AtomicOp::Add, Ty::Bf16) => add_bf16(half(0)).into(),
        (AtomicOp::Add, Ty::F16x2) => u64::from(add_f16(half(0))) | u64::from(add_f16(half(16))) << 16,
        (AtomicOp::Add, Ty::Bf16x2) => u64::from(add_bf16(half(0))) | u64::from(add_bf16(half(16))) << 16,
        (AtomicOp::Add, _) => old.wrapping_add(value),
        (AtomicOp::Min, Ty::S32) => (old as i32).min(value as i32) as u32 as u64,
        (AtomicOp::Max, Ty::S32) => (old as i32).max(value as i32) as u32 as u64,
        (AtomicOp::Min, Ty::S64) => (old as i64).min(value as i64) as u64,
        (AtomicOp::Max, Ty::S64) => (old as i64).max(value as i64) as u64,
        (AtomicOp::Min, _) => old.min(value),
        (AtomicOp::Max, _) => old.max(value),
        (AtomicOp::And, _) => old & value,
        (AtomicOp::Or, _) => old | value,
        (AtomicOp::Xor, _) => old ^ value,
        (AtomicOp::Inc, _) => {
            if old >= value {
                0
            } else {
                old + 1
            }
        }
        (AtomicOp::Dec, _) => {
            if old == 0 || old > value {
                value
            } else {
                old - 1
            }
        }
        (AtomicOp::Exchange | AtomicOp::CompareAndSwap, _) => value,
    }
}
