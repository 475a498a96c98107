//! What the lanes of a warp move between memory and registers: bytes to rows of words and back.

use super::access::{Access, Spread};
use crate::{
    ir::Elements,
    mem::Block,
    regs::{LANES, Regs, lanes},
    types::Ty,
};

/// Up to four words of each lane, a row for each word of each element.
pub(super) type Words = [[u32; LANES]; 4];

/// Bytes within which it is quicker to look at all marks of an extent than at those of each lane.
const NEAR: usize = 4096;

/// Reads from a block that holds all that the lanes ask for, the lowest byte of it at `at`. With `init`, Err names the
/// first lane that reads what nothing has written.
#[inline(always)]
pub(super) fn read(
    block: &Block,
    at: usize,
    access: &Access,
    ty: Ty,
    init: bool,
    words: &mut Words,
) -> Result<(), usize> {
    let (low, span) = access.extent();
    let bytes = &block.bytes[at..at + span];
    let place = |lane: usize| (access.addresses[lane] - low) as usize;
    if init && !(span <= NEAR && block.written.all(at, span)) {
        let written = |lane: &usize| block.written.all(at + place(*lane), access.size);
        if let Some(lane) = lanes(access.active).find(|lane| !written(lane)) {
            return Err(lane);
        }
    }
    match access.spread {
        Spread::Row => match (ty.size(), access.size) {
            (2, 2) => halves(bytes, ty, words),
            (4 | 8, 4) => from_row::<1>(bytes, words),
            (4 | 8, 8) => from_row::<2>(bytes, words),
            (4 | 8, _) => from_row::<4>(bytes, words),
            _ => bytes.chunks_exact(access.size).enumerate().for_each(|(lane, bytes)| take(bytes, ty, words, lane)),
        },
        Spread::Same => {
            take(bytes, ty, words, 0);
            words.iter_mut().for_each(|row| *row = [row[0]; LANES]);
        }
        Spread::Apart => match (ty.size(), access.size) {
            (4 | 8, 4) => lanes(access.active).for_each(|l| gather::<1>(bytes, place(l), words, l)),
            (4 | 8, 8) => lanes(access.active).for_each(|l| gather::<2>(bytes, place(l), words, l)),
            (4 | 8, _) => lanes(access.active).for_each(|l| gather::<4>(bytes, place(l), words, l)),
            _ => lanes(access.active).for_each(|l| take(&bytes[place(l)..][..access.size], ty, words, l)),
        },
    }
    Ok(())
}

/// Writes to a block that holds all that the lanes write, the lowest byte of it at `at`.
#[inline(always)]
pub(super) fn write(block: &mut Block, at: usize, access: &Access, ty: Ty, words: &Words) {
    let (low, span) = access.extent();
    let bytes = &mut block.bytes[at..at + span];
    if access.spread == Spread::Row {
        match (ty.size(), access.size) {
            (2, 2) => {
                for (chunk, word) in bytes[..2 * LANES].chunks_exact_mut(2).zip(&words[0]) {
                    chunk.copy_from_slice(&(*word as u16).to_le_bytes());
                }
            }
            (4 | 8, 4) => to_row::<1>(words, bytes),
            (4 | 8, 8) => to_row::<2>(words, bytes),
            (4 | 8, _) => to_row::<4>(words, bytes),
            _ => {
                for (lane, chunk) in bytes.chunks_exact_mut(access.size).enumerate() {
                    chunk.copy_from_slice(&give(ty, words, lane)[..access.size]);
                }
            }
        }
        block.written.set(at, span);
        return;
    }
    let place = |lane: usize| (access.addresses[lane] - low) as usize;
    match (ty.size(), access.size) {
        (4 | 8, 4) => lanes(access.active).for_each(|l| scatter::<1>(bytes, place(l), words, l)),
        (4 | 8, 8) => lanes(access.active).for_each(|l| scatter::<2>(bytes, place(l), words, l)),
        (4 | 8, _) => lanes(access.active).for_each(|l| scatter::<4>(bytes, place(l), words, l)),
        _ => lanes(access.active).for_each(|l| put(&mut bytes[place(l)..], access.size, &give(ty, words, l))),
    }
    if !(span <= NEAR && block.written.all(at, span)) {
        lanes(access.active).for_each(|lane| block.written.set(at + place(lane), access.size));
    }
}

/// Copies of constant length are moves; of a variable one, calls.
#[inline(always)]
pub(super) fn put(to: &mut [u8], size: usize, data: &[u8; 16]) {
    match size {
        1 => to[0] = data[0],
        2 => to[..2].copy_from_slice(&data[..2]),
        4 => to[..4].copy_from_slice(&data[..4]),
        8 => to[..8].copy_from_slice(&data[..8]),
        _ => to[..16].copy_from_slice(data),
    }
}

/// W words of each lane from lanes that lie next to each other.
#[inline(always)]
fn from_row<const W: usize>(bytes: &[u8], words: &mut Words) {
    let bytes = &bytes[..LANES * 4 * W];
    for lane in 0..LANES {
        for word in 0..W {
            let at = 4 * (lane * W + word);
            words[word][lane] = u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        }
    }
}

#[inline(always)]
fn to_row<const W: usize>(words: &Words, bytes: &mut [u8]) {
    let bytes = &mut bytes[..LANES * 4 * W];
    for lane in 0..LANES {
        for word in 0..W {
            bytes[4 * (lane * W + word)..][..4].copy_from_slice(&words[word][lane].to_le_bytes());
        }
    }
}

/// One 16-bit element of each lane.
#[inline(always)]
fn halves(bytes: &[u8], ty: Ty, words: &mut Words) {
    let bytes = &bytes[..LANES * 2];
    for lane in 0..LANES {
        words[0][lane] = extend16(u16::from_le_bytes([bytes[2 * lane], bytes[2 * lane + 1]]), ty);
    }
}

#[inline(always)]
fn gather<const W: usize>(bytes: &[u8], at: usize, words: &mut Words, lane: usize) {
    let bytes = &bytes[at..at + 4 * W];
    for word in 0..W {
        words[word][lane] = u32::from_le_bytes(bytes[4 * word..][..4].try_into().expect("4 bytes"));
    }
}

#[inline(always)]
fn scatter<const W: usize>(bytes: &mut [u8], at: usize, words: &Words, lane: usize) {
    let bytes = &mut bytes[at..at + 4 * W];
    for word in 0..W {
        bytes[4 * word..][..4].copy_from_slice(&words[word][lane].to_le_bytes());
    }
}

#[inline(always)]
fn extend16(value: u16, ty: Ty) -> u32 {
    if ty.signed() { value as i16 as u32 } else { value.into() }
}

#[inline(always)]
fn extend8(value: u8, ty: Ty) -> u32 {
    if ty.signed() { value as i8 as u32 } else { value.into() }
}

/// Spreads a lane's bytes over the rows of its elements, extending narrow ones.
#[inline(always)]
pub(super) fn take(bytes: &[u8], ty: Ty, words: &mut Words, lane: usize) {
    match ty.size() {
        2 => {
            for (row, chunk) in words.iter_mut().zip(bytes.chunks_exact(2)) {
                row[lane] = extend16(u16::from_le_bytes([chunk[0], chunk[1]]), ty);
            }
        }
        1 => words.iter_mut().zip(bytes).for_each(|(row, byte)| row[lane] = extend8(*byte, ty)),
        _ => {
            for (row, chunk) in words.iter_mut().zip(bytes.chunks_exact(4)) {
                row[lane] = u32::from_le_bytes(chunk.try_into().expect("chunks of 4"));
            }
        }
    }
}

/// A lane's bytes from the rows of its elements.
#[inline(always)]
pub(super) fn give(ty: Ty, words: &Words, lane: usize) -> [u8; 16] {
    let mut bytes = [0; 16];
    match ty.size() {
        2 => {
            for (chunk, row) in bytes.chunks_exact_mut(2).zip(words) {
                chunk.copy_from_slice(&(row[lane] as u16).to_le_bytes());
            }
        }
        1 => bytes.iter_mut().zip(words).for_each(|(byte, row)| *byte = row[lane] as u8),
        _ => {
            for (chunk, row) in bytes.chunks_exact_mut(4).zip(words) {
                chunk.copy_from_slice(&row[lane].to_le_bytes());
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
