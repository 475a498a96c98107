//! mbarriers: phases that end when the expected arrivals have come and every announced byte has landed.

use super::{
    Policy, World,
    access::{Access, addresses},
    interpret::Flow,
    warp::{Wait, Warp},
};
use crate::{
    check::{Actor, Checked, Kind, Knowledge, Who, accuse},
    ir::{Mbarrier, MbarrierOp, Phase},
    regs::{LANES, lanes},
    types::{Order, Scope, Space},
};

/// Most arrivals and most bytes under way that an mbarrier can count.
const MOST: i64 = (1 << 20) - 1;

/// What arrivals bring: those of the CTA that owns the mbarrier, and those of its siblings that reach as far.
#[derive(Debug, Default)]
struct Arrivals {
    own: Knowledge,
    siblings: Knowledge,
    /// Warps of the CTA, their lanes, and the step before which those have done what they did.
    lanes: Vec<(Actor, u32, u32)>,
}

/// The state of one mbarrier, kept beside the eight bytes that hold it on a device.
#[derive(Debug)]
pub struct State {
    expected: i64,
    pending: i64,
    /// Bytes announced and not landed; negative while they land unannounced.
    bytes: i64,
    /// Phases completed.
    phase: u64,
    /// What those knew who arrived in this phase, and in the last one.
    gathering: Arrivals,
    completed: Arrivals,
    /// The copies that complete on it.
    copies: Actor,
    /// Who initialised it, when: a warp, its time and step, and the lane.
    initialised: Initialised,
    /// A fence has made the initialisation visible to asynchronous copies.
    fenced: bool,
}

#[derive(Debug, Clone, Copy)]
struct Initialised {
    by: Actor,
    time: u32,
    lane: usize,
    step: u32,
}

impl State {
    pub fn copies(&self) -> Actor {
        self.copies
    }

    fn phase_ended(&mut self) -> bool {
        let ended = self.pending == 0 && self.bytes == 0;
        if ended {
            self.phase += 1;
            self.pending = self.expected;
            self.completed = std::mem::take(&mut self.gathering);
        }
        ended
    }
}

impl World<'_> {
    pub(super) fn mbarrier(&mut self, warp: &mut Warp, ins: &Mbarrier, active: u32) -> Checked<Flow> {
        self.mbarrier_bringing(warp, ins, active, None)
    }

    /// The same for an arrival that is another actor's as well, up to its event at a time.
    pub(super) fn mbarrier_bringing(
        &mut self,
        warp: &mut Warp,
        ins: &Mbarrier,
        active: u32,
        brings: Option<(Actor, u32)>,
    ) -> Checked<Flow> {
        let mut access = Access::new(addresses(&warp.regs, ins.address), active, 8, Order::default());
        if ins.address.wide {
            let shared = access.addresses[active.trailing_zeros() as usize] < crate::window::LOCAL;
            let space = if shared { Space::Shared } else { Space::Generic };
            if self.resolve(space, &mut access.addresses, active)? != Space::Shared {
                return accuse(Kind::Memory, None, "an mbarrier outside shared memory");
            }
        }
        access.aligned()?;
        if let MbarrierOp::Wait { out, phase, suspends, ignored, retried } = ins.op {
            if ignored {
                let message = "nothing reads the result: a wait that ends early passes for a phase that has ended";
                return accuse(Kind::Sync, None, message);
            }
            // A device may give up at any time, which only who asks again at once need not know.
            let suspends = suspends && (retried || self.settings.policy == Policy::Eager);
            let may_fail = !retried && self.settings.policy == Policy::Lazy;
            return self.mbarrier_wait(warp, &access, (out, phase), (suspends, may_fail), ins.scope);
        }
        for lane in lanes(active) {
            let place = self.shared_place(warp, &access, lane)?;
            if place.cta != warp.cta && !ins.cluster {
                return accuse(Kind::Memory, lane, "an mbarrier of another CTA without .shared::cluster");
            }
            let key = (place.cta, place.offset);
            match ins.op {
                MbarrierOp::Init { count } => {
                    let count = warp.regs.row(count)[lane];
                    self.mbarrier_init(warp, key, i64::from(count), lane)?;
                }
                MbarrierOp::Invalidate => {
                    self.find_mbarrier(key, lane)?;
                    self.mbarriers.remove(&key);
                }
                MbarrierOp::ExpectTx { bytes } => {
                    let bytes = warp.regs.row(bytes)[lane];
                    self.visible(warp, key, lane)?;
                    self.expect(key, bytes, lane)?;
                }
                MbarrierOp::Arrive { expect, count, state, drop } => {
                    self.visible(warp, key, lane)?;
                    if let Some(bytes) = expect {
                        self.expect(key, warp.regs.row(bytes)[lane], lane)?;
                    }
                    let count = count.map_or(1, |count| i64::from(warp.regs.row(count)[lane]));
                    let phase = self.find_mbarrier(key, lane)?.phase;
                    if let Some(slot) = state {
                        warp.regs.set(slot, 1 << lane, &[phase; LANES]);
                    }
                    self.arrive(warp, key, (count, drop), (ins.scope, brings), lane)?;
                }
                MbarrierOp::Wait { .. } => unreachable!("handled above"),
            }
        }
        // What lanes do from here on, their arrivals do not bring.
        warp.steps.tick();
        Ok(Flow::Next)
    }

    fn mbarrier_init(&mut self, warp: &Warp, key: (usize, usize), count: i64, lane: usize) -> Checked {
        if !(1..=MOST).contains(&count) {
            return accuse(Kind::Sync, lane, format!("mbarrier for {count} arrivals: 1 to {MOST} are allowed"));
        }
        if self.mbarriers.contains_key(&key) {
            return accuse(Kind::Sync, lane, "an mbarrier that is in use is initialised again");
        }
        let address = key.1 as u32 + crate::window::SHARED_BASE;
        let copies = self.clocks.add(Who::BulkLoads { mbarrier: address });
        let actor = warp.actor();
        let initialised = Initialised { by: actor, time: self.clocks.now(actor), lane, step: warp.steps.now() };
        self.mbarriers.insert(
            key,
            State {
                expected: count,
                pending: count,
                bytes: 0,
                phase: 0,
                gathering: Arrivals::default(),
                completed: Arrivals::default(),
                copies,
                initialised,
                fenced: false,
            },
        );
        Ok(())
    }

    /// `fence.mbarrier_init` and `fence.proxy.async`: copies may use the barriers that the warp knows.
    pub(super) fn publish_mbarriers(&mut self, warp: &Warp) {
        let known = &self.clocks.of(warp.actor()).seen;
        for state in self.mbarriers.values_mut() {
            state.fenced |= known.get(state.initialised.by) >= state.initialised.time;
        }
    }

    /// Whether an mbarrier lies in these bytes of a CTA's shared memory.
    #[inline]
    pub(super) fn holds_mbarrier(&self, cta: usize, offset: usize, size: usize) -> bool {
        let mut inside = self.mbarriers.range((cta, offset.saturating_sub(7))..(cta, offset + size));
        !self.mbarriers.is_empty() && inside.next().is_some()
    }

    /// Refuses data in the bytes of an mbarrier that is in use, which nothing but its own operations may touch.
    #[inline]
    pub(super) fn apart_from_mbarriers(
        &self,
        cta: usize,
        offset: usize,
        size: usize,
        lane: impl Into<Option<usize>>,
    ) -> Checked {
        if !self.holds_mbarrier(cta, offset, size) {
            return Ok(());
        }
        let address = offset as u32 + crate::window::SHARED_BASE;
        let message = format!(
            "shared address {address:#x}, {size} bytes: an mbarrier in use lies there, and only its own operations may \
             touch it before mbarrier.inval"
        );
        accuse(Kind::Sync, lane, message)
    }

    /// The same for an access whose lowest address `low` lies at offset `at`.
    #[inline(always)]
    pub(super) fn lanes_apart_from_mbarriers(&self, cta: usize, access: &Access, (low, at): (u64, usize)) -> Checked {
        if self.mbarriers.is_empty() || !self.holds_mbarrier(cta, at, access.extent().1) {
            return Ok(());
        }
        lanes(access.active).try_for_each(|lane| {
            self.apart_from_mbarriers(cta, at + (access.addresses[lane] - low) as usize, access.size, lane)
        })
    }

    fn find_mbarrier(&mut self, key: (usize, usize), lane: impl Into<Option<usize>>) -> Checked<&mut State> {
        let address = key.1 as u32 + crate::window::SHARED_BASE;
        match self.mbarriers.get_mut(&key) {
            Some(state) => Ok(state),
            None => accuse(Kind::Sync, lane, format!("shared address {address:#x}: no mbarrier is initialised there")),
        }
    }

    /// Checks that the initialisation is ordered before this use.
    fn visible(&mut self, warp: &Warp, key: (usize, usize), lane: usize) -> Checked {
        let Initialised { by, time, lane: initialising, step } = self.find_mbarrier(key, lane)?.initialised;
        if !self.settings.checks.race {
            return Ok(());
        }
        if self.clocks.of(warp.actor()).seen.get(by) < time {
            let name = self.clocks.name(by);
            let message = format!("the mbarrier: initialised by {name}, and nothing orders this use behind it");
            return accuse(Kind::Race, lane, message);
        }
        if by == warp.actor() && !warp.steps.ordered(step, 1 << initialising, 1 << lane) {
            let message = format!("the mbarrier: initialised by lane {initialising}, and no __syncwarp lies between");
            return accuse(Kind::Race, lane, message);
        }
        Ok(())
    }

    /// The mbarrier that a bulk copy will complete on. Its initialisation must be visible to the asynchronous proxy.
    pub(super) fn mbarrier_for_copy(&mut self, warp: &Warp, key: (usize, usize), lane: usize) -> Checked<&mut State> {
        self.visible(warp, key, lane)?;
        let race = self.settings.checks.race;
        let state = self.find_mbarrier(key, lane)?;
        if race && !state.fenced {
            let why = "no fence.mbarrier_init or fence.proxy.async follows its initialisation";
            return accuse(Kind::Race, lane, format!("the mbarrier: {why}, so a copy need not see it"));
        }
        Ok(state)
    }

    fn expect(&mut self, key: (usize, usize), bytes: u32, lane: usize) -> Checked {
        let state = self.find_mbarrier(key, lane)?;
        state.bytes += i64::from(bytes);
        if state.bytes > MOST {
            let message = format!("mbarrier: {} bytes expected, it counts to {MOST}", state.bytes);
            return accuse(Kind::Sync, lane, message);
        }
        Ok(())
    }

    fn arrive(
        &mut self,
        warp: &mut Warp,
        key: (usize, usize),
        (count, drop): (i64, bool),
        (scope, brings): (Scope, Option<(Actor, u32)>),
        lane: usize,
    ) -> Checked {
        let mut knowledge = self.clocks.release(warp.actor());
        brings.into_iter().for_each(|(actor, time)| knowledge.seen.set(actor, time));
        let state = self.find_mbarrier(key, lane)?;
        if drop {
            state.expected -= count;
        }
        if key.0 == warp.cta {
            state.gathering.own.join(&knowledge);
            let before = warp.steps.now() + 1;
            match state
                .gathering
                .lanes
                .last_mut()
                .filter(|(arrived, _, step)| (*arrived, *step) == (warp.actor(), before))
            {
                Some((_, lanes, _)) => *lanes |= 1 << lane,
                None => state.gathering.lanes.push((warp.actor(), 1 << lane, before)),
            }
        } else if scope > Scope::Cta {
            state.gathering.siblings.join(&knowledge);
        }
        state.pending -= count;
        if count < 1 || state.pending < 0 {
            let message =
                format!("mbarrier: {count} arrivals, {} were missing of {}", state.pending + count, state.expected);
            return accuse(Kind::Sync, lane, message);
        }
        if state.phase_ended() {
            self.wake(key, Some(warp));
        }
        Ok(())
    }

    /// Bytes of a copy have landed. `time` is that of the copy among those of the mbarrier.
    pub(super) fn complete_bytes(
        &mut self,
        key: (usize, usize),
        bytes: u32,
        time: u32,
        running: Option<&mut Warp>,
    ) -> Checked {
        let state = self.find_mbarrier(key, None)?;
        let copies = state.copies;
        let seen = &mut state.gathering.own.seen;
        seen.set(copies, seen.get(copies).max(time));
        state.bytes -= i64::from(bytes);
        if state.bytes < -MOST {
            return accuse(Kind::Sync, None, format!("mbarrier: {} bytes landed unannounced", -state.bytes));
        }
        if state.phase_ended() {
            self.wake(key, running);
        }
        Ok(())
    }

    /// Lets splits try again that wait for an mbarrier.
    fn wake(&mut self, (cta, offset): (usize, usize), running: Option<&mut Warp>) {
        let wait = Wait::Mbarrier { cta: cta as u32, offset: offset as u32 };
        for warp in self.warps.iter_mut().flatten().map(|w| &mut **w).chain(running) {
            warp.splits().filter(|s| s.wait == Some(wait)).for_each(|s| s.wait = None);
        }
    }

    fn mbarrier_wait(
        &mut self,
        warp: &mut Warp,
        access: &Access,
        (out, phase): (crate::regs::Slot, Phase),
        (suspends, may_fail): (bool, bool),
        scope: Scope,
    ) -> Checked<Flow> {
        let mut ended = 0;
        let mut missing = None;
        for lane in lanes(access.active) {
            let place = self.shared_place(warp, access, lane)?;
            if place.cta != warp.cta {
                return accuse(Kind::Memory, lane, "only the CTA that owns an mbarrier can wait for it");
            }
            let key = (place.cta, place.offset);
            self.visible(warp, key, lane)?;
            let wanted = match phase {
                Phase::Parity(slot) => Err(warp.regs.row(slot)[lane]),
                Phase::State(slot) => Ok(warp.regs.get::<u64>(slot)[lane]),
            };
            let state = self.find_mbarrier(key, lane)?;
            let done = match wanted {
                Err(parity @ (0 | 1)) => state.phase % 2 != u64::from(parity),
                Err(parity) => return accuse(Kind::Sync, lane, format!("parity {parity}: 0 or 1 is needed")),
                Ok(phase) if phase > state.phase || state.phase - phase > 1 => {
                    let message = format!("state of phase {phase}: the mbarrier is in phase {}", state.phase);
                    return accuse(Kind::Sync, lane, message);
                }
                Ok(phase) => state.phase > phase,
            };
            let ended_phase = state.phase;
            // Another order of the warps would have asked before the phase ended, unless something else says that it has.
            let lucky = may_fail && !self.clocks.knows(warp.actor(), &self.mbarriers[&key].completed.own.seen);
            let done = done && !(lucky && warp.refused.insert((key, ended_phase)));
            let state = self.find_mbarrier(key, lane)?;
            if done {
                ended |= 1 << lane;
                // Before the first phase ends, the other parity counts as ended and brings no knowledge.
                let knowledge = std::mem::take(&mut state.completed);
                self.clocks.acquire(warp.actor(), &knowledge.own);
                let actor = warp.actor();
                let own = knowledge.lanes.iter().filter(|(arrived, ..)| *arrived == actor);
                own.for_each(|(_, of, before)| warp.steps.learn(1 << lane, *of, *before));
                if scope > Scope::Cta {
                    self.clocks.acquire(warp.actor(), &knowledge.siblings);
                }
                self.find_mbarrier(key, lane)?.completed = knowledge;
            } else {
                missing = Some(Wait::Mbarrier { cta: key.0 as u32, offset: key.1 as u32 });
            }
        }
        match missing {
            // Lanes that wait for nothing else suspend together.
            Some(wait) if suspends && ended == 0 => Ok(Flow::Retry(wait)),
            Some(_) => {
                warp.regs.set_mask(out, access.active, ended);
                Ok(Flow::Yield)
            }
            None => {
                warp.regs.set_mask(out, access.active, ended);
                Ok(Flow::Next)
            }
        }
    }
}
