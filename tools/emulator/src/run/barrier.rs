//! Barriers of the CTA, of lanes and of the cluster.

use super::{
    World,
    interpret::Flow,
    warp::{Wait, Warp},
};
use crate::{
    check::{Checked, Kind, Knowledge, accuse},
    ir::{Barrier, BarrierReduce},
    regs::{LANES, Slot, lanes},
};

/// One of the 16 barriers of a CTA.
#[derive(Debug, Default)]
pub struct NamedBarrier {
    arrived: Vec<Arrival>,
    /// Warps it opens for, when the instruction said how many.
    expected: Option<usize>,
    /// A warp waits, so that the barrier opens also when the warps it waits for leave.
    waiting: bool,
    knowledge: Knowledge,
    /// Threads that arrived with a predicate, and those whose predicate holds.
    threads: u32,
    holding: u32,
}

/// A warp that has arrived at a barrier.
#[derive(Debug)]
struct Arrival {
    warp: usize,
    /// It waits, and so learns what the others knew. `bar.arrive` does neither.
    waits: bool,
    reduction: Option<Reduction>,
}

/// Where a reduction's result goes.
#[derive(Debug, Clone, Copy)]
struct Reduction {
    how: BarrierReduce,
    out: Slot,
    lanes: u32,
}

impl World<'_> {
    /// An aligned barrier needs all lanes at once. Without `.aligned` they may come apart, which is not implemented.
    pub(super) fn arrives_whole(&self, warp: &Warp, aligned: bool, active: u32) -> Checked {
        if active == warp.live {
            return Ok(());
        }
        let come = format!("lanes {active:#010x} of {:#010x} arrive", warp.live);
        match aligned {
            true => accuse(Kind::Sync, None, format!("{come}: the others are elsewhere")),
            false => accuse(Kind::Unsupported, None, format!("{come} apart: not implemented by the emulator")),
        }
    }

    pub(super) fn barrier(
        &mut self,
        warp: &mut Warp,
        kind: Barrier,
        id: Slot,
        count: Option<Slot>,
        active: u32,
    ) -> Checked<Flow> {
        let id = uniform(warp.regs.row(id), active, "barrier")?;
        if id > 15 {
            return accuse(Kind::Sync, None, format!("barrier {id}: there are 16"));
        }
        let expected = match count {
            None => None,
            Some(count) => {
                let threads = uniform(warp.regs.row(count), active, "number of threads")?;
                if threads == 0 || !threads.is_multiple_of(32) {
                    return accuse(Kind::Sync, None, format!("barrier {id} for {threads} threads: not whole warps"));
                }
                Some(threads as usize / 32)
            }
        };
        let (cta, index) = (warp.cta, warp.index);
        let knowledge = self.clocks.release(warp.actor());
        let barrier = &mut self.ctas[cta].barriers[id as usize];
        if !barrier.arrived.is_empty() && barrier.expected != expected {
            let message = format!("barrier {id}: warps disagree about how many threads it is for");
            return accuse(Kind::Sync, None, message);
        }
        if barrier.arrived.iter().any(|arrival| arrival.warp == index) {
            return accuse(Kind::Sync, None, format!("barrier {id}: the warp arrives twice before it opens"));
        }
        barrier.expected = expected;
        barrier.knowledge.join(&knowledge);
        let reduction = match kind {
            Barrier::Reduce { how, out, value, negated } => {
                let holds = warp.regs.mask(value) ^ if negated { u32::MAX } else { 0 };
                barrier.threads += active.count_ones();
                barrier.holding += (holds & active).count_ones();
                Some(Reduction { how, out, lanes: active })
            }
            _ => None,
        };
        let waits = kind != Barrier::Arrive;
        barrier.arrived.push(Arrival { warp: index, waits, reduction });
        if waits {
            warp.steps.meet_all();
        }
        barrier.waiting |= waits;
        let arrived = barrier.arrived.len();
        let needed = expected.unwrap_or_else(|| self.live_warps(cta, Some(warp)));
        if arrived > needed {
            return accuse(Kind::Sync, None, format!("barrier {id} is for {needed} warps: {arrived} have arrived"));
        }
        if arrived == needed {
            self.open(cta, id as usize, Some(warp));
            return Ok(Flow::Next);
        }
        Ok(if waits { Flow::Wait(Wait::Barrier(id as u8)) } else { Flow::Next })
    }

    /// Lets the warps of a barrier go on, knowing what all of them knew.
    fn open(&mut self, cta: usize, id: usize, mut running: Option<&mut Warp>) {
        let barrier = std::mem::take(&mut self.ctas[cta].barriers[id]);
        for Arrival { warp: index, reduction, .. } in barrier.arrived.into_iter().filter(|arrival| arrival.waits) {
            let warp = match &mut running {
                Some(warp) if warp.index == index => &mut **warp,
                _ => self.warps[index].as_mut().expect("only one warp runs"),
            };
            self.clocks.acquire(warp.actor(), &barrier.knowledge);
            if let Some(Reduction { how, out, lanes }) = reduction {
                let bit = |holds: bool| if holds { u32::MAX } else { 0 };
                match how {
                    BarrierReduce::Popc => warp.regs.set_row(out, lanes, &[barrier.holding; LANES]),
                    BarrierReduce::And => warp.regs.set_mask(out, lanes, bit(barrier.holding == barrier.threads)),
                    BarrierReduce::Or => warp.regs.set_mask(out, lanes, bit(barrier.holding > 0)),
                }
            }
            for split in warp.splits().filter(|s| s.wait == Some(Wait::Barrier(id as u8))) {
                split.wait = None;
            }
        }
    }

    /// For a report of a deadlock.
    pub(super) fn describe_barrier(&self, cta: usize, id: u8) -> String {
        let barrier = &self.ctas[cta].barriers[id as usize];
        let needed = match barrier.expected {
            Some(warps) => warps.to_string(),
            None => "all live".to_string(),
        };
        format!("barrier {id}, where {} of {needed} warps have arrived", barrier.arrived.len())
    }

    fn live_warps(&self, cta: usize, running: Option<&Warp>) -> usize {
        let others = self.ctas[cta].warps.clone().filter_map(|w| self.warps[w].as_deref());
        others.chain(running).filter(|w| !w.done()).count()
    }

    /// A warp has left the kernel: barriers for all threads no longer wait for it.
    pub(super) fn left(&mut self, warp: &mut Warp) -> Checked {
        self.finish_stores(warp)?;
        self.open_cluster_barrier(None);
        let live = self.live_warps(warp.cta, None);
        if live == 0 {
            self.finish_loads(warp)?;
            self.finish_visits(warp)?;
        }
        for id in 0..16 {
            let barrier = &self.ctas[warp.cta].barriers[id];
            if barrier.waiting && barrier.expected.is_none() && barrier.arrived.len() == live {
                self.open(warp.cta, id, None);
            }
        }
        Ok(())
    }

    /// `bar.warp.sync`: lanes wait until all members stand at such an instruction with the same members.
    pub(super) fn warp_sync(&mut self, warp: &mut Warp, members: Slot, active: u32) -> Checked<Flow> {
        let members = uniform(warp.regs.row(members), active, "member mask")?;
        if active & !members != 0 {
            let message = format!("member mask {members:#010x}: lanes {active:#010x} execute it");
            return accuse(Kind::Sync, lanes(active & !members).next(), message);
        }
        // Members that have left need not arrive.
        let members_left = members & warp.live;
        let wait = Wait::Lanes(members);
        let waiting = warp.splits().filter(|s| s.wait == Some(wait)).fold(0, |all, s| all | s.lanes);
        if (waiting | active) & members_left == members_left {
            for split in warp.splits().filter(|s| s.wait == Some(wait)) {
                split.wait = None;
            }
            match members_left == warp.live {
                true => warp.steps.meet_all(),
                false => warp.steps.meet(members),
            }
            return Ok(Flow::Next);
        }
        Ok(Flow::Wait(wait))
    }
}

/// The value that all active lanes agree on.
#[inline]
pub(super) fn uniform(row: &[u32; LANES], active: u32, what: &str) -> Checked<u32> {
    let first = row[active.trailing_zeros() as usize];
    let differing = |lane: &usize| row[*lane] != first;
    // Nearly always the inactive lanes agree as well, and a loop without branches tells.
    if (0..LANES).fold(0, |any, lane| any | (row[lane] ^ first)) == 0 {
        return Ok(first);
    }
    match lanes(active).find(differing) {
        None => Ok(first),
        Some(lane) => accuse(Kind::Sync, lane, format!("the {what} differs among lanes: {first} and {}", row[lane])),
    }
}
