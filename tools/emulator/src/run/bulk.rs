//! Bulk copies: rows of bytes and tiles of tensors between global and shared memory, by the asynchronous proxy.
//!
//! A load completes on an mbarrier; under `Lazy` it lands only when every warp waits. A store is waited for in groups of
//! the lane that issued it; under `Lazy` it reads its source when its group is waited for with `.read`, and writes when
//! it is waited for without, or when the cluster ends. Races are judged by the time of issue under both policies.

use super::{
    Policy, World,
    access::{addresses, outside},
    atomic::combine,
    warp::Warp,
};
use crate::{
    check::{Actor, Checked, Event, Kind, Proxy, accuse, report},
    ir::{Address, AtomicOp, Bulk, BulkShape, BulkWay},
    regs::lanes,
    tensor::swizzle::Swizzle,
    tmap::{self, TensorMap},
    types::{Space, Ty},
    window,
};
use std::collections::BTreeMap;

/// A piece of a copy: bytes in global memory, or zeros where a tile reaches over its tensor, and bytes in shared memory.
#[derive(Debug, Clone)]
struct Piece {
    global: Option<u64>,
    offset: usize,
    size: usize,
}

/// A load under way.
#[derive(Debug)]
pub struct Landing {
    /// CTA, offset, bytes.
    writes: Vec<(usize, usize, Vec<u8>)>,
    mbarrier: (usize, usize),
    /// CTA whose shared memory it reads.
    from: Option<usize>,
    bytes: u32,
    time: u32,
}

/// The stores that one lane has issued.
#[derive(Debug)]
pub struct Stores {
    actor: Actor,
    committed: u32,
    stores: Vec<StoreJob>,
}

#[derive(Debug)]
struct StoreJob {
    /// Group, once it is committed.
    group: u32,
    cta: usize,
    pieces: Vec<Piece>,
    reduce: Option<(AtomicOp, Ty)>,
    /// What was read from the source, once it has been.
    data: Option<Vec<Vec<u8>>>,
    /// A wait has made sure of the reading, and of the writing.
    read_waited: bool,
}

/// The stores of a warp by lane.
pub type BulkStores = BTreeMap<usize, Stores>;

impl World<'_> {
    pub(super) fn bulk(&mut self, warp: &mut Warp, bulk: &Bulk, active: u32) -> Checked {
        for lane in lanes(active) {
            let shared = self.one_shared(warp, bulk.shared, lane)?;
            let (pieces, total, reduce_type) = match &bulk.shape {
                BulkShape::Row { other, bytes } => {
                    let bytes = warp.regs.row(*bytes)[lane];
                    let other = addresses(&warp.regs, *other)[lane];
                    if !bytes.is_multiple_of(16) || !shared.is_multiple_of(16) || !other.is_multiple_of(16) {
                        let message =
                            format!("{bytes} bytes, shared {shared:#x}, {other:#x}: all must be multiples of 16");
                        return accuse(Kind::Memory, lane, message);
                    }
                    let offset = self.shared_at(warp.cta, shared, bytes as usize, lane)?.offset;
                    (vec![Piece { global: Some(other), offset, size: bytes as usize }], bytes, None)
                }
                BulkShape::Tile { map, coordinates } => {
                    let map = self.tensor_map(warp, *map, lane)?;
                    let at: Vec<i64> = coordinates.iter().map(|c| i64::from(warp.regs.row(*c)[lane] as i32)).collect();
                    (self.tile(warp, &map, &at, shared, lane)?, map.tile_bytes(), Some(map.ty.ty()))
                }
            };
            let count = &mut self.counts.by_instruction[warp.split.pc as usize];
            count.async_bytes += u64::from(total);
            match &bulk.way {
                BulkWay::Load { mbarrier } => {
                    let data = self.read_pieces(warp, &pieces, lane)?;
                    let targets = match bulk.multicast {
                        Some(mask) => u32::from(warp.regs.row(mask)[lane] as u16),
                        None => 0,
                    };
                    let own = self.shared_at(warp.cta, shared, 0, lane)?.cta;
                    let mbarrier = self.one_shared(warp, *mbarrier, lane)?;
                    let place = self.shared_at(warp.cta, mbarrier, 8, lane)?;
                    if targets == 0 {
                        self.load_bulk(warp, own, (place.cta, place.offset), &pieces, data, total, lane)?;
                        continue;
                    }
                    for cta in lanes(targets) {
                        if cta >= self.ctas.len() {
                            return accuse(Kind::Memory, lane, format!("multicast to rank {cta}: not in the cluster"));
                        }
                        self.load_bulk(warp, cta, (cta, place.offset), &pieces, data.clone(), total, lane)?;
                    }
                }
                BulkWay::Forward { mbarrier } => self.forward(warp, &pieces, shared, *mbarrier, total, lane)?,
                BulkWay::Store { reduce } => {
                    let reduce = reduce.map(|(op, ty)| (op, reduce_type.unwrap_or(ty)));
                    self.store_bulk(warp, pieces, reduce, lane)?;
                }
            }
        }
        Ok(())
    }

    /// A lane's shared address, from either register width.
    fn one_shared(&self, warp: &Warp, address: Address, lane: usize) -> Checked<u64> {
        let mut all = addresses(&warp.regs, address);
        if address.wide && all[lane] >= window::LOCAL {
            let space = self.resolve(Space::Generic, &mut all, 1 << lane)?;
            if space != Space::Shared {
                return accuse(Kind::Memory, lane, "the shared side of a bulk copy is not in shared memory");
            }
        }
        Ok(all[lane])
    }

    /// The tensor map at a generic address of parameters, constants or global memory.
    fn tensor_map(&mut self, warp: &Warp, address: Address, lane: usize) -> Checked<TensorMap> {
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

    /// The pieces of a tile, one for each 16-byte chunk of swizzled rows or for each row otherwise.
    fn tile(&self, warp: &Warp, map: &TensorMap, at: &[i64], shared: u64, lane: usize) -> Checked<Vec<Piece>> {
        let rank = map.extents.len();
        if at.len() != rank {
            let message = format!("{} coordinates: the tensor map has {rank} dimensions", at.len());
            return accuse(Kind::Memory, lane, message);
        }
        let alignment = map.swizzle.atom().max(128).into();
        if !shared.is_multiple_of(alignment) {
            let message = format!("shared address {shared:#x} under {:?}: not aligned to {alignment}", map.swizzle);
            return accuse(Kind::Memory, lane, message);
        }
        let start = self.shared_at(warp.cta, shared, map.tile_bytes() as usize, lane)?.offset as u32;
        let size = i64::from(map.ty.size());
        let inner = i64::from(map.tile[0]) * size;
        let side = |axis: usize| i64::from(map.tile.get(axis).copied().unwrap_or(1));
        // A swizzled row takes the whole span even when the box is narrower.
        let row = if map.swizzle == Swizzle::None { inner } else { i64::from(map.swizzle.row()) };
        let mut pieces = vec![];
        for index in 0..side(1) * side(2) {
            let (y, z) = (index % side(1), index / side(1));
            let outer = [at.get(1).map_or(0, |c| c + y), at.get(2).map_or(0, |c| c + z)];
            let inside = (1..rank).all(|axis| (0..map.extents[axis] as i64).contains(&outer[axis - 1]));
            let base =
                map.base as i64 + (1..rank).map(|axis| outer[axis - 1] * map.strides[axis - 1] as i64).sum::<i64>();
            // Elements of this row that the tensor has, in bytes of the row.
            let from = (-at[0]).clamp(0, i64::from(map.tile[0])) * size;
            let to = (map.extents[0] as i64 - at[0]).clamp(0, i64::from(map.tile[0])) * size;
            for chunk in (0..inner).step_by(16) {
                let linear = start + window::SHARED_BASE + (index * row + chunk) as u32;
                let offset = (map.swizzle.apply(linear) - window::SHARED_BASE) as usize;
                let (first, last) =
                    if inside { (from.clamp(chunk, chunk + 16), to.clamp(chunk, chunk + 16)) } else { (chunk, chunk) };
                let mut add = |global: Option<i64>, from: i64, to: i64| {
                    if to > from {
                        let (global, offset) = (global.map(|g| g as u64), offset + (from - chunk) as usize);
                        pieces.push(Piece { global, offset, size: (to - from) as usize });
                    }
                };
                let (first, last) = if last > first { (first, last) } else { (chunk, chunk) };
                add(None, chunk, first);
                add(Some(base + at[0] * size + first), first, last);
                add(None, last, chunk + 16);
            }
        }
        Ok(pieces)
    }

    /// The bytes of the global side.
    fn read_pieces(&mut self, warp: &Warp, pieces: &[Piece], lane: usize) -> Checked<Vec<Vec<u8>>> {
        let init = self.settings.checks.init;
        let mut sectors = std::collections::BTreeSet::new();
        let mut data = Vec::with_capacity(pieces.len());
        let mut moved = 0;
        for piece in pieces {
            let Some(address) = piece.global else {
                data.push(vec![0; piece.size]);
                continue;
            };
            let Some((allocation, at)) = self.global.find(address, piece.size) else {
                return outside(self.global, address, piece.size, lane);
            };
            if init && !allocation.block.written.all(at, piece.size) {
                let message = format!("{}, offset {at:#x}: copied before it is written", allocation.name);
                return accuse(Kind::Init, lane, message);
            }
            data.push(allocation.block.bytes[at..at + piece.size].to_vec());
            allocation.touched.set(at / 32, (at + piece.size).div_ceil(32) - at / 32);
            sectors.extend(address / 32..(address + piece.size as u64).div_ceil(32));
            moved += piece.size as u64;
        }
        self.count_bulk(warp, moved, sectors.len());
        Ok(data)
    }

    fn count_bulk(&mut self, warp: &Warp, bytes: u64, sectors: usize) {
        let count = &mut self.counts.by_instruction[warp.split.pc as usize];
        count.global_requests += 1;
        count.global_bytes += bytes;
        count.global_sectors += sectors as u64;
    }

    fn load_bulk(
        &mut self,
        warp: &mut Warp,
        cta: usize,
        mbarrier: (usize, usize),
        pieces: &[Piece],
        data: Vec<Vec<u8>>,
        bytes: u32,
        lane: usize,
    ) -> Checked {
        let actor = self.mbarrier_for_copy(warp, mbarrier, lane)?.copies();
        let time = self.clocks.tick(actor);
        for piece in pieces {
            self.touch_bulk(warp, cta, piece, (actor, time), true, lane)?;
        }
        let writes = pieces.iter().zip(data).map(|(piece, data)| (cta, piece.offset, data)).collect();
        let landing = Landing { writes, mbarrier, from: None, bytes, time };
        match self.settings.policy {
            Policy::Eager => self.land(landing, Some(warp)),
            Policy::Lazy => {
                self.landings.push_back(landing);
                Ok(())
            }
        }
    }

    /// Writes what a load brought and tells its mbarrier.
    pub(super) fn land(&mut self, landing: Landing, running: Option<&mut Warp>) -> Checked {
        for (cta, offset, data) in &landing.writes {
            self.ctas[*cta].shared.block.write(*offset, data);
        }
        self.complete_bytes(landing.mbarrier, landing.bytes, landing.time, running)
    }

    /// Shared memory of this CTA to shared memory of the cluster.
    fn forward(
        &mut self,
        warp: &mut Warp,
        pieces: &[Piece],
        shared: u64,
        mbarrier: Address,
        bytes: u32,
        lane: usize,
    ) -> Checked {
        let from = pieces[0].global.unwrap_or(0);
        let source = self.shared_at(warp.cta, from, bytes as usize, lane)?;
        let target = self.shared_at(warp.cta, shared, bytes as usize, lane)?;
        let mbarrier = self.one_shared(warp, mbarrier, lane)?;
        let place = self.shared_at(warp.cta, mbarrier, 8, lane)?;
        let key = (place.cta, place.offset);
        let actor = self.mbarrier_for_copy(warp, key, lane)?.copies();
        let time = self.clocks.tick(actor);
        let read = Piece { global: None, offset: source.offset, size: bytes as usize };
        let write = Piece { offset: target.offset, ..read };
        self.touch_bulk(warp, source.cta, &read, (actor, time), false, lane)?;
        self.touch_bulk(warp, target.cta, &write, (actor, time), true, lane)?;
        let data = self.ctas[source.cta].shared.block.bytes[read.offset..read.offset + read.size].to_vec();
        let writes = vec![(target.cta, target.offset, data)];
        let landing = Landing { writes, mbarrier: key, from: Some(source.cta), bytes, time };
        match self.settings.policy {
            Policy::Eager => self.land(landing, Some(warp)),
            Policy::Lazy => {
                self.landings.push_back(landing);
                Ok(())
            }
        }
    }

    /// Judges one piece's access to shared memory.
    fn touch_bulk(
        &mut self,
        warp: &Warp,
        cta: usize,
        piece: &Piece,
        (actor, time): (Actor, u32),
        write: bool,
        lane: usize,
    ) -> Checked {
        let address = piece.offset as u32 + window::SHARED_BASE;
        if !write && self.settings.checks.init && !self.ctas[cta].shared.block.written.all(piece.offset, piece.size) {
            return accuse(Kind::Init, lane, format!("shared address {address:#x}: copied before it is written"));
        }
        let Some(races) = &mut self.ctas[cta].races else { return Ok(()) };
        let known = self.clocks.of(warp.actor());
        let event = Event { actor, time, proxy: Proxy::Async, strong: false, lanes: 0, known, pc: warp.split.pc };
        let result = if write {
            races.write(piece.offset, piece.size, event)
        } else {
            races.read(piece.offset, piece.size, event)
        };
        result.or_else(|conflict| {
            let what = format!("shared address {address:#x}");
            report(&conflict, &self.clocks, |pc| self.kernel.code[pc as usize].line, &what, Some(lane))
        })
    }

    fn store_bulk(
        &mut self,
        warp: &mut Warp,
        pieces: Vec<Piece>,
        reduce: Option<(AtomicOp, Ty)>,
        lane: usize,
    ) -> Checked {
        if !warp.bulk.contains_key(&lane) {
            let name = format!("a bulk store of {}, lane {lane}", self.clocks.name(warp.actor()));
            let actor = self.clocks.add(name);
            warp.bulk.insert(lane, Stores { actor, committed: 0, stores: vec![] });
        }
        let (actor, group) = (warp.bulk[&lane].actor, warp.bulk[&lane].committed);
        let pieces: Vec<Piece> = pieces.into_iter().filter(|p| p.global.is_some()).collect();
        let mut bytes = 0;
        let mut sectors = std::collections::BTreeSet::new();
        for piece in &pieces {
            // Time of a group: its number from 1.
            self.touch_bulk(warp, warp.cta, piece, (actor, group + 1), false, lane)?;
            let address = piece.global.expect("kept above");
            if self.global.find(address, piece.size).is_none() {
                return outside(self.global, address, piece.size, lane);
            }
            bytes += piece.size as u64;
            sectors.extend(address / 32..(address + piece.size as u64).div_ceil(32));
        }
        for sector in &sectors {
            if let Some((allocation, at)) = self.global.find(sector * 32, 1) {
                allocation.touched.set(at / 32, 1);
            }
        }
        self.count_bulk(warp, bytes, sectors.len());
        let mut job = StoreJob { group, cta: warp.cta, pieces, reduce, data: None, read_waited: false };
        if self.settings.policy == Policy::Eager {
            self.read_source(&mut job);
            self.write_target(&mut job);
        }
        warp.bulk.get_mut(&lane).expect("inserted above").stores.push(job);
        Ok(())
    }

    fn read_source(&mut self, job: &mut StoreJob) {
        let bytes = &self.ctas[job.cta].shared.block.bytes;
        let read = |piece: &Piece| bytes[piece.offset..piece.offset + piece.size].to_vec();
        job.data.get_or_insert_with(|| job.pieces.iter().map(read).collect());
    }

    fn write_target(&mut self, job: &mut StoreJob) {
        let pieces = std::mem::take(&mut job.pieces);
        for (piece, data) in pieces.iter().zip(job.data.iter().flatten()) {
            let address = piece.global.expect("stores keep only these");
            let Some((allocation, at)) = self.global.find(address, piece.size) else { continue };
            let mut data = data.clone();
            if let Some((op, ty)) = job.reduce {
                let size = ty.size() as usize;
                for (new, old) in data.chunks_exact_mut(size).zip(allocation.block.bytes[at..].chunks_exact(size)) {
                    let word = |bytes: &[u8]| {
                        let mut word = [0; 8];
                        word[..bytes.len()].copy_from_slice(bytes);
                        u64::from_le_bytes(word)
                    };
                    let sum = combine(op, ty, word(old), word(new));
                    new.copy_from_slice(&sum.to_le_bytes()[..size]);
                }
            }
            allocation.block.write(at, &data);
        }
    }

    pub(super) fn bulk_commit(&mut self, warp: &mut Warp, active: u32) {
        for (_, stores) in warp.bulk.iter_mut().filter(|(lane, _)| active >> **lane & 1 != 0) {
            stores.committed += 1;
        }
    }

    pub(super) fn bulk_wait(&mut self, warp: &mut Warp, pending: u32, read: bool, active: u32) {
        let mut bulk = std::mem::take(&mut warp.bulk);
        for (_, stores) in bulk.iter_mut().filter(|(lane, _)| active >> **lane & 1 != 0) {
            let done = stores.committed.saturating_sub(pending);
            for job in stores.stores.iter_mut().filter(|j| j.group < done) {
                self.read_source(job);
                job.read_waited = true;
                if !read {
                    self.write_target(job);
                }
            }
            if !read {
                stores.stores.retain(|job| job.group >= done);
            }
            self.clocks.learn(warp.actor(), stores.actor, done);
        }
        warp.bulk = bulk;
    }

    /// The last warp of a CTA leaves: no load may still use its shared memory.
    pub(super) fn finish_loads(&mut self, warp: &Warp) -> Checked {
        let cta = warp.cta;
        let uses = |l: &Landing| l.from == Some(cta) || l.writes.iter().any(|(to, ..)| *to == cta);
        if self.landings.iter().any(uses) {
            let message = "the CTA leaves while a bulk copy still reads or writes its shared memory";
            return accuse(Kind::Sync, None, message);
        }
        Ok(())
    }

    /// A warp leaves: its stores must have read the shared memory that may now vanish; they still write.
    pub(super) fn finish_stores(&mut self, warp: &mut Warp) -> Checked {
        for (lane, mut stores) in std::mem::take(&mut warp.bulk) {
            for mut job in stores.stores.drain(..) {
                if !job.read_waited {
                    let message = "the lane leaves while its bulk store may still read shared memory; \
                                   cp.async.bulk.wait_group.read must come before";
                    return accuse(Kind::Sync, lane, message);
                }
                self.write_target(&mut job);
            }
        }
        Ok(())
    }
}
