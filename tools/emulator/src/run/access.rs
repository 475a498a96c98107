//! Loads and stores: where the lanes of a warp reach, and the spaces that only they use.

use super::{
    World,
    warp::Warp,
    words::{give, put, read_out, take, write_back},
};
use crate::{
    check::{Checked, Kind, Touch, accuse},
    ir::{Address, Load, Store},
    regs::{LANES, Regs, each, lanes},
    types::{Order, Space},
};

/// One access of the active lanes, `size` bytes at each address.
#[derive(Debug)]
pub(super) struct Access {
    pub addresses: [u64; LANES],
    pub active: u32,
    pub size: usize,
    pub order: Order,
    /// Of memory that nobody writes in the launch.
    pub constant: bool,
    /// Done by all lanes together, whichever of them gives the address.
    pub collective: bool,
    pub spread: Spread,
}

/// No window reaches so far.
const BEYOND: u64 = 1 << 63;

/// How the addresses of the active lanes lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spread {
    /// All 32 lanes, side by side in order.
    Row,
    /// All active lanes at one address.
    Same,
    Apart,
}

impl Access {
    #[inline(always)]
    pub fn new(addresses: [u64; LANES], active: u32, size: usize, order: Order) -> Self {
        let first = addresses[active.trailing_zeros() as usize];
        let (mut same, mut row) = (0, 0);
        if active == u32::MAX {
            for lane in 0..LANES {
                same |= addresses[lane] ^ first;
                row |= addresses[lane] ^ first.wrapping_add((lane * size) as u64);
            }
        } else {
            row = 1;
            for lane in 0..LANES {
                same |= if active >> lane & 1 != 0 { addresses[lane] ^ first } else { 0 };
            }
        }
        let spread = match (row, same) {
            (0, _) => Spread::Row,
            (_, 0) => Spread::Same,
            _ => Spread::Apart,
        };
        Self { addresses, active, size, order, constant: false, collective: false, spread }
    }

    /// Lowest address, and the bytes from there to the end of the highest.
    #[inline(always)]
    pub fn extent(&self) -> (u64, usize) {
        let first = self.addresses[self.active.trailing_zeros() as usize];
        match self.spread {
            Spread::Row => (first, LANES * self.size),
            Spread::Same => (first, self.size),
            Spread::Apart => {
                let (mut low, mut high) = (first, first);
                for lane in 0..LANES {
                    let address = if self.active >> lane & 1 != 0 { self.addresses[lane] } else { first };
                    low = low.min(address);
                    high = high.max(address);
                }
                (low, (high - low) as usize + self.size)
            }
        }
    }

    /// What a lane does to shared memory at an offset.
    #[inline(always)]
    pub fn touch(&self, offset: usize, lane: usize) -> Touch {
        let lanes = if self.collective { u32::MAX } else { 1 << lane };
        Touch { offset, size: self.size, lane: Some(lane), lanes }
    }

    /// Every access must be aligned to its size. It must also lie below `BEYOND`, where no address plus a size wraps around.
    #[inline(always)]
    pub fn aligned(&self) -> Checked {
        let low_bits = self.size as u64 - 1;
        let mut any = 0;
        for lane in 0..LANES {
            any |= if self.active >> lane & 1 != 0 { self.addresses[lane] & (low_bits | BEYOND) } else { 0 };
        }
        if any == 0 {
            return Ok(());
        }
        if let Some(lane) = lanes(self.active).find(|l| self.addresses[*l] >= BEYOND) {
            let message = format!("address {:#x}, {} bytes: in no memory", self.addresses[lane], self.size);
            return accuse(Kind::Memory, lane, message);
        }
        let lane = lanes(self.active).find(|l| self.addresses[*l] & low_bits != 0).expect("one lane is misaligned");
        let message = format!("address {:#x}: not aligned to the {} bytes accessed", self.addresses[lane], self.size);
        accuse(Kind::Memory, lane, message)
    }
}

impl World<'_> {
    #[inline(always)]
    pub(super) fn load(&mut self, warp: &mut Warp, load: &Load, active: u32) -> Checked {
        let size = load.to.bytes() as usize;
        let mut access = Access::new(addresses(&warp.regs, load.address), active, size, load.order);
        access.constant = load.constant;
        let space = self.resolve(load.space, &mut access.addresses, active)?;
        access.aligned()?;
        let mut words = [[0; LANES]; 4];
        match space {
            Space::Global | Space::Generic => self.load_global(warp, &access, load.to.ty, &mut words)?,
            // Its values lie in global memory here, but come through a cache of their own.
            Space::Const => self.fetch_global(&access, load.to.ty, &mut words)?,
            Space::Shared => self.load_shared(warp, &access, load.to.ty, &mut words)?,
            Space::Param => {
                let one_for_all = access.spread == Spread::Same;
                for lane in lanes(if one_for_all { 1 << active.trailing_zeros() } else { active }) {
                    let from = access.addresses[lane] as usize;
                    let Some(bytes) = self.params.get(from..).and_then(|rest| rest.get(..size)) else {
                        let message = format!("parameter offset {from}: {} bytes of parameters", self.params.len());
                        return accuse(Kind::Memory, lane, message);
                    };
                    take(bytes, load.to.ty, &mut words, lane);
                    if one_for_all {
                        words.iter_mut().for_each(|row| *row = [row[lane]; LANES]);
                    }
                }
            }
            Space::Local => {
                for lane in lanes(active) {
                    let at = self.local_offset(&access, lane)?;
                    if self.settings.checks.init && !warp.local.written.all(at, size) {
                        let message = format!("local offset {:#x}: read before it is written", access.addresses[lane]);
                        return accuse(Kind::Init, lane, message);
                    }
                    take(&warp.local.bytes[at..at + size], load.to.ty, &mut words, lane);
                }
            }
        }
        self.pass_on(warp, &access, space, true, false)?;
        write_back(&mut warp.regs, &load.to, active, &words);
        Ok(())
    }

    #[inline(always)]
    pub(super) fn store(&mut self, warp: &mut Warp, store: &Store, active: u32) -> Checked {
        let size = store.from.bytes() as usize;
        let mut access = Access::new(addresses(&warp.regs, store.address), active, size, store.order);
        let space = self.resolve(store.space, &mut access.addresses, active)?;
        access.aligned()?;
        let words = read_out(&warp.regs, &store.from);
        self.pass_on(warp, &access, space, false, true)?;
        match space {
            Space::Global | Space::Generic => self.store_global(warp, &access, store.from.ty, &words)?,
            Space::Shared => self.store_shared(warp, &access, store.from.ty, &words)?,
            Space::Local => {
                for lane in lanes(active) {
                    let at = self.local_offset(&access, lane)?;
                    put(&mut warp.local.bytes[at..], size, &give(store.from.ty, &words, lane));
                    warp.local.written.set(at, size);
                }
            }
            Space::Const | Space::Param => return accuse(Kind::Memory, None, "a store into read-only memory"),
        }
        Ok(())
    }

    fn local_offset(&self, access: &Access, lane: usize) -> Checked<usize> {
        let (size, at) = (self.kernel.local as u64, access.addresses[lane]);
        if at > size || size - at < access.size as u64 {
            let message = format!("local offset {at:#x}, {} bytes: a lane has {size} bytes", access.size);
            return accuse(Kind::Memory, lane, message);
        }
        Ok(lane * size as usize + at as usize)
    }
}

/// Each lane's address.
#[inline(always)]
pub(super) fn addresses(regs: &Regs, address: Address) -> [u64; LANES] {
    let offset = address.offset;
    if address.wide {
        let base: [u64; LANES] = regs.get(address.base);
        each(|lane| base[lane].wrapping_add_signed(offset))
    } else {
        let base = regs.row(address.base);
        each(|lane| u64::from(base[lane].wrapping_add(offset as u32)))
    }
}
