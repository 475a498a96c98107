//! Happens-before for global memory, within one launch.
//!
//! Warps of one cluster are ordered by their vector clocks, as for shared memory; those of different clusters only by what
//! releases and acquires pass on, see `release`. So a missing barrier, a missing ticket, one at the wrong place and a missing
//! `__threadfence` on either side of it are found.

use super::{Actor, clock::Clocks};
use crate::types::Scope;
use std::collections::HashMap;

/// Words of a page, whose cells exist once one of them has been accessed.
const PAGE: usize = 1024;

/// An access as the detector sees it.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    /// Index of the cluster in the grid.
    pub cluster: u32,
    pub actor: Actor,
    pub time: u32,
    /// None: weak.
    pub strong: Option<Scope>,
    pub write: bool,
    pub pc: u32,
}

/// The last access of a kind to a word.
#[derive(Debug, Clone, Copy, Default)]
struct Stamp {
    /// 1 + the index of the cluster; 0: nobody.
    cluster: u32,
    actor: Actor,
    time: u32,
    pc: u32,
    /// Bytes of the word, a bit each.
    bytes: u8,
    strong: Option<Scope>,
}

/// A word's last write, and its last reads by two different clusters, so that one of them is not the next writer's.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    write: Stamp,
    reads: [Stamp; 2],
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
}

impl GlobalRaces {
    /// Records an access to `size` bytes at an address, or names what it races with.
    pub fn judge(&mut self, access: Access, clocks: &Clocks, address: u64, size: usize) -> Result<(), Earlier> {
        let (mut at, end) = (address, address + size as u64);
        while at < end {
            let page = at / (4 * PAGE as u64);
            let cells = self.pages.entry(page).or_insert_with(|| Box::new([Cell::default(); PAGE]));
            let until = end.min((page + 1) * 4 * PAGE as u64);
            while at < until {
                let to = until.min((at / 4 + 1) * 4);
                let bytes = (0xffu32 >> (8 - (to - at)) << (at % 4)) as u8;
                let stamp = Stamp {
                    cluster: access.cluster + 1,
                    actor: access.actor,
                    time: access.time,
                    pc: access.pc,
                    bytes,
                    strong: access.strong,
                };
                let cell = &mut cells[(at / 4) as usize % PAGE];
                let against =
                    if access.write { &[cell.write, cell.reads[0], cell.reads[1]][..] } else { &[cell.write] };
                for (k, old) in against.iter().enumerate() {
                    if old.bytes & bytes != 0 && !ordered(old, &stamp, clocks) {
                        let Stamp { cluster, actor, pc, .. } = *old;
                        let address = at / 4 * 4;
                        return Err(Earlier { cluster: cluster - 1, actor, pc, wrote: k == 0, address });
                    }
                }
                cell.note(stamp, access.write);
                at = to;
            }
        }
        Ok(())
    }
}

impl Cell {
    fn note(&mut self, mut stamp: Stamp, write: bool) {
        if write {
            *self = Cell { write: stamp, ..Cell::default() };
        } else {
            let last = self.reads[0];
            if last.cluster != stamp.cluster {
                self.reads[1] = last;
            } else if last.actor == stamp.actor {
                stamp.bytes |= last.bytes;
            }
            self.reads[0] = stamp;
        }
    }
}

fn ordered(old: &Stamp, new: &Stamp, clocks: &Clocks) -> bool {
    let same = old.cluster == new.cluster;
    let needed = match same {
        true if clocks.cta_of(old.actor) == clocks.cta_of(new.actor) => Scope::Cta,
        true => Scope::Cluster,
        false => Scope::Device,
    };
    if old.strong >= Some(needed) && new.strong >= Some(needed) {
        return true;
    }
    let known = clocks.of(new.actor);
    match same {
        true => old.actor == new.actor || known.seen.get(old.actor) >= old.time,
        false => known.past.knows(old.cluster - 1, old.actor, old.time),
    }
}
