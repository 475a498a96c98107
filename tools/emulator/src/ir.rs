//! A kernel as the interpreter runs it: typed instructions whose operands are register slots.

mod copy;
mod lanes;
mod matrix;

pub use {copy::*, lanes::*, matrix::*};

use crate::{
    alu::Alu,
    parse::{Loc, Param},
    regs::Slot,
    types::{Order, Scope, Space, Ty},
};

/// One decoded instruction.
#[derive(Debug, Clone)]
pub struct Ins {
    pub op: Op,
    /// Predicate mask and whether it is negated.
    pub guard: Option<(Slot, bool)>,
    /// Line in the PTX text.
    pub line: u32,
    /// Line in the source file.
    pub loc: Option<Loc>,
}

/// A kernel ready to run.
#[derive(Debug)]
pub struct Kernel {
    pub name: String,
    pub code: Vec<Ins>,
    /// The opcode of each instruction, as written.
    pub opcodes: Vec<String>,
    /// Rows and masks a warp needs.
    pub rows: usize,
    pub masks: usize,
    /// Rows that hold one value in every lane.
    pub constants: Vec<(Slot, u32)>,
    /// Masks that are always set.
    pub truths: Vec<Slot>,
    pub specials: Vec<(Slot, Special)>,
    /// Rows that may be read before they are written; they hold poison at the start of every CTA.
    pub poisoned: Vec<Slot>,
    /// The same of predicates.
    pub poisoned_masks: Vec<Slot>,
    pub params: Vec<Param>,
    /// Bytes of static shared memory, and where dynamic shared memory begins.
    pub static_shared: u32,
    pub dynamic_shared: u32,
    /// Bytes of local memory of one lane.
    pub local: u32,
    pub max_threads: Option<u32>,
    pub cluster: Option<[u32; 3]>,
    /// Rows that each instruction reads or writes; empty in kernels without wgmma, where nobody asks.
    pub touches: Vec<Box<[Slot]>>,
    /// `sm_90a`, for example.
    pub target: String,
}

/// Registers whose value the launch and the warp's place decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    LaneId,
    WarpId,
    NumWarps,
    LaneMask(LaneMask),
    ClusterId(u8),
    NumClusters(u8),
    ClusterCtaid(u8),
    ClusterNctaid(u8),
    ClusterCtarank,
    ClusterNctarank,
    DynamicShared,
    Zero,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LaneMask {
    Eq,
    Le,
    Lt,
    Ge,
    Gt,
}

/// Where an access goes: a register and a constant.
#[derive(Debug, Clone, Copy)]
pub struct Address {
    pub base: Slot,
    /// The register holds 64 bits.
    pub wide: bool,
    pub offset: i64,
}

/// One decoded operation.
#[derive(Debug, Clone)]
pub enum Op {
    Alu {
        op: Alu,
        out: Slot,
        args: [Slot; 4],
    },
    Compare(Box<Compared>),
    Carry(Box<Carry>),
    /// `mov.b64 d, {a, b}`
    Pack {
        out: Slot,
        parts: Box<[Slot]>,
        bits: u32,
    },
    /// `mov.b64 {a, b}, d`; a sink takes none.
    Unpack {
        parts: Box<[Option<Slot>]>,
        from: Slot,
        bits: u32,
    },
    /// To `target` where the guard holds; lanes that part here meet again at `join`.
    Branch {
        target: u32,
        join: u32,
    },
    Exit,
    Trap,
    Load(Box<Load>),
    Store(Box<Store>),
    Atomic(Box<Atomic>),
    /// `mapa`: the same shared address in another CTA of the cluster.
    MapShared {
        out: Slot,
        address: Slot,
        rank: Slot,
        generic: bool,
    },
    /// `isspacep`
    IsSpace {
        out: Slot,
        address: Slot,
        space: Space,
        /// Shared memory of the CTA itself, and not of its siblings.
        own: bool,
    },
    Shuffle(Box<Shuffle>),
    Vote {
        mode: Vote,
        out: Slot,
        value: Slot,
        negated: bool,
        members: Slot,
    },
    /// `match.any`: the members with the lane's value. `match.all`: all members when they agree, and whether they do.
    Match {
        all: bool,
        out: Slot,
        agree: Option<Slot>,
        value: Slot,
        wide: bool,
        members: Slot,
    },
    Redux {
        op: Redux,
        out: Slot,
        value: Slot,
        members: Slot,
    },
    ActiveMask {
        out: Slot,
    },
    Elect {
        leader: Option<Slot>,
        out: Slot,
        members: Slot,
    },
    /// Ticks: warp instructions that the launch has issued so far.
    Clock {
        out: Slot,
        wide: bool,
    },
    Barrier {
        kind: Barrier,
        id: Slot,
        count: Option<Slot>,
        /// All lanes of a warp arrive at once.
        aligned: bool,
    },
    WarpSync {
        members: Slot,
    },
    Fence(Fence),
    LdMatrix(Box<Matrices>),
    StMatrix(Box<Matrices>),
    Mma(Box<Mma>),
    Copy(Box<LaneCopy>),
    CopyCommit,
    /// Until at most `pending` groups are under way.
    CopyWait {
        pending: u32,
    },
    /// `wait_all`: open copies too.
    CopyWaitAll,
    CopyArrive {
        address: Address,
        noinc: bool,
    },
    Mbarrier(Box<Mbarrier>),
    /// `relaxed`: without making earlier accesses visible.
    ClusterArrive {
        relaxed: bool,
        aligned: bool,
    },
    ClusterWait {
        aligned: bool,
    },
    Bulk(Box<Bulk>),
    BulkCommit,
    /// `read`: until the sources have been read, and not until the results are written.
    BulkWait {
        pending: u32,
        read: bool,
    },
    Wgmma(Box<Wgmma>),
    WgmmaFence,
    WgmmaCommit,
    WgmmaWait {
        pending: u32,
    },
    SetMaxRegisters {
        count: u32,
    },
    Print(Box<Print>),
    /// Message, file, line, function.
    Assert {
        message: Slot,
        file: Slot,
        line: Slot,
        function: Slot,
    },
    /// Has no effect that the emulator models, for a reason given where it is decoded.
    Hint,
}

/// The registers one lane's consecutive elements go to or come from.
#[derive(Debug, Clone)]
pub struct Elements {
    /// One register for each element; a sink takes none.
    pub slots: Box<[Option<Slot>]>,
    pub ty: Ty,
    /// Rows of each register: 2 for 64 bits.
    pub rows: u32,
}

impl Elements {
    /// Bytes of one lane's access.
    pub fn bytes(&self) -> u32 {
        self.ty.size() * self.slots.len() as u32
    }
}

#[derive(Debug, Clone)]
pub struct Load {
    pub space: Space,
    pub to: Elements,
    pub address: Address,
    pub order: Order,
    /// `.nc`: of memory that nobody writes in the launch.
    pub constant: bool,
}

#[derive(Debug, Clone)]
pub struct Store {
    pub space: Space,
    pub from: Elements,
    pub address: Address,
    pub order: Order,
}

#[derive(Debug, Clone)]
pub struct Atomic {
    pub space: Space,
    pub op: AtomicOp,
    pub ty: Ty,
    pub address: Address,
    pub order: Order,
    /// For each element that the lane changes, the register of its old value, which `red` has not, and of the other
    /// operand.
    pub elements: Box<[(Option<Slot>, Slot)]>,
    /// The new value of a compare-and-swap, whose `value` is what it compares with.
    pub swap: Option<Slot>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtomicOp {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Inc,
    Dec,
    Exchange,
    CompareAndSwap,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barrier {
    Sync,
    Arrive,
    /// `bar.red`: the number of threads, or whether all or any threads, whose predicate holds.
    Reduce {
        how: BarrierReduce,
        out: Slot,
        value: Slot,
        negated: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarrierReduce {
    Popc,
    And,
    Or,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// `membar`, `fence.acq_rel`, `fence.sc`. Memory is sequentially consistent here; what a fence orders is a matter of
    /// races alone.
    Memory { scope: Scope },
    /// `fence.proxy.async`: generic accesses before it are seen by asynchronous copies and products after it.
    AsyncProxy,
    /// `fence.proxy.async.global`, which does nothing for shared memory, the only one whose proxies are told apart here.
    AsyncProxyGlobal,
    /// `fence.mbarrier_init`
    MbarrierInit,
}

/// `printf`: addresses of the format and of the packed arguments.
#[derive(Debug, Clone)]
pub struct Print {
    pub format: Slot,
    pub arguments: Slot,
    pub out: Option<Slot>,
}
