//! Happens-before for shared memory, by vector clocks (FastTrack, Flanagan and Freund, 2009).
//!
//! An actor is a warp, or one stream of asynchronous work: the copies that one mbarrier counts, the copies or products
//! that one warp or warpgroup commits in groups. Each actor counts its own events, and knows up to which event of every
//! other actor it has been synchronised with. An access is a race when the last conflicting event is not among them.
//!
//! Asynchronous copies and products go through another proxy, which sees a generic write only after
//! `fence.proxy.async`. So a second clock holds what such a fence has already passed on; it travels with the first
//! through every barrier, and an asynchronous access is checked against it.

use super::{Checked, Kind, accuse};
/// Index of an actor; the warps of a cluster come first.
pub type Actor = u32;

/// For each actor, the last of its events that is known. Missing entries are 0.
#[derive(Debug, Clone, Default)]
pub struct Clock(Vec<u32>);

impl Clock {
    #[inline]
    pub fn get(&self, actor: Actor) -> u32 {
        self.0.get(actor as usize).copied().unwrap_or(0)
    }

    pub fn set(&mut self, actor: Actor, time: u32) {
        if self.0.len() <= actor as usize {
            self.0.resize(actor as usize + 1, 0);
        }
        self.0[actor as usize] = time;
    }

    fn meet(&mut self, other: &Clock) {
        self.0.truncate(other.0.len());
        self.0.iter_mut().zip(&other.0).for_each(|(mine, theirs)| *mine = (*mine).min(*theirs));
    }

    fn join(&mut self, other: &Clock) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(mine, theirs)| *mine = (*mine).max(*theirs));
    }
}

/// What an actor knows: the events ordered before it, and those of them that the asynchronous proxy sees.
#[derive(Debug, Clone, Default)]
pub struct Knowledge {
    pub seen: Clock,
    pub proxied: Clock,
}

impl Knowledge {
    /// Keeps only what both know.
    pub fn meet(&mut self, other: &Knowledge) {
        self.seen.meet(&other.seen);
        self.proxied.meet(&other.proxied);
    }

    pub fn join(&mut self, other: &Knowledge) {
        self.seen.join(&other.seen);
        self.proxied.join(&other.proxied);
    }
}

/// The knowledge of every actor of a running cluster.
#[derive(Debug, Default)]
pub struct Clocks {
    actors: Vec<(Knowledge, String)>,
}

impl Clocks {
    pub fn add(&mut self, name: String) -> Actor {
        let actor = self.actors.len() as Actor;
        let mut knowledge = Knowledge::default();
        knowledge.seen.set(actor, 1);
        self.actors.push((knowledge, name));
        actor
    }

    pub fn of(&self, actor: Actor) -> &Knowledge {
        &self.actors[actor as usize].0
    }

    pub fn name(&self, actor: Actor) -> &str {
        &self.actors[actor as usize].1
    }

    /// The actor's current time.
    #[inline]
    pub fn now(&self, actor: Actor) -> u32 {
        self.of(actor).seen.get(actor)
    }

    /// Starts a new event of an actor, such as one copy of a stream of copies, and returns its time.
    pub fn tick(&mut self, actor: Actor) -> u32 {
        let time = self.now(actor) + 1;
        self.actors[actor as usize].0.seen.set(actor, time);
        time
    }

    /// What the actor knows, for others to acquire; its later events are not part of it.
    pub fn release(&mut self, actor: Actor) -> Knowledge {
        let knowledge = self.of(actor).clone();
        self.tick(actor);
        knowledge
    }

    pub fn acquire(&mut self, actor: Actor, knowledge: &Knowledge) {
        self.actors[actor as usize].0.join(knowledge);
    }

    /// Learns of one event of another actor.
    pub fn learn(&mut self, actor: Actor, other: Actor, time: u32) {
        let seen = &mut self.actors[actor as usize].0.seen;
        seen.set(other, seen.get(other).max(time));
    }

    /// `fence.proxy.async`: all that is known becomes visible to the asynchronous proxy.
    pub fn fence_proxy(&mut self, actor: Actor) {
        let knowledge = &mut self.actors[actor as usize].0;
        knowledge.proxied.join(&knowledge.seen);
        self.tick(actor);
    }
}

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
    /// Atomics, and volatile or relaxed accesses, do not race with each other.
    pub strong: bool,
    /// Lanes of the warp that take part; none for asynchronous work, whose events are ordered by time alone.
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
    strong: bool,
    lanes: u32,
}

impl Stamp {
    fn conflict(&self, wrote: bool, why: Why) -> Conflict {
        Conflict { actor: self.actor, pc: self.pc, wrote, why }
    }

    /// The same actor at the same time: nothing orders its lanes among each other.
    fn same_moment(&self, event: &Event) -> bool {
        self.actor == event.actor && self.time == event.time
    }

    /// Other lanes of the warp did it, and no `bar.warp.sync` lies between.
    fn by_other_lanes(&self, event: &Event) -> bool {
        let one_lane = self.lanes == event.lanes && event.lanes.count_ones() <= 1;
        self.same_moment(event) && !one_lane && !(self.strong && event.strong)
    }
}

/// History of one word, or of one byte of a word that is accessed in parts.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    write: Stamp,
    read: Stamp,
    /// Index + 1 of further concurrent reads.
    reads: u32,
    /// Index + 1 of the four cells of the word's bytes.
    split: u32,
}

/// The history of a CTA's shared memory.
#[derive(Debug, Default)]
pub struct Races {
    words: Vec<Cell>,
    bytes: Vec<[Cell; 4]>,
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

    fn add(&mut self, cell: &mut Cell, stamp: Stamp) {
        if cell.reads == 0 {
            cell.reads = self.free.pop().unwrap_or_else(|| {
                self.lists.push(vec![]);
                self.lists.len() as u32
            });
        }
        let list = &mut self.lists[cell.reads as usize - 1];
        match list.iter_mut().find(|s| s.actor == stamp.actor) {
            Some(old) if old.time == stamp.time => old.lanes |= stamp.lanes,
            Some(old) => *old = stamp,
            None => list.push(stamp),
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
        Self { words: vec![Cell::default(); bytes.div_ceil(4)], ..Self::default() }
    }

    pub fn clear(&mut self) {
        self.words.fill(Cell::default());
        self.bytes.clear();
        self.reads = Lists::default();
    }

    /// Records a read of `size` bytes at an offset, or names what it races with.
    pub fn read(&mut self, at: usize, size: usize, event: Event) -> Result<(), Conflict> {
        self.visit(at, size, |cell, reads| {
            conflict_with_write(cell, event)?;
            if cell.write.by_other_lanes(&event) {
                return Err(cell.write.conflict(true, Why::Unsynchronised));
            }
            let stamp = event.stamp();
            if cell.read.same_moment(&event) {
                cell.read.lanes |= event.lanes;
                return Ok(());
            }
            if cell.read.time == 0 || cell.read.actor == event.actor || known(cell.read, event) {
                cell.read = stamp;
                return Ok(());
            }
            reads.add(cell, stamp);
            Ok(())
        })
    }

    /// Records a write, or names what it races with.
    pub fn write(&mut self, at: usize, size: usize, event: Event) -> Result<(), Conflict> {
        self.visit(at, size, |cell, reads| {
            conflict_with_write(cell, event)?;
            // Lanes of one instruction may write the same place: one of them wins.
            if cell.write.pc != event.pc && cell.write.by_other_lanes(&event) {
                return Err(cell.write.conflict(true, Why::Unsynchronised));
            }
            for read in std::iter::once(&cell.read).chain(reads.of(cell)) {
                if read.time > 0 && !known(*read, event) && !(read.strong && event.strong) {
                    return Err(read.conflict(false, Why::Unordered));
                }
                if read.pc != event.pc && read.by_other_lanes(&event) {
                    return Err(read.conflict(false, Why::Unsynchronised));
                }
            }
            reads.drop_of(cell);
            *cell = Cell { write: event.stamp(), ..Cell::default() };
            Ok(())
        })
    }

    fn visit(
        &mut self,
        at: usize,
        size: usize,
        mut f: impl FnMut(&mut Cell, &mut Lists) -> Result<(), Conflict>,
    ) -> Result<(), Conflict> {
        let mut from = at;
        while from < at + size {
            let (word, to) = (from / 4, (at + size).min((from / 4 + 1) * 4));
            let cell = &mut self.words[word];
            if cell.split == 0 && to - from == 4 {
                f(cell, &mut self.reads)?;
            } else {
                if cell.split == 0 {
                    let mut bytes = [Cell { reads: 0, ..*cell }; 4];
                    for stamp in self.reads.of(cell).to_vec() {
                        bytes.iter_mut().for_each(|byte| self.reads.add(byte, stamp));
                    }
                    self.bytes.push(bytes);
                    cell.split = self.bytes.len() as u32;
                }
                for byte in &mut self.bytes[cell.split as usize - 1][from % 4..][..to - from] {
                    f(byte, &mut self.reads)?;
                }
            }
            from = to;
        }
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
            lanes: self.lanes,
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
    if write.time == 0 || write.strong && event.strong {
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

/// A conflict as an accusation. `line_of` gives the PTX line of an instruction.
pub fn report<T>(
    conflict: &Conflict,
    clocks: &Clocks,
    line_of: impl Fn(u32) -> u32,
    what: &str,
    lane: Option<usize>,
) -> Checked<T> {
    let (verb, name, line) =
        (if conflict.wrote { "written" } else { "read" }, clocks.name(conflict.actor), line_of(conflict.pc));
    let why = match conflict.why {
        Why::Unordered => "and nothing orders the two accesses",
        Why::Unfenced => "and no fence.proxy.async lies between: an asynchronous copy or product need not see it",
        Why::Unsynchronised => "by another of its lanes, and no __syncwarp lies between",
    };
    accuse(Kind::Race, lane, format!("{what}: {verb} by {name} at PTX line {line}, {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(clocks: &Clocks, actor: Actor, proxy: Proxy) -> Event<'_> {
        Event { actor, time: clocks.now(actor), proxy, strong: false, lanes: 1, known: clocks.of(actor), pc: 0 }
    }

    fn two() -> (Clocks, Races) {
        let mut clocks = Clocks::default();
        clocks.add("warp 0".into());
        clocks.add("warp 1".into());
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
        let (mut clocks, mut races) = two();
        assert!(races.write(0, 4, event(&clocks, 0, Proxy::Generic)).is_ok());
        fn by_lane_1(clocks: &Clocks) -> Event<'_> {
            Event { lanes: 2, pc: 1, ..event(clocks, 0, Proxy::Generic) }
        }
        assert!(races.read(0, 4, by_lane_1(&clocks)).is_err_and(|c| c.why == Why::Unsynchronised));
        clocks.tick(0);
        assert!(races.read(0, 4, by_lane_1(&clocks)).is_ok());
        let by_lane_0 = Event { pc: 2, ..event(&clocks, 0, Proxy::Generic) };
        assert!(races.write(0, 4, by_lane_0).is_err_and(|c| !c.wrote));
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
