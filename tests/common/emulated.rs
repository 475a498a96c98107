//! A CUDA card that is emulated: the very PTX that ships, run by `tools/emulator` under its usual checks: all but the one for
//! races in global memory, which takes several times as long as the rest and is for those who ask.

use emulator::{Checks, Config, Launch, Policy, Swizzle, TensorMap, TensorType};
use engine::base::{Error, Result};
use engine::device::cuda::{Argument, Card, Download, Driver, Function, Graph, Grid, Loaded, Mark, Module};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Bytes of addresses, of which only what is used takes memory.
const MEMORY: usize = 8 << 30;

/// An emulated card of one compute capability.
pub struct Emulated {
    card: Card,
    state: Mutex<State>,
}

struct State {
    /// Launches left until one fails.
    failing: Option<u64>,
    device: emulator::Device,
    modules: Vec<Arc<emulator::Module>>,
    functions: Vec<emulator::Function>,
    graphs: Vec<Option<Vec<Call>>>,
    recording: Option<Vec<Call>>,
    downloads: Vec<Option<Vec<u8>>>,
    marks: Vec<Instant>,
    /// What each launch did, where that is asked for.
    reports: Option<Vec<emulator::Report>>,
}

/// What a captured step asks for.
#[derive(Clone)]
enum Call {
    Occupy { address: u64, bytes: usize, label: &'static str },
    Vacate { address: u64 },
    Fill { to: u64, value: u8, bytes: usize },
    Copy { to: u64, from: u64, bytes: usize },
    Launch { function: Function, grid: Grid, arguments: Vec<Argument> },
}

impl Emulated {
    pub fn new(capability: (u32, u32), policy: Policy) -> Emulated {
        let config = Config { checks: Checks::USUAL, policy, memory: MEMORY, ..Config::default() };
        let card = Card {
            name: format!("emulated sm_{}{}, {policy:?}", capability.0, capability.1),
            capability,
            multiprocessors: 4,
            memory: MEMORY,
            driver: 13_000,
        };
        let device = emulator::Device::new(config).expect("this processor runs the emulator");
        let state = State {
            failing: None,
            device,
            modules: vec![],
            functions: vec![],
            graphs: vec![],
            recording: None,
            downloads: vec![],
            marks: vec![],
            reports: None,
        };
        Emulated { card, state: Mutex::new(state) }
    }

    /// The same card under other checks.
    pub fn under(self, checks: Checks) -> Emulated {
        let mut state = self.state.lock().unwrap();
        let config = Config { checks, ..state.device.config() };
        state.device.configure(config);
        drop(state);
        self
    }

    /// The same card whose launch number `k` fails, counted from 0.
    pub fn failing_at(self, k: u64) -> Emulated {
        self.state.lock().unwrap().failing = Some(k);
        self
    }

    /// The same card that keeps what each launch did.
    pub fn counting(self) -> Emulated {
        self.state.lock().unwrap().reports = Some(vec![]);
        self
    }

    /// How often work was recorded.
    pub fn recordings(&self) -> usize {
        self.state.lock().unwrap().graphs.len()
    }

    /// What each launch since the last call did.
    pub fn take_reports(&self) -> Vec<emulator::Report> {
        std::mem::take(self.state.lock().unwrap().reports.as_mut().expect("the card counts"))
    }

    /// Does a call, or records it where a step is captured.
    fn ask(&self, call: Call) -> Result<()> {
        let mut state = self.state.lock().unwrap();
        match &mut state.recording {
            Some(recording) => recording.push(call.clone()),
            None => state.run(&call).map_err(fault)?,
        }
        // A captured step still takes its memory in order.
        let memory = matches!(call, Call::Occupy { .. } | Call::Vacate { .. });
        if state.recording.is_some() && memory { state.run(&call).map_err(fault) } else { Ok(()) }
    }
}

impl State {
    /// Counts a launch, a recorded one too, or one replay, and fails the one that is to fail.
    fn count_down(&mut self) -> Result<()> {
        if let Some(left) = &mut self.failing {
            *left = left.checked_sub(1).ok_or_else(|| Error::Device("failed on request".into()))?;
        }
        Ok(())
    }

    fn run(&mut self, call: &Call) -> emulator::Result<()> {
        match call {
            Call::Occupy { address, bytes, label } => self.device.alloc_at(*address, label, *bytes),
            Call::Vacate { address } => self.device.free(*address),
            Call::Fill { to, value, bytes } => self.device.fill(*to, *value, *bytes),
            Call::Copy { to, from, bytes } => self.device.copy(*to, *from, *bytes),
            Call::Launch { function, grid, arguments } => {
                let Grid { blocks, threads, shared } = *grid;
                let function = &self.functions[function.0];
                let cluster = function.kernel.cluster.unwrap_or([1; 3]);
                let launch = Launch { grid: blocks, block: threads, cluster, dynamic_shared: shared };
                let values: Vec<Value> = arguments.iter().map(|&argument| Value(argument)).collect();
                let values: Vec<&dyn emulator::Argument> = values.iter().map(|value| value as _).collect();
                let report = self.device.launch(function, launch, &values)?;
                if let Some(reports) = &mut self.reports {
                    reports.push(report);
                }
                Ok(())
            }
        }
    }
}

/// A module that the first card of its capability reads and decodes for all others: that takes longer than most of what tests
/// run.
fn load(
    device: &mut emulator::Device,
    module: &Module,
    capability: (u32, u32),
) -> emulator::Result<Arc<emulator::Module>> {
    type Loaded = BTreeMap<(&'static str, (u32, u32)), Arc<emulator::Module>>;
    static LOADED: Mutex<Loaded> = Mutex::new(BTreeMap::new());
    let mut loaded = LOADED.lock().unwrap();
    if let Some(loaded) = loaded.get(&(module.name, capability)) {
        return Ok(loaded.clone());
    }
    let image = module.images.iter().find(|image| image.capability == capability);
    let ptx = image.expect("the kernels are built for the emulated capabilities").ptx.unpacked();
    let fresh = Arc::new(device.load(std::str::from_utf8(&ptx).expect("PTX is text"))?);
    assert!(!fresh.has_variables(), "{}: a variable is of one card, so each must load its own", module.name);
    loaded.insert((module.name, capability), fresh.clone());
    Ok(fresh)
}

struct Value(Argument);

impl emulator::Argument for Value {
    fn bytes(&self) -> Vec<u8> {
        match self.0 {
            Argument::Pointer(value) | Argument::U64(value) => value.to_le_bytes().to_vec(),
            Argument::U32(value) => value.to_le_bytes().to_vec(),
            Argument::F32(value) => value.to_le_bytes().to_vec(),
            Argument::Boxes(boxes) => {
                let swizzle = match boxes.across {
                    64 => Swizzle::B128,
                    32 => Swizzle::B64,
                    16 => Swizzle::B32,
                    _ => Swizzle::None,
                };
                let (extents, strides, tile) = (boxes.extents(), boxes.strides(), boxes.tile());
                let map = TensorMap::tiled(TensorType::Bf16, boxes.address, &extents, &strides, &tile, swizzle);
                map.expect("it is what a driver takes").encode().to_vec()
            }
        }
    }
}

fn fault(error: emulator::Error) -> Error {
    // What is thrown out of an operation is not a text, so a failing test would not show it.
    eprintln!("{error}");
    match error {
        emulator::Error::OutOfMemory { .. } => Error::Memory(error.to_string()),
        _ => Error::Device(error.to_string()),
    }
}

impl Driver for Emulated {
    fn card(&self) -> &Card {
        &self.card
    }

    fn free_memory(&self) -> Result<usize> {
        Ok(MEMORY)
    }

    fn reserve(&self, bytes: usize) -> Result<u64> {
        Ok(self.state.lock().unwrap().device.reserve(bytes))
    }

    fn release(&self, _: u64) {}

    fn checks(&self) -> bool {
        true
    }

    fn occupy(&self, address: u64, bytes: usize, label: &'static str) {
        self.ask(Call::Occupy { address, bytes, label }).expect("the arena gives out what is free");
    }

    fn vacate(&self, address: u64) {
        self.ask(Call::Vacate { address }).expect("the arena takes back what it gave out");
    }

    fn upload(&self, to: u64, from: &[u8]) -> Result<()> {
        let mut state = self.state.lock().unwrap();
        assert!(state.recording.is_none(), "a captured step exchanges nothing with the host");
        state.device.upload(to, from).map_err(fault)
    }

    fn download(&self, from: u64, to: &mut [u8]) -> Result<()> {
        let state = self.state.lock().unwrap();
        assert!(state.recording.is_none(), "a captured step exchanges nothing with the host");
        drop(state);
        let bytes = self.state.lock().unwrap().device.download(from, to.len()).map_err(fault)?;
        to.copy_from_slice(&bytes);
        Ok(())
    }

    fn begin_download(&self, from: u64, bytes: usize) -> Result<Download> {
        let mut state = self.state.lock().unwrap();
        assert!(state.recording.is_none(), "a captured step exchanges nothing with the host");
        let bytes = state.device.download(from, bytes).map_err(fault)?;
        state.downloads.push(Some(bytes));
        Ok(Download(state.downloads.len() - 1))
    }

    fn end_download(&self, download: Download, to: &mut [u8]) -> Result<()> {
        let bytes = self.state.lock().unwrap().downloads[download.0].take().expect("a download is ended once");
        to.copy_from_slice(&bytes);
        Ok(())
    }

    fn fill(&self, to: u64, value: u8, bytes: usize) -> Result<()> {
        self.ask(Call::Fill { to, value, bytes })
    }

    fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<()> {
        self.ask(Call::Copy { to, from, bytes })
    }

    fn load(&self, module: &Module) -> Result<Loaded> {
        let mut state = self.state.lock().unwrap();
        let loaded = load(&mut state.device, module, self.card.capability).map_err(fault)?;
        state.modules.push(loaded);
        Ok(Loaded(state.modules.len() - 1))
    }

    fn function(&self, module: Loaded, name: &str) -> Result<Function> {
        let mut state = self.state.lock().unwrap();
        let function = state.modules[module.0].function(name).map_err(fault)?;
        state.functions.push(function);
        Ok(Function(state.functions.len() - 1))
    }

    fn launch(&self, function: Function, grid: Grid, arguments: &[Argument]) -> Result<()> {
        self.state.lock().unwrap().count_down()?;
        self.ask(Call::Launch { function, grid, arguments: arguments.to_vec() })
    }

    fn begin_capture(&self) -> Result<()> {
        self.state.lock().unwrap().recording = Some(vec![]);
        Ok(())
    }

    fn end_capture(&self) -> Result<Graph> {
        let mut state = self.state.lock().unwrap();
        let recording = state.recording.take().expect("a capture was begun");
        state.graphs.push(Some(recording));
        Ok(Graph(state.graphs.len() - 1))
    }

    fn replay(&self, graph: Graph) -> Result<()> {
        let mut state = self.state.lock().unwrap();
        let calls = state.graphs[graph.0].clone().expect("a recording is replayed before it is discarded");
        state.count_down()?;
        calls.iter().try_for_each(|call| state.run(call)).map_err(fault)
    }

    fn discard(&self, graph: Graph) {
        self.state.lock().unwrap().graphs[graph.0] = None;
    }

    fn mark(&self) -> Result<Mark> {
        let mut state = self.state.lock().unwrap();
        state.marks.push(Instant::now());
        Ok(Mark(state.marks.len() - 1))
    }

    fn seconds_between(&self, marks: [Mark; 2]) -> Result<f64> {
        let [from, to] = marks.map(|mark| self.state.lock().unwrap().marks[mark.0]);
        Ok((to - from).as_secs_f64())
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }
}
