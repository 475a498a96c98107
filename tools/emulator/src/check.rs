//! What a run can be accused of.

mod clock;
mod constant;
mod global;
mod judge;
mod race;
mod release;
mod steps;

pub use {
    clock::{Actor, Clocks, Knowledge, Who},
    constant::Constants,
    global::{Access as GlobalAccess, GlobalRaces},
    judge::{Touch, judge},
    race::{Event, Proxy, Races},
    release::{By, Releases, Word},
    steps::Steps,
};

use crate::parse::Line;
use std::fmt;

/// Which optional checks run. Bounds, alignment, barriers and deadlock are always checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checks {
    /// Reads of memory that nothing has written.
    pub init: bool,
    /// Accesses to shared memory that no synchronisation orders, and writes of what `ld.global.nc` reads.
    pub race: bool,
    /// The same for global memory, within one launch. It remembers three accesses of every word that a launch touches,
    /// which takes several times as long as the launch itself.
    pub global_race: bool,
}

impl Checks {
    /// What every test can afford: all but races in global memory.
    pub const USUAL: Checks = Checks { init: true, race: true, global_race: false };
    pub const ALL: Checks = Checks { init: true, race: true, global_race: true };
    pub const NONE: Checks = Checks { init: false, race: false, global_race: false };
}

/// The check that a fault comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// An address outside every allocation, misaligned, or of freed memory.
    Memory,
    /// A read of memory that nothing has written.
    Init,
    /// Two accesses that nothing orders, or one that another proxy cannot see yet.
    Race,
    /// A barrier, shuffle or collective that not all of its members reach.
    Sync,
    /// Every warp waits and nothing is under way.
    Deadlock,
    /// More instructions than the launch may issue.
    Limit,
    /// `trap` or a failed `assert`.
    Trap,
    /// Legal PTX that the emulator does not implement or will not guess.
    Unsupported,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Memory => "memcheck",
            Kind::Init => "initcheck",
            Kind::Race => "racecheck",
            Kind::Sync => "synccheck",
            Kind::Deadlock => "deadlock",
            Kind::Limit => "limit",
            Kind::Trap => "trap",
            Kind::Unsupported => "unsupported",
        })
    }
}

/// An accusation before its place is known.
#[derive(Debug, Clone)]
pub struct Trouble {
    pub kind: Kind,
    pub lane: Option<usize>,
    pub message: String,
}

/// Boxed: the way without trouble should cost a word.
pub type Checked<T = ()> = Result<T, Box<Trouble>>;

/// A `Checked` that accuses.
pub fn accuse<T>(kind: Kind, lane: impl Into<Option<usize>>, message: impl Into<String>) -> Checked<T> {
    Err(Box::new(Trouble { kind, lane: lane.into(), message: message.into() }))
}

/// Where and why a launch stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub kind: Kind,
    pub kernel: String,
    pub cta: [u32; 3],
    /// Warp within its CTA.
    pub warp: u32,
    pub lane: Option<usize>,
    /// Line in the PTX text.
    pub line: u32,
    /// The instruction's opcode.
    pub opcode: String,
    /// Source file and line of the kernel itself, when the PTX was compiled with `-lineinfo`.
    pub source: Option<(String, u32)>,
    /// Those of the function that is inlined there.
    pub inlined: Option<(String, u32)>,
    pub message: String,
}

impl std::error::Error for Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.cta;
        write!(f, "{}: {}, CTA ({x}, {y}, {z}), warp {}", self.kind, self.kernel, self.warp)?;
        if let Some(lane) = self.lane {
            write!(f, ", lane {lane}")?;
        }
        write!(f, ", PTX line {} ({})", self.line, self.opcode)?;
        if let Some((file, line)) = &self.source {
            write!(f, ", {file}:{line}")?;
        }
        if let Some((file, line)) = &self.inlined {
            write!(f, " (inlined from {file}:{line})")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// A source line as the module knows it.
pub fn source(files: &[(u32, String)], line: Option<Line>) -> Option<(String, u32)> {
    let line = line?;
    let (_, name) = files.iter().find(|(number, _)| *number == line.file)?;
    Some((name.clone(), line.line))
}
