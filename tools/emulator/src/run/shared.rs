//! Loads and stores of shared memory: of the CTA itself and, through the cluster's window, of its siblings.

use super::{
    World,
    access::{Access, Spread},
    warp::Warp,
    words::{self, Words, give, put, take},
};
use crate::{
    check::{Checked, Event, Kind, Proxy, Touch, accuse, judge},
    count,
    regs::{each, lanes},
    types::{Order, Ty},
    window::{SHARED_BASE, SHARED_BITS},
};

/// A lane's bytes in shared memory.
pub(super) struct Place {
    pub cta: usize,
    pub offset: usize,
}

impl World<'_> {
    #[inline(always)]
    pub(super) fn load_shared(&mut self, warp: &Warp, access: &Access, ty: Ty, words: &mut Words) -> Checked {
        self.count_shared(warp, access);
        let (low, span) = access.extent();
        if let Some(at) = self.own_shared(warp, low, span) {
            self.lanes_apart_from_mbarriers(warp.cta, access, (low, at))?;
            let block = &self.ctas[warp.cta].shared.block;
            if let Err(lane) = words::read(block, at, access, ty, self.settings.checks.init, words) {
                return unwritten(access.addresses[lane], lane);
            }
            return self.touch_lanes(warp, access, low, at, false);
        }
        for lane in lanes(access.active) {
            let Place { cta, offset } = self.shared_place(warp, access, lane)?;
            self.apart_from_mbarriers(cta, offset, access.size, lane)?;
            self.shared_readable(warp, cta, access.touch(offset, lane), access.order)?;
            take(&self.ctas[cta].shared.block.bytes[offset..offset + access.size], ty, words, lane);
        }
        Ok(())
    }

    #[inline(always)]
    pub(super) fn store_shared(&mut self, warp: &Warp, access: &Access, ty: Ty, words: &Words) -> Checked {
        self.count_shared(warp, access);
        let (low, span) = access.extent();
        if let Some(at) = self.own_shared(warp, low, span) {
            self.lanes_apart_from_mbarriers(warp.cta, access, (low, at))?;
            self.touch_lanes(warp, access, low, at, true)?;
            words::write(&mut self.ctas[warp.cta].shared.block, at, access, ty, words);
            return Ok(());
        }
        for lane in lanes(access.active) {
            let Place { cta, offset } = self.shared_place(warp, access, lane)?;
            self.apart_from_mbarriers(cta, offset, access.size, lane)?;
            self.touch_shared(warp, cta, [access.touch(offset, lane)], true, access.order)?;
            let block = &mut self.ctas[cta].shared.block;
            put(&mut block.bytes[offset..], access.size, &give(ty, words, lane));
            block.written.set(offset, access.size);
        }
        Ok(())
    }

    /// Where an extent lies in the CTA's own shared memory; None when it reaches out of it, into a sibling's or nowhere.
    #[inline(always)]
    pub(super) fn own_shared(&self, warp: &Warp, low: u64, span: usize) -> Option<usize> {
        let address = u32::try_from(low).ok().filter(|low| low >> SHARED_BITS == 0)?;
        self.ctas[warp.cta].shared.offset(address, span)
    }

    /// Records what each lane does to the CTA's own shared memory. The extent begins at address `low` and offset `at`.
    #[inline(always)]
    fn touch_lanes(&mut self, warp: &Warp, access: &Access, low: u64, at: usize, write: bool) -> Checked {
        let size = access.size;
        // Lanes of one instruction at one address are one access by all of them.
        if access.spread == Spread::Same {
            let lane = Some(access.active.trailing_zeros() as usize);
            let lanes = if access.collective { u32::MAX } else { access.active };
            return self.touch_shared(warp, warp.cta, [Touch { offset: at, size, lane, lanes }], write, access.order);
        }
        let place = |lane: usize| access.touch(at + (access.addresses[lane] - low) as usize, lane);
        self.touch_shared(warp, warp.cta, lanes(access.active).map(place), write, access.order)
    }

    /// Checks that shared memory may be read: written before, and ordered after the write.
    #[inline(always)]
    pub(super) fn shared_readable(&mut self, warp: &Warp, cta: usize, touch: Touch, order: Order) -> Checked {
        if self.settings.checks.init && !self.ctas[cta].shared.block.written.all(touch.offset, touch.size) {
            return unwritten(touch.offset as u64 + u64::from(SHARED_BASE), touch.lane);
        }
        self.touch_shared(warp, cta, [touch], false, order)
    }

    /// Records an access of a warp to shared memory.
    #[inline(always)]
    pub(super) fn touch_shared(
        &mut self,
        warp: &Warp,
        cta: usize,
        places: impl IntoIterator<Item = Touch>,
        write: bool,
        order: Order,
    ) -> Checked {
        let Self { ctas, clocks, kernel, .. } = self;
        let Some(races) = &mut ctas[cta].races else { return Ok(()) };
        let actor = warp.actor();
        let known = clocks.of(actor);
        let time = known.seen.get(actor);
        let (strong, cta) = (order.scope, warp.cta as u8);
        let (doing, pc) = (Some((actor, &warp.steps)), warp.split.pc);
        let event = Event { actor, time, proxy: Proxy::Generic, strong, cta, warp: doing, lanes: 0, known, pc };
        judge(races, clocks, |pc| kernel.code[pc as usize].line, event, write, places)
    }

    #[inline(always)]
    pub(super) fn count_shared(&mut self, warp: &Warp, access: &Access) {
        let (wavefronts, ideal) = if access.spread == Spread::Apart {
            let addresses = each(|lane| access.addresses[lane] as u32);
            count::wavefronts(&addresses, access.active, access.size as u32)
        } else {
            // Side by side or all at one place, only the width of a lane makes more than one.
            let groups = (0..access.size as u32).step_by(4).count() as u32;
            let lanes_each = 32 / groups;
            let taken =
                (0..groups).filter(|g| access.active >> (g * lanes_each) & (u32::MAX >> (32 - lanes_each)) != 0);
            let taken = taken.count() as u64;
            (taken, taken)
        };
        let count = &mut self.counts.by_instruction[warp.split.pc as usize];
        count.shared_requests += 1;
        count.shared_wavefronts += wavefronts;
        count.shared_ideal += ideal;
    }

    /// The CTA and offset that a lane's shared address means.
    #[inline]
    pub(super) fn shared_place(&mut self, warp: &Warp, access: &Access, lane: usize) -> Checked<Place> {
        let place = self.shared_at(warp.cta, access.addresses[lane], access.size, lane)?;
        if place.cta != warp.cta {
            self.visit(warp, place.cta);
        }
        Ok(place)
    }

    #[inline]
    pub(super) fn shared_at(
        &self,
        own: usize,
        address: u64,
        size: usize,
        lane: impl Into<Option<usize>>,
    ) -> Checked<Place> {
        let within = (address & ((1 << SHARED_BITS) - 1)) as u32;
        let cta = match address >> SHARED_BITS {
            0 => own,
            rank => rank as usize - 1,
        };
        if cta != own
            && self.ctas.get(cta).is_some_and(|c| self.warps[c.warps.clone()].iter().flatten().all(|w| w.done()))
        {
            let message = format!("shared address {address:#x}: the CTA with rank {cta} has left");
            return accuse(Kind::Memory, lane, message);
        }
        match self.ctas.get(cta).and_then(|c| c.shared.offset(within, size)) {
            Some(offset) => Ok(Place { cta, offset }),
            None => {
                let end = self.ctas[own].shared.block.bytes.len() as u32 + SHARED_BASE;
                let message = format!(
                    "shared address {address:#x}, {size} bytes: shared memory spans {SHARED_BASE:#x}..{end:#x}"
                );
                accuse(Kind::Memory, lane, message)
            }
        }
    }
}

fn unwritten<T>(address: u64, lane: impl Into<Option<usize>>) -> Checked<T> {
    accuse(Kind::Init, lane, format!("shared address {address:#x}: read before it is written"))
}
