//! Who knows what: vector clocks.
//!
//! An actor is a warp, or one stream of asynchronous work: the copies that one mbarrier counts, the copies or products
//! that one warp or warpgroup commits in groups. Each actor counts its own events, and knows up to which event of every
//! other actor it has been synchronised with.

use std::{collections::BTreeMap, sync::Arc};

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

    /// Whether all of another's events are among these.
    fn covers(&self, other: &Clock) -> bool {
        other.0.iter().enumerate().all(|(actor, time)| self.get(actor as Actor) >= *time)
    }

    fn meet(&mut self, other: &Clock) {
        self.0.truncate(other.0.len());
        self.0.iter_mut().zip(&other.0).for_each(|(mine, theirs)| *mine = (*mine).min(*theirs));
    }

    pub fn join(&mut self, other: &Clock) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(mine, theirs)| *mine = (*mine).max(*theirs));
    }
}

/// What is known of the clusters that have run before, a clock of each. It is shared, since it is passed on as it is.
#[derive(Debug, Clone, Default)]
pub struct Past(Option<Arc<BTreeMap<u32, Clock>>>);

impl Past {
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub fn knows(&self, cluster: u32, actor: Actor, time: u32) -> bool {
        self.0.as_ref().and_then(|clocks| clocks.get(&cluster)).is_some_and(|clock| clock.get(actor) >= time)
    }

    pub fn add(&mut self, cluster: u32, clock: &Clock) {
        Arc::make_mut(self.0.get_or_insert_default()).entry(cluster).or_default().join(clock);
    }

    pub fn join(&mut self, other: &Past) {
        match (&mut self.0, &other.0) {
            (_, None) => {}
            (None, some) => self.0.clone_from(some),
            (Some(mine), Some(theirs)) if Arc::ptr_eq(mine, theirs) => {}
            (Some(mine), Some(theirs)) => {
                let mine = Arc::make_mut(mine);
                theirs.iter().for_each(|(cluster, clock)| mine.entry(*cluster).or_default().join(clock));
            }
        }
    }
}

/// What an actor knows: the events ordered before it, those of them that the asynchronous proxy sees, and the past.
#[derive(Debug, Clone, Default)]
pub struct Knowledge {
    pub seen: Clock,
    pub proxied: Clock,
    pub past: Past,
}

impl Knowledge {
    /// Keeps only what both know of their own cluster.
    pub fn meet(&mut self, other: &Knowledge) {
        self.seen.meet(&other.seen);
        self.proxied.meet(&other.proxied);
        self.past = Past::default();
    }

    pub fn join(&mut self, other: &Knowledge) {
        self.seen.join(&other.seen);
        self.proxied.join(&other.proxied);
        self.past.join(&other.past);
    }
}

/// What an actor is, for reports.
#[derive(Debug, Clone, Copy)]
pub enum Who {
    Warp { number: u32, rank: Option<u32> },
    LaneCopies { of: Actor },
    BulkLoads { mbarrier: u32 },
    BulkStores { of: Actor, lane: usize },
    Products { warpgroup: usize },
}

/// The knowledge of every actor of a running cluster.
#[derive(Debug, Default)]
pub struct Clocks {
    actors: Vec<(Knowledge, Who)>,
    /// Warps of each CTA.
    warps: u32,
}

impl Clocks {
    /// Forgets everything; the warps of `ctas` CTAs of `warps` each become the first actors.
    pub fn restart(&mut self, ctas: u32, warps: u32) {
        self.actors.clear();
        self.warps = warps;
        for rank in 0..ctas {
            for number in 0..warps {
                self.add(Who::Warp { number, rank: (ctas > 1).then_some(rank) });
            }
        }
    }

    pub fn add(&mut self, who: Who) -> Actor {
        let actor = self.actors.len() as Actor;
        let mut knowledge = Knowledge::default();
        knowledge.seen.set(actor, 1);
        self.actors.push((knowledge, who));
        actor
    }

    pub fn of(&self, actor: Actor) -> &Knowledge {
        &self.actors[actor as usize].0
    }

    /// The rank of the CTA of a warp, or of the one that issues a stream of copies.
    pub fn cta_of(&self, actor: Actor) -> u32 {
        match self.actors[actor as usize].1 {
            Who::LaneCopies { of } | Who::BulkStores { of, .. } => of / self.warps,
            _ => actor / self.warps,
        }
    }

    pub fn name(&self, actor: Actor) -> String {
        match self.actors[actor as usize].1 {
            Who::Warp { number, rank: None } => format!("warp {number}"),
            Who::Warp { number, rank: Some(rank) } => format!("warp {number} of the CTA with rank {rank}"),
            Who::LaneCopies { of } => format!("a cp.async of {}", self.name(of)),
            Who::BulkLoads { mbarrier } => format!("a bulk copy that completes on the mbarrier at {mbarrier:#x}"),
            Who::BulkStores { of, lane } => format!("a bulk store of {}, lane {lane}", self.name(of)),
            Who::Products { warpgroup } => format!("a wgmma of warpgroup {warpgroup}"),
        }
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

    /// Whether the actor has learnt of all these events.
    pub fn knows(&self, actor: Actor, events: &Clock) -> bool {
        self.of(actor).seen.covers(events)
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
