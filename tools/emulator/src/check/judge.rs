//! Accusations of races in shared memory.

use super::{
    Checked, Kind, accuse,
    clock::Clocks,
    race::{Conflict, Event, Races, Why},
};
use crate::window::SHARED_BASE;

/// Bytes of shared memory that a lane accesses, or none in particular.
#[derive(Debug, Clone, Copy)]
pub struct Touch {
    pub offset: usize,
    pub size: usize,
    pub lane: Option<usize>,
    /// The lanes it is done for; see `Event`.
    pub lanes: u32,
}

/// Records what an instruction does in several places; accuses it of the first conflict. `line_of` gives the PTX line of
/// an instruction.
#[inline(always)]
pub fn judge(
    races: &mut Races,
    clocks: &Clocks,
    line_of: impl Fn(u32) -> u32,
    event: Event,
    write: bool,
    places: impl IntoIterator<Item = Touch>,
) -> Checked {
    let mut among_lanes = None;
    for Touch { offset, size, lane, lanes } in places {
        let event = Event { lanes, ..event };
        let result = if write { races.write(offset, size, event) } else { races.read(offset, size, event) };
        match result {
            Ok(()) => {}
            // The same instruction may race with other warps too, which asks for more than a __syncwarp.
            Err(conflict) if conflict.why == Why::Unsynchronised => {
                among_lanes.get_or_insert((conflict, offset, lane));
            }
            Err(conflict) => return report(&conflict, clocks, line_of, offset, lane),
        }
    }
    match among_lanes {
        None => Ok(()),
        Some((conflict, offset, lane)) => report(&conflict, clocks, line_of, offset, lane),
    }
}

#[cold]
fn report(
    conflict: &Conflict,
    clocks: &Clocks,
    line_of: impl Fn(u32) -> u32,
    offset: usize,
    lane: Option<usize>,
) -> Checked {
    let what = format!("shared address {:#x}", offset as u32 + SHARED_BASE);
    let (verb, name, line) =
        (if conflict.wrote { "written" } else { "read" }, clocks.name(conflict.actor), line_of(conflict.pc));
    let why = match conflict.why {
        Why::Unordered => "and nothing orders the two accesses",
        Why::Unfenced => "and no fence.proxy.async lies between: an asynchronous copy or product need not see it",
        Why::Unsynchronised => "by another of its lanes, and neither __syncwarp nor __syncthreads lies between",
    };
    accuse(Kind::Race, lane, format!("{what}: {verb} by {name} at PTX line {line}, {why}"))
}
