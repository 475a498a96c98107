//! The interpreter's loop.

use super::{
    World,
    warp::{Wait, Warp},
};
use crate::{
    check::{Checked, Kind, accuse},
    ir::{Fence, Op},
    regs::{LANES, each, lanes},
    types::Space,
    window,
};

/// Instructions a warp runs before the next has its turn, should it never wait.
const SLICE: u32 = 1 << 14;

/// Where a warp goes after an instruction.
pub enum Flow {
    Next,
    /// The split goes nowhere until what it waits for happens; then it runs the next instruction.
    Wait(Wait),
    /// As above, and then it runs this instruction again.
    Retry(Wait),
    /// The instruction asked in vain whether something has happened: others should run before it asks again.
    Yield,
}

impl World<'_> {
    /// Runs a warp until all of its splits wait, it leaves the kernel, or its slice ends.
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt"))]
    pub(super) fn interpret(&mut self, warp: &mut Warp) -> Checked {
        for _ in 0..SLICE {
            let pc = warp.split.pc as usize;
            let ins = &self.kernel.code[pc];
            let mut active = warp.split.lanes;
            if let Some((slot, negated)) = ins.guard {
                let guard = warp.regs.mask(slot);
                active &= if negated { !guard } else { guard };
            }
            if warp.products.under_way() {
                self.check_owned(warp, pc)?;
            }
            let count = &mut self.counts.by_instruction[pc];
            count.warps += 1;
            count.lanes += u64::from(active.count_ones());
            self.issued += 1;
            match &ins.op {
                Op::Alu { op, out, args } => op.run(&mut warp.regs, active, *out, args),
                Op::Branch { target, join } => {
                    if active == warp.split.lanes {
                        warp.split.pc = *target;
                    } else if active == 0 {
                        warp.split.pc += 1;
                    } else {
                        count.divergent += 1;
                        warp.diverge(active, *target, *join);
                    }
                    if !warp.select() {
                        return Ok(());
                    }
                    continue;
                }
                Op::Exit => {
                    if active != warp.split.lanes {
                        warp.split.pc += 1;
                    }
                    warp.exit(active);
                    if warp.done() {
                        return self.left(warp);
                    }
                    if !warp.select() {
                        return Ok(());
                    }
                    continue;
                }
                op if active != 0 => match self.execute(warp, op, active)? {
                    Flow::Next => {}
                    Flow::Yield => {
                        self.polled = true;
                        warp.split.pc += 1;
                        return Ok(());
                    }
                    flow @ (Flow::Wait(wait) | Flow::Retry(wait)) => {
                        warp.split.wait = Some(wait);
                        match flow {
                            Flow::Retry(_) => self.take_back(pc, active),
                            _ => warp.split.pc += 1,
                        }
                        if !warp.select() {
                            return Ok(());
                        }
                        continue;
                    }
                },
                _ => {}
            }
            warp.split.pc += 1;
            if warp.split.pc == warp.join_pc() && !warp.select() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// An instruction that runs again counts once, however often it is tried: that depends on the policy.
    fn take_back(&mut self, pc: usize, active: u32) {
        let count = &mut self.counts.by_instruction[pc];
        count.warps -= 1;
        count.lanes -= u64::from(active.count_ones());
        self.issued -= 1;
    }

    pub(super) fn within_limit(&self) -> Checked {
        if self.issued > self.settings.limit {
            let why = "a loop without end, or one that waits for a CTA that has not started, such as a barrier of the grid (CTAs \
                 run one after another)";
            return accuse(Kind::Limit, None, format!("{} warp instructions issued: {why}", self.issued));
        }
        Ok(())
    }

    /// Everything but lane-wise operations and branches. At least one lane is active.
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt"))]
    fn execute(&mut self, warp: &mut Warp, op: &Op, active: u32) -> Checked<Flow> {
        match op {
            Op::Alu { .. } | Op::Branch { .. } | Op::Exit => unreachable!("the loop runs these"),
            Op::Load(load) => self.load(warp, load, active)?,
            Op::Store(store) => self.store(warp, store, active)?,
            Op::Atomic(atomic) => self.atomic(warp, atomic, active)?,
            Op::Pack { out, parts, bits } => {
                let mut value = [0u64; LANES];
                for (k, part) in parts.iter().enumerate() {
                    let row = warp.regs.row(*part);
                    let mask = u64::MAX >> (64 - bits);
                    (0..LANES).for_each(|l| value[l] |= (u64::from(row[l]) & mask) << (k as u32 * bits));
                }
                if parts.len() as u32 * bits == 64 {
                    warp.regs.set(*out, active, &value);
                } else {
                    warp.regs.set_row(*out, active, &each(|l| value[l] as u32));
                }
            }
            Op::Unpack { parts, from, bits } => {
                let whole: [u64; LANES] = if parts.len() as u32 * bits == 64 {
                    warp.regs.get(*from)
                } else {
                    each(|l| u64::from(warp.regs.row(*from)[l]))
                };
                for (k, part) in parts.iter().enumerate() {
                    if let Some(part) = part {
                        let mask = u64::MAX >> (64 - bits);
                        let row = each(|l| (whole[l] >> (k as u32 * bits) & mask) as u32);
                        warp.regs.set_row(*part, active, &row);
                    }
                }
            }
            Op::MapShared { out, address, rank, generic } => {
                let (addresses, ranks) = (*warp.regs.row(*address), *warp.regs.row(*rank));
                if let Some(lane) = lanes(active).find(|l| ranks[*l] as usize >= self.ctas.len()) {
                    let message = format!("rank {}: the cluster has {} CTAs", ranks[lane], self.ctas.len());
                    return accuse(Kind::Memory, lane, message);
                }
                let within = (1 << window::SHARED_BITS) - 1;
                let mapped: [u32; LANES] =
                    std::array::from_fn(|l| (addresses[l] & within) | ranks[l].wrapping_add(1) << window::SHARED_BITS);
                if *generic {
                    warp.regs.set(*out, active, &mapped.map(|a| window::SHARED + u64::from(a)));
                } else {
                    warp.regs.set_row(*out, active, &mapped);
                }
            }
            Op::IsSpace { out, address, space, own } => {
                let addresses: [u64; LANES] = warp.regs.get(*address);
                let of = [0, warp.cta as u64 + 1];
                let mine = |at: u64| !own || of.contains(&(at >> window::SHARED_BITS));
                let inside = addresses.map(|a| window::classify(a).is_some_and(|(s, at)| s == *space && mine(at)));
                warp.regs.set(*out, active, &inside);
            }
            Op::Shuffle(shuffle) => self.shuffle(warp, shuffle, active)?,
            Op::Vote { mode, out, value, negated, members } => {
                let holds = warp.regs.mask(*value) ^ if *negated { u32::MAX } else { 0 };
                self.vote(warp, *mode, *out, holds, *members, active)?;
            }
            Op::Match { all, out, agree, value, wide, members } => {
                self.match_values(warp, (*all, *out, *agree), *value, *wide, *members, active)?;
            }
            Op::Compare(compared) => self.compare(warp, compared, active),
            Op::Carry(carry) => self.carry(warp, carry, active),
            Op::Redux { op, out, value, members } => self.redux(warp, *op, *out, *value, *members, active)?,
            Op::ActiveMask { out } => warp.regs.set_row(*out, active, &[active; LANES]),
            Op::Elect { leader, out, members } => {
                self.members(warp, *members, active)?;
                let first = active.trailing_zeros();
                if let Some(leader) = leader {
                    warp.regs.set_row(*leader, active, &[first; LANES]);
                }
                warp.regs.set_mask(*out, active, 1 << first);
            }
            Op::Clock { out, wide } => {
                if *wide {
                    warp.regs.set(*out, active, &[self.issued; LANES]);
                } else {
                    warp.regs.set_row(*out, active, &[self.issued as u32; LANES]);
                }
            }
            Op::Barrier { kind, id, count, aligned } => {
                self.arrives_whole(warp, *aligned, active)?;
                return self.barrier(warp, *kind, *id, *count, active);
            }
            Op::WarpSync { members } => return self.warp_sync(warp, *members, active),
            Op::Fence(Fence::AsyncProxy) => {
                self.publish_mbarriers(warp);
                self.clocks.fence_proxy(warp.actor());
            }
            Op::Fence(Fence::MbarrierInit) => self.publish_mbarriers(warp),
            Op::Hint | Op::Fence(Fence::AsyncProxyGlobal) => {}
            Op::Fence(Fence::Memory { scope }) => self.fence(warp, *scope),
            Op::LdMatrix(matrices) => self.load_matrix(warp, matrices, active)?,
            Op::StMatrix(matrices) => self.store_matrix(warp, matrices, active)?,
            Op::Mma(mma) => self.mma(warp, mma, active)?,
            Op::Copy(copy) => self.copy(warp, copy, active)?,
            Op::CopyCommit => self.copy_commit(warp, active)?,
            Op::CopyWait { pending } => self.copy_wait(warp, Some(*pending), active)?,
            Op::CopyWaitAll => self.copy_wait(warp, None, active)?,
            Op::CopyArrive { address, noinc } => return self.copy_arrive(warp, *address, *noinc, active),
            Op::Mbarrier(mbarrier) => return self.mbarrier(warp, mbarrier, active),
            Op::ClusterArrive { relaxed, aligned } => {
                self.arrives_whole(warp, *aligned, active)?;
                self.cluster_arrive(warp, *relaxed)?;
            }
            Op::ClusterWait { aligned } => {
                self.arrives_whole(warp, *aligned, active)?;
                return self.cluster_wait(warp);
            }
            Op::Bulk(bulk) => self.bulk(warp, bulk, active)?,
            Op::BulkCommit => self.bulk_commit(warp, active),
            Op::BulkWait { pending, read } => self.bulk_wait(warp, *pending, *read, active),
            Op::Wgmma(wgmma) => return self.wgmma(warp, wgmma, active),
            // Ordering of the warpgroup's registers is checked when the kernel is loaded.
            Op::WgmmaFence => self.whole_warp(active)?,
            Op::WgmmaCommit => self.wgmma_commit(warp, active)?,
            Op::WgmmaWait { pending } => self.wgmma_wait(warp, *pending, active)?,
            Op::SetMaxRegisters { count } => self.set_max_registers(warp, *count, active)?,
            Op::Print(print) => self.print(warp, print, active)?,
            Op::Assert { message, file, line, function } => {
                let lane = active.trailing_zeros() as usize;
                let mut text = |slot| self.text(warp.regs.get::<u64>(slot)[lane]);
                let (message, file, function) = (text(*message)?, text(*file)?, text(*function)?);
                let line = warp.regs.row(*line)[lane];
                return accuse(Kind::Trap, lane, format!("{file}:{line}: {function}: assertion `{message}` failed"));
            }
            Op::Trap => return accuse(Kind::Trap, active.trailing_zeros() as usize, "the kernel trapped"),
        }
        Ok(Flow::Next)
    }

    /// The space and address of generic addresses, which must agree among the active lanes.
    pub(super) fn resolve(&self, space: Space, addresses: &mut [u64; LANES], active: u32) -> Checked<Space> {
        if space != Space::Generic {
            return Ok(space);
        }
        let mut common = None;
        for lane in lanes(active) {
            let Some((space, address)) = window::classify(addresses[lane]) else {
                let message = format!("address {:#x}: in no memory", addresses[lane]);
                return accuse(Kind::Memory, lane, message);
            };
            if *common.get_or_insert(space) != space {
                return accuse(Kind::Unsupported, lane, "lanes of one generic access reach different state spaces");
            }
            addresses[lane] = address;
        }
        Ok(common.expect("a lane is active"))
    }
}
