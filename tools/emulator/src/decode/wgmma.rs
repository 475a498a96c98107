//! What is known of `wgmma` registers before a kernel runs: which products lack a fence, and who touches which row.

use super::Lower;
use crate::{
    cfg::{Blocks, Effects},
    ir::{Ins, Op, WgmmaA},
    regs::Slot,
};
use std::collections::HashMap;

/// Marks products whose registers another instruction may have touched since the last `wgmma.fence`, or that no fence
/// comes before, and returns the rows that each instruction touches. Kernels without products need neither.
pub(super) fn check(code: &mut [Ins], blocks: &Blocks, effects: &[Effects], lower: &Lower) -> Vec<Box<[Slot]>> {
    if !code.iter().any(|ins| matches!(ins.op, Op::Wgmma(_))) {
        return vec![];
    }
    let registers = lower.slots.len();
    let register_of: HashMap<Slot, u32> = lower
        .slots
        .iter()
        .enumerate()
        .filter(|(k, _)| lower.function.registers[*k].size() > 0)
        .map(|(k, slot)| (*slot, k as u32))
        .collect();
    let products: Vec<bool> = code.iter().map(|ins| matches!(ins.op, Op::Wgmma(_))).collect();
    let dirty = blocks.reach(
        registers,
        |pc| products[pc],
        |pc, set| match &code[pc].op {
            Op::WgmmaFence => set.fill(0),
            // Products in a row need no fence between them.
            Op::Wgmma(_) => effects[pc].writes.iter().for_each(|r| set[*r as usize / 64] &= !(1 << (r % 64))),
            _ => {
                let touched = effects[pc].reads.iter().chain(&effects[pc].writes);
                touched.for_each(|r| set[*r as usize / 64] |= 1 << (r % 64));
            }
        },
    );
    for (pc, dirty) in &dirty {
        if let Op::Wgmma(wgmma) = &mut code[*pc].op {
            let a = match &wgmma.a {
                WgmmaA::Registers(slots) => &slots[..],
                WgmmaA::Descriptor(_) => &[],
            };
            let owned = wgmma.d.iter().chain(a).filter_map(|slot| register_of.get(slot));
            wgmma.unfenced = owned.copied().any(|r| dirty[r as usize / 64] >> (r % 64) & 1 != 0);
        }
    }
    let rows = |register: &u32| {
        let (slot, size) = (lower.slots[*register as usize], lower.function.registers[*register as usize].size());
        [(size > 0).then_some(slot), (size == 8).then_some(slot.high())].into_iter().flatten()
    };
    effects.iter().map(|e| e.reads.iter().chain(&e.writes).flat_map(rows).collect()).collect()
}
