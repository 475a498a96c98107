//! Happens-before for shared memory, by vector clocks (FastTrack, Flanagan and Freund, 2009).
//!
//! An access is a race when the last conflicting event is not among those that its actor knows of; see `clock`.
//!
//! Asynchronous copies and products go through another proxy, which sees a generic write only after
//! `fence.proxy.async`. So a second clock holds what such a fence has already passed on; it travels with the first
//! through every barrier, and an asynchronous access is checked against it.

use super::{
    clock::{Actor, Knowledge},
    steps::Steps,
};
use crate::types::Scope;

/// The path an access takes to shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Proxy {
    #[default]
    Generic,
    Async,
}

/// One access as the detector sees it.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    pub actor: Actor,
    pub time: u32,
    pub proxy: Proxy,
    /// Atomics, and volatile or relaxed accesses, do not race with each other within their scopes. None: weak.
    pub strong: Option<Scope>,
    /// Rank of the CTA of a warp.
    pub cta: u8,
    /// The warp whose lanes do it or issue it, and what those know of each other. None: they do it together.
    pub warp: Option<(Actor, &'a Steps)>,
    /// Lanes of the warp that take part.
    pub lanes: u32,
    /// What the one who issued it knew.
    pub known: &'a Knowledge,
    /// Instruction.
    pub pc: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Stamp {
    actor: Actor,
    /// 0: nothing happened yet.
    time: u32,
    pc: u32,
    proxy: Proxy,
    strong: Option<Scope>,
    cta: u8,
    lanes: u32,
    step: u32,
}

impl Stamp {
    /// Both are strong, each within the other's scope.
    fn excused(&self, event: &Event) -> bool {
        let needed = if self.cta == event.cta { Scope::Cta } else { Scope::Cluster };
        self.strong >= Some(needed) && event.strong >= Some(needed)
    }

    fn conflict(&self, wrote: bool, why: Why) -> Conflict {
        Conflict { actor: self.actor, pc: self.pc, wrote, why }
    }

    /// Other lanes of the warp did it, and no `bar.warp.sync` of both lies between.
    #[inline]
    fn apart(&self, event: &Event) -> bool {
        let Some((warp, steps)) = event.warp else { return false };
        self.time > 0 && self.actor == warp && !steps.ordered(self.step, self.lanes, event.lanes)
    }

    #[inline]
    fn by_other_lanes(&self, event: &Event) -> bool {
        self.apart(event) && !self.excused(event)
    }

    /// Makes place for a later event of the same actor. Lanes apart stay together here, from the first one's step on.
    #[inline]
    fn follow(&mut self, event: &Event) {
        let new = event.stamp();
        *self = match self.apart(event) {
            true => Stamp { lanes: self.lanes | new.lanes, step: self.step, ..new },
            false => new,
        };
    }
}

/// History of 16 bytes, or of one word or byte of them once they are accessed in parts.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    write: Stamp,
    read: Stamp,
    /// Index + 1 of further concurrent reads.
    reads: u32,
    /// Index + 1 of the four cells of its parts.
    split: u32,
}

/// The history of a CTA's shared memory.
#[derive(Debug, Default)]
pub struct Races {
    chunks: Vec<Cell>,
    parts: Vec<[Cell; 4]>,
    reads: Lists,
}

/// Further reads of cells that several actors have read since the last write.
#[derive(Debug, Default)]
struct Lists {
    lists: Vec<Vec<Stamp>>,
    /// Emptied lists to use again.
    free: Vec<u32>,
}

impl Lists {
    fn of(&self, cell: &Cell) -> &[Stamp] {
        cell.reads.checked_sub(1).map_or(&[], |k| &self.lists[k as usize])
    }

    /// The list of a cell, which begins here if there is none.
    fn open(&mut self, cell: &mut Cell) -> &mut Vec<Stamp> {
        if cell.reads == 0 {
            cell.reads = self.free.pop().unwrap_or_else(|| {
                self.lists.push(vec![]);
                self.lists.len() as u32
            });
        }
        &mut self.lists[cell.reads as usize - 1]
    }

    fn add(&mut self, cell: &mut Cell, event: &Event) {
        let list = self.open(cell);
        match list.iter_mut().find(|s| s.actor == event.actor) {
            Some(old) => old.follow(event),
            None => list.push(event.stamp()),
        }
    }

    fn drop_of(&mut self, cell: &Cell) {
        if let Some(k) = cell.reads.checked_sub(1) {
            self.lists[k as usize].clear();
            self.free.push(cell.reads);
        }
    }
}

/// An earlier access that conflicts.
pub struct Conflict {
    pub actor: Actor,
    pub pc: u32,
    pub wrote: bool,
    pub why: Why,
}

/// What a conflict lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Nothing orders the two accesses.
    Unordered,
    /// Ordered, yet not visible to the asynchronous proxy.
    Unfenced,
    /// By other lanes of the same warp, which need not run in step.
    Unsynchronised,
}

impl Races {
    pub fn new(bytes: usize) -> Self {
        Self { chunks: vec![Cell::default(); bytes.div_ceil(16)], ..Self::default() }
    }

    pub fn clear(&mut self) {
        self.chunks.fill(Cell::default());
        self.parts.clear();
        self.reads = Lists::default();
    }

    /// Records a read of `size` bytes at an offset, or names what it races with.
    #[inline]
    pub fn read(&mut self, at: usize, size: usize, event: Event) -> Result<(), Conflict> {
        self.visit(at, size, |cell, reads| cell.read(reads, event))
    }

    /// Records a write, or names what it races with.
    #[inline]
    pub fn write(&mut self, at: usize, size: usize, event: Event) -> Result<(), Conflict> {
        self.visit(at, size, |cell, reads| cell.write(reads, event))
    }

    #[inline(always)]
    fn visit(
        &mut self,
        at: usize,
        size: usize,
        f: impl Fn(&mut Cell, &mut Lists) -> Result<(), Conflict>,
    ) -> Result<(), Conflict> {
        let (mut from, end) = (at, at + size);
        while from < end {
            let to = end.min((from / 16 + 1) * 16);
            let cell = &mut self.chunks[from / 16];
            if cell.split == 0 && to - from == 16 {
                f(cell, &mut self.reads)?;
            } else {
                let words = split(cell, &mut self.parts, &mut self.reads);
                self.visit_words(words, from, to, &f)?;
            }
            from = to;
        }
        Ok(())
    }

    /// The bytes from one offset to another of a chunk whose words have cells of their own.
    fn visit_words(
        &mut self,
        words: usize,
        mut from: usize,
        end: usize,
        f: impl Fn(&mut Cell, &mut Lists) -> Result<(), Conflict>,
    ) -> Result<(), Conflict> {
        while from < end {
            let to = end.min((from / 4 + 1) * 4);
            let mut cell = self.parts[words][from / 4 % 4];
            if cell.split == 0 && to - from == 4 {
                f(&mut self.parts[words][from / 4 % 4], &mut self.reads)?;
            } else {
                let bytes = split(&mut cell, &mut self.parts, &mut self.reads);
                self.parts[words][from / 4 % 4] = cell;
                for byte in &mut self.parts[bytes][from % 4..][..to - from] {
                    f(byte, &mut self.reads)?;
                }
            }
            from = to;
        }
        Ok(())
    }
}

/// The index of the four parts of a cell, each with the history of the whole.
fn split(cell: &mut Cell, parts: &mut Vec<[Cell; 4]>, reads: &mut Lists) -> usize {
    if cell.split == 0 {
        let mut quarters = [Cell { reads: 0, ..*cell }; 4];
        let further = reads.of(cell).to_vec();
        if !further.is_empty() {
            quarters.iter_mut().for_each(|quarter| reads.open(quarter).extend(&further));
        }
        parts.push(quarters);
        cell.split = parts.len() as u32;
    }
    cell.split as usize - 1
}

impl Cell {
    #[inline(always)]
    fn read(&mut self, reads: &mut Lists, event: Event) -> Result<(), Conflict> {
        conflict_with_write(self, event)?;
        if self.write.by_other_lanes(&event) {
            return Err(self.write.conflict(true, Why::Unsynchronised));
        }
        if self.read.time > 0 && self.read.actor == event.actor {
            self.read.follow(&event);
        } else if self.read.time == 0 || known(self.read, event) {
            self.read = event.stamp();
        } else {
            reads.add(self, &event);
        }
        Ok(())
    }

    #[inline(always)]
    fn write(&mut self, reads: &mut Lists, event: Event) -> Result<(), Conflict> {
        conflict_with_write(self, event)?;
        let earlier_reads = || std::iter::once(&self.read).chain(reads.of(self));
        if let Some(read) = earlier_reads().find(|r| r.time > 0 && !known(**r, event) && !r.excused(&event)) {
            return Err(read.conflict(false, Why::Unordered));
        }
        // Lanes of one instruction may write the same place: one of them wins.
        if self.write.pc != event.pc && self.write.by_other_lanes(&event) {
            return Err(self.write.conflict(true, Why::Unsynchronised));
        }
        if let Some(read) = earlier_reads().find(|r| r.pc != event.pc && r.by_other_lanes(&event)) {
            return Err(read.conflict(false, Why::Unsynchronised));
        }
        reads.drop_of(self);
        *self = Cell { write: event.stamp(), ..Cell::default() };
        Ok(())
    }
}

impl Event<'_> {
    fn stamp(&self) -> Stamp {
        Stamp {
            actor: self.actor,
            time: self.time,
            pc: self.pc,
            proxy: self.proxy,
            strong: self.strong,
            cta: self.cta,
            lanes: self.lanes,
            step: self.warp.map_or(0, |(_, steps)| steps.now()),
        }
    }
}

#[inline]
fn known(stamp: Stamp, event: Event) -> bool {
    event.known.seen.get(stamp.actor) >= stamp.time
}

#[inline]
fn conflict_with_write(cell: &Cell, event: Event) -> Result<(), Conflict> {
    let write = cell.write;
    if write.time == 0 || write.excused(&event) {
        return Ok(());
    }
    if !known(write, event) {
        return Err(write.conflict(true, Why::Unordered));
    }
    let crosses = write.proxy == Proxy::Generic && event.proxy == Proxy::Async;
    if crosses && event.known.proxied.get(write.actor) < write.time {
        return Err(write.conflict(true, Why::Unfenced));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Clocks;

    fn event(clocks: &Clocks, actor: Actor, proxy: Proxy) -> Event<'_> {
        let (time, known) = (clocks.now(actor), clocks.of(actor));
        Event { actor, time, proxy, strong: None, cta: 0, warp: None, lanes: 1, known, pc: 0 }
    }

    fn two() -> (Clocks, Races) {
        let mut clocks = Clocks::default();
        clocks.restart(1, 2);
        (clocks, Races::new(64))
    }

    fn barrier(clocks: &mut Clocks) {
        let (a, b) = (clocks.release(0), clocks.release(1));
        clocks.acquire(0, &b);
        clocks.acquire(1, &a);
    }

    #[test]
    fn a_read_after_a_write_of_another_warp_needs_a_barrier() {
        let (mut clocks, mut races) = two();
        races.write(0, 4, event(&clocks, 0, Proxy::Generic)).unwrap_or_else(|_| panic!("first access"));
        assert!(races.read(0, 4, event(&clocks, 1, Proxy::Generic)).is_err());
        barrier(&mut clocks);
        assert!(races.read(0, 4, event(&clocks, 1, Proxy::Generic)).is_ok());
    }

    #[test]
    fn a_write_after_reads_of_both_warps_needs_a_barrier() {
        let (mut clocks, mut races) = two();
        assert!(races.read(0, 4, event(&clocks, 0, Proxy::Generic)).is_ok());
        assert!(races.read(0, 4, event(&clocks, 1, Proxy::Generic)).is_ok());
        assert!(races.write(0, 4, event(&clocks, 0, Proxy::Generic)).is_err());
        barrier(&mut clocks);
        assert!(races.write(0, 4, event(&clocks, 0, Proxy::Generic)).is_ok());
    }

    #[test]
    fn different_bytes_of_one_word_do_not_race() {
        let (clocks, mut races) = two();
        assert!(races.write(0, 2, event(&clocks, 0, Proxy::Generic)).is_ok());
        assert!(races.write(2, 2, event(&clocks, 1, Proxy::Generic)).is_ok());
        assert!(races.read(0, 4, event(&clocks, 0, Proxy::Generic)).is_err());
    }

    #[test]
    fn a_read_of_what_another_lane_wrote_needs_a_warp_barrier() {
        let ((mut clocks, mut races), mut steps) = (two(), Steps::default());
        fn by<'a>(clocks: &'a Clocks, steps: &'a Steps, lanes: u32, pc: u32) -> Event<'a> {
            Event { warp: Some((0, steps)), lanes, pc, ..event(clocks, 0, Proxy::Generic) }
        }
        assert!(races.write(0, 4, by(&clocks, &steps, 1, 0)).is_ok());
        // An event that others may learn of orders no lanes.
        clocks.tick(0);
        assert!(races.read(0, 4, by(&clocks, &steps, 2, 1)).is_err_and(|c| c.why == Why::Unsynchronised));
        steps.meet_all();
        assert!(races.read(0, 4, by(&clocks, &steps, 2, 1)).is_ok());
        assert!(races.write(0, 4, by(&clocks, &steps, 1, 2)).is_err_and(|c| !c.wrote));
        // Lane 2 reads as well, and lane 0 meets one of the two.
        assert!(races.read(0, 4, by(&clocks, &steps, 4, 3)).is_ok());
        steps.meet(0b101);
        assert!(races.write(0, 4, by(&clocks, &steps, 1, 4)).is_err_and(|c| !c.wrote));
    }

    #[test]
    fn an_asynchronous_read_of_a_generic_write_needs_a_proxy_fence_on_either_side_of_the_barrier() {
        for fence_first in [true, false] {
            let (mut clocks, mut races) = two();
            assert!(races.write(0, 4, event(&clocks, 0, Proxy::Generic)).is_ok());
            barrier(&mut clocks);
            assert!(races.read(0, 4, event(&clocks, 1, Proxy::Async)).is_err_and(|c| c.why == Why::Unfenced));
            clocks.fence_proxy(u32::from(!fence_first));
            if fence_first {
                barrier(&mut clocks);
            }
            assert!(races.read(0, 4, event(&clocks, 1, Proxy::Async)).is_ok());
        }
    }
}
