//! Running a launch: clusters one after another, the warps of a cluster in turns.
//!
//! CTAs run in order of their index, x fastest; within a cluster each runnable warp in order of its index runs until it
//! waits. So everything, sums by float atomics included, happens in one order and every run gives the same bits.

mod access;
mod atomic;
mod barrier;
mod bulk;
mod cluster;
mod compare;
mod copy;
mod global;
mod interpret;
mod lanes;
mod matrix;
mod mbarrier;
mod print;
mod shared;
mod special;
mod warp;
mod wgmma;
mod words;

use crate::{
    check::{Checks, Clocks, Constants, Fault, GlobalRaces, Kind, Races, Releases, Trouble, source},
    count::Counts,
    ir::{Ins, Kernel, Op},
    mem::{Global, Shared},
    regs::{LANES, Regs},
};
use barrier::NamedBarrier;
use bulk::Landing;
use cluster::{ClusterBarrier, Visit};
use std::collections::{BTreeMap, VecDeque};
use warp::{Wait, Warp};
use wgmma::Warpgroup;

/// What a predicate holds that is read before it is written: true and false in turns, so that neither is mistaken for meant.
const POISONED_MASK: u32 = 0xaaaa_aaaa;

/// Grid, block and cluster of a launch, and its dynamic shared memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub cluster: [u32; 3],
    pub dynamic_shared: u32,
}

/// When asynchronous work happens; see the crate's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// At once, where it is issued.
    Eager,
    /// At the last moment at which the program may still expect it.
    Lazy,
}

/// What a launch runs with.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub checks: Checks,
    pub policy: Policy,
    /// Most warp instructions that one launch may issue.
    pub limit: u64,
}

/// One CTA of the running cluster.
struct Cta {
    id: [u32; 3],
    shared: Shared,
    races: Option<Races>,
    barriers: [NamedBarrier; 16],
    warpgroups: Vec<Warpgroup>,
    /// Accesses of siblings' warps to its shared memory.
    visits: BTreeMap<usize, Visit>,
    /// Its warps among those of the cluster.
    warps: std::ops::Range<usize>,
}

/// Everything but the warp that runs.
pub struct World<'a> {
    kernel: &'a Kernel,
    files: &'a [(u32, String)],
    settings: Settings,
    launch: Launch,
    params: &'a [u8],
    global: &'a mut Global,
    counts: &'a mut Counts,
    /// What `printf` wrote.
    output: &'a mut String,
    ctas: Vec<Cta>,
    /// None: the warp is running.
    warps: Vec<Option<Box<Warp>>>,
    clocks: Clocks,
    global_races: Option<GlobalRaces>,
    /// What synchronising words pass on, where races are looked for.
    releases: Option<Releases>,
    /// What `ld.global.nc` has read, in kernels that have any.
    constants: Option<Constants>,
    /// Index of the running cluster in the grid.
    cluster: u32,
    cluster_barrier: ClusterBarrier,
    /// By CTA and offset in its shared memory.
    mbarriers: BTreeMap<(usize, usize), mbarrier::State>,
    /// Bulk loads under way, oldest first.
    landings: VecDeque<Landing>,
    /// A warp has asked in vain whether something has happened.
    polled: bool,
    /// Warp instructions issued by the launch.
    issued: u64,
}

/// The memory and books of a launch.
pub struct Stage<'a> {
    pub files: &'a [(u32, String)],
    pub params: &'a [u8],
    pub global: &'a mut Global,
    pub counts: &'a mut Counts,
    pub output: &'a mut String,
}

/// Runs a launch whose shape has been checked.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt"))]
pub fn run(kernel: &Kernel, launch: Launch, settings: Settings, stage: Stage) -> Result<(), Box<Fault>> {
    let mut world = World::new(kernel, launch, settings, stage);
    let clusters: [u32; 3] = std::array::from_fn(|axis| launch.grid[axis] / launch.cluster[axis]);
    for z in 0..clusters[2] {
        for y in 0..clusters[1] {
            for x in 0..clusters[0] {
                world.start([x, y, z]);
                world.run_cluster()?;
                world.cluster += 1;
            }
        }
    }
    Ok(())
}

fn reads_constants(ins: &Ins) -> bool {
    matches!(&ins.op, Op::Load(load) if load.constant)
}

impl<'a> World<'a> {
    fn new(kernel: &'a Kernel, launch: Launch, settings: Settings, stage: Stage<'a>) -> Self {
        let threads: u32 = launch.block.iter().product();
        let ctas: u32 = launch.cluster.iter().product();
        let warps_per_cta = threads.div_ceil(LANES as u32) as usize;
        let shared = kernel.dynamic_shared - crate::window::SHARED_BASE + launch.dynamic_shared;
        let mut regs = Regs::new(kernel.rows, kernel.masks);
        for (slot, value) in &kernel.constants {
            *regs.row_mut(*slot) = [*value; LANES];
        }
        for slot in &kernel.truths {
            regs.masks[slot.0 as usize] = u32::MAX;
        }
        let warp = |index: usize| {
            let (cta, number) = (index / warps_per_cta, (index % warps_per_cta) as u32);
            let mut regs = regs.clone();
            for (slot, special) in &kernel.specials {
                if let Some(row) = launch.of_warp(*special, number) {
                    *regs.row_mut(*slot) = row;
                }
            }
            Some(Box::new(Warp::new(regs, kernel.local as usize, index, cta, number)))
        };
        let cta = |rank: u32| Cta {
            id: [0; 3],
            shared: Shared::new(shared),
            races: settings.checks.race.then(|| Races::new(shared as usize)),
            barriers: Default::default(),
            warpgroups: vec![],
            visits: BTreeMap::new(),
            warps: rank as usize * warps_per_cta..(rank as usize + 1) * warps_per_cta,
        };
        Self {
            kernel,
            files: stage.files,
            settings,
            launch,
            params: stage.params,
            global: stage.global,
            counts: stage.counts,
            output: stage.output,
            ctas: (0..ctas).map(cta).collect(),
            warps: (0..warps_per_cta * ctas as usize).map(warp).collect(),
            clocks: Clocks::default(),
            global_races: settings.checks.global_race.then(GlobalRaces::default),
            releases: (settings.checks.race || settings.checks.global_race).then(Releases::default),
            constants: (settings.checks.race && kernel.code.iter().any(reads_constants)).then(Constants::default),
            cluster: 0,
            cluster_barrier: Default::default(),
            mbarriers: BTreeMap::new(),
            landings: VecDeque::new(),
            polled: false,
            issued: 0,
        }
    }

    /// Sets up the cluster at an index of the grid of clusters.
    fn start(&mut self, cluster: [u32; 3]) {
        let Launch { block, cluster: shape, .. } = self.launch;
        let threads: u32 = block.iter().product();
        self.clocks.restart(self.ctas.len() as u32, threads.div_ceil(LANES as u32));
        self.releases.iter_mut().for_each(Releases::start);
        self.cluster_barrier = Default::default();
        self.mbarriers.clear();
        self.landings.clear();
        for rank in 0..self.ctas.len() {
            let [sx, sy, _] = shape;
            let r = rank as u32;
            let within = [r % sx, r / sx % sy, r / (sx * sy)];
            let id = std::array::from_fn(|axis| cluster[axis] * shape[axis] + within[axis]);
            let cta = &mut self.ctas[rank];
            cta.id = id;
            cta.shared.block.reset();
            cta.races.iter_mut().for_each(Races::clear);
            cta.barriers = Default::default();
            cta.visits.clear();
            cta.warpgroups = (0..cta.warps.len() / 4).map(|_| Warpgroup::default()).collect();
            for (number, index) in cta.warps.clone().enumerate() {
                let warp = self.warps[index].as_mut().expect("no warp runs between clusters");
                warp.start(u32::MAX >> (32 - (threads - number as u32 * 32).min(32)));
                for slot in &self.kernel.poisoned {
                    *warp.regs.row_mut(*slot) = [u32::from_le_bytes([crate::mem::POISON; 4]); LANES];
                }
                for slot in &self.kernel.poisoned_masks {
                    warp.regs.masks[slot.0 as usize] = POISONED_MASK;
                }
                for (slot, special) in &self.kernel.specials {
                    if let Some(value) = self.launch.of_cta(*special, cluster, within) {
                        *warp.regs.row_mut(*slot) = [value; LANES];
                    }
                }
            }
        }
    }

    /// Runs the warps in turns until all have left.
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt"))]
    fn run_cluster(&mut self) -> Result<(), Box<Fault>> {
        loop {
            let (mut moved, mut alive) = (false, false);
            for index in 0..self.warps.len() {
                let mut warp = self.warps[index].take().expect("warps run one at a time");
                let result = if !warp.done() && warp.select() {
                    moved = true;
                    let result = self.interpret(&mut warp).and_then(|()| self.within_limit());
                    result.map_err(|trouble| self.fault(&warp, *trouble))
                } else {
                    Ok(())
                };
                alive |= !warp.done();
                self.warps[index] = Some(warp);
                result?;
            }
            if !alive {
                return Ok(());
            }
            // Whoever only polls does not keep copies from landing.
            let idle = std::mem::take(&mut self.polled) || !moved;
            let landed = idle && self.land_oldest()?;
            if !moved && !landed {
                return Err(self.deadlock());
            }
        }
    }

    /// Lands the oldest bulk load. False when none is under way.
    fn land_oldest(&mut self) -> Result<bool, Box<Fault>> {
        let Some(landing) = self.landings.pop_front() else {
            return Ok(false);
        };
        match self.land(landing, None) {
            Ok(()) => Ok(true),
            Err(trouble) => {
                let warp = self.warps.iter().flatten().find(|w| !w.done()).expect("a live warp waits");
                Err(self.fault(warp, *trouble))
            }
        }
    }

    /// The fault of a warp at its current instruction.
    fn fault(&self, warp: &Warp, trouble: Trouble) -> Box<Fault> {
        self.fault_at(warp, warp.split.pc as usize, trouble)
    }

    fn fault_at(&self, warp: &Warp, pc: usize, trouble: Trouble) -> Box<Fault> {
        let ins = &self.kernel.code[pc];
        Box::new(Fault {
            kind: trouble.kind,
            kernel: self.kernel.name.clone(),
            cta: self.ctas[warp.cta].id,
            warp: warp.number,
            lane: trouble.lane,
            line: ins.line,
            opcode: self.kernel.opcodes[pc].clone(),
            source: source(self.files, ins.loc.map(|loc| loc.own)),
            inlined: source(self.files, ins.loc.and_then(|loc| loc.inlined)),
            message: trouble.message,
        })
    }

    /// Nothing can move: what every warp waits for.
    fn deadlock(&mut self) -> Box<Fault> {
        let mut lines = vec![];
        let mut first = None;
        for index in 0..self.warps.len() {
            let mut warp = self.warps[index].take().expect("warps run one at a time");
            let (cta, number, mut at) = (warp.cta, warp.number, None);
            for split in warp.splits() {
                let pc = split.wait.map_or(split.pc, |wait| wait.instruction(split.pc)) as usize;
                let line = self.kernel.code[pc].line;
                at.get_or_insert(pc);
                let what = match split.wait {
                    Some(Wait::Barrier(id)) => self.describe_barrier(cta, id),
                    Some(Wait::Mbarrier { offset, .. }) => {
                        format!("the mbarrier at shared address {:#x}", offset + crate::window::SHARED_BASE)
                    }
                    Some(Wait::Lanes(members)) => format!("lanes {members:#010x} at bar.warp.sync"),
                    Some(Wait::Cluster) => "the cluster barrier".to_string(),
                    Some(Wait::Warpgroup) => "the other warps of its warpgroup".to_string(),
                    None => "nothing".to_string(),
                };
                lines.push(format!("CTA rank {cta} warp {number} (PTX line {line}) waits for {what}"));
            }
            if !warp.done() && first.is_none() {
                let message = String::new();
                let at = at.unwrap_or(warp.split.pc as usize);
                first = Some(self.fault_at(&warp, at, Trouble { kind: Kind::Deadlock, lane: None, message }));
            }
            self.warps[index] = Some(warp);
        }
        let mut fault = first.expect("a deadlock has a warp that waits");
        fault.message = format!("no warp can go on: {}", lines.join("; "));
        fault
    }
}
