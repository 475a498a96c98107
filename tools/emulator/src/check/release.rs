//! Which words pass knowledge from one warp to another (PTX ISA, memory consistency model: release and acquire patterns).
//!
//! A release, or a fence and a strong write after it, leaves at the word what its warp knew. An acquire, or a strong read
//! and a fence after it, takes what lies there. Each side reaches as far as the narrower of its scopes, and a relaxed
//! access alone passes nothing on. Atomics add to what a word holds; other writes replace it.

use super::{
    Actor,
    clock::{Clocks, Knowledge, Past},
};
use crate::types::{Order, Scope};
use std::collections::HashMap;

/// A word of global memory by its address, or of shared memory by its CTA and offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Word {
    Global(u64),
    Shared { cta: usize, offset: usize },
}

const SCOPES: [Scope; 3] = [Scope::Cta, Scope::Cluster, Scope::Device];

/// Who accesses a word.
#[derive(Debug, Clone, Copy)]
pub struct By {
    pub actor: Actor,
    pub cta: usize,
    /// Index of the cluster in the grid.
    pub cluster: u32,
}

/// What lies at a word, by how far it was released.
#[derive(Debug, Default)]
struct Released {
    /// To each CTA of the cluster, and to the cluster.
    ctas: HashMap<usize, Knowledge>,
    cluster: Knowledge,
    /// The cluster that these belong to, and the last warp that added to them.
    of: u32,
    by: Actor,
    /// To the device.
    past: Past,
}

/// A warp's halves of patterns: what it knew at its last fence, and what it has read and not fenced; by scope.
#[derive(Debug, Default)]
struct Halves {
    fenced: [Option<Knowledge>; 3],
    observed: [Option<Knowledge>; 3],
    /// Some of that had been released by the warp itself.
    own: bool,
}

/// The words and the warps of a launch.
#[derive(Debug, Default)]
pub struct Releases {
    words: HashMap<Word, Released>,
    warps: HashMap<Actor, Halves>,
}

impl Releases {
    /// Another cluster runs: its warps and its shared memory are new.
    pub fn start(&mut self) {
        self.warps.clear();
        self.words.retain(|word, _| matches!(word, Word::Global(_)));
    }

    /// `fence` or `membar`. Whether it takes what the warp itself has released, so that its lanes learn of each other.
    pub fn fence(&mut self, clocks: &mut Clocks, actor: Actor, scope: Scope) -> bool {
        let halves = self.warps.entry(actor).or_default();
        for observed in halves.observed[..=scope as usize].iter().flatten() {
            clocks.acquire(actor, observed);
        }
        let known = clocks.release(actor);
        halves.fenced[..=scope as usize].fill(Some(known));
        std::mem::take(&mut halves.own)
    }

    /// Whether nothing has been released in this launch, so that no word has anything to pass on.
    pub fn quiet(&self) -> bool {
        self.words.is_empty() && self.warps.is_empty()
    }

    /// A strong access to a word; `released` is what its warp knew, if it is a release. Whether it takes what the warp
    /// itself has released.
    pub fn access(
        &mut self,
        clocks: &mut Clocks,
        (word, by): (Word, By),
        order: Order,
        released: Option<&Knowledge>,
        (reads, writes): (bool, bool),
    ) -> bool {
        let Some(scope) = order.scope else { return false };
        let mut own = false;
        let levels = SCOPES.into_iter().filter(|level| *level <= scope);
        if reads && let Some(there) = self.words.get(&word) {
            for level in levels.clone() {
                let Some(known) = there.visible(by, level) else { continue };
                let from_itself = (there.of, there.by) == (by.cluster, by.actor);
                if order.acquires {
                    own |= from_itself;
                    clocks.acquire(by.actor, &known);
                } else {
                    let halves = self.warps.entry(by.actor).or_default();
                    halves.own |= from_itself;
                    halves.observed[level as usize].get_or_insert_default().join(&known);
                }
            }
        }
        if !writes {
            return own;
        }
        // What an atomic finds stays, and so does what the same warp released before.
        let stays = reads || self.words.get(&word).is_some_and(|there| (there.of, there.by) == (by.cluster, by.actor));
        if !stays {
            self.words.remove(&word);
        }
        let fenced = self.warps.get(&by.actor).map(|halves| &halves.fenced);
        for level in levels {
            let fenced = fenced.and_then(|fenced| fenced[level as usize].as_ref());
            for known in fenced.into_iter().chain(released) {
                self.words.entry(word).or_default().add(by, level, known);
            }
        }
        own
    }
}

impl Released {
    /// What a reader takes from one level.
    fn visible(&self, by: By, level: Scope) -> Option<Knowledge> {
        let same = self.of == by.cluster;
        match level {
            Scope::Cta if same => self.ctas.get(&by.cta).cloned(),
            Scope::Cluster if same => Some(self.cluster.clone()),
            Scope::Device if !self.past.is_empty() => {
                Some(Knowledge { past: self.past.clone(), ..Knowledge::default() })
            }
            _ => None,
        }
    }

    fn add(&mut self, by: By, level: Scope, known: &Knowledge) {
        if self.of != by.cluster {
            // Clusters run one after another: nobody of an older one reads again.
            self.of = by.cluster;
            self.ctas.clear();
            self.cluster = Knowledge::default();
        }
        self.by = by.actor;
        match level {
            Scope::Cta => self.ctas.entry(by.cta).or_default().join(known),
            Scope::Cluster => self.cluster.join(known),
            Scope::Device => {
                self.past.join(&known.past);
                self.past.add(by.cluster, &known.seen);
            }
        }
    }
}
