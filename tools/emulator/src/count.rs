//! Exact counts of what a launch does, for each instruction and summed by source line.
//!
//! They are the textbook models: a warp's access to global memory moves the distinct 32-byte sectors it touches, one to
//! shared memory takes as many wavefronts as the busiest of 32 four-byte banks has distinct words. They say nothing
//! about caches, latency or overlap, and PTX instructions are not machine instructions.

use crate::{ir::Kernel, parse::Line};
use std::{collections::BTreeMap, ops::AddAssign};

/// What one instruction, one line or one launch did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Instructions issued by warps, and by their active lanes.
    pub warps: u64,
    pub lanes: u64,
    /// Branches that divided a warp.
    pub divergent: u64,
    /// Loads, stores and atomics of global memory: lane bytes and 32-byte sectors.
    pub global_requests: u64,
    pub global_bytes: u64,
    pub global_sectors: u64,
    /// Shared memory, asynchronous copies into it included: accesses, wavefronts, and the fewest that would do.
    pub shared_requests: u64,
    pub shared_wavefronts: u64,
    pub shared_ideal: u64,
    /// Bytes moved by cp.async and by bulk copies, both ways.
    pub async_bytes: u64,
    /// Multiply-adds of matrix instructions.
    pub matrix_fma: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.warps += other.warps;
        self.lanes += other.lanes;
        self.divergent += other.divergent;
        self.global_requests += other.global_requests;
        self.global_bytes += other.global_bytes;
        self.global_sectors += other.global_sectors;
        self.shared_requests += other.shared_requests;
        self.shared_wavefronts += other.shared_wavefronts;
        self.shared_ideal += other.shared_ideal;
        self.async_bytes += other.async_bytes;
        self.matrix_fma += other.matrix_fma;
    }
}

/// Kinds of instructions, in the terms of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    Integer,
    Float,
    /// Reciprocals, roots, exponentials, logarithms, sines.
    Special,
    Convert,
    Compare,
    Move,
    Control,
    GlobalMemory,
    SharedMemory,
    OtherMemory,
    Atomic,
    Warp,
    Barrier,
    Async,
    Matrix,
}

impl Class {
    /// The class of an opcode.
    pub fn of(opcode: &str) -> Self {
        let mut parts = opcode.split('.');
        let head = parts.next().unwrap_or("");
        let has = |part: &str| opcode.split('.').any(|p| p == part);
        let float = ["f32", "f64", "f16", "bf16", "f16x2", "bf16x2"].iter().any(|ty| opcode.ends_with(ty));
        match head {
            "mma" | "wgmma" => Class::Matrix,
            "bar" | "barrier" | "membar" | "fence" | "mbarrier" => Class::Barrier,
            "cp" => Class::Async,
            "atom" | "red" => Class::Atomic,
            "ld" | "st" | "ldmatrix" | "stmatrix" => match opcode {
                _ if opcode.contains("shared") => Class::SharedMemory,
                _ if has("param") || has("local") || has("const") => Class::OtherMemory,
                _ => Class::GlobalMemory,
            },
            "shfl" | "vote" | "match" | "redux" | "elect" | "activemask" => Class::Warp,
            "bra" | "ret" | "exit" | "call" | "trap" => Class::Control,
            "setp" | "testp" => Class::Compare,
            "cvt" | "cvta" => Class::Convert,
            "mov" | "selp" | "mapa" => Class::Move,
            "rcp" | "sqrt" | "rsqrt" | "ex2" | "lg2" | "sin" | "cos" | "tanh" => Class::Special,
            "div" if float => Class::Special,
            _ if float => Class::Float,
            _ => Class::Integer,
        }
    }
}

/// Counts of one launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// For each instruction of the kernel.
    pub by_instruction: Vec<Count>,
    /// Bytes of the distinct sectors of global memory that the launch touched: what it must move at least.
    pub unique_bytes: u64,
}

impl Counts {
    pub fn new(instructions: usize) -> Self {
        Self { by_instruction: vec![Count::default(); instructions], unique_bytes: 0 }
    }

    pub fn total(&self) -> Count {
        let mut total = Count::default();
        self.by_instruction.iter().for_each(|c| total += *c);
        total
    }

    pub fn by_class(&self, kernel: &Kernel) -> BTreeMap<Class, Count> {
        let mut classes = BTreeMap::<Class, Count>::new();
        for (opcode, count) in kernel.opcodes.iter().zip(&self.by_instruction) {
            *classes.entry(Class::of(opcode)).or_default() += *count;
        }
        classes
    }

    pub fn by_line(&self, kernel: &Kernel) -> BTreeMap<Line, BTreeMap<Class, Count>> {
        let mut lines = BTreeMap::<Line, BTreeMap<Class, Count>>::new();
        for ((ins, opcode), count) in kernel.code.iter().zip(&kernel.opcodes).zip(&self.by_instruction) {
            if let Some(loc) = ins.loc {
                *lines.entry(loc.own).or_default().entry(Class::of(opcode)).or_default() += *count;
            }
        }
        lines
    }
}

/// Distinct 32-byte sectors among the active lanes' addresses; an aligned access of at most 16 bytes lies in one.
pub fn sectors(addresses: &[u64; 32], active: u32, mut visit: impl FnMut(u64)) -> u64 {
    let mut seen = [0u64; 32];
    let mut distinct = 0;
    let mut last = u64::MAX;
    let mut ascending = true;
    for lane in crate::regs::lanes(active) {
        let sector = addresses[lane] / 32;
        if sector == last {
            continue;
        }
        ascending &= last == u64::MAX || sector > last;
        last = sector;
        if ascending || !seen[..distinct].contains(&sector) {
            seen[distinct] = sector;
            distinct += 1;
            visit(sector * 32);
        }
    }
    distinct as u64
}

/// Wavefronts of one warp access to shared memory, and the fewest for as many distinct words. Lanes of 8 bytes go by
/// half warps, lanes of 16 by quarters.
pub fn wavefronts(addresses: &[u32; 32], active: u32, size: u32) -> (u64, u64) {
    let words = size.div_ceil(4);
    let group = 32 / words;
    let (mut fronts, mut ideal) = (0, 0);
    for first in (0..32).step_by(group as usize) {
        let lanes = active & (u32::MAX >> (32 - group)) << first;
        if lanes != 0 && apart(addresses, lanes, words) {
            (fronts, ideal) = (fronts + 1, ideal + 1);
        } else if lanes != 0 {
            let all = crate::regs::lanes(lanes).flat_map(|l| (0..words).map(move |w| addresses[l] / 4 + w));
            let (busiest, distinct) = busiest_bank(all);
            fronts += busiest;
            ideal += distinct.div_ceil(32);
        }
    }
    (fronts, ideal)
}

/// Whether no two lanes share a bank. Each takes `words` neighbouring banks, aligned to as many.
fn apart(addresses: &[u32; 32], lanes: u32, words: u32) -> bool {
    let (mut seen, mut shared) = (0u32, 0);
    for lane in crate::regs::lanes(lanes) {
        let banks = (u32::MAX >> (32 - words)) << (addresses[lane] / 4 % 32);
        shared |= seen & banks;
        seen |= banks;
    }
    shared == 0
}

/// The most distinct words in one bank, and the number of distinct words.
fn busiest_bank(words: impl Iterator<Item = u32>) -> (u64, u64) {
    const NONE: u32 = u32::MAX;
    let mut first = [NONE; 32];
    let mut more = [NONE; 32];
    let (mut distinct, mut extra) = (0, 0);
    for word in words {
        let bank = word as usize % 32;
        if first[bank] == NONE {
            first[bank] = word;
            distinct += 1;
        } else if first[bank] != word && !more[..extra].contains(&word) {
            more[extra] = word;
            extra += 1;
        }
    }
    let mut busy = [0u64; 32];
    more[..extra].iter().for_each(|word| busy[*word as usize % 32] += 1);
    let most = busy.iter().max().copied().unwrap_or(0);
    (u64::from(distinct > 0) + most, distinct + extra as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strided_access_moves_a_sector_for_each_lane() {
        let count = |stride: u64| sectors(&std::array::from_fn(|l| stride * l as u64), u32::MAX, |_| {});
        assert_eq!((count(4), count(8), count(32), count(0)), (4, 8, 32, 1));
        let scattered: [u64; 32] = std::array::from_fn(|l| [0, 64, 0, 96][l % 4]);
        assert_eq!(sectors(&scattered, u32::MAX, |_| {}), 3);
    }

    #[test]
    fn lanes_that_share_a_bank_take_turns() {
        let fronts = |stride: u32, size| wavefronts(&std::array::from_fn(|l| stride * l as u32), u32::MAX, size);
        assert_eq!(fronts(4, 4), (1, 1));
        assert_eq!(fronts(0, 4), (1, 1));
        assert_eq!(fronts(8, 4), (2, 1));
        assert_eq!(fronts(128, 4), (32, 1));
        assert_eq!(fronts(16, 16), (4, 4));
        assert_eq!(fronts(128, 16), (32, 4));
    }
}
