//! Control flow: where diverged lanes meet again, and which registers may be read before they are written.

use std::collections::HashMap;

/// How control leaves an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Next,
    Jump(usize),
    /// To the target or to the next instruction.
    Branch(usize),
    Exit,
}

/// Registers one instruction reads and writes.
#[derive(Debug, Clone, Default)]
pub struct Effects {
    pub reads: Vec<u32>,
    pub writes: Vec<u32>,
    /// A guarded write leaves lanes unwritten.
    pub guarded: bool,
}

/// Basic blocks of a kernel. Block `len()` is the exit that every path reaches.
pub struct Blocks {
    /// First instruction of each block.
    starts: Vec<usize>,
    /// Block of each instruction.
    block_of: Vec<usize>,
    /// Of each block; none of the exit.
    successors: Vec<Vec<usize>>,
    instructions: usize,
}

impl Blocks {
    pub fn new(flow: &[Flow]) -> Self {
        let mut leader = vec![false; flow.len() + 1];
        leader[0] = true;
        for (pc, flow) in flow.iter().enumerate() {
            if let Flow::Jump(target) | Flow::Branch(target) = *flow {
                leader[target] = true;
            }
            leader[pc + 1] |= *flow != Flow::Next;
        }
        let starts: Vec<usize> = (0..flow.len()).filter(|pc| leader[*pc]).collect();
        let mut block_of = vec![0; flow.len() + 1];
        for (block, start) in starts.iter().enumerate() {
            let end = starts.get(block + 1).copied().unwrap_or(flow.len());
            block_of[*start..end].fill(block);
        }
        block_of[flow.len()] = starts.len();
        let mut successors: Vec<Vec<usize>> = (0..starts.len())
            .map(|block| {
                let end = starts.get(block + 1).copied().unwrap_or(flow.len());
                match flow[end - 1] {
                    Flow::Next => vec![block_of[end]],
                    Flow::Jump(target) => vec![block_of[target]],
                    Flow::Branch(target) => vec![block_of[end], block_of[target]],
                    Flow::Exit => vec![starts.len()],
                }
            })
            .collect();
        successors.push(vec![]);
        Self { starts, block_of, successors, instructions: flow.len() }
    }

    fn len(&self) -> usize {
        self.starts.len()
    }

    fn range(&self, block: usize) -> std::ops::Range<usize> {
        self.starts[block]..self.starts.get(block + 1).copied().unwrap_or(self.instructions)
    }

    /// For each instruction, the first one that every path from the end of its block must reach; None for the exit.
    pub fn joins(&self) -> Vec<Option<usize>> {
        let dominators = self.post_dominators();
        (0..self.instructions)
            .map(|pc| dominators[self.block_of[pc]].filter(|b| *b < self.len()).map(|block| self.starts[block]))
            .collect()
    }

    /// Immediate post-dominators by Cooper, Harvey and Kennedy's iteration on the reversed graph.
    fn post_dominators(&self) -> Vec<Option<usize>> {
        let exit = self.len();
        let mut predecessors = vec![vec![]; exit + 1];
        for (block, successors) in self.successors.iter().enumerate() {
            for successor in successors {
                predecessors[*successor].push(block);
            }
        }
        // A block in an endless loop reaches no exit; it keeps no post-dominator.
        let order = post_order(exit, &predecessors);
        let mut rank = vec![usize::MAX; exit + 1];
        for (k, block) in order.iter().enumerate() {
            rank[*block] = k;
        }
        let mut dominator = vec![None; exit + 1];
        dominator[exit] = Some(exit);
        let mut changed = true;
        while changed {
            changed = false;
            for block in order.iter().rev().skip(1).copied() {
                let mut new = None;
                for successor in self.successors[block].iter().copied().filter(|s| dominator[*s].is_some()) {
                    new = Some(match new {
                        None => successor,
                        Some(other) => meet(other, successor, &dominator, &rank),
                    });
                }
                changed |= dominator[block] != new;
                dominator[block] = new;
            }
        }
        dominator
    }

    /// Bytes of a set of registers for each block and for `more` instructions: what the two analyses below hold.
    pub fn table_bytes(&self, registers: usize, more: usize) -> usize {
        (self.successors.len() + more).saturating_mul(registers.div_ceil(64) * 8)
    }

    /// Registers that some path reads before it writes them: what is live where the kernel starts.
    pub fn read_before_written(&self, effects: &[Effects], registers: usize) -> Vec<u32> {
        let words = registers.div_ceil(64);
        let mut live = vec![vec![0u64; words]; self.len() + 1];
        // Successors before their predecessors: few rounds, however the text orders the blocks.
        let order = post_order(0, &self.successors);
        let mut changed = true;
        while changed {
            changed = false;
            for block in order.iter().copied().filter(|block| *block < self.len()) {
                let mut now = vec![0; words];
                for successor in &self.successors[block] {
                    now.iter_mut().zip(&live[*successor]).for_each(|(a, b)| *a |= b);
                }
                for effect in effects[self.range(block)].iter().rev() {
                    for write in effect.writes.iter().filter(|_| !effect.guarded) {
                        now[*write as usize / 64] &= !(1 << (write % 64));
                    }
                    for read in &effect.reads {
                        now[*read as usize / 64] |= 1 << (read % 64);
                    }
                }
                changed |= live[block] != now;
                live[block] = now;
            }
        }
        let entry = live.first().map(Vec::as_slice).unwrap_or_default();
        (0..registers as u32).filter(|r| entry.get(*r as usize / 64).is_some_and(|w| w >> (r % 64) & 1 != 0)).collect()
    }

    /// Forward dataflow: the registers that have a property before each instruction in `at`, on some path. All have it
    /// where the kernel starts; `transfer` gives what an instruction does to the set.
    pub fn reach(
        &self,
        registers: usize,
        at: impl Fn(usize) -> bool,
        transfer: impl Fn(usize, &mut [u64]),
    ) -> HashMap<usize, Vec<u64>> {
        let words = registers.div_ceil(64);
        let mut entry = vec![vec![0u64; words]; self.len() + 1];
        entry[0].fill(u64::MAX);
        let order = post_order(0, &self.successors);
        let mut changed = true;
        while changed {
            changed = false;
            for block in order.iter().rev().copied().filter(|block| *block < self.len()) {
                let mut now = entry[block].clone();
                self.range(block).for_each(|pc| transfer(pc, &mut now));
                for successor in &self.successors[block] {
                    for (old, new) in entry[*successor].iter_mut().zip(&now) {
                        changed |= *new & !*old != 0;
                        *old |= new;
                    }
                }
            }
        }
        let mut before = HashMap::new();
        for (block, mut now) in entry.into_iter().enumerate().take(self.len()) {
            for pc in self.range(block) {
                if at(pc) {
                    before.insert(pc, now.clone());
                }
                transfer(pc, &mut now);
            }
        }
        before
    }
}

/// Depth-first post-order from `root`, without recursion.
fn post_order(root: usize, edges: &[Vec<usize>]) -> Vec<usize> {
    let mut seen = vec![false; edges.len()];
    let mut order = vec![];
    let mut stack = vec![(root, 0)];
    seen[root] = true;
    while let Some((node, next)) = stack.last_mut() {
        if let Some(child) = edges[*node].get(*next).copied() {
            *next += 1;
            if !seen[child] {
                seen[child] = true;
                stack.push((child, 0));
            }
        } else {
            order.push(*node);
            stack.pop();
        }
    }
    order
}

fn meet(mut a: usize, mut b: usize, dominator: &[Option<usize>], rank: &[usize]) -> usize {
    while a != b {
        while rank[a] < rank[b] {
            a = dominator[a].expect("a processed block has a dominator");
        }
        while rank[b] < rank[a] {
            b = dominator[b].expect("a processed block has a dominator");
        }
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sides_of_a_branch_meet_at_its_post_dominator() {
        // 0: branch 3; 1; 2: jump 4; 3; 4: exit
        let flow = [Flow::Branch(3), Flow::Next, Flow::Jump(4), Flow::Next, Flow::Exit];
        assert_eq!(Blocks::new(&flow).joins()[0], Some(4));
    }

    #[test]
    fn the_lanes_that_leave_a_loop_meet_after_it() {
        // 0; 1: branch 3; 2: jump 1; 3: exit
        let flow = [Flow::Next, Flow::Branch(3), Flow::Jump(1), Flow::Exit];
        assert_eq!(Blocks::new(&flow).joins()[1], Some(3));
    }

    #[test]
    fn an_endless_loop_has_no_join() {
        let flow = [Flow::Branch(2), Flow::Jump(0), Flow::Jump(2)];
        assert_eq!(Blocks::new(&flow).joins(), [None; 3]);
    }

    #[test]
    fn a_register_written_on_one_side_only_may_be_read_unwritten() {
        let flow = [Flow::Branch(2), Flow::Next, Flow::Exit];
        let mut effects = vec![Effects::default(); 3];
        effects[1].writes = vec![7];
        effects[2].reads = vec![7];
        assert_eq!(Blocks::new(&flow).read_before_written(&effects, 8), [7]);
        effects[0].writes = vec![7];
        assert!(Blocks::new(&flow).read_before_written(&effects, 8).is_empty());
    }
}
