//! Loads and stores.

use super::{Touch, World, warp::Warp};
use crate::{
    check::{Checked, Kind, accuse},
    count,
    ir::{Address, Elements, Load, Store},
    mem::Global,
    regs::{LANES, Regs, each, lanes},
    types::{Space, Ty},
    window,
};

/// What 32 lanes move: up to four words each, a row for each word of each element.
pub(super) type Words = [[u32; LANES]; 4];

/// One access of the active lanes, `size` bytes at each address.
pub(super) struct Access {
    pub addresses: [u64; LANES],
    pub active: u32,
    pub size: usize,
    pub strong: bool,
}

/// A lane's bytes in shared memory.
pub(super) struct Place {
    pub cta: usize,
    pub offset: usize,
}

impl World<'_> {
    #[inline(always)]
    pub(super) fn load(&mut self, warp: &mut Warp, load: &Load, active: u32) -> Checked {
        let mut access = Access {
            addresses: addresses(&warp.regs, load.address),
            active,
            size: load.to.bytes() as usize,
            strong: load.strong,
        };
        let space = self.resolve(load.space, &mut access.addresses, active)?;
        aligned(&access)?;
        let mut words = [[0; LANES]; 4];
        match space {
            Space::Global | Space::Const | Space::Generic => self.load_global(warp, &access, load.to.ty, &mut words)?,
            Space::Shared => self.load_shared(warp, &access, load.to.ty, &mut words)?,
            Space::Param => {
                for lane in lanes(active) {
                    let from = access.addresses[lane] as usize;
                    let Some(bytes) = self.params.get(from..).and_then(|rest| rest.get(..access.size)) else {
                        let message = format!("parameter offset {from}: {} bytes of parameters", self.params.len());
                        return accuse(Kind::Memory, lane, message);
                    };
                    take(bytes, load.to.ty, &mut words, lane);
                }
            }
            Space::Local => {
                for lane in lanes(active) {
                    let at = self.local_offset(&access, lane)?;
                    if self.settings.checks.init && !warp.local.written.all(at, access.size) {
                        let message = format!("local offset {:#x}: read before it is written", access.addresses[lane]);
                        return accuse(Kind::Init, lane, message);
                    }
                    take(&warp.local.bytes[at..at + access.size], load.to.ty, &mut words, lane);
                }
            }
        }
        write_back(&mut warp.regs, &load.to, active, &words);
        Ok(())
    }

    #[inline(always)]
    pub(super) fn store(&mut self, warp: &mut Warp, store: &Store, active: u32) -> Checked {
        let mut access = Access {
            addresses: addresses(&warp.regs, store.address),
            active,
            size: store.from.bytes() as usize,
            strong: store.strong,
        };
        let space = self.resolve(store.space, &mut access.addresses, active)?;
        aligned(&access)?;
        let words = read_out(&warp.regs, &store.from);
        match space {
            Space::Global | Space::Generic => self.store_global(warp, &access, store.from.ty, &words)?,
            Space::Shared => self.store_shared(warp, &access, store.from.ty, &words)?,
            Space::Local => {
                for lane in lanes(active) {
                    let at = self.local_offset(&access, lane)?;
                    let bytes = give(store.from.ty, &words, lane);
                    warp.local.write(at, &bytes[..access.size]);
                }
            }
            Space::Const | Space::Param => return accuse(Kind::Memory, None, "a store into read-only memory"),
        }
        Ok(())
    }

    #[inline(always)]
    fn load_global(&mut self, warp: &Warp, access: &Access, ty: Ty, words: &mut Words) -> Checked {
        let (low, high) = bounds(access);
        self.count_global(warp, access);
        let init = self.settings.checks.init;
        if let Some((allocation, offset)) = self.global.find(low, (high - low) as usize + access.size) {
            let span = (high - low) as usize + access.size;
            let bytes = &allocation.block.bytes[offset..offset + span];
            let all_written = !init || allocation.block.written.all(offset, span);
            if all_written && span == 128 && ty.size() == 4 && access.active == u32::MAX && in_order(access) {
                for (word, chunk) in words[0].iter_mut().zip(bytes.chunks_exact(4)) {
                    *word = u32::from_le_bytes(chunk.try_into().expect("chunks of 4"));
                }
                return Ok(());
            }
            if all_written && ty.size() >= 4 {
                match access.size {
                    4 => gather::<1>(bytes, access, low, words),
                    8 => gather::<2>(bytes, access, low, words),
                    _ => gather::<4>(bytes, access, low, words),
                }
                return Ok(());
            }
            for lane in lanes(access.active) {
                let at = (access.addresses[lane] - low) as usize;
                if !all_written && !allocation.block.written.all(offset + at, access.size) {
                    let message = format!("{}, offset {:#x}: read before it is written", allocation.name, offset + at);
                    return accuse(Kind::Init, lane, message);
                }
                take(&bytes[at..at + access.size], ty, words, lane);
            }
            return Ok(());
        }
        for lane in lanes(access.active) {
            let address = access.addresses[lane];
            let Some((allocation, at)) = self.global.find(address, access.size) else {
                return outside(self.global, address, access.size, lane);
            };
            if init && !allocation.block.written.all(at, access.size) {
                let message = format!("{}, offset {at:#x}: read before it is written", allocation.name);
                return accuse(Kind::Init, lane, message);
            }
            take(&allocation.block.bytes[at..at + access.size], ty, words, lane);
        }
        Ok(())
    }

    #[inline(always)]
    fn store_global(&mut self, warp: &Warp, access: &Access, ty: Ty, words: &Words) -> Checked {
        let (low, high) = bounds(access);
        self.count_global(warp, access);
        if let Some((allocation, offset)) = self.global.find(low, (high - low) as usize + access.size) {
            for lane in lanes(access.active) {
                let at = offset + (access.addresses[lane] - low) as usize;
                let bytes = give(ty, words, lane);
                allocation.block.bytes[at..at + access.size].copy_from_slice(&bytes[..access.size]);
            }
            let span = (high - low) as usize + access.size;
            if span == access.size * access.active.count_ones() as usize && in_order(access) {
                allocation.block.written.set(offset, span);
            } else {
                for lane in lanes(access.active) {
                    allocation.block.written.set(offset + (access.addresses[lane] - low) as usize, access.size);
                }
            }
            return Ok(());
        }
        for lane in lanes(access.active) {
            let address = access.addresses[lane];
            let Some((allocation, at)) = self.global.find(address, access.size) else {
                return outside(self.global, address, access.size, lane);
            };
            allocation.block.write(at, &give(ty, words, lane)[..access.size]);
        }
        Ok(())
    }

    #[inline(always)]
    pub(super) fn count_global(&mut self, warp: &Warp, access: &Access) {
        let global = &mut *self.global;
        let sectors = count::sectors(&access.addresses, access.active, |sector| {
            if let Some((allocation, offset)) = global.find(sector, 1) {
                allocation.touched.set(offset / 32, 1);
            }
        });
        let count = &mut self.counts.by_instruction[warp.split.pc as usize];
        count.global_requests += 1;
        count.global_bytes += u64::from(access.active.count_ones()) * access.size as u64;
        count.global_sectors += sectors;
    }

    #[inline(always)]
    fn load_shared(&mut self, warp: &Warp, access: &Access, ty: Ty, words: &mut Words) -> Checked {
        for lane in lanes(access.active) {
            let Place { cta, offset } = self.shared_place(warp, access, lane)?;
            self.shared_readable(warp, cta, offset, access, lane)?;
            take(&self.ctas[cta].shared.block.bytes[offset..offset + access.size], ty, words, lane);
        }
        self.count_shared(warp, access);
        Ok(())
    }

    /// Checks that a lane may read shared memory: written before, and ordered after the write.
    #[inline(always)]
    pub(super) fn shared_readable(
        &mut self,
        warp: &Warp,
        cta: usize,
        offset: usize,
        access: &Access,
        lane: usize,
    ) -> Checked {
        self.shared_readable_by(warp, Touch { cta, offset, size: access.size, lane, lanes: 1 << lane }, access.strong)
    }

    #[inline(always)]
    pub(super) fn shared_readable_by(&mut self, warp: &Warp, touch: Touch, strong: bool) -> Checked {
        let Touch { cta, offset, size, lane, .. } = touch;
        if self.settings.checks.init && !self.ctas[cta].shared.block.written.all(offset, size) {
            let address = offset as u32 + window::SHARED_BASE;
            let message = format!("shared address {address:#x}: read before it is written");
            return accuse(Kind::Init, lane, message);
        }
        self.touch_shared(warp, touch, false, strong)
    }

    #[inline(always)]
    fn store_shared(&mut self, warp: &Warp, access: &Access, ty: Ty, words: &Words) -> Checked {
        for lane in lanes(access.active) {
            let Place { cta, offset } = self.shared_place(warp, access, lane)?;
            let touch = Touch { cta, offset, size: access.size, lane, lanes: 1 << lane };
            self.touch_shared(warp, touch, true, access.strong)?;
            self.ctas[cta].shared.block.write(offset, &give(ty, words, lane)[..access.size]);
        }
        self.count_shared(warp, access);
        Ok(())
    }

    #[inline(always)]
    pub(super) fn count_shared(&mut self, warp: &Warp, access: &Access) {
        let addresses = each(|lane| access.addresses[lane] as u32);
        let (wavefronts, ideal) = count::wavefronts(&addresses, access.active, access.size as u32);
        let count = &mut self.counts.by_instruction[warp.split.pc as usize];
        count.shared_requests += 1;
        count.shared_wavefronts += wavefronts;
        count.shared_ideal += ideal;
    }

    /// The CTA and offset that a lane's shared address means.
    #[inline]
    pub(super) fn shared_place(&self, warp: &Warp, access: &Access, lane: usize) -> Checked<Place> {
        self.shared_at(warp.cta, access.addresses[lane], access.size, lane)
    }

    #[inline]
    pub(super) fn shared_at(
        &self,
        own: usize,
        address: u64,
        size: usize,
        lane: impl Into<Option<usize>>,
    ) -> Checked<Place> {
        let within = (address & ((1 << window::SHARED_BITS) - 1)) as u32;
        let cta = match address >> window::SHARED_BITS {
            0 => own,
            rank => rank as usize - 1,
        };
        if cta != own
            && self.ctas.get(cta).is_some_and(|c| self.warps[c.warps.clone()].iter().flatten().all(|w| w.done()))
        {
            let message = format!("shared address {address:#x}: the CTA with rank {cta} has left");
            return accuse(Kind::Memory, lane, message);
        }
        match self.ctas.get(cta).and_then(|c| c.shared.offset(within, size)) {
            Some(offset) => Ok(Place { cta, offset }),
            None => {
                let end = self.ctas[own].shared.block.bytes.len() as u32 + window::SHARED_BASE;
                let message = format!(
                    "shared address {address:#x}, {size} bytes: shared memory spans {:#x}..{end:#x}",
                    window::SHARED_BASE
                );
                accuse(Kind::Memory, lane, message)
            }
        }
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

/// Lowest and highest address of the active lanes.
#[inline(always)]
fn bounds(access: &Access) -> (u64, u64) {
    let first = access.addresses[access.active.trailing_zeros() as usize];
    let (mut low, mut high) = (first, first);
    for lane in 0..LANES {
        let address = if access.active >> lane & 1 != 0 { access.addresses[lane] } else { first };
        low = low.min(address);
        high = high.max(address);
    }
    (low, high)
}

/// Whether each active lane's address is its predecessor's plus the size.
#[inline(always)]
fn in_order(access: &Access) -> bool {
    let mut expected = access.addresses[access.active.trailing_zeros() as usize];
    if access.active == u32::MAX {
        let first = expected;
        return (0..LANES).all(|l| access.addresses[l] == first + (l * access.size) as u64);
    }
    lanes(access.active).all(|lane| {
        let here = access.addresses[lane] == expected;
        expected += access.size as u64;
        here
    })
}

/// Every access must be aligned to its size.
#[inline(always)]
pub(super) fn aligned(access: &Access) -> Checked {
    let low_bits = access.size as u64 - 1;
    let mut any = 0;
    for lane in 0..LANES {
        any |= if access.active >> lane & 1 != 0 { access.addresses[lane] & low_bits } else { 0 };
    }
    if any == 0 {
        return Ok(());
    }
    let lane = lanes(access.active).find(|l| access.addresses[*l] & low_bits != 0).expect("one lane is misaligned");
    let message = format!("address {:#x}: not aligned to the {} bytes accessed", access.addresses[lane], access.size);
    accuse(Kind::Memory, lane, message)
}

/// An access outside every allocation, told by the nearest.
pub(super) fn outside<T>(global: &Global, address: u64, size: usize, lane: impl Into<Option<usize>>) -> Checked<T> {
    let message = match global.nearest(address) {
        Some(a) if a.freed => format!("address {address:#x}, {size} bytes: {} was there and is freed", a.name),
        Some(a) => format!(
            "address {address:#x}, {size} bytes: offset {:#x} of {}, which has {:#x} bytes",
            address - a.base,
            a.name,
            a.block.bytes.len()
        ),
        None => format!("address {address:#x}, {size} bytes: in no allocation"),
    };
    accuse(Kind::Memory, lane, message)
}

/// W words for each lane from the bytes that begin at address `low`.
#[inline(always)]
fn gather<const W: usize>(bytes: &[u8], access: &Access, low: u64, words: &mut Words) {
    for lane in lanes(access.active) {
        let at = (access.addresses[lane] - low) as usize;
        let bytes = &bytes[at..at + 4 * W];
        for (word, row) in words.iter_mut().enumerate().take(W) {
            row[lane] = u32::from_le_bytes(bytes[4 * word..][..4].try_into().expect("4 bytes"));
        }
    }
}

/// Spreads a lane's bytes over the rows of its elements, extending narrow ones.
#[inline(always)]
pub(super) fn take(bytes: &[u8], ty: Ty, words: &mut Words, lane: usize) {
    match ty.size() {
        4 | 8 => {
            for (row, chunk) in words.iter_mut().zip(bytes.chunks_exact(4)) {
                row[lane] = u32::from_le_bytes(chunk.try_into().expect("chunks of 4"));
            }
        }
        2 => {
            for (row, chunk) in words.iter_mut().zip(bytes.chunks_exact(2)) {
                let value = u16::from_le_bytes(chunk.try_into().expect("chunks of 2"));
                row[lane] = if ty.signed() { value as i16 as u32 } else { value.into() };
            }
        }
        _ => {
            for (row, byte) in words.iter_mut().zip(bytes) {
                row[lane] = if ty.signed() { *byte as i8 as u32 } else { (*byte).into() };
            }
        }
    }
}

/// A lane's bytes from the rows of its elements.
#[inline(always)]
pub(super) fn give(ty: Ty, words: &Words, lane: usize) -> [u8; 16] {
    let mut bytes = [0; 16];
    match ty.size() {
        4 | 8 => {
            for (chunk, row) in bytes.chunks_exact_mut(4).zip(words) {
                chunk.copy_from_slice(&row[lane].to_le_bytes());
            }
        }
        2 => {
            for (chunk, row) in bytes.chunks_exact_mut(2).zip(words) {
                chunk.copy_from_slice(&(row[lane] as u16).to_le_bytes());
            }
        }
        _ => {
            for (byte, row) in bytes.iter_mut().zip(words) {
                *byte = row[lane] as u8;
            }
        }
    }
    bytes
}

/// Rows of one element among the words.
fn element_rows(ty: Ty) -> usize {
    ty.size().div_ceil(4) as usize
}

/// Loaded words to registers, extended to their width.
#[inline(always)]
pub(super) fn write_back(regs: &mut Regs, to: &Elements, active: u32, words: &Words) {
    let rows = element_rows(to.ty);
    for (k, slot) in to.slots.iter().enumerate() {
        let Some(slot) = slot else { continue };
        regs.set_row(*slot, active, &words[k * rows]);
        if rows == 2 {
            regs.set_row(slot.high(), active, &words[k * rows + 1]);
        } else if to.rows == 2 {
            let high = words[k * rows].map(|w| if to.ty.signed() { (w as i32 >> 31) as u32 } else { 0 });
            regs.set_row(slot.high(), active, &high);
        }
    }
}

/// Registers to words.
#[inline(always)]
pub(super) fn read_out(regs: &Regs, from: &Elements) -> Words {
    let rows = element_rows(from.ty);
    let mut words = [[0; LANES]; 4];
    for (k, slot) in from.slots.iter().enumerate() {
        let slot = slot.expect("a store names every register");
        words[k * rows] = *regs.row(slot);
        if rows == 2 {
            words[k * rows + 1] = *regs.row(slot.high());
        }
    }
    words
}
