//! What a bulk copy moves: the rows of a tile, or one row of bytes.

use crate::{
    check::{Checked, Kind, accuse},
    mem::SECTOR,
    run::{World, access::addresses, global::outside, warp::Warp},
    tensor::swizzle::Swizzle,
    tmap::{self, TensorMap},
    types::Space,
    window::{self, SHARED_BASE},
};

/// A row of a copy: bytes in global memory, or zeros where a tile reaches over its tensor, and the bytes in shared
/// memory that they go to or come from.
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    pub global: Option<u64>,
    /// Shared address, before the swizzle.
    pub shared: u32,
    pub size: usize,
}

/// The rows of one copy, in ascending order of global addresses.
#[derive(Debug, Clone)]
pub struct Plan {
    pub pieces: Vec<Piece>,
    pub swizzle: Swizzle,
    /// Bytes in all, which is what an mbarrier counts.
    pub bytes: u32,
}

impl Piece {
    /// Where the row lies in shared memory: offsets, and the bytes of the row that are there.
    pub fn chunks(self, swizzle: Swizzle) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> + Clone {
        let end = self.shared + self.size as u32;
        let mut at = self.shared;
        std::iter::from_fn(move || {
            let next = if swizzle == Swizzle::None { end } else { end.min((at / 16 + 1) * 16) };
            let chunk = (at - self.shared) as usize..(next - self.shared) as usize;
            let offset = (swizzle.apply(at) - SHARED_BASE) as usize;
            at = next;
            (!chunk.is_empty()).then_some((offset, chunk))
        })
    }
}

impl Plan {
    /// One row.
    pub fn row(global: Option<u64>, shared: u32, bytes: u32) -> Self {
        Self { pieces: vec![Piece { global, shared, size: bytes as usize }], swizzle: Swizzle::None, bytes }
    }
}

impl World<'_> {
    /// The tensor map at a generic address of parameters, constants or global memory.
    pub(super) fn tensor_map(&mut self, warp: &Warp, address: crate::ir::Address, lane: usize) -> Checked<TensorMap> {
        let at = addresses(&warp.regs, address)[lane];
        if !at.is_multiple_of(64) {
            return accuse(Kind::Memory, lane, format!("tensor map at {at:#x}: not aligned to 64 bytes"));
        }
        let bytes = match window::classify(at) {
            Some((Space::Param, from)) => self.params.get(from as usize..from as usize + tmap::SIZE),
            Some((Space::Global, at)) => {
                self.global.find(at, tmap::SIZE).map(|(a, from)| &a.block.bytes[from..from + tmap::SIZE])
            }
            _ => None,
        };
        match bytes.and_then(TensorMap::decode) {
            Some(map) => Ok(map),
            None => accuse(Kind::Memory, lane, format!("address {at:#x}: no tensor map is there")),
        }
    }

    /// The rows of the box at coordinates `at`.
    pub(super) fn tile(&self, warp: &Warp, map: &TensorMap, at: &[i64], shared: u64, lane: usize) -> Checked<Plan> {
        let rank = map.extents.len();
        if at.len() != rank {
            let message = format!("{} coordinates: the tensor map has {rank} dimensions", at.len());
            return accuse(Kind::Memory, lane, message);
        }
        let alignment = map.swizzle.atom().max(128).into();
        if !shared.is_multiple_of(alignment) {
            let message = format!("shared address {shared:#x} under {}: not aligned to {alignment}", map.swizzle);
            return accuse(Kind::Memory, lane, message);
        }
        let size = i64::from(map.ty.size());
        let inner = i64::from(map.tile[0]) * size;
        let side = |axis: usize| i64::from(map.tile.get(axis).copied().unwrap_or(1));
        let span = (side(1) * side(2) * inner) as usize;
        let start = self.shared_at(warp.cta, shared, span, lane)?.offset as i64 + i64::from(SHARED_BASE);
        // Bytes of a row that the tensor has.
        let from = (-at[0]).clamp(0, i64::from(map.tile[0])) * size;
        let to = (map.extents[0] as i64 - at[0]).clamp(0, i64::from(map.tile[0])) * size;
        let mut pieces = vec![];
        for index in 0..side(1) * side(2) {
            let (y, z) = (index % side(1), index / side(1));
            let outer = [at.get(1).map_or(0, |c| c + y), at.get(2).map_or(0, |c| c + z)];
            let inside = (1..rank).all(|axis| (0..map.extents[axis] as i64).contains(&outer[axis - 1]));
            // Extents of 2^32 and strides of 2^40 reach out of every address: to none, and so to a fault.
            let row =
                (1..rank).map(|axis| i128::from(outer[axis - 1]) * i128::from(map.strides[axis - 1])).sum::<i128>();
            let base = i128::from(map.base) + row + i128::from(at[0] * size);
            let (first, last) = if inside && from < to { (from, to) } else { (inner, inner) };
            for (global, begin, end) in
                [(None, 0, first), (Some(base + i128::from(first)), first, last), (None, last, inner)]
            {
                if end > begin {
                    let global = global.map(|at| u64::try_from(at).unwrap_or(u64::MAX));
                    let shared = (start + index * inner + begin) as u32;
                    pieces.push(Piece { global, shared, size: (end - begin) as usize });
                }
            }
        }
        Ok(Plan { pieces, swizzle: map.swizzle, bytes: map.tile_bytes() })
    }

    /// The bytes of the global side, one row after another.
    pub(super) fn read_global(&mut self, warp: &Warp, plan: &Plan, lane: usize) -> Checked<Vec<u8>> {
        self.count_bulk(warp, plan, lane)?;
        let mut data = vec![0; plan.pieces.iter().map(|p| p.size).sum()];
        let mut rest = data.as_mut_slice();
        for piece in &plan.pieces {
            let (row, after) = rest.split_at_mut(piece.size);
            rest = after;
            let Some(address) = piece.global else { continue };
            let (allocation, at) = self.global.find(address, piece.size).expect("counting has found it");
            if self.settings.checks.init && !allocation.block.written.all(at, piece.size) {
                let message = format!("{}, offset {at:#x}: copied before it is written", allocation.name);
                return accuse(Kind::Init, lane, message);
            }
            row.copy_from_slice(&allocation.block.bytes[at..at + piece.size]);
        }
        Ok(data)
    }

    /// Counts a copy and finds out whether its global side lies in allocations.
    pub(super) fn count_bulk(&mut self, warp: &Warp, plan: &Plan, lane: usize) -> Checked {
        let (mut bytes, mut sectors, mut counted) = (0, 0, 0);
        for (address, size) in plan.pieces.iter().filter_map(|p| Some((p.global?, p.size))) {
            match self.global.find(address, size) {
                Some((allocation, at)) => allocation.touched.touch(at, size),
                None => return outside(self.global, address, size, lane),
            }
            // Rows ascend, so that a sector can only be shared with the row before.
            let end = (address + size as u64).div_ceil(SECTOR as u64);
            sectors += end.saturating_sub(counted.max(address / SECTOR as u64));
            counted = counted.max(end);
            bytes += size as u64;
        }
        let count = &mut self.counts.by_instruction[warp.split.pc as usize];
        count.global_requests += 1;
        count.global_bytes += bytes;
        count.global_sectors += sectors;
        Ok(())
    }
}
