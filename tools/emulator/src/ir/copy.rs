//! Asynchronous copies and the mbarriers that count them.

use super::{Address, AtomicOp};
use crate::{
    regs::Slot,
    types::{Scope, Ty},
};

/// `cp.async`: a few bytes of each lane from global to shared memory.
#[derive(Debug, Clone)]
pub struct LaneCopy {
    pub to: Address,
    pub from: Address,
    pub size: u32,
    /// Bytes that are read; the rest is zero.
    pub read: Option<Slot>,
    /// Where this holds, nothing is read and zeros are written.
    pub ignore: Option<(Slot, bool)>,
}

#[derive(Debug, Clone)]
pub struct Mbarrier {
    pub address: Address,
    pub op: MbarrierOp,
    /// The address may name another CTA of the cluster.
    pub cluster: bool,
    /// How far an arrival or a wait reaches: `Cta` where it says `.cta`, and to the cluster where it says nothing.
    pub scope: Scope,
}

#[derive(Debug, Clone, Copy)]
pub enum MbarrierOp {
    Init {
        count: Slot,
    },
    Invalidate,
    ExpectTx {
        bytes: Slot,
    },
    /// `expect` bytes first, then `count` arrivals; the state is the phase that they belong to.
    Arrive {
        expect: Option<Slot>,
        count: Option<Slot>,
        state: Option<Slot>,
        drop: bool,
    },
    /// A `try_wait` may suspend the lane, a `test_wait` may not.
    Wait {
        out: Slot,
        phase: Phase,
        suspends: bool,
        /// Nothing ever reads its result, so that a `false` would pass for success.
        ignored: bool,
        /// Where it fails it is asked again at once, so that nothing but time tells how often it failed.
        retried: bool,
    },
}

#[derive(Debug, Clone, Copy)]
pub enum Phase {
    /// The state that an arrival returned.
    State(Slot),
    Parity(Slot),
}

/// A bulk copy, of a row of bytes or of a tile of a tensor.
#[derive(Debug, Clone)]
pub struct Bulk {
    pub shape: BulkShape,
    pub way: BulkWay,
    /// The shared side that the instruction names: destination of a load, source of a store.
    pub shared: Address,
    /// CTAs of the cluster that receive a multicast load.
    pub multicast: Option<Slot>,
}

#[derive(Debug, Clone)]
pub enum BulkShape {
    /// `bytes` at an address.
    Row { other: Address, bytes: Slot },
    /// The box of a tensor map at coordinates, innermost first.
    Tile { map: Address, coordinates: Box<[Slot]> },
}

#[derive(Debug, Clone)]
pub enum BulkWay {
    /// Global memory to shared memory; the mbarrier counts the bytes.
    Load { mbarrier: Address },
    /// Shared memory to shared memory of the cluster.
    Forward { mbarrier: Address },
    /// Shared memory to global memory, in a bulk group; with an operation it is combined with what is there.
    Store { reduce: Option<(AtomicOp, Ty)> },
}
