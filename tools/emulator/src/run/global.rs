//! Loads and stores of global memory.

use super::{
    World,
    access::{Access, Spread},
    warp::Warp,
    words::{self, Words, give, take},
};
use crate::{
    check::{Actor, By, Checked, GlobalAccess, Kind, Word, accuse},
    count,
    mem::{Allocation, Global, SECTOR},
    regs::lanes,
    types::{Order, Scope, Space, Ty},
};

/// An event of an actor, by its time.
pub(super) type Moment = (Actor, u32);

impl World<'_> {
    #[inline(always)]
    pub(super) fn load_global(&mut self, warp: &Warp, access: &Access, ty: Ty, words: &mut Words) -> Checked {
        self.count_global(warp, access);
        self.fetch_global(access, ty, words)?;
        self.judge_global(warp, self.moment(warp), access, false)
    }

    /// Reads without counting.
    #[inline(always)]
    pub(super) fn fetch_global(&mut self, access: &Access, ty: Ty, words: &mut Words) -> Checked {
        let init = self.settings.checks.init;
        let (low, span) = access.extent();
        if let Some((allocation, at)) = self.global.find(low, span) {
            return words::read(&allocation.block, at, access, ty, init, words).or_else(|lane| {
                let at = at + (access.addresses[lane] - low) as usize;
                unwritten(allocation, at, lane)
            });
        }
        for lane in lanes(access.active) {
            let (allocation, at) = self.global_place(access, lane)?;
            if init && !allocation.block.written.all(at, access.size) {
                return unwritten(allocation, at, lane);
            }
            take(&allocation.block.bytes[at..at + access.size], ty, words, lane);
        }
        Ok(())
    }

    #[inline(always)]
    pub(super) fn store_global(&mut self, warp: &Warp, access: &Access, ty: Ty, words: &Words) -> Checked {
        self.count_global(warp, access);
        self.judge_global(warp, self.moment(warp), access, true)?;
        let (low, span) = access.extent();
        if let Some((allocation, at)) = self.global.find(low, span) {
            words::write(&mut allocation.block, at, access, ty, words);
            return Ok(());
        }
        for lane in lanes(access.active) {
            let (allocation, at) = self.global_place(access, lane)?;
            allocation.block.write(at, &give(ty, words, lane)[..access.size]);
        }
        Ok(())
    }

    /// What a warp does now.
    #[inline(always)]
    pub(super) fn moment(&self, warp: &Warp) -> Moment {
        (warp.actor(), self.clocks.now(warp.actor()))
    }

    /// Records an access, the warp's own or that of a copy which it issues, or accuses it of a race.
    #[inline(always)]
    pub(super) fn judge_global(&mut self, warp: &Warp, moment: Moment, access: &Access, write: bool) -> Checked {
        if self.constants.is_some() && (access.constant || write) {
            self.judge_constants(access, write)?;
        }
        if self.global_races.is_none() {
            return Ok(());
        }
        match access.spread {
            Spread::Apart => {
                for lane in lanes(access.active) {
                    let span = (access.addresses[lane], access.size);
                    self.judge_span(warp, moment, span, access.order, write, Some(lane))?;
                }
                Ok(())
            }
            _ => self.judge_span(warp, moment, access.extent(), access.order, write, None),
        }
    }

    /// The same for one range of bytes.
    pub(super) fn judge_span(
        &mut self,
        warp: &Warp,
        (actor, time): Moment,
        (address, size): (u64, usize),
        order: Order,
        write: bool,
        lane: Option<usize>,
    ) -> Checked {
        let Some(races) = &mut self.global_races else { return Ok(()) };
        let (cluster, strong, pc) = (self.cluster, order.scope, warp.split.pc);
        let event = GlobalAccess { cluster, actor, time, by: warp.actor(), strong, write, pc };
        let Err(earlier) = races.judge(event, &self.clocks, address, size) else { return Ok(()) };
        let name = match self.global.nearest(earlier.address) {
            Some(allocation) => format!("{}, offset {:#x}", allocation.name, earlier.address - allocation.base),
            None => format!("address {:#x}", earlier.address),
        };
        let who = match earlier.cluster == self.cluster {
            true => self.clocks.name(earlier.actor),
            false => {
                let whose = self.launch.describe_cluster(earlier.cluster);
                match (earlier.actor as usize) < self.warps.len() {
                    true => format!("warp {} of the {whose}", earlier.actor),
                    false => format!("an asynchronous copy of the {whose}"),
                }
            }
        };
        let (verb, line) = (if earlier.wrote { "written" } else { "read" }, self.kernel.code[earlier.pc as usize].line);
        let message = format!("{name}: {verb} by {who} at PTX line {line}, and nothing orders the two accesses");
        accuse(Kind::Race, lane, message)
    }

    /// `ld.global.nc` may go through a cache that no write of the launch reaches.
    fn judge_constants(&mut self, access: &Access, write: bool) -> Checked {
        let places = match access.spread {
            Spread::Apart => access.active,
            _ => 1 << access.active.trailing_zeros(),
        };
        for lane in lanes(places) {
            let (address, size) = match access.spread {
                Spread::Apart => (access.addresses[lane], access.size),
                _ => access.extent(),
            };
            self.judge_constant(address, size, write, lane)?;
        }
        Ok(())
    }

    /// The same for one range of bytes.
    pub(super) fn judge_constant(&mut self, address: u64, size: usize, write: bool, lane: usize) -> Checked {
        let Some(constants) = &mut self.constants else { return Ok(()) };
        if constants.note(address, size, write) {
            return Ok(());
        }
        let name = match self.global.nearest(address) {
            Some(allocation) => format!("{}, offset {:#x}", allocation.name, address - allocation.base),
            None => format!("address {address:#x}"),
        };
        let (does, did) = if write { ("written", "read with .nc") } else { ("read with .nc", "written") };
        let message = format!(
            "{name}, {size} bytes: {does}, and this launch has {did} some of them; .nc is for what no one writes \
             (const with __restrict__, or __ldg)"
        );
        accuse(Kind::Race, lane, message)
    }

    /// A fence: completes what strong reads before it have begun, and begins what strong writes after it complete.
    pub(super) fn fence(&mut self, warp: &mut Warp, scope: Scope) {
        if let Some(releases) = &mut self.releases
            && releases.fence(&mut self.clocks, warp.actor(), scope)
        {
            warp.steps.meet_all();
        }
    }

    /// A strong access may leave knowledge at its words, or take it from there.
    #[inline(always)]
    pub(super) fn pass_on(
        &mut self,
        warp: &mut Warp,
        access: &Access,
        space: Space,
        reads: bool,
        writes: bool,
    ) -> Checked {
        match access.order.scope {
            None => Ok(()),
            Some(_) => self.pass_on_strong(warp, access, space, (reads, writes)),
        }
    }

    fn pass_on_strong(
        &mut self,
        warp: &mut Warp,
        access: &Access,
        space: Space,
        (reads, writes): (bool, bool),
    ) -> Checked {
        let by = By { actor: warp.actor(), cta: warp.cta, cluster: self.cluster };
        if self.releases.as_ref().is_none_or(|releases| releases.quiet() && !access.order.releases) {
            return Ok(());
        }
        let released = access.order.releases.then(|| self.clocks.release(by.actor));
        for lane in lanes(access.active) {
            let word = match space {
                Space::Global | Space::Generic => Word::Global(access.addresses[lane]),
                Space::Shared => {
                    let place = self.shared_place(warp, access, lane)?;
                    Word::Shared { cta: place.cta, offset: place.offset }
                }
                _ => continue,
            };
            let Self { releases: Some(releases), clocks, .. } = self else { return Ok(()) };
            if releases.access(clocks, (word, by), access.order, released.as_ref(), (reads, writes)) {
                warp.steps.meet_all();
            }
        }
        Ok(())
    }

    /// The allocation that a lane reaches, and the offset in it.
    fn global_place(&mut self, access: &Access, lane: usize) -> Checked<(&mut Allocation, usize)> {
        let address = access.addresses[lane];
        if self.global.find(address, access.size).is_none() {
            return outside(self.global, address, access.size, lane);
        }
        Ok(self.global.find(address, access.size).expect("found above"))
    }

    #[inline(always)]
    pub(super) fn count_global(&mut self, warp: &Warp, access: &Access) {
        let global = &mut *self.global;
        let sectors = if access.spread == Spread::Apart {
            let (low, span) = access.extent();
            match global.find(low, span) {
                Some((allocation, at)) => count::sectors(&access.addresses, access.active, |sector| {
                    allocation.touched.touch(at + (sector.max(low) - low) as usize, 1);
                }),
                None => count::sectors(&access.addresses, access.active, |sector| {
                    if let Some((allocation, at)) = global.find(sector, 1) {
                        allocation.touched.touch(at, 1);
                    }
                }),
            }
        } else {
            let (low, span) = access.extent();
            if let Some((allocation, at)) = global.find(low, span) {
                allocation.touched.touch(at, span);
            }
            (low + span as u64 - 1) / SECTOR as u64 - low / SECTOR as u64 + 1
        };
        let count = &mut self.counts.by_instruction[warp.split.pc as usize];
        count.global_requests += 1;
        count.global_bytes += u64::from(access.active.count_ones()) * access.size as u64;
        count.global_sectors += sectors;
    }
}

pub(super) fn unwritten<T>(allocation: &Allocation, at: usize, lane: usize) -> Checked<T> {
    let message = format!("{}, offset {at:#x}: read before it is written", allocation.name);
    accuse(Kind::Init, lane, message)
}

/// An access outside every allocation, told by the nearest.
pub(super) fn outside<T>(global: &Global, address: u64, size: usize, lane: impl Into<Option<usize>>) -> Checked<T> {
    let message = match global.nearest(address) {
        Some(a) if a.freed => format!("address {address:#x}, {size} bytes: {} was there and is freed", a.name),
        Some(a) => format!(
            "address {address:#x}, {size} bytes: offset {:#x} of {}, which has {:#x} bytes",
            address - a.base,
            a.name,
            a.block.bytes.len()
        ),
        None => format!("address {address:#x}, {size} bytes: in no allocation"),
    };
    accuse(Kind::Memory, lane, message)
}
