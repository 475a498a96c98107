use crate::base::Result;
use flate2::read::DeflateDecoder;
use std::io::Read;

/// What the engine asks of a CUDA driver: one card, one stream.
///
/// Everything but [`Driver::download`] and [`Driver::synchronize`] may return before it has happened; what is asked for
/// happens in order. A failure may be reported by a later call. The addresses are those of [`Driver::reserve`]d memory.
pub trait Driver: Send + Sync {
    fn card(&self) -> &Card;

    /// Bytes of memory that nobody uses.
    fn free_memory(&self) -> Result<usize>;

    /// `bytes` of memory, to be cut up by an arena; it starts on a multiple of 256.
    fn reserve(&self, bytes: usize) -> Result<u64>;

    /// Ends a reservation, once everything asked for has happened.
    fn release(&self, address: u64);

    /// Whether accesses are checked against what [`Driver::occupy`] and [`Driver::vacate`] say.
    fn checks(&self) -> bool {
        false
    }

    /// Reserved memory now belongs to an allocation, whose content is unknown.
    fn occupy(&self, _address: u64, _bytes: usize, _label: &'static str) {}

    /// The allocation at an address has ended.
    fn vacate(&self, _address: u64) {}

    fn upload(&self, to: u64, from: &[u8]) -> Result<()>;

    fn download(&self, from: u64, to: &mut [u8]) -> Result<()>;

    /// Asks for a few bytes as they are once everything asked for before has happened; [`Driver::end_download`] waits for them.
    fn begin_download(&self, from: u64, bytes: usize) -> Result<Download>;

    /// Waits for what [`Driver::begin_download`] asked for; every download is ended once.
    fn end_download(&self, download: Download, to: &mut [u8]) -> Result<()>;

    fn fill(&self, to: u64, value: u8, bytes: usize) -> Result<()>;

    /// Copies between ranges that do not overlap.
    fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<()>;

    /// Loads the image of a module that suits the card.
    fn load(&self, module: &Module) -> Result<Loaded>;

    /// A kernel of a loaded module.
    fn function(&self, module: Loaded, name: &str) -> Result<Function>;

    fn launch(&self, function: Function, grid: Grid, arguments: &[Argument]) -> Result<()>;

    /// From here on launches, copies and fills are recorded and do not happen.
    fn begin_capture(&self) -> Result<()>;

    /// What was recorded since [`Driver::begin_capture`].
    fn end_capture(&self) -> Result<Graph>;

    /// Does what was recorded.
    fn replay(&self, graph: Graph) -> Result<()>;

    /// Forgets a recording.
    fn discard(&self, graph: Graph);

    /// Notes when everything asked for before has happened, by the card's own clock.
    fn mark(&self) -> Result<Mark>;

    /// Waits for two marks; the seconds from the first to the second. Both are then forgotten.
    fn seconds_between(&self, marks: [Mark; 2]) -> Result<f64>;

    /// Waits until everything asked for has happened.
    fn synchronize(&self) -> Result<()>;
}

/// A card as it presents itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    pub name: String,
    /// Compute capability, major and minor.
    pub capability: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: usize,
    /// Bytes of its memory.
    pub memory: usize,
    /// The CUDA version of its driver: 13000 is 13.0.
    pub driver: u32,
}

/// The kernels of one file, as built for every architecture.
#[derive(Debug)]
pub struct Module {
    /// The file's name without its ending.
    pub name: &'static str,
    pub images: &'static [Image],
}

/// A module for one architecture.
#[derive(Debug)]
pub struct Image {
    /// Compute capability, major and minor.
    pub capability: (u32, u32),
    /// Whether it uses what no other capability has, such as `sm_90a`.
    pub specific: bool,
    pub ptx: Packed,
    pub cubin: Packed,
}

/// What `build.rs` embeds, deflated: kernels are text and tables that shrink to a tenth.
#[derive(Debug)]
pub struct Packed(pub &'static [u8]);

impl Packed {
    /// The bytes that were packed.
    pub fn unpacked(&self) -> Vec<u8> {
        let mut bytes = vec![];
        DeflateDecoder::new(self.0).read_to_end(&mut bytes).expect("build.rs packed it");
        bytes
    }
}

/// A module that a driver has loaded, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded(pub usize);

/// A kernel that a driver has found, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function(pub usize);

/// Bytes on their way to the host, by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Download(pub usize);

/// A moment, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(pub usize);

/// A recording, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Graph(pub usize);

/// The shape of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    pub blocks: [u32; 3],
    pub threads: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: u32,
}

impl Grid {
    /// `blocks` blocks of `threads` threads.
    pub fn new(blocks: usize, threads: usize) -> Grid {
        Grid::volume([blocks, 1, 1], threads)
    }

    /// A grid of up to three dimensions.
    pub fn volume(blocks: [usize; 3], threads: usize) -> Grid {
        let extent = |n: usize| u32::try_from(n).expect("an extent of a grid fits 32 bits");
        Grid { blocks: blocks.map(extent), threads: [extent(threads), 1, 1], shared: 0 }
    }

    /// With `bytes` of dynamic shared memory.
    pub fn shared(self, bytes: usize) -> Grid {
        Grid { shared: u32::try_from(bytes).expect("shared memory fits 32 bits"), ..self }
    }
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Argument {
    Pointer(u64),
    U32(u32),
    U64(u64),
    F32(f32),
    Boxes(Boxes),
}

/// A bf16 array in memory as the copy engine of a card of capability 9.0 sees it: its extents, and the box that one copy moves.
///
/// A kernel takes it as a `CUtensorMap`. In shared memory the rows of a box follow each other, and 16-byte chunks are
/// exchanged among eight of them where they are wider than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boxes {
    pub address: u64,
    pub images: usize,
    pub rows: usize,
    /// A multiple of 8.
    pub columns: usize,
    /// Columns of a box: 8, 16, 32 or 64.
    pub across: usize,
    /// Rows of a box, up to 256.
    pub down: usize,
}

impl Boxes {
    /// Bytes of the map that a kernel takes.
    pub const BYTES: usize = 128;

    /// The array's extents, innermost first.
    pub fn extents(&self) -> [u64; 3] {
        [self.columns, self.rows, self.images].map(|extent| extent as u64)
    }

    /// Bytes from a row to the next, and from an image.
    pub fn strides(&self) -> [u64; 2] {
        [2 * self.columns, 2 * self.columns * self.rows].map(|bytes| bytes as u64)
    }

    /// The box's extents, innermost first.
    pub fn tile(&self) -> [u32; 3] {
        [self.across as u32, self.down as u32, 1]
    }
}

impl Argument {
    /// A pointer that the kernel does not follow.
    pub const NULL: Argument = Argument::Pointer(0);
}

impl From<usize> for Argument {
    fn from(value: usize) -> Argument {
        Argument::U32(u32::try_from(value).expect("an extent of a kernel fits 32 bits"))
    }
}

impl From<u32> for Argument {
    fn from(value: u32) -> Argument {
        Argument::U32(value)
    }
}

impl From<u64> for Argument {
    fn from(value: u64) -> Argument {
        Argument::U64(value)
    }
}

impl From<f32> for Argument {
    fn from(value: f32) -> Argument {
        Argument::F32(value)
    }
}

impl From<bool> for Argument {
    fn from(value: bool) -> Argument {
        Argument::U32(value.into())
    }
}
