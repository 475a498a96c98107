//! Happens-before for global memory, within one launch.
//!
//! Warps of one cluster are ordered by their vector clocks, as for shared memory; those of different clusters only by what
//! releases and acquires pass on, see `release`. So a missing barrier, a missing ticket, one at the wrong place and a missing
//! `__threadfence` on either side of it are found.

use super::{Actor, clock::Clocks};
use crate::types::Scope;
use std::collections::{HashMap, VecDeque};

/// Words of a page, whose cells exist once one of them has been accessed.
const PAGE: usize = 1024;

/// Most accesses of a word that are kept beside the last ones; the oldest make room.
const KEPT: usize = 32;

/// An access as the detector sees it.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    /// Index of the cluster in the grid.
    pub cluster: u32,
    pub actor: Actor,
    pub time: u32,
    /// The warp whose knowledge counts: the actor itself, or who issued the copy.
    pub by: Actor,
    /// None: weak.
    pub strong: Option<Scope>,
    pub write: bool,
    pub pc: u32,
}

/// An access to a word.
#[derive(Debug, Clone, Copy, Default)]
struct Stamp {
    cluster: u32,
    actor: Actor,
    time: u32,
    pc: u32,
    /// Bytes of the word, a bit each; 0: nobody.
    bytes: u8,
    strong: Option<Scope>,
    write: bool,
}

/// What is known of a word: its last write and read, and the index + 1 of the list of those before that still count.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    write: Stamp,
    read: Stamp,
    more: u32,
}

/// What an access conflicts with.
#[derive(Debug, Clone, Copy)]
pub struct Earlier {
    pub cluster: u32,
    pub actor: Actor,
    pub pc: u32,
    pub wrote: bool,
    /// Address of the word.
    pub address: u64,
}

/// The history of global memory in one launch.
#[derive(Debug, Default)]
pub struct GlobalRaces {
    pages: HashMap<u64, Box<[Cell; PAGE]>>,
    lists: Lists,
}

/// Further accesses of words, oldest first.
#[derive(Debug, Default)]
struct Lists {
    lists: Vec<VecDeque<Stamp>>,
    /// Emptied lists to use again.
    free: Vec<u32>,
}

impl GlobalRaces {
    /// Records an access to `size` bytes at an address, or names what it races with.
    pub fn judge(&mut self, access: Access, clocks: &Clocks, address: u64, size: usize) -> Result<(), Earlier> {
        let Access { cluster, actor, time, by, strong, write, pc } = access;
        let (mut at, end) = (address, address + size as u64);
        while at < end {
            let page = at / (4 * PAGE as u64);
            let cells = self.pages.entry(page).or_insert_with(|| Box::new([Cell::default(); PAGE]));
            let until = end.min((page + 1) * 4 * PAGE as u64);
            while at < until {
                let to = until.min((at / 4 + 1) * 4);
                let bytes = (0xffu32 >> (8 - (to - at)) << (at % 4)) as u8;
                let stamp = Stamp { cluster, actor, time, pc, bytes, strong, write };
                let cell = &mut cells[(at / 4) as usize % PAGE];
                if let Some(Stamp { cluster, actor, pc, write: wrote, .. }) =
                    cell.conflict(&self.lists, &stamp, by, clocks)
                {
                    return Err(Earlier { cluster, actor, pc, wrote, address: at / 4 * 4 });
                }
                cell.note(&mut self.lists, stamp);
                at = to;
            }
        }
        Ok(())
    }
}

impl Lists {
    fn of(&self, cell: &Cell) -> impl Iterator<Item = &Stamp> {
        cell.more.checked_sub(1).into_iter().flat_map(|k| &self.lists[k as usize])
    }

    /// The list of a cell, which begins here if there is none.
    fn open(&mut self, cell: &mut Cell) -> &mut VecDeque<Stamp> {
        if cell.more == 0 {
            cell.more = self.free.pop().unwrap_or_else(|| {
                self.lists.push(VecDeque::new());
                self.lists.len() as u32
            });
        }
        &mut self.lists[cell.more as usize - 1]
    }
}

impl Cell {
    /// An earlier access that races with one.
    fn conflict(&self, lists: &Lists, new: &Stamp, by: Actor, clocks: &Clocks) -> Option<Stamp> {
        let races =
            |old: &&Stamp| old.bytes & new.bytes != 0 && (old.write || new.write) && !ordered(old, new, by, clocks);
        [&self.write, &self.read].into_iter().chain(lists.of(self)).find(races).copied()
    }

    fn note(&mut self, lists: &mut Lists, new: Stamp) {
        if self.more != 0 {
            let list = lists.open(self);
            list.retain_mut(|old| !old.subsumed(&new));
            if list.is_empty() {
                lists.free.push(self.more);
                self.more = 0;
            }
        }
        let covered = [self.write.subsumed(&new), self.read.subsumed(&new)];
        let slot = if new.write { &mut self.write } else { &mut self.read };
        let old = std::mem::replace(slot, new);
        if !covered[usize::from(!new.write)] {
            let list = lists.open(self);
            if list.len() == KEPT {
                list.pop_front();
            }
            list.push_back(old);
        }
    }
}

impl Stamp {
    /// Whether a later access that does not race with this one stands for it; what a write does not cover is kept.
    fn subsumed(&mut self, new: &Stamp) -> bool {
        if new.write {
            self.bytes &= !new.bytes;
            return self.bytes == 0;
        }
        let same = (self.cluster, self.actor, self.strong) == (new.cluster, new.actor, new.strong);
        self.bytes == 0 || same && !self.write && self.bytes & !new.bytes == 0
    }
}

fn ordered(old: &Stamp, new: &Stamp, by: Actor, clocks: &Clocks) -> bool {
    let same = old.cluster == new.cluster;
    let needed = match same {
        true if clocks.cta_of(old.actor) == clocks.cta_of(new.actor) => Scope::Cta,
        true => Scope::Cluster,
        false => Scope::Device,
    };
    if old.strong >= Some(needed) && new.strong >= Some(needed) {
        return true;
    }
    let known = clocks.of(by);
    match same {
        true => known.seen.get(old.actor) >= old.time,
        false => known.past.knows(old.cluster, old.actor, old.time),
    }
}
