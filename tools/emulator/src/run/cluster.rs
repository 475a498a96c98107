//! The barrier of a cluster, whose halves are separate instructions.

use super::{
    World,
    interpret::Flow,
    warp::{Wait, Warp},
};
use crate::check::{Checked, Kind, Knowledge, accuse};

#[derive(Debug, Default)]
pub struct ClusterBarrier {
    /// Times it has opened.
    opened: u64,
    /// Warps that have arrived since.
    arrived: Vec<usize>,
    gathering: Knowledge,
    completed: Knowledge,
}

/// The last access of a warp to the shared memory of another CTA.
#[derive(Debug)]
pub struct Visit {
    time: u32,
    /// The first opening of the cluster barrier that only comes after it.
    opening: u64,
    pc: u32,
}

impl World<'_> {
    /// Notes an access of a warp to the shared memory of a sibling, which must not leave before.
    pub(super) fn visit(&mut self, warp: &Warp, cta: usize) {
        let visit = Visit {
            time: self.clocks.now(warp.actor()),
            opening: warp.cluster_arrival.map_or(self.cluster_barrier.opened + 1, |arrival| arrival + 2),
            pc: warp.split.pc,
        };
        self.ctas[cta].visits.insert(warp.index, visit);
    }

    /// The last warp of a CTA leaves: each access of a sibling must have come before something that one of its warps
    /// has waited for.
    pub(super) fn finish_visits(&self, warp: &Warp) -> Checked {
        let cta = &self.ctas[warp.cta];
        let own = || self.warps[cta.warps.clone()].iter().flatten().map(|w| &**w).chain([warp]);
        for (visitor, visit) in &cta.visits {
            let before = |w: &Warp| {
                w.cluster_opening >= visit.opening || self.clocks.of(w.actor()).seen.get(*visitor as u32) >= visit.time
            };
            if !own().any(before) {
                let (name, line) = (self.clocks.name(*visitor as u32), self.kernel.code[visit.pc as usize].line);
                let message = format!(
                    "the CTA leaves, and nothing keeps it until {name} has accessed its shared memory at PTX line \
                     {line}: barrier.cluster must come between"
                );
                return accuse(Kind::Memory, None, message);
            }
        }
        Ok(())
    }

    pub(super) fn cluster_arrive(&mut self, warp: &mut Warp, relaxed: bool) -> Checked {
        if warp.cluster_arrival.is_some() {
            return accuse(Kind::Sync, None, "the warp arrives twice at the cluster barrier without waiting between");
        }
        if !relaxed {
            let knowledge = self.clocks.release(warp.actor());
            self.cluster_barrier.gathering.join(&knowledge);
        }
        warp.cluster_arrival = Some(self.cluster_barrier.opened);
        self.cluster_barrier.arrived.push(warp.index);
        self.open_cluster_barrier(Some(warp));
        Ok(())
    }

    pub(super) fn cluster_wait(&mut self, warp: &mut Warp) -> Checked<Flow> {
        let Some(arrival) = warp.cluster_arrival else {
            return accuse(Kind::Sync, None, "the warp waits at the cluster barrier and has not arrived");
        };
        if self.cluster_barrier.opened == arrival {
            return Ok(Flow::Retry(Wait::Cluster));
        }
        warp.cluster_arrival = None;
        warp.cluster_opening = arrival + 1;
        warp.steps.meet_all();
        self.clocks.acquire(warp.actor(), &self.cluster_barrier.completed);
        Ok(Flow::Next)
    }

    /// Opens the barrier once every live warp of the cluster has arrived.
    pub(super) fn open_cluster_barrier(&mut self, running: Option<&mut Warp>) {
        let live = |warp: &&Warp| !warp.done();
        let waiting_for = self.warps.iter().flatten().map(|w| &**w).chain(running.as_deref()).filter(live);
        let arrived = &self.cluster_barrier.arrived;
        if arrived.is_empty() || !waiting_for.map(|w| w.index).all(|index| arrived.contains(&index)) {
            return;
        }
        let barrier = &mut self.cluster_barrier;
        barrier.opened += 1;
        barrier.arrived.clear();
        barrier.completed = std::mem::take(&mut barrier.gathering);
        for warp in self.warps.iter_mut().flatten().map(|w| &mut **w).chain(running) {
            warp.splits().filter(|s| s.wait == Some(Wait::Cluster)).for_each(|s| s.wait = None);
        }
    }
}
