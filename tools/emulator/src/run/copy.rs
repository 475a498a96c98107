//! `cp.async`: copies of a lane's bytes from global to shared memory, waited for in groups.
//!
//! The copies of a warp are an actor of their own: what they write is ordered before the warp only once it has waited
//! for their group, and before other warps by the barrier behind that wait. Bytes are read when the copy is issued;
//! they land at once under `Eager` and at the wait under `Lazy`.

use super::{
    Policy, World,
    access::{Access, addresses},
    global::{Moment, outside, unwritten},
    interpret::Flow,
    warp::Warp,
    words::{self, Words, take},
};
use crate::{
    check::{Actor, Checked, Event, Kind, Proxy, Touch, Who, accuse, judge},
    ir::{Address, LaneCopy, Mbarrier, MbarrierOp},
    regs::{LANES, lanes},
    types::{Order, Scope, Space, Ty},
    window,
};

/// The copies of one warp.
#[derive(Debug, Default)]
pub struct Copies {
    actor: Option<Actor>,
    /// Batches closed: a commit ends one, and so does an arrival on an mbarrier. Time of a batch: its number from 1.
    closed: u32,
    /// Batches that have been waited for.
    waited: u32,
    /// For each committed group, the batches closed with it.
    groups: Vec<u32>,
    /// Lanes with copies that no group holds yet.
    open: u32,
    /// Lanes with copies that have not been waited for.
    unwaited: u32,
    /// What has not landed, oldest first.
    pending: Vec<Flight>,
}

/// What one instruction copies, on its way to an extent of shared memory that begins at `at`.
#[derive(Debug)]
struct Flight {
    batch: u32,
    at: usize,
    to: Access,
    words: Words,
}

impl World<'_> {
    pub(super) fn copy(&mut self, warp: &mut Warp, copy: &LaneCopy, active: u32) -> Checked {
        let size = copy.size as usize;
        let mut to = Access::new(addresses(&warp.regs, copy.to), active, size, Order::default());
        to.aligned()?;
        if copy.to.wide && to.addresses[active.trailing_zeros() as usize] >= window::SHARED {
            self.resolve(Space::Generic, &mut to.addresses, active)?;
        }
        let actor = match warp.copies.actor {
            Some(actor) => actor,
            None => *warp.copies.actor.insert(self.clocks.add(Who::LaneCopies { of: warp.actor() })),
        };
        let time = warp.copies.closed + 1;
        let words = self.copied_words(warp, (actor, time), copy, active)?;
        self.count_shared(warp, &to);
        let moved = u64::from(active.count_ones()) * size as u64;
        self.counts.by_instruction[warp.split.pc as usize].async_bytes += moved;
        let (low, span) = to.extent();
        let Some(at) = self.own_shared(warp, low, span) else {
            let lane = lanes(active).find(|l| self.own_shared(warp, to.addresses[*l], size).is_none());
            let lane = lane.unwrap_or(active.trailing_zeros() as usize);
            let message = format!("address {:#x}: not in the CTA's shared memory", to.addresses[lane]);
            return accuse(Kind::Memory, lane, message);
        };
        self.lanes_apart_from_mbarriers(warp.cta, &to, (low, at))?;
        let Self { ctas, clocks, kernel, settings, .. } = self;
        let cta = &mut ctas[warp.cta];
        if let Some(races) = &mut cta.races {
            let known = clocks.of(warp.actor());
            let (issuing, pc) = (Some((warp.actor(), &warp.steps)), warp.split.pc);
            let event =
                Event { actor, time, proxy: Proxy::Generic, strong: None, cta: 0, warp: issuing, lanes: 0, known, pc };
            let place = |lane: usize| Touch {
                offset: at + (to.addresses[lane] - low) as usize,
                size,
                lane: Some(lane),
                lanes: 1 << lane,
            };
            judge(races, clocks, |pc| kernel.code[pc as usize].line, event, true, lanes(active).map(place))?;
        }
        match settings.policy {
            Policy::Eager => words::write(&mut cta.shared.block, at, &to, Ty::B32, &words),
            Policy::Lazy => {
                let batch = warp.copies.closed;
                warp.copies.pending.push(Flight { batch, at, to, words });
            }
        }
        warp.copies.open |= active;
        warp.copies.unwaited |= active;
        Ok(())
    }

    /// What the lanes copy: their bytes in global memory, and zeros behind those or instead of them.
    #[inline(always)]
    fn copied_words(&mut self, warp: &Warp, reader: Moment, copy: &LaneCopy, active: u32) -> Checked<Words> {
        let size = copy.size as usize;
        let from = addresses(&warp.regs, copy.from);
        let ignored =
            copy.ignore.map_or(0, |(slot, negated)| warp.regs.mask(slot) ^ if negated { u32::MAX } else { 0 });
        let reads = copy.read.map_or([copy.size; LANES], |slot| *warp.regs.row(slot));
        let among = |lanes_where: &dyn Fn(u32) -> bool| {
            lanes(active & !ignored).filter(|l| lanes_where(reads[*l])).fold(0, |mask, lane| mask | 1 << lane)
        };
        let (whole, part) = (among(&|read| read == copy.size), among(&|read| read != 0 && read != copy.size));
        Access::new(from, active, size, Order::default()).aligned()?;
        let mut words = [[0; LANES]; 4];
        if whole | part != 0 {
            self.count_global(warp, &Access::new(from, whole | part, size, Order::default()));
        }
        if whole != 0 {
            let access = Access::new(from, whole, size, Order::default());
            self.fetch_global(&access, Ty::B32, &mut words)?;
            // What is fetched from one place is there for every lane.
            words.iter_mut().for_each(|row| lanes(!whole).for_each(|lane| row[lane] = 0));
            self.judge_global(warp, reader, &access, false)?;
        }
        for lane in lanes(part) {
            let read = reads[lane] as usize;
            if read > size {
                return accuse(Kind::Memory, lane, format!("source size {read}: more than the {size} bytes copied"));
            }
            let Some((allocation, at)) = self.global.find(from[lane], read) else {
                return outside(self.global, from[lane], read, lane);
            };
            if self.settings.checks.init && !allocation.block.written.all(at, read) {
                return unwritten(allocation, at, lane);
            }
            let mut bytes = [0; 16];
            bytes[..read].copy_from_slice(&allocation.block.bytes[at..at + read]);
            take(&bytes[..size], Ty::B32, &mut words, lane);
            self.judge_span(warp, reader, (from[lane], read), Order::default(), false, Some(lane))?;
            self.counts.by_instruction[warp.split.pc as usize].global_bytes -= (size - read) as u64;
        }
        Ok(words)
    }

    pub(super) fn copy_commit(&mut self, warp: &mut Warp, active: u32) -> Checked {
        // Groups are counted for each lane; here for the warp, so lanes with open copies must commit together.
        if warp.copies.open & !active != 0 || active != warp.live && warp.copies.open == 0 {
            let message = format!("lanes {active:#010x} commit, lanes {:#010x} have copies", warp.copies.open);
            return accuse(Kind::Unsupported, None, message);
        }
        warp.copies.open = 0;
        warp.copies.closed += 1;
        warp.copies.groups.push(warp.copies.closed);
        Ok(())
    }

    /// `cp.async.mbarrier.arrive`: an arrival that comes when the lane's copies so far have landed. It may come at once
    /// here, because the knowledge it brings includes them; the warp itself learns of them as a waiter alone.
    pub(super) fn copy_arrive(&mut self, warp: &mut Warp, address: Address, noinc: bool, active: u32) -> Checked<Flow> {
        if !noinc {
            return accuse(Kind::Unsupported, None, "the form without .noinc is not implemented by the emulator");
        }
        self.copies_of(warp, active)?;
        warp.copies.closed += 1;
        let landed = warp.copies.closed;
        self.land_copies(warp, landed);
        let op = MbarrierOp::Arrive { expect: None, count: None, state: None, drop: false };
        let ins = Mbarrier { address, op, cluster: false, scope: Scope::Cta };
        self.mbarrier_bringing(warp, &ins, active, warp.copies.actor.map(|actor| (actor, landed)))
    }

    /// A lane waits for its own copies only; here the warp does, so all lanes with copies must.
    fn copies_of(&self, warp: &Warp, active: u32) -> Checked {
        let elsewhere = warp.copies.unwaited & warp.live & !active;
        if elsewhere == 0 {
            return Ok(());
        }
        let message = format!("lanes {active:#010x} wait; lanes {elsewhere:#010x}, which have copies, do not");
        accuse(Kind::Unsupported, lanes(elsewhere).next(), message)
    }

    /// Writes what the batches before this one bring.
    fn land_copies(&mut self, warp: &mut Warp, before: u32) {
        for flight in warp.copies.pending.extract_if(.., |f| f.batch < before) {
            words::write(&mut self.ctas[warp.cta].shared.block, flight.at, &flight.to, Ty::B32, &flight.words);
        }
    }

    /// Waits until at most `pending` groups are under way; None waits for copies outside groups too.
    pub(super) fn copy_wait(&mut self, warp: &mut Warp, pending: Option<u32>, active: u32) -> Checked {
        self.copies_of(warp, active)?;
        let copies = &mut warp.copies;
        let done = match pending {
            Some(pending) => {
                copies.groups.len().checked_sub(1 + pending as usize).map_or(0, |last| copies.groups[last])
            }
            None => {
                copies.closed += u32::from(copies.open != 0);
                copies.open = 0;
                copies.closed
            }
        };
        if done <= warp.copies.waited {
            return Ok(());
        }
        warp.copies.waited = done;
        if done == warp.copies.closed {
            warp.copies.unwaited = warp.copies.open;
        }
        self.land_copies(warp, done);
        if let Some(actor) = warp.copies.actor {
            self.clocks.learn(warp.actor(), actor, done);
        }
        Ok(())
    }
}
