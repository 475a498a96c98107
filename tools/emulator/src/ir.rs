//! A kernel as the interpreter runs it: typed instructions whose operands are register slots.

use crate::{
    alu::Alu,
    parse::{Loc, Param},
    regs::Slot,
    types::{Space, Ty},
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
    },
    Shuffle(Box<Shuffle>),
    Vote {
        mode: Vote,
        out: Slot,
        value: Slot,
        negated: bool,
        members: Slot,
    },
    /// `match.any`
    MatchAny {
        out: Slot,
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
    },
    ClusterWait,
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
    /// Volatile or relaxed and stronger: such accesses synchronise and do not race with each other.
    pub strong: bool,
}

#[derive(Debug, Clone)]
pub struct Store {
    pub space: Space,
    pub from: Elements,
    pub address: Address,
    pub strong: bool,
}

#[derive(Debug, Clone)]
pub struct Atomic {
    pub space: Space,
    pub op: AtomicOp,
    pub ty: Ty,
    /// The old value; `red` has none.
    pub out: Option<Slot>,
    pub address: Address,
    pub value: Slot,
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

#[derive(Debug, Clone)]
pub struct Shuffle {
    pub mode: ShuffleMode,
    pub out: Slot,
    /// Set where the source lane was in range.
    pub valid: Option<Slot>,
    pub value: Slot,
    pub lane: Slot,
    pub clamp: Slot,
    pub members: Slot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShuffleMode {
    Up,
    Down,
    Butterfly,
    Index,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vote {
    All,
    Any,
    Uniform,
    Ballot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redux {
    Add,
    MinU,
    MaxU,
    MinS,
    MaxS,
    And,
    Or,
    Xor,
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
    /// `membar`, `fence.acq_rel`, `fence.sc`: memory is sequentially consistent here, so it orders nothing more.
    Memory,
    /// `fence.proxy.async`: generic accesses before it are seen by asynchronous copies and products after it.
    AsyncProxy,
    /// `fence.mbarrier_init`
    MbarrierInit,
}

/// 8x8 matrices of 16-bit elements between shared memory and registers, one of each for every matrix.
#[derive(Debug, Clone)]
pub struct Matrices {
    pub slots: Box<[Slot]>,
    pub address: Address,
    pub transposed: bool,
}

/// Element types of matrix operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Element {
    Bf16,
    F16,
    Tf32,
    S8,
    U8,
}

impl Element {
    /// Bytes in memory.
    pub fn size(self) -> usize {
        match self {
            Element::Bf16 | Element::F16 => 2,
            Element::Tf32 => 4,
            Element::S8 | Element::U8 => 1,
        }
    }
}

/// Type of a matrix operation's accumulators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Accumulator {
    F32,
    F16,
    S32,
}

/// `mma.sync` m16n8kK: D = A B + C.
#[derive(Debug, Clone)]
pub struct Mma {
    pub k: usize,
    pub a_type: Element,
    pub b_type: Element,
    pub accumulator: Accumulator,
    pub d: Box<[Slot]>,
    pub a: Box<[Slot]>,
    pub b: Box<[Slot]>,
    pub c: Box<[Slot]>,
}

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

/// `wgmma.mma_async` m64nNkK: D = A B + D, or A B where `scale_d` does not hold.
#[derive(Debug, Clone)]
pub struct Wgmma {
    pub n: usize,
    pub a_type: Element,
    pub b_type: Element,
    pub accumulator: Accumulator,
    pub d: Box<[Slot]>,
    pub a: WgmmaA,
    /// Descriptor.
    pub b: Slot,
    pub scale_d: (Slot, bool),
    pub negate_a: bool,
    pub negate_b: bool,
    /// Stored with M (or N) contiguous instead of K.
    pub a_transposed: bool,
    pub b_transposed: bool,
    /// No `wgmma.fence` comes before it, or an accumulator or a register of A may have been touched since.
    pub unfenced: bool,
}

#[derive(Debug, Clone)]
pub enum WgmmaA {
    Descriptor(Slot),
    Registers([Slot; 4]),
}

/// `printf`: addresses of the format and of the packed arguments.
#[derive(Debug, Clone)]
pub struct Print {
    pub format: Slot,
    pub arguments: Slot,
    pub out: Option<Slot>,
}
