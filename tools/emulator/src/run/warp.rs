//! A warp: registers, and the splits its lanes have diverged into.
//!
//! A divergent branch divides the running split in two that will meet at the branch's join; a split that gets there
//! hands over its lanes and the next one runs, until none is missing and they go on together. A split that must wait
//! lets its siblings run, so lanes of one warp may wait for each other.

use super::{bulk::BulkStores, copy::Copies, wgmma::Products};
use crate::{
    check::{Actor, Steps},
    mem::Block,
    regs::{LANES, Regs},
};
use std::collections::BTreeSet;

/// No join: the lanes leave the kernel without meeting.
pub const NO_JOIN: u32 = u32::MAX;

/// Lanes that run together.
#[derive(Debug, Clone, Copy)]
pub struct Split {
    pub pc: u32,
    pub lanes: u32,
    /// Index of the join it runs towards.
    join: u32,
    /// What it waits for; see `Wait`.
    pub wait: Option<Wait>,
}

/// Why a split cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// A CTA barrier.
    Barrier(u8),
    /// A phase of the mbarrier at an offset of a CTA's shared memory.
    Mbarrier { cta: u32, offset: u32 },
    /// `bar.warp.sync` for these lanes.
    Lanes(u32),
    /// `barrier.cluster.wait`
    Cluster,
    /// The other warps of the warpgroup.
    Warpgroup,
}

impl Wait {
    /// The instruction that waits, for a split that stands at `pc`: some let the split pass on, and some run again.
    pub fn instruction(self, pc: u32) -> u32 {
        match self {
            Wait::Barrier(_) | Wait::Lanes(_) | Wait::Warpgroup => pc - 1,
            Wait::Mbarrier { .. } | Wait::Cluster => pc,
        }
    }
}

/// Where splits meet.
#[derive(Debug, Clone, Copy)]
struct Join {
    pc: u32,
    /// Lanes that will come, and those that have.
    expected: u32,
    arrived: u32,
    /// The join that the merged split runs towards.
    parent: u32,
}

#[derive(Debug)]
pub struct Warp {
    /// Index among the warps of the cluster, which is also its actor.
    pub index: usize,
    /// CTA within the cluster.
    pub cta: usize,
    /// Index within the CTA.
    pub number: u32,
    pub regs: Regs,
    pub local: Block,
    /// Lanes that have not left the kernel.
    pub live: u32,
    /// The split that runs, or would.
    pub split: Split,
    others: Vec<Split>,
    joins: Vec<Join>,
    pub copies: Copies,
    pub bulk: BulkStores,
    pub products: Products,
    /// What its lanes know of each other.
    pub steps: Steps,
    /// Times the cluster barrier had opened when the warp arrived at it.
    pub cluster_arrival: Option<u64>,
    /// How often it had opened when the warp last waited for it.
    pub cluster_opening: u64,
    /// Phases of mbarriers that had ended when the warp asked, without its knowing, and that it was told had not.
    pub refused: BTreeSet<((usize, usize), u64)>,
}

impl Warp {
    pub fn new(regs: Regs, local: usize, index: usize, cta: usize, number: u32) -> Self {
        Self {
            index,
            cta,
            number,
            regs,
            local: Block::new(local * LANES),
            live: 0,
            split: Split { pc: 0, lanes: 0, join: NO_JOIN, wait: None },
            others: vec![],
            joins: vec![],
            copies: Copies::default(),
            bulk: BulkStores::default(),
            products: Products::default(),
            steps: Steps::default(),
            cluster_arrival: None,
            cluster_opening: 0,
            refused: BTreeSet::new(),
        }
    }

    /// Puts the warp at the start of the kernel with these lanes.
    pub fn start(&mut self, lanes: u32) {
        self.live = lanes;
        self.split = Split { pc: 0, lanes, join: NO_JOIN, wait: None };
        self.others.clear();
        self.joins.clear();
        self.copies = Copies::default();
        self.bulk.clear();
        self.products = Products::default();
        self.steps = Steps::default();
        self.cluster_arrival = None;
        self.cluster_opening = 0;
        self.refused.clear();
        if !self.local.bytes.is_empty() {
            self.local.reset();
        }
    }

    pub fn actor(&self) -> Actor {
        self.index as Actor
    }

    pub fn done(&self) -> bool {
        self.live == 0
    }

    /// Moves a split that can run to the front; those that stand at their joins hand over their lanes there, and run on
    /// only once none is missing. False when all wait.
    pub fn select(&mut self) -> bool {
        while self.rotate() {
            if self.split.pc != self.join_pc() {
                return true;
            }
            let join = self.split.join;
            self.joins[join as usize].arrived |= self.split.lanes;
            self.split.lanes = 0;
            self.release(join);
        }
        false
    }

    /// Moves a split that does not wait to the front, wherever it stands.
    fn rotate(&mut self) -> bool {
        if self.split.lanes != 0 && self.split.wait.is_none() {
            return true;
        }
        match self.others.iter().rposition(|s| s.wait.is_none()) {
            Some(k) => {
                let next = self.others.remove(k);
                let waiting = std::mem::replace(&mut self.split, next);
                if waiting.lanes != 0 {
                    self.others.insert(0, waiting);
                }
                true
            }
            None => {
                if self.split.lanes == 0
                    && let Some(next) = self.others.pop()
                {
                    self.split = next;
                }
                false
            }
        }
    }

    /// All splits, the running one first.
    pub fn splits(&mut self) -> impl Iterator<Item = &mut Split> {
        std::iter::once(&mut self.split).chain(self.others.iter_mut()).filter(|s| s.lanes != 0)
    }

    /// Sends the lanes in `taken` to `target` and the rest to the next instruction, to meet at `join`.
    pub fn diverge(&mut self, taken: u32, target: u32, join: u32) {
        let parent = self.split.join;
        if join != NO_JOIN && self.join_pc() != join {
            let new = Join { pc: join, expected: self.split.lanes, arrived: 0, parent };
            self.split.join = self.place(new);
        }
        self.others.push(Split { pc: target, lanes: taken, ..self.split });
        self.split.lanes &= !taken;
        self.split.pc += 1;
    }

    /// Puts a join where a finished one was, or at the end.
    fn place(&mut self, join: Join) -> u32 {
        match self.joins.iter().position(|j| j.expected == 0) {
            Some(free) => {
                self.joins[free] = join;
                free as u32
            }
            None => {
                self.joins.push(join);
                self.joins.len() as u32 - 1
            }
        }
    }

    /// Where the running split meets others.
    #[inline(always)]
    pub fn join_pc(&self) -> u32 {
        if self.split.join == NO_JOIN { NO_JOIN } else { self.joins[self.split.join as usize].pc }
    }

    /// Lets the lanes of a join that none is missing from run on. The running split is empty.
    fn release(&mut self, mut join: u32) {
        while join != NO_JOIN {
            let Join { pc, expected, arrived, parent } = self.joins[join as usize];
            if expected != arrived {
                break;
            }
            self.joins[join as usize] = Join { pc, expected: 0, arrived: 0, parent };
            if arrived != 0 {
                self.split = Split { pc, lanes: arrived, join: parent, wait: None };
                return;
            }
            join = parent;
        }
    }

    /// Takes lanes of the running split out of the kernel; `select` says who runs next.
    pub fn exit(&mut self, lanes: u32) {
        self.live &= !lanes;
        self.split.lanes &= !lanes;
        let mut join = self.split.join;
        while join != NO_JOIN {
            self.joins[join as usize].expected &= !lanes;
            join = self.joins[join as usize].parent;
        }
        if self.split.lanes == 0 {
            self.release(self.split.join);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warp(lanes: u32) -> Warp {
        let mut warp = Warp::new(Regs::new(0, 0), 0, 0, 0, 0);
        warp.start(lanes);
        warp
    }

    #[test]
    fn both_sides_run_and_meet() {
        let mut warp = warp(0b1111);
        warp.split.pc = 5;
        warp.diverge(0b0011, 10, 20);
        assert_eq!((warp.split.pc, warp.split.lanes), (6, 0b1100));
        warp.split.pc = 20;
        warp.select();
        assert_eq!((warp.split.pc, warp.split.lanes), (10, 0b0011));
        warp.split.pc = 20;
        warp.select();
        assert_eq!((warp.split.pc, warp.split.lanes, warp.join_pc()), (20, 0b1111, NO_JOIN));
    }

    #[test]
    fn lanes_that_leave_are_not_waited_for() {
        let mut warp = warp(0b11);
        warp.diverge(0b01, 10, 20);
        warp.exit(0b10);
        assert!(warp.select());
        assert_eq!((warp.split.pc, warp.split.lanes), (10, 0b01));
        warp.split.pc = 20;
        warp.select();
        assert_eq!((warp.split.lanes, warp.live), (0b01, 0b01));
        warp.exit(0b01);
        assert!(warp.done());
    }

    #[test]
    fn a_split_that_stands_at_its_join_meets_the_one_that_waited() {
        let mut warp = warp(0b1111);
        warp.split.pc = 5;
        warp.diverge(0b1110, 20, 20);
        warp.split.pc = 10;
        warp.split.wait = Some(Wait::Cluster);
        assert!(!warp.select(), "the other side has nothing to run");
        assert_eq!((warp.split.pc, warp.split.lanes), (10, 0b0001));
        warp.split.wait = None;
        warp.split.pc = 20;
        assert!(warp.select());
        assert_eq!((warp.split.pc, warp.split.lanes), (20, 0b1111));
    }

    #[test]
    fn a_loop_that_lanes_leave_one_by_one_needs_one_join() {
        let mut warp = warp(u32::MAX);
        for lane in 0..31 {
            warp.split.pc = 5;
            warp.diverge(1 << lane, 20, 20);
        }
        assert_eq!(warp.joins.len(), 1);
        for _ in 0..32 {
            warp.split.pc = 20;
            warp.select();
        }
        assert_eq!((warp.split.lanes, warp.join_pc()), (u32::MAX, NO_JOIN));
    }
}
