//! `wgmma`: products that the four warps of a warpgroup issue together and wait for in groups.
//!
//! The product's reads of shared memory are events of an actor of the warpgroup, and each of the four warps must know
//! what it reads; they are ordered before a warp only once it has waited for their group. Accumulators, and registers
//! of A, belong to the product until then. Under `Lazy` the product itself is computed at that wait.

use super::{
    Policy, World,
    interpret::Flow,
    warp::{Wait, Warp},
};
use crate::{
    alu::packed::f16_nearest,
    check::{Actor, Checked, Event, Kind, Proxy, accuse, report},
    ir::{Accumulator, Element, Op, Wgmma, WgmmaA},
    regs::{LANES, Slot},
    tensor::{self, descriptor::Descriptor, fragment},
    window,
};
use half::f16;

/// The products of four warps.
#[derive(Debug, Default)]
pub struct Warpgroup {
    actor: Option<Actor>,
    /// Warps that stand at the next product, and what they bring.
    arrived: Vec<(usize, Issue)>,
    /// Issued and, under `Lazy`, not computed.
    jobs: Vec<(u32, Issue)>,
    /// `setmaxnreg`, once it has been executed.
    pub registers: Option<u32>,
}

/// One product as it is issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Issue {
    pc: u32,
    a: u64,
    b: u64,
    scale_d: bool,
    /// Groups that the warp has committed.
    group: u32,
}

/// A warp's part in the products of its warpgroup.
#[derive(Debug, Default)]
pub struct Products {
    committed: u32,
    /// Group and instruction of products that have not been waited for.
    flying: Vec<(u32, u32)>,
    /// Rows of registers that they own.
    pub owned: Vec<Slot>,
}

/// The sixteen bytes of a matrix that a chunk holds: from this line and place along K.
struct Chunk {
    address: u32,
    line: usize,
    k: usize,
}

/// A matrix operand in shared memory.
struct Matrix {
    descriptor: Descriptor,
    lines: usize,
    element: Element,
    /// M or N is contiguous.
    transposed: bool,
}

impl Matrix {
    fn chunks(&self) -> Vec<Chunk> {
        let per_chunk = 16 / self.element.size();
        let k_length = 32 / self.element.size();
        let mut chunks = vec![];
        if self.transposed {
            for k in 0..k_length {
                for line in (0..self.lines).step_by(8) {
                    chunks.push(Chunk { address: self.descriptor.mn_major(line, k), line, k });
                }
            }
        } else {
            for line in 0..self.lines {
                for half in 0..2 {
                    let address = self.descriptor.k_major(line, half * 16);
                    chunks.push(Chunk { address, line, k: half * per_chunk });
                }
            }
        }
        chunks
    }
}

impl World<'_> {
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt"))]
    pub(super) fn wgmma(&mut self, warp: &mut Warp, wgmma: &Wgmma, active: u32) -> Checked<Flow> {
        self.whole_warp(active)?;
        if wgmma.unfenced {
            let message = "a register of the product may have been written since the last wgmma.fence";
            return accuse(Kind::Race, None, message);
        }
        let (cta, group) = (warp.cta, warp.number as usize / 4);
        if self.ctas[cta].warps.len() < 4 * group + 4 {
            return accuse(Kind::Sync, None, "the warpgroup has fewer than four warps");
        }
        let descriptor = |slot: Slot| {
            let values: [u64; LANES] = warp.regs.get(slot);
            match values.iter().all(|v| *v == values[0]) {
                true => Ok(values[0]),
                false => accuse(Kind::Sync, None, "the matrix descriptor differs among lanes"),
            }
        };
        let (scale, negated) = wgmma.scale_d;
        let scale = warp.regs.mask(scale) ^ if negated { u32::MAX } else { 0 };
        if scale != 0 && scale != u32::MAX {
            return accuse(Kind::Sync, None, "scale-d differs among lanes");
        }
        let issue = Issue {
            pc: warp.split.pc,
            a: if let WgmmaA::Descriptor(slot) = wgmma.a { descriptor(slot)? } else { 0 },
            b: descriptor(wgmma.b)?,
            scale_d: scale != 0,
            group: warp.products.committed,
        };
        let warpgroup = &mut self.ctas[cta].warpgroups[group];
        if let Some((other, first)) = warpgroup.arrived.first()
            && *first != issue
        {
            let message = format!("warp {other} of the warpgroup issues another product, or with other descriptors");
            return accuse(Kind::Sync, None, message);
        }
        warpgroup.arrived.push((warp.index, issue));
        if warpgroup.arrived.len() < 4 {
            return Ok(Flow::Wait(Wait::Warpgroup));
        }
        let members: Vec<usize> = std::mem::take(&mut warpgroup.arrived).into_iter().map(|(w, _)| w).collect();
        self.read_operands(warp, wgmma, issue, &members)?;
        for index in members {
            let warp = self.member(warp, index);
            warp.products.flying.push((issue.group, issue.pc));
            warp.products.owned.extend_from_slice(&wgmma.d);
            if let WgmmaA::Registers(slots) = wgmma.a {
                warp.products.owned.extend_from_slice(&slots);
            }
            warp.splits().filter(|s| s.wait == Some(Wait::Warpgroup)).for_each(|s| s.wait = None);
        }
        let count = &mut self.counts.by_instruction[issue.pc as usize];
        count.matrix_fma += (64 * wgmma.n * (32 / wgmma.a_type.size())) as u64;
        match self.settings.policy {
            Policy::Eager => self.compute(warp, issue),
            Policy::Lazy => {
                self.ctas[cta].warpgroups[group].jobs.push((issue.group, issue));
                Ok(())
            }
        }?;
        Ok(Flow::Next)
    }

    /// A warp by its index, which may be the running one.
    fn member<'w>(&'w mut self, running: &'w mut Warp, index: usize) -> &'w mut Warp {
        if running.index == index { running } else { self.warps[index].as_mut().expect("only one warp runs") }
    }

    fn operands(wgmma: &Wgmma, issue: Issue) -> Vec<Matrix> {
        let descriptor = Descriptor::decode(issue.b);
        let transposed = wgmma.b_transposed;
        let b = Matrix { descriptor, lines: wgmma.n, element: wgmma.b_type, transposed };
        match wgmma.a {
            WgmmaA::Registers(_) => vec![b],
            WgmmaA::Descriptor(_) => {
                let descriptor = Descriptor::decode(issue.a);
                let transposed = wgmma.a_transposed;
                vec![b, Matrix { descriptor, lines: 64, element: wgmma.a_type, transposed }]
            }
        }
    }

    /// Checks what the product reads in shared memory.
    fn read_operands(&mut self, running: &mut Warp, wgmma: &Wgmma, issue: Issue, members: &[usize]) -> Checked {
        let (cta, group) = (running.cta, running.number as usize / 4);
        let actor = match self.ctas[cta].warpgroups[group].actor {
            Some(actor) => actor,
            None => {
                let name = format!("a wgmma of warpgroup {group}");
                *self.ctas[cta].warpgroups[group].actor.insert(self.clocks.add(name))
            }
        };
        let init = self.settings.checks.init;
        let race = self.settings.checks.race;
        for matrix in Self::operands(wgmma, issue) {
            if let Some(why) = matrix.descriptor.refusal() {
                return accuse(Kind::Memory, None, format!("matrix descriptor: {why}"));
            }
            for chunk in matrix.chunks() {
                let offset = self.shared_at(cta, chunk.address.into(), 16, None)?.offset;
                let shared = &self.ctas[cta].shared.block;
                if init && !shared.written.all(offset, 16) {
                    let message = format!("shared address {:#x}: multiplied before it is written", chunk.address);
                    return accuse(Kind::Init, None, message);
                }
                if !race {
                    continue;
                }
                for member in members {
                    let known = self.clocks.of(*member as Actor);
                    // Time of a group: its number from 1.
                    let (time, proxy) = (issue.group + 1, Proxy::Async);
                    let event = Event { actor, time, proxy, strong: false, known, pc: issue.pc };
                    let races = self.ctas[cta].races.as_mut().expect("racecheck is on");
                    races.read(offset, 16, event).or_else(|conflict| {
                        let what = format!("shared address {:#x}", offset as u32 + window::SHARED_BASE);
                        report(&conflict, &self.clocks, |pc| self.kernel.code[pc as usize].line, &what, None)
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Computes a product for the four warps.
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt"))]
    fn compute(&mut self, running: &mut Warp, issue: Issue) -> Checked {
        let kernel = self.kernel;
        let Op::Wgmma(wgmma) = &kernel.code[issue.pc as usize].op else {
            unreachable!("products are issued by wgmma instructions");
        };
        let (cta, group) = (running.cta, running.number as usize / 4);
        let (n, k) = (wgmma.n, 32 / wgmma.a_type.size());
        let matrices = Self::operands(wgmma, issue);
        let first = self.ctas[cta].warps.start + 4 * group;
        let packed = wgmma.accumulator == Accumulator::F16;
        let integers = wgmma.accumulator == Accumulator::S32;
        let bytes = &self.ctas[cta].shared.block.bytes;
        let sign = |negative: bool| if negative { -1.0 } else { 1.0 };
        let float = |element, scale: f32| move |bits| scale * tensor::number(element, bits);
        let integer = |element| move |bits| tensor::integer(element, bits);
        let (mut b, mut b_int) = (vec![], vec![]);
        let (mut a, mut a_int) = (vec![], vec![]);
        if integers {
            b_int = dense(bytes, &matrices[0], n, 1, integer(wgmma.b_type));
            if let Some(matrix) = matrices.get(1) {
                a_int = dense(bytes, matrix, 1, k, integer(wgmma.a_type));
            }
        } else {
            b = dense(bytes, &matrices[0], n, 1, float(wgmma.b_type, sign(wgmma.negate_b)));
            if let Some(matrix) = matrices.get(1) {
                a = dense(bytes, matrix, 1, k, float(wgmma.a_type, sign(wgmma.negate_a)));
            }
        }
        for quarter in 0..4 {
            let warp = self.member(running, first + quarter);
            let rows: Vec<[u32; LANES]> = wgmma.d.iter().map(|s| *warp.regs.row(*s)).collect();
            let lines = 16 * quarter * k..16 * (quarter + 1) * k;
            let out = if integers {
                let a = match wgmma.a {
                    WgmmaA::Registers(slots) => from_registers(warp, slots, wgmma.a_type, k, integer(wgmma.a_type)),
                    WgmmaA::Descriptor(_) => a_int[lines].to_vec(),
                };
                let mut sums = fragment::gather(&rows, n, false, |w| w as i32, |_| 0);
                if !issue.scale_d {
                    sums.fill(0);
                }
                for (row, a) in sums.chunks_exact_mut(n).zip(a.chunks_exact(k)) {
                    tensor::accumulate_integers(row, a, &b_int);
                }
                fragment::scatter(&sums, n, rows.len(), false, |v| v as u32, |_| 0)
            } else {
                let a = match wgmma.a {
                    WgmmaA::Registers(slots) => {
                        let number = float(wgmma.a_type, sign(wgmma.negate_a));
                        from_registers(warp, slots, wgmma.a_type, k, number)
                    }
                    WgmmaA::Descriptor(_) => a[lines].to_vec(),
                };
                let mut sums = fragment::gather(&rows, n, packed, f32::from_bits, |h| f16::from_bits(h).to_f32());
                if !issue.scale_d {
                    sums.fill(0.0);
                }
                for (row, a) in sums.chunks_exact_mut(n).zip(a.chunks_exact(k)) {
                    tensor::accumulate(row, a, &b);
                }
                fragment::scatter(&sums, n, rows.len(), packed, f32::to_bits, |v| f16_nearest(v).to_bits())
            };
            for (slot, words) in wgmma.d.iter().zip(&out) {
                *warp.regs.row_mut(*slot) = *words;
            }
        }
        Ok(())
    }

    pub(super) fn wgmma_commit(&mut self, warp: &mut Warp) {
        warp.products.committed += 1;
    }

    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt"))]
    pub(super) fn wgmma_wait(&mut self, warp: &mut Warp, pending: u32) -> Checked {
        let done = warp.products.committed.saturating_sub(pending);
        let (cta, group) = (warp.cta, warp.number as usize / 4);
        if let Some(warpgroup) = self.ctas[cta].warpgroups.get_mut(group) {
            let ready: Vec<(u32, Issue)> = warpgroup.jobs.extract_if(.., |(group, _)| *group < done).collect();
            if let Some(actor) = warpgroup.actor {
                self.clocks.learn(warp.actor(), actor, done);
            }
            for (_, issue) in ready {
                self.compute(warp, issue)?;
            }
        }
        warp.products.flying.retain(|(group, _)| *group >= done);
        warp.products.owned.clear();
        for (_, pc) in &warp.products.flying {
            if let Op::Wgmma(wgmma) = &self.kernel.code[*pc as usize].op {
                warp.products.owned.extend_from_slice(&wgmma.d);
                if let WgmmaA::Registers(slots) = wgmma.a {
                    warp.products.owned.extend_from_slice(&slots);
                }
            }
        }
        Ok(())
    }

    /// Refuses an instruction that touches a register of a product under way.
    pub(super) fn check_owned(&self, warp: &Warp, pc: usize) -> Checked {
        if matches!(self.kernel.code[pc].op, Op::Wgmma(_)) {
            return Ok(());
        }
        if self.kernel.touches[pc].iter().any(|slot| warp.products.owned.contains(slot)) {
            let (_, product) = warp.products.flying[0];
            let line = self.kernel.code[product as usize].line;
            let message = format!("a register of the wgmma at PTX line {line} or after it, which is not waited for");
            return accuse(Kind::Race, None, message);
        }
        Ok(())
    }

    /// `setmaxnreg`: the warpgroups of a CTA share 64 Ki registers.
    pub(super) fn set_max_registers(&mut self, warp: &Warp, count: u32, active: u32) -> Checked {
        self.whole_warp(active)?;
        let (cta, group) = (warp.cta, warp.number as usize / 4);
        let groups = &mut self.ctas[cta].warpgroups;
        let Some(warpgroup) = groups.get_mut(group) else {
            return accuse(Kind::Sync, None, "the warpgroup has fewer than four warps");
        };
        warpgroup.registers = Some(count);
        let asked: u32 = groups.iter().filter_map(|g| g.registers).sum();
        if groups.iter().all(|g| g.registers.is_some()) && asked * 128 > 1 << 16 {
            let message = format!("the warpgroups ask for {} registers in all: a CTA has {}", asked * 128, 1 << 16);
            return accuse(Kind::Sync, None, message);
        }
        Ok(())
    }
}

/// A matrix as numbers; `along_k` and `along_line` are the distances of neighbours.
#[inline(always)]
fn dense<T: Copy + Default>(
    bytes: &[u8],
    matrix: &Matrix,
    along_k: usize,
    along_line: usize,
    number: impl Fn(u32) -> T,
) -> Vec<T> {
    let size = matrix.element.size();
    let mut out = vec![T::default(); matrix.lines * (32 / size)];
    let step = if matrix.transposed { along_line } else { along_k };
    for chunk in matrix.chunks() {
        let from = (chunk.address - window::SHARED_BASE) as usize;
        let mut at = chunk.line * along_line + chunk.k * along_k;
        for element in bytes[from..from + 16].chunks_exact(size) {
            let mut word = [0; 4];
            word[..size].copy_from_slice(element);
            out[at] = number(u32::from_le_bytes(word));
            at += step;
        }
    }
    out
}

/// Sixteen rows of A from a warp's registers.
#[inline(always)]
fn from_registers<T: Copy + Default>(
    warp: &Warp,
    slots: [Slot; 4],
    element: Element,
    k: usize,
    number: impl Fn(u32) -> T,
) -> Vec<T> {
    let per_register = 4 / element.size();
    let mut out = vec![T::default(); 16 * k];
    for (register, slot) in slots.iter().enumerate() {
        for (lane, word) in warp.regs.row(*slot).iter().enumerate() {
            let (row, column) = fragment::a(lane, register, per_register);
            for i in 0..per_register {
                out[row * k + column + i] = number(fragment::part(*word, i, per_register));
            }
        }
    }
    out
}
