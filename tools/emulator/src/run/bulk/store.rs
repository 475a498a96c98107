//! Bulk stores: from shared memory to global memory, waited for in groups of the lane that issued them.

use super::{Piece, Plan};
use crate::{
    check::{Actor, Checked, Kind, Who, accuse},
    ir::AtomicOp,
    run::{
        Policy, World,
        atomic::{combine_global, word},
        warp::Warp,
    },
    types::{Order, Scope, Ty},
};
use std::collections::BTreeMap;

/// The stores that one lane has issued.
#[derive(Debug)]
pub struct Stores {
    /// Its reads of shared memory, and its writes of global memory.
    reads: Actor,
    writes: Actor,
    committed: u32,
    stores: Vec<Store>,
}

#[derive(Debug)]
struct Store {
    /// Group, once it is committed.
    group: u32,
    cta: usize,
    plan: Plan,
    reduce: Option<(AtomicOp, Ty)>,
    /// What was read from the source, once it has been.
    data: Option<Vec<u8>>,
    /// A wait has made sure of the reading.
    read_waited: bool,
}

/// The stores of a warp by lane.
pub type BulkStores = BTreeMap<usize, Stores>;

impl World<'_> {
    pub(super) fn store_bulk(
        &mut self,
        warp: &mut Warp,
        mut plan: Plan,
        reduce: Option<(AtomicOp, Ty)>,
        lane: usize,
    ) -> Checked {
        if !warp.bulk.contains_key(&lane) {
            let [reads, writes] = [(); 2].map(|()| self.clocks.add(Who::BulkStores { of: warp.actor(), lane }));
            warp.bulk.insert(lane, Stores { reads, writes, committed: 0, stores: vec![] });
        }
        let Stores { reads, writes, committed: group, .. } = warp.bulk[&lane];
        plan.pieces.retain(|p| p.global.is_some());
        // Time of a group: its number from 1.
        self.touch_bulk(warp, warp.cta, &plan, (reads, group + 1), false, lane)?;
        self.count_bulk(warp, &plan, lane)?;
        for Piece { global, size, .. } in &plan.pieces {
            let address = global.expect("kept above");
            // Reductions are atomics of the device.
            let order = Order { scope: reduce.map(|_| Scope::Device), ..Order::default() };
            self.judge_constant(address, *size, true, lane)?;
            self.judge_span(warp, (writes, group + 1), (address, *size), order, true, Some(lane))?;
        }
        let mut store = Store { group, cta: warp.cta, plan, reduce, data: None, read_waited: false };
        if self.settings.policy == Policy::Eager {
            self.read_source(&mut store);
            self.write_target(&mut store);
        }
        warp.bulk.get_mut(&lane).expect("inserted above").stores.push(store);
        Ok(())
    }

    fn read_source(&mut self, store: &mut Store) {
        if store.data.is_none() {
            store.data = Some(self.read_shared(store.cta, &store.plan));
        }
    }

    /// The bytes of the shared side, one row after another.
    pub(super) fn read_shared(&self, cta: usize, plan: &Plan) -> Vec<u8> {
        let bytes = &self.ctas[cta].shared.block.bytes;
        let mut data = vec![];
        for (offset, chunk) in plan.pieces.iter().flat_map(|piece| piece.chunks(plan.swizzle)) {
            data.extend_from_slice(&bytes[offset..offset + chunk.len()]);
        }
        data
    }

    /// Writes once: what has been written is forgotten.
    fn write_target(&mut self, store: &mut Store) {
        let Some(mut data) = store.data.take_if(|_| !store.plan.pieces.is_empty()) else { return };
        let mut rest = data.as_mut_slice();
        for Piece { global, size, .. } in store.plan.pieces.drain(..) {
            let (row, after) = rest.split_at_mut(size);
            rest = after;
            let address = global.expect("stores keep only these");
            let Some((allocation, at)) = self.global.find(address, size) else { continue };
            if let Some((op, ty)) = store.reduce {
                let element = ty.size() as usize;
                let old = &allocation.block.bytes[at..at + size];
                for (new, old) in row.chunks_exact_mut(element).zip(old.chunks_exact(element)) {
                    let sum = combine_global(op, ty, word(old), word(new));
                    new.copy_from_slice(&sum.to_le_bytes()[..element]);
                }
            }
            allocation.block.write(at, row);
        }
    }

    pub(in crate::run) fn bulk_commit(&mut self, warp: &mut Warp, active: u32) {
        for (_, stores) in warp.bulk.iter_mut().filter(|(lane, _)| active >> **lane & 1 != 0) {
            stores.committed += 1;
        }
    }

    pub(in crate::run) fn bulk_wait(&mut self, warp: &mut Warp, pending: u32, read: bool, active: u32) {
        let mut bulk = std::mem::take(&mut warp.bulk);
        for (_, stores) in bulk.iter_mut().filter(|(lane, _)| active >> **lane & 1 != 0) {
            let done = stores.committed.saturating_sub(pending);
            for store in stores.stores.iter_mut().filter(|s| s.group < done) {
                self.read_source(store);
                store.read_waited = true;
                if !read {
                    self.write_target(store);
                }
            }
            if !read {
                stores.stores.retain(|store| store.group >= done);
                self.clocks.learn(warp.actor(), stores.writes, done);
            }
            self.clocks.learn(warp.actor(), stores.reads, done);
        }
        warp.bulk = bulk;
    }

    /// A warp leaves: its stores must have read the shared memory that may now vanish; they still write.
    pub(in crate::run) fn finish_stores(&mut self, warp: &mut Warp) -> Checked {
        for (lane, mut stores) in std::mem::take(&mut warp.bulk) {
            for mut store in stores.stores.drain(..) {
                if !store.read_waited {
                    let message = "the lane leaves while its bulk store may still read shared memory; \
                                   cp.async.bulk.wait_group.read must come before";
                    return accuse(Kind::Sync, lane, message);
                }
                self.write_target(&mut store);
            }
        }
        Ok(())
    }
}
