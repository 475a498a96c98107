//! Bulk copies: rows of bytes and tiles of tensors between global and shared memory, by the asynchronous proxy.
//!
//! A load completes on an mbarrier; under `Lazy` it lands only when every warp waits. A store is waited for in groups of
//! the lane that issued it; under `Lazy` it reads its source when its group is waited for with `.read`, and writes when
//! it is waited for without, or when the cluster ends. Races are judged by the time of issue under both policies.

mod piece;
mod store;

pub use store::BulkStores;

use super::{Policy, World, access::addresses, warp::Warp};
use crate::{
    check::{Actor, Checked, Event, Kind, Proxy, Touch, accuse, judge},
    ir::{Address, Bulk, BulkShape, BulkWay},
    regs::lanes,
    types::{Order, Space},
    window::{self, SHARED_BASE},
};
use piece::{Piece, Plan};

/// A load under way.
#[derive(Debug)]
pub struct Landing {
    cta: usize,
    plan: Plan,
    data: Vec<u8>,
    mbarrier: (usize, usize),
    /// CTA whose shared memory it reads.
    from: Option<usize>,
    time: u32,
}

impl World<'_> {
    pub(super) fn bulk(&mut self, warp: &mut Warp, bulk: &Bulk, active: u32) -> Checked {
        for lane in lanes(active) {
            let shared = self.one_shared(warp, bulk.shared, lane)?;
            let (plan, element) = match &bulk.shape {
                BulkShape::Row { other, bytes } => {
                    let bytes = warp.regs.row(*bytes)[lane];
                    let other = addresses(&warp.regs, *other)[lane];
                    if !bytes.is_multiple_of(16) || !shared.is_multiple_of(16) || !other.is_multiple_of(16) {
                        let message =
                            format!("{bytes} bytes, shared {shared:#x}, {other:#x}: all must be multiples of 16");
                        return accuse(Kind::Memory, lane, message);
                    }
                    let offset = self.shared_at(warp.cta, shared, bytes as usize, lane)?.offset;
                    (Plan::row(Some(other), offset as u32 + SHARED_BASE, bytes), None)
                }
                BulkShape::Tile { map, coordinates } => {
                    let map = self.tensor_map(warp, *map, lane)?;
                    let at: Vec<i64> = coordinates.iter().map(|c| i64::from(warp.regs.row(*c)[lane] as i32)).collect();
                    (self.tile(warp, &map, &at, shared, lane)?, Some(map.ty.ty()))
                }
            };
            let count = &mut self.counts.by_instruction[warp.split.pc as usize];
            count.async_bytes += u64::from(plan.bytes);
            match &bulk.way {
                BulkWay::Load { mbarrier } => {
                    let targets = bulk.multicast.map(|mask| u32::from(warp.regs.row(mask)[lane] as u16));
                    self.load_bulk(warp, plan, shared, *mbarrier, targets, lane)?;
                }
                BulkWay::Forward { mbarrier } => self.forward(warp, plan, shared, *mbarrier, lane)?,
                BulkWay::Store { reduce } => {
                    let reduce = reduce.map(|(op, ty)| (op, element.unwrap_or(ty)));
                    self.store_bulk(warp, plan, reduce, lane)?;
                }
            }
        }
        Ok(())
    }

    /// A lane's shared address, from either register width.
    fn one_shared(&self, warp: &Warp, address: Address, lane: usize) -> Checked<u64> {
        let mut all = addresses(&warp.regs, address);
        if address.wide && all[lane] >= window::LOCAL {
            let space = self.resolve(Space::Generic, &mut all, 1 << lane)?;
            if space != Space::Shared {
                return accuse(Kind::Memory, lane, "the shared side of a bulk copy is not in shared memory");
            }
        }
        Ok(all[lane])
    }

    /// A load; with `targets`, to the same place in each of these CTAs of the cluster, on each one's own mbarrier.
    fn load_bulk(
        &mut self,
        warp: &mut Warp,
        plan: Plan,
        shared: u64,
        mbarrier: Address,
        targets: Option<u32>,
        lane: usize,
    ) -> Checked {
        let data = self.read_global(warp, &plan, lane)?;
        let own = self.shared_at(warp.cta, shared, 0, lane)?.cta;
        let mbarrier = self.one_shared(warp, mbarrier, lane)?;
        let place = self.shared_at(warp.cta, mbarrier, 8, lane)?;
        let Some(targets) = targets else {
            return self.issue(warp, own, None, plan, data, (place.cta, place.offset), lane);
        };
        if targets == 0 || targets >> self.ctas.len() != 0 {
            let message = format!("multicast to the ranks {targets:#b}: the cluster has {} CTAs", self.ctas.len());
            return accuse(Kind::Memory, lane, message);
        }
        for cta in lanes(targets) {
            self.issue(warp, cta, None, plan.clone(), data.clone(), (cta, place.offset), lane)?;
        }
        Ok(())
    }

    /// Shared memory of this CTA to shared memory of the cluster.
    fn forward(&mut self, warp: &mut Warp, plan: Plan, shared: u64, mbarrier: Address, lane: usize) -> Checked {
        let bytes = plan.bytes;
        let source = self.shared_at(warp.cta, plan.pieces[0].global.unwrap_or(0), bytes as usize, lane)?;
        let target = self.shared_at(warp.cta, shared, bytes as usize, lane)?;
        let mbarrier = self.one_shared(warp, mbarrier, lane)?;
        let place = self.shared_at(warp.cta, mbarrier, 8, lane)?;
        let read = Plan::row(None, source.offset as u32 + SHARED_BASE, bytes);
        let data = self.read_shared(source.cta, &read);
        self.issue(warp, target.cta, Some((source.cta, read)), plan, data, (place.cta, place.offset), lane)
    }

    /// Sends bytes on their way to a CTA's shared memory.
    fn issue(
        &mut self,
        warp: &mut Warp,
        cta: usize,
        from: Option<(usize, Plan)>,
        plan: Plan,
        data: Vec<u8>,
        mbarrier: (usize, usize),
        lane: usize,
    ) -> Checked {
        let actor = self.mbarrier_for_copy(warp, mbarrier, lane)?.copies();
        let time = self.clocks.tick(actor);
        match &from {
            Some((source, read)) => self.touch_bulk(warp, *source, read, (actor, time), false, lane)?,
            None => {
                for (address, size) in plan.pieces.iter().filter_map(|piece| Some((piece.global?, piece.size))) {
                    self.judge_span(warp, (actor, time), (address, size), Order::default(), false, Some(lane))?;
                }
            }
        }
        self.touch_bulk(warp, cta, &plan, (actor, time), true, lane)?;
        let landing = Landing { cta, plan, data, mbarrier, from: from.map(|(cta, _)| cta), time };
        match self.settings.policy {
            Policy::Eager => self.land(landing, Some(warp)),
            Policy::Lazy => {
                self.landings.push_back(landing);
                Ok(())
            }
        }
    }

    /// Writes what a load brought and tells its mbarrier.
    pub(super) fn land(&mut self, landing: Landing, running: Option<&mut Warp>) -> Checked {
        self.plan_apart_from_mbarriers(landing.cta, &landing.plan, None)?;
        let block = &mut self.ctas[landing.cta].shared.block;
        let mut rest = landing.data.as_slice();
        for (offset, chunk) in landing.plan.pieces.iter().flat_map(|piece| piece.chunks(landing.plan.swizzle)) {
            let (bytes, after) = rest.split_at(chunk.len());
            block.write(offset, bytes);
            rest = after;
        }
        self.complete_bytes(landing.mbarrier, landing.plan.bytes, landing.time, running)
    }

    fn plan_apart_from_mbarriers(&self, cta: usize, plan: &Plan, lane: Option<usize>) -> Checked {
        // Swizzles stay within this many bytes.
        const ATOM: usize = 1024;
        let at = |address: u32| (address - SHARED_BASE) as usize;
        let [Some(first), Some(last)] = [plan.pieces.first(), plan.pieces.last()] else { return Ok(()) };
        let (from, to) = (at(first.shared).saturating_sub(ATOM), at(last.shared) + last.size + ATOM);
        if !self.holds_mbarrier(cta, from, to - from) {
            return Ok(());
        }
        let mut places = plan.pieces.iter().flat_map(|piece| piece.chunks(plan.swizzle));
        places.try_for_each(|(offset, chunk)| self.apart_from_mbarriers(cta, offset, chunk.len(), lane))
    }

    /// Judges a copy's accesses to shared memory.
    fn touch_bulk(
        &mut self,
        warp: &Warp,
        cta: usize,
        plan: &Plan,
        (actor, time): (Actor, u32),
        write: bool,
        lane: usize,
    ) -> Checked {
        self.plan_apart_from_mbarriers(cta, plan, Some(lane))?;
        let Self { ctas, clocks, settings, kernel, .. } = self;
        let known = clocks.of(warp.actor());
        let (issuing, pc) = (Some((warp.actor(), &warp.steps)), warp.split.pc);
        let event =
            Event { actor, time, proxy: Proxy::Async, strong: None, cta: 0, warp: issuing, lanes: 0, known, pc };
        let cta = &mut ctas[cta];
        let places = plan.pieces.iter().flat_map(|piece| piece.chunks(plan.swizzle));
        if !write && settings.checks.init {
            for (offset, chunk) in places.clone() {
                if !cta.shared.block.written.all(offset, chunk.len()) {
                    let address = offset as u32 + SHARED_BASE;
                    let message = format!("shared address {address:#x}: copied before it is written");
                    return accuse(Kind::Init, lane, message);
                }
            }
        }
        let Some(races) = &mut cta.races else { return Ok(()) };
        let places =
            places.map(|(offset, chunk)| Touch { offset, size: chunk.len(), lane: Some(lane), lanes: 1 << lane });
        judge(races, clocks, |pc| kernel.code[pc as usize].line, event, write, places)
    }

    /// The last warp of a CTA leaves: no load may still use its shared memory.
    pub(super) fn finish_loads(&mut self, warp: &Warp) -> Checked {
        if self.landings.iter().any(|l| l.from == Some(warp.cta) || l.cta == warp.cta) {
            let message = "the CTA leaves while a bulk copy still reads or writes its shared memory";
            return accuse(Kind::Sync, None, message);
        }
        Ok(())
    }
}
