//! `cp.async`: copies of a lane's bytes from global to shared memory, waited for in groups.
//!
//! The copies of a warp are an actor of their own: what they write is ordered before the warp only once it has waited
//! for their group, and before other warps by the barrier behind that wait. Bytes are read when the copy is issued;
//! they land at once under `Eager` and at the wait under `Lazy`.

use super::{
    Policy, World,
    access::{Access, Place, addresses, aligned, outside},
    interpret::Flow,
    warp::Warp,
};
use crate::{
    check::{Actor, Checked, Event, Kind, Proxy, accuse, report},
    ir::{Address, LaneCopy, Mbarrier, MbarrierOp},
    regs::lanes,
    types::Space,
    window,
};

/// The copies of one warp.
#[derive(Debug, Default)]
pub struct Copies {
    actor: Option<Actor>,
    /// Groups committed, and groups that have been waited for.
    committed: u32,
    waited: u32,
    /// Lanes with copies that no group holds yet.
    open: u32,
    /// What has not landed: group, CTA, offset, bytes.
    pending: Vec<(u32, usize, usize, Vec<u8>)>,
}

impl World<'_> {
    pub(super) fn copy(&mut self, warp: &mut Warp, copy: &LaneCopy, active: u32) -> Checked {
        let size = copy.size as usize;
        let from = Access { addresses: addresses(&warp.regs, copy.from), active, size, strong: false };
        let mut to = Access { addresses: addresses(&warp.regs, copy.to), ..from };
        aligned(&from)?;
        aligned(&to)?;
        if copy.to.wide && to.addresses[active.trailing_zeros() as usize] >= window::SHARED {
            self.resolve(Space::Generic, &mut to.addresses, active)?;
        }
        let reads = copy.read.map(|slot| *warp.regs.row(slot));
        let ignored =
            copy.ignore.map_or(0, |(slot, negated)| warp.regs.mask(slot) ^ if negated { u32::MAX } else { 0 });
        let actor = match warp.copies.actor {
            Some(actor) => actor,
            None => {
                let name = format!("a cp.async of {}", self.clocks.name(warp.actor()));
                *warp.copies.actor.insert(self.clocks.add(name))
            }
        };
        for lane in lanes(active) {
            let read = if ignored >> lane & 1 != 0 { 0 } else { reads.map_or(copy.size, |r| r[lane]) as usize as u32 };
            if read > copy.size {
                return accuse(Kind::Memory, lane, format!("source size {read}: more than the {size} bytes copied"));
            }
            let mut bytes = vec![0; size];
            if read > 0 {
                let (address, read) = (from.addresses[lane], read as usize);
                let Some((allocation, at)) = self.global.find(address, read) else {
                    return outside(self.global, address, read, lane);
                };
                if self.settings.checks.init && !allocation.block.written.all(at, read) {
                    let message = format!("{}, offset {at:#x}: copied before it is written", allocation.name);
                    return accuse(Kind::Init, lane, message);
                }
                bytes[..read].copy_from_slice(&allocation.block.bytes[at..at + read]);
            }
            let Place { cta, offset } = self.shared_place(warp, &to, lane)?;
            if let Some(races) = &mut self.ctas[cta].races {
                let known = self.clocks.of(warp.actor());
                // Time of a group: its number from 1; an actor's own clock starts there.
                let time = warp.copies.committed + 1;
                let event =
                    Event { actor, time, proxy: Proxy::Generic, strong: false, lanes: 0, known, pc: warp.split.pc };
                races.write(offset, size, event).or_else(|conflict| {
                    let what = format!("shared address {:#x}", offset as u32 + window::SHARED_BASE);
                    report(&conflict, &self.clocks, |pc| self.kernel.code[pc as usize].line, &what, Some(lane))
                })?;
            }
            match self.settings.policy {
                Policy::Eager => self.ctas[cta].shared.block.write(offset, &bytes),
                Policy::Lazy => warp.copies.pending.push((warp.copies.committed, cta, offset, bytes)),
            }
        }
        warp.copies.open |= active;
        self.count_global(warp, &from);
        self.count_shared(warp, &to);
        let moved = u64::from(active.count_ones()) * size as u64;
        self.counts.by_instruction[warp.split.pc as usize].async_bytes += moved;
        Ok(())
    }

    pub(super) fn copy_commit(&mut self, warp: &mut Warp, active: u32) -> Checked {
        // Groups are counted for each lane; here for the warp, so lanes with open copies must commit together.
        if warp.copies.open & !active != 0 || active != warp.live && warp.copies.open == 0 {
            let message = format!("lanes {active:#010x} commit, lanes {:#010x} have copies", warp.copies.open);
            return accuse(Kind::Unsupported, None, message);
        }
        warp.copies.open = 0;
        warp.copies.committed += 1;
        Ok(())
    }

    /// `cp.async.mbarrier.arrive`: an arrival that comes when the lane's copies so far have landed. It may come at once
    /// here, because the knowledge it brings includes them.
    pub(super) fn copy_arrive(&mut self, warp: &mut Warp, address: Address, noinc: bool, active: u32) -> Checked<Flow> {
        if !noinc {
            return accuse(Kind::Unsupported, None, "the form without .noinc is not implemented by the emulator");
        }
        self.copy_wait(warp, None);
        let op = MbarrierOp::Arrive { expect: None, count: None, state: None, drop: false };
        self.mbarrier(warp, &Mbarrier { address, op, cluster: false }, active)
    }

    /// Waits until at most `pending` groups are under way; None waits for copies outside groups too.
    pub(super) fn copy_wait(&mut self, warp: &mut Warp, pending: Option<u32>) {
        let done = match pending {
            Some(pending) => warp.copies.committed.saturating_sub(pending),
            None => {
                if warp.copies.open != 0 {
                    warp.copies.open = 0;
                    warp.copies.committed += 1;
                }
                warp.copies.committed
            }
        };
        if done <= warp.copies.waited {
            return;
        }
        warp.copies.waited = done;
        for (_, cta, offset, bytes) in warp.copies.pending.extract_if(.., |(group, ..)| *group < done) {
            self.ctas[cta].shared.block.write(offset, &bytes);
        }
        if let Some(actor) = warp.copies.actor {
            self.clocks.learn(warp.actor(), actor, done);
        }
    }
}
