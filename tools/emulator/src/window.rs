//! The address map: which generic address belongs to which state space.

use crate::types::Space;

/// Global allocations grow upwards from here.
pub const GLOBAL: u64 = 0x7f00_0000_0000;
/// Shared memory as generic addresses: this plus the 32-bit shared address.
pub const SHARED: u64 = 0x7e00_0000_0000;
/// Kernel parameters.
pub const PARAM: u64 = 0x7d00_0000_0000;
/// Local memory of the lane that asks.
pub const LOCAL: u64 = 0x7c00_0000_0000;
/// Size of each window below global memory.
const SPAN: u64 = 1 << 40;

/// First byte of a CTA's shared memory. It is not zero, so that a null pointer faults; devices reserve 1 KiB as well.
pub const SHARED_BASE: u32 = 1024;
/// Bits of a shared address that count bytes within one CTA. Above them stands 0 for the CTA itself, or 1 + its rank
/// for any CTA of the cluster, as `mapa` gives it.
pub const SHARED_BITS: u32 = 24;

/// The space of a generic address and the address within it.
pub fn classify(address: u64) -> Option<(Space, u64)> {
    let windows = [(Space::Shared, SHARED), (Space::Param, PARAM), (Space::Local, LOCAL)];
    if address >= GLOBAL && address - GLOBAL < SPAN {
        return Some((Space::Global, address));
    }
    windows
        .into_iter()
        .find(|(_, base)| address >= *base && address - *base < SPAN)
        .map(|(s, base)| (s, address - base))
}

/// Where a space begins among generic addresses.
pub fn base(space: Space) -> u64 {
    match space {
        Space::Shared => SHARED,
        Space::Param => PARAM,
        Space::Local => LOCAL,
        Space::Generic | Space::Global | Space::Const => 0,
    }
}
