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
    check::{Actor, Checked, Event, Kind, Proxy, Touch, Who, accuse, judge},
    ir::{Accumulator, Element, Op, Wgmma, WgmmaA},
    regs::{LANES, Slot},
    tensor::{Number, accumulate, descriptor::Descriptor, fragment},
    window,
};

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
    /// Rows of registers that they own, a bit each.
    owned: Vec<u64>,
}

impl Products {
    #[inline]
    pub fn under_way(&self) -> bool {
        !self.flying.is_empty()
    }

    fn own(&mut self, wgmma: &Wgmma) {
        let a = match &wgmma.a {
            WgmmaA::Registers(slots) => &slots[..],
            WgmmaA::Descriptor(_) => &[],
        };
        for Slot(row) in wgmma.d.iter().chain(a) {
            let (word, bit) = (*row as usize / 64, row % 64);
            self.owned.resize(self.owned.len().max(word + 1), 0);
            self.owned[word] |= 1 << bit;
        }
    }

    fn owns(&self, Slot(row): Slot) -> bool {
        self.owned.get(row as usize / 64).is_some_and(|word| word >> (row % 64) & 1 != 0)
    }
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
            let message = "no wgmma.fence lies between this product and what may have touched its registers before";
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
            warp.products.own(wgmma);
            warp.splits().filter(|s| s.wait == Some(Wait::Warpgroup)).for_each(|s| s.wait = None);
        }
        let count = &mut self.counts.by_instruction[issue.pc as usize];
        count.matrix_fma += (64 * wgmma.n * k_of(wgmma)) as u64;
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
            None => *self.ctas[cta].warpgroups[group].actor.insert(self.clocks.add(Who::Products { warpgroup: group })),
        };
        let init = self.settings.checks.init;
        // Each of the four must know of the writes that it reads.
        let mut known = self.clocks.of(members[0] as Actor).clone();
        members[1..].iter().for_each(|member| known.meet(self.clocks.of(*member as Actor)));
        for matrix in Self::operands(wgmma, issue) {
            if let Some(why) = matrix.descriptor.refusal() {
                return accuse(Kind::Memory, None, format!("matrix descriptor: {why}"));
            }
            let mut places = vec![];
            for chunk in matrix.chunks() {
                let offset = self.shared_at(cta, chunk.address.into(), 16, None)?.offset;
                places.push(Touch { offset, size: 16, lane: None, lanes: 0 });
                let shared = &self.ctas[cta].shared.block;
                if init && !shared.written.all(offset, 16) {
                    let message = format!("shared address {:#x}: multiplied before it is written", chunk.address);
                    return accuse(Kind::Init, None, message);
                }
            }
            let Self { ctas, clocks, kernel, .. } = self;
            let Some(races) = &mut ctas[cta].races else { continue };
            // Time of a group: its number from 1.
            let (time, proxy) = (issue.group + 1, Proxy::Async);
            let event =
                Event { actor, time, proxy, strong: None, cta: 0, warp: None, lanes: 0, known: &known, pc: issue.pc };
            judge(races, clocks, |pc| kernel.code[pc as usize].line, event, false, places)?;
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
        let first = self.ctas[cta].warps.start + 4 * group;
        let matrices = Self::operands(wgmma, issue);
        let bytes = &self.ctas[cta].shared.block.bytes;
        if wgmma.accumulator == Accumulator::S32 {
            let operands = dense_operands::<i32>(bytes, wgmma, &matrices);
            (0..4).for_each(|w| multiply(self.member(running, first + w), wgmma, issue, w, &operands));
        } else {
            let operands = dense_operands::<f32>(bytes, wgmma, &matrices);
            (0..4).for_each(|w| multiply(self.member(running, first + w), wgmma, issue, w, &operands));
        }
        Ok(())
    }

    pub(super) fn wgmma_commit(&mut self, warp: &mut Warp, active: u32) -> Checked {
        self.whole_warp(active)?;
        warp.products.committed += 1;
        Ok(())
    }

    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt"))]
    pub(super) fn wgmma_wait(&mut self, warp: &mut Warp, pending: u32, active: u32) -> Checked {
        self.whole_warp(active)?;
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
        warp.products.owned.fill(0);
        for (_, pc) in warp.products.flying.clone() {
            if let Op::Wgmma(wgmma) = &self.kernel.code[pc as usize].op {
                warp.products.own(wgmma);
            }
        }
        Ok(())
    }

    /// Refuses an instruction that touches a register of a product under way.
    pub(super) fn check_owned(&self, warp: &Warp, pc: usize) -> Checked {
        if matches!(self.kernel.code[pc].op, Op::Wgmma(_)) {
            return Ok(());
        }
        if self.kernel.touches[pc].iter().any(|slot| warp.products.owns(*slot)) {
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

/// Length of the product along K.
fn k_of(wgmma: &Wgmma) -> usize {
    32 / wgmma.a_type.size()
}

/// B as K rows of N, and A as K rows of 64 when it lies in shared memory.
#[inline(always)]
fn dense_operands<T: Number>(bytes: &[u8], wgmma: &Wgmma, matrices: &[Matrix]) -> (Vec<T>, Option<Vec<T>>) {
    (dense(bytes, &matrices[0], wgmma.negate_b), matrices.get(1).map(|matrix| dense(bytes, matrix, wgmma.negate_a)))
}

/// A matrix as K rows of its lines.
#[inline(always)]
fn dense<T: Number>(bytes: &[u8], matrix: &Matrix, negate: bool) -> Vec<T> {
    let mut out = vec![T::default(); matrix.lines * (32 / matrix.element.size())];
    let step = if matrix.transposed { 1 } else { matrix.lines };
    for chunk in matrix.chunks() {
        let from = (chunk.address - window::SHARED_BASE) as usize;
        let mut at = chunk.line + chunk.k * matrix.lines;
        T::read(matrix.element, &bytes[from..from + 16], negate, |value| {
            out[at] = value;
            at += step;
        });
    }
    out
}

/// Adds the product for one of the four warps.
#[inline(always)]
fn multiply<T: Number>(
    warp: &mut Warp,
    wgmma: &Wgmma,
    issue: Issue,
    quarter: usize,
    (b, a): &(Vec<T>, Option<Vec<T>>),
) {
    let (n, k) = (wgmma.n, k_of(wgmma));
    let packed = wgmma.accumulator == Accumulator::F16;
    let mut c = vec![T::default(); 16 * n];
    if issue.scale_d {
        fragment::gather(&warp.regs, &wgmma.d, packed, n, &mut c);
    }
    let mut own = vec![T::default(); 16 * k];
    match (&wgmma.a, a) {
        (WgmmaA::Registers(slots), _) => {
            for (register, slot) in slots.iter().enumerate() {
                fragment::gather_a(warp.regs.row(*slot), register, wgmma.a_type, &mut own);
            }
            if wgmma.negate_a {
                own.iter_mut().for_each(|x| *x = x.negated());
            }
        }
        (WgmmaA::Descriptor(_), a) => {
            let all = a.as_ref().expect("A lies in shared memory");
            for (own, all) in own.chunks_exact_mut(16).zip(all.chunks_exact(64)) {
                own.copy_from_slice(&all[16 * quarter..][..16]);
            }
        }
    }
    accumulate(&mut c, &own, b, 16, n);
    fragment::scatter(&c, packed, n, &wgmma.d, &mut warp.regs);
}
