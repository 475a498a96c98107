//! A device shaped like the CUDA driver's: memory, modules, functions, launches.

mod shape;

use crate::{
    check::{Checks, Fault},
    count::Counts,
    cpu,
    decode::{Addresses, decode},
    error::LoadError,
    ir::Kernel,
    mem::Global,
    parse,
    report::Report,
    run::{Launch, Policy, Settings, Stage},
    types::Space,
};
use std::{collections::HashMap, sync::Arc};
use thiserror::Error;

/// Why a call of the driver failed.
#[derive(Debug, Clone, Error, PartialEq)]
pub enum Error {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Fault(Box<Fault>),
    /// What was given is wrong; the message says what, why and what to do.
    #[error("{0}")]
    Invalid(String),
    #[error("{name}, {bytes} bytes: device memory has {free} bytes left")]
    OutOfMemory { name: String, bytes: usize, free: usize },
    /// A failure that `fail_allocation` or `fail_launch` asked for.
    #[error("{0}: failed on request")]
    Injected(String),
}

pub type Result<T> = std::result::Result<T, Error>;

fn invalid<T>(message: String) -> Result<T> {
    Err(Error::Invalid(message))
}

/// How a device runs kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    pub checks: Checks,
    pub policy: Policy,
    /// Most warp instructions of one launch; more is reported as a hang.
    pub limit: u64,
    /// Bytes of device memory.
    pub memory: usize,
}

impl Default for Config {
    /// The usual checks, lazy, 4 GiB, and 2^34 warp instructions: some minutes.
    fn default() -> Self {
        Self { checks: Checks::USUAL, policy: Policy::Lazy, limit: 1 << 34, memory: 4 << 30 }
    }
}

/// A device with its memory.
#[derive(Debug)]
pub struct Device {
    config: Config,
    global: Global,
    used: usize,
    sizes: HashMap<u64, usize>,
    /// Calls left until one fails on request.
    failing_allocation: Option<u64>,
    failing_launch: Option<u64>,
}

/// A loaded PTX text.
#[derive(Debug)]
pub struct Module {
    /// Each kernel, or why it cannot run.
    functions: HashMap<String, std::result::Result<Function, LoadError>>,
    variables: HashMap<String, (u64, usize)>,
}

/// A kernel of a module.
#[derive(Debug, Clone)]
pub struct Function {
    pub kernel: Arc<Kernel>,
    /// Source files by their number in the PTX.
    pub files: Arc<Vec<(u32, String)>>,
}

/// A kernel's argument: as many bytes as its parameter has.
pub trait Argument {
    fn bytes(&self) -> Vec<u8>;
}

macro_rules! arguments {
    ($($t:ty),*) => {$(
        impl Argument for $t {
            fn bytes(&self) -> Vec<u8> {
                self.to_le_bytes().to_vec()
            }
        }
    )*};
}

arguments!(u8, i8, u16, i16, u32, i32, f32, u64, i64, f64);

/// A structure passed by value.
impl Argument for [u8] {
    fn bytes(&self) -> Vec<u8> {
        self.to_vec()
    }
}

impl Argument for Vec<u8> {
    fn bytes(&self) -> Vec<u8> {
        self.clone()
    }
}

impl Device {
    /// A device without allocations.
    ///
    /// # Errors
    /// On an x86-64 CPU that lacks the level x86-64-v3.
    pub fn new(config: Config) -> Result<Self> {
        if !cpu::supported() {
            return invalid("this CPU: it lacks x86-64-v3 (AVX2, FMA); run on a newer one".into());
        }
        Ok(Self {
            config,
            global: Global::default(),
            used: 0,
            sizes: HashMap::new(),
            failing_allocation: None,
            failing_launch: None,
        })
    }

    pub fn config(&self) -> Config {
        self.config
    }

    /// Changes policy, checks or limits for the launches that follow.
    pub fn configure(&mut self, config: Config) {
        self.config = config;
    }

    /// The `k`-th allocation from now fails, counted from 0.
    pub fn fail_allocation(&mut self, k: u64) {
        self.failing_allocation = Some(k);
    }

    /// The `k`-th launch from now fails, counted from 0.
    pub fn fail_launch(&mut self, k: u64) {
        self.failing_launch = Some(k);
    }

    /// Bytes of poison. The name appears in faults.
    pub fn alloc(&mut self, name: &str, bytes: usize) -> Result<u64> {
        self.admit(name, bytes)?;
        self.used += bytes;
        let base = self.global.alloc(name, bytes);
        self.sizes.insert(base, bytes);
        Ok(base)
    }

    /// Refuses an allocation that was asked to fail or does not fit.
    fn admit(&mut self, name: &str, bytes: usize) -> Result<()> {
        if fails_now(&mut self.failing_allocation) {
            return Err(Error::Injected(format!("allocation of {name}, {bytes} bytes")));
        }
        let free = self.config.memory - self.used;
        if bytes > free {
            return Err(Error::OutOfMemory { name: name.into(), bytes, free });
        }
        Ok(())
    }

    /// Addresses for `bytes` bytes, of which [`Device::alloc_at`] gives out parts: the slab of a program that manages its own
    /// memory. An access to what is not given out is a fault.
    pub fn reserve(&mut self, bytes: usize) -> u64 {
        self.global.reserve(bytes)
    }

    /// As [`Device::alloc`], at an address of reserved memory.
    pub fn alloc_at(&mut self, base: u64, name: &str, bytes: usize) -> Result<()> {
        self.admit(name, bytes)?;
        if !self.global.alloc_at(base, name, bytes) {
            return invalid(format!("address {base:#x}, {bytes} bytes for {name}: another allocation is in the way"));
        }
        self.used += bytes;
        self.sizes.insert(base, bytes);
        Ok(())
    }

    pub fn free(&mut self, base: u64) -> Result<()> {
        if !self.global.free(base) {
            return invalid(format!("address {base:#x}: no allocation starts there, or it is freed"));
        }
        self.used -= self.sizes.remove(&base).unwrap_or(0);
        Ok(())
    }

    /// Copies bytes to the device.
    pub fn upload(&mut self, to: u64, bytes: &[u8]) -> Result<()> {
        match self.global.find(to, bytes.len()) {
            Some((allocation, at)) => {
                allocation.block.write(at, bytes);
                Ok(())
            }
            None => invalid(format!("address {to:#x}, {} bytes: not inside one allocation", bytes.len())),
        }
    }

    /// Copies bytes to the host. Unwritten memory reads as poison.
    pub fn download(&mut self, from: u64, bytes: usize) -> Result<Vec<u8>> {
        match self.global.find(from, bytes) {
            Some((allocation, at)) => Ok(allocation.block.bytes[at..at + bytes].to_vec()),
            None => invalid(format!("address {from:#x}, {bytes} bytes: not inside one allocation")),
        }
    }

    /// Sets bytes on the device.
    pub fn fill(&mut self, to: u64, value: u8, bytes: usize) -> Result<()> {
        self.upload(to, &vec![value; bytes])
    }

    /// Copies bytes within the device. What was unwritten stays so.
    pub fn copy(&mut self, to: u64, from: u64, bytes: usize) -> Result<()> {
        let data = self.download(from, bytes)?;
        let Some((source, at)) = self.global.find(from, bytes) else {
            return invalid(format!("address {from:#x}, {bytes} bytes: not inside one allocation"));
        };
        let whole = source.block.written.all(at, bytes);
        let written: Vec<bool> =
            if whole { vec![] } else { (0..bytes).map(|k| source.block.written.all(at + k, 1)).collect() };
        match self.global.find(to, bytes) {
            Some((target, at)) if whole => target.block.write(at, &data),
            Some((target, at)) => {
                for (k, _) in written.iter().enumerate().filter(|(_, w)| **w) {
                    target.block.write(at + k, &data[k..k + 1]);
                }
            }
            None => return invalid(format!("address {to:#x}, {bytes} bytes: not inside one allocation")),
        }
        Ok(())
    }

    /// Parses a PTX text, decodes its kernels and places its variables.
    ///
    /// # Errors
    /// For a text that is not PTX. A kernel that uses what the emulator does not implement is refused when it is asked
    /// for, so that the others of its module run.
    pub fn load(&mut self, ptx: &str) -> Result<Module> {
        let module = parse::parse(ptx)?;
        let mut addresses = Addresses::new();
        let mut variables = HashMap::new();
        for variable in module.variables.iter().filter(|v| matches!(v.space, Space::Global | Space::Const)) {
            let size = variable.size.unwrap_or(0) as usize;
            let base = self.alloc(&variable.name, size)?;
            // Module variables start at zero, unlike memory that is allocated.
            let mut bytes = variable.initial.clone();
            bytes.resize(size, 0);
            self.upload(base, &bytes)?;
            addresses.insert(variable.name.clone(), base);
            variables.insert(variable.name.clone(), (base, size));
        }
        for variable in &module.variables {
            for (at, name, plus) in &variable.addresses {
                let refused = |what: &str| LoadError::at(variable.line, format!("{}: {what}", variable.name));
                let to = addresses.get(&variable.name).ok_or_else(|| refused("this space takes no addresses"))?;
                let address = addresses.get(name).ok_or_else(|| refused(&format!("no address of {name} is known")))?;
                self.upload(to + *at as u64, &address.wrapping_add_signed(*plus).to_le_bytes())?;
            }
        }
        let files = Arc::new(module.files.clone());
        let mut functions = HashMap::new();
        for function in &module.functions {
            let decoded = parse::inline(&module.device_functions, function);
            let decoded = decoded.and_then(|function| decode(&module, &function, &addresses));
            let decoded = decoded.map(|kernel| Function { kernel: Arc::new(kernel), files: files.clone() });
            functions.insert(function.name.clone(), decoded);
        }
        Ok(Module { functions, variables })
    }

    /// Runs a kernel to its end.
    ///
    /// # Errors
    /// `Invalid` for a shape or arguments that the kernel does not take, `Fault` for what the checks find.
    pub fn launch(&mut self, function: &Function, launch: Launch, arguments: &[&dyn Argument]) -> Result<Report> {
        let kernel = &function.kernel;
        if fails_now(&mut self.failing_launch) {
            return Err(Error::Injected(format!("launch of {}", kernel.name)));
        }
        shape::check(kernel, launch)?;
        let params = shape::pack(kernel, arguments)?;
        let mut counts = Counts::new(kernel.code.len());
        let mut output = String::new();
        self.global.take_touched();
        let Config { checks, policy, limit, .. } = self.config;
        let stage = Stage {
            files: &function.files,
            params: &params,
            global: &mut self.global,
            counts: &mut counts,
            output: &mut output,
        };
        let result = cpu::run(kernel, launch, Settings { checks, policy, limit }, stage);
        counts.unique_bytes = self.global.take_touched();
        result.map_err(Error::Fault)?;
        Ok(Report { function: function.clone(), counts, output })
    }
}

impl Function {
    /// Bytes of each parameter.
    pub fn parameters(&self) -> impl Iterator<Item = u32> {
        self.kernel.params.iter().map(|param| param.size)
    }
}

impl Module {
    /// A kernel by its name in the PTX.
    ///
    /// # Errors
    /// Names the line of the first thing that the emulator does not implement.
    pub fn function(&self, name: &str) -> Result<Function> {
        match self.functions.get(name) {
            Some(Ok(function)) => Ok(function.clone()),
            Some(Err(refusal)) => Err(refusal.clone().into()),
            None => invalid(format!("{name}: the module has no such kernel; it has {}", self.names().join(", "))),
        }
    }

    /// The kernels' names, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.functions.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Whether it has `__device__` or `__constant__` variables, which are of the device that loaded it. Functions of a module
    /// that has none run on every device.
    pub fn has_variables(&self) -> bool {
        !self.variables.is_empty()
    }

    /// Address and size of a `__device__` or `__constant__` variable.
    pub fn variable(&self, name: &str) -> Option<(u64, usize)> {
        self.variables.get(name).copied()
    }
}

fn fails_now(left: &mut Option<u64>) -> bool {
    let now = *left == Some(0);
    *left = left.and_then(|k| k.checked_sub(1));
    now
}
