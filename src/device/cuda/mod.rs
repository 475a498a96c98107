//! A CUDA card: its driver, its memory and the kernels of `kernels/`.

mod driver;
mod embedded;
mod marks;
mod nvidia;
mod staging;

pub use driver::{Argument, Boxes, Card, Download, Driver, Function, Graph, Grid, Image, Loaded, Mark, Module, Packed};
pub use embedded::{MODULES, TOOLKIT, module};
pub use nvidia::Nvidia;

use super::Arena;
use super::memory::or_throw;
use crate::base::{DType, Error, Result};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Memory of the card that is left to the driver, to its modules and to others.
const SPARED: usize = 512 << 20;

/// A card as a device: one stream, one arena, and the kernels it has been asked for.
pub struct Cuda {
    pub(super) driver: Arc<dyn Driver>,
    pub(super) arena: Arena,
    /// The type of activations, of their gradients and of the weights that products read: `BF16`, or `F32`. Everything
    /// else is f32.
    pub activations: DType,
    kernels: Mutex<HashMap<&'static str, Function>>,
    modules: Mutex<HashMap<&'static str, Loaded>>,
    /// The launches so far of what is profiled.
    profile: Mutex<Option<Vec<Launch>>>,
}

/// A launch, and its beginning and end.
struct Launch {
    name: &'static str,
    marks: [Mark; 2],
}

/// A kernel: its file in `kernels/`, and its name there.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    pub module: &'static str,
    pub name: &'static str,
}

impl Cuda {
    /// The card behind `driver`, with activations of `activations` and all of its free memory but a little.
    pub fn new(driver: Arc<dyn Driver>, activations: DType) -> Result<Cuda> {
        let free = driver.free_memory()?;
        Cuda::within(driver, activations, free.saturating_sub(SPARED))
    }

    /// As [`Cuda::new`], with `memory` bytes.
    pub fn within(driver: Arc<dyn Driver>, activations: DType, memory: usize) -> Result<Cuda> {
        assert!(matches!(activations, DType::F32 | DType::BF16), "activations are f32 or bf16, not {activations:?}");
        let Card { name, capability, .. } = driver.card();
        if *capability < (8, 0) {
            let (major, minor) = capability;
            return Err(Error::Device(format!(
                "{name}: its compute capability {major}.{minor} is below 8.0, the least that the kernels run on; give \
                 --device cpu"
            )));
        }
        let arena = Arena::cuda(driver.clone(), memory)?;
        Ok(Cuda {
            driver,
            arena,
            activations,
            kernels: Mutex::default(),
            modules: Mutex::default(),
            profile: Mutex::default(),
        })
    }

    /// The same card with every fresh allocation filled with NaN, so that a test sees what a kernel did not write.
    pub fn poisoned(mut self) -> Cuda {
        self.arena.poison();
        self
    }

    pub fn card(&self) -> &Card {
        self.driver.card()
    }

    /// Launches a kernel. Its first launch is waited for, so that one which fails while it runs has its name as well.
    ///
    /// # Panics
    /// If the driver refuses: what is thrown is the [`Error`], with the kernel's name.
    pub fn launch(&self, kernel: Kernel, grid: Grid, arguments: &[Argument]) {
        let launched = self.function(kernel).and_then(|(function, first)| {
            self.timed(kernel.name, || self.driver.launch(function, grid, arguments))?;
            if first { self.driver.synchronize() } else { Ok(()) }
        });
        or_throw(launched.map_err(|error| Error::Device(format!("{}: {error}", kernel.name))));
    }

    /// The kernel, and whether it is asked for for the first time.
    fn function(&self, kernel: Kernel) -> Result<(Function, bool)> {
        let mut kernels = self.kernels.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(&function) = kernels.get(kernel.name) {
            return Ok((function, false));
        }
        let mut modules = self.modules.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let loaded = match modules.get(kernel.module) {
            Some(&loaded) => loaded,
            None => {
                let loaded = self.driver.load(module(kernel.module)?)?;
                modules.insert(kernel.module, loaded);
                loaded
            }
        };
        let function = self.driver.function(loaded, kernel.name)?;
        kernels.insert(kernel.name, function);
        Ok((function, true))
    }

    /// The seconds that the card takes for what `work` asks of it.
    pub fn seconds(&self, work: impl FnOnce()) -> Result<f64> {
        let start = self.driver.mark()?;
        work();
        self.driver.seconds_between([start, self.driver.mark()?])
    }

    /// The kernels that `work` launches, in their order, and the seconds of each. Nothing is recorded or replayed meanwhile.
    pub fn profile(&self, work: impl FnOnce()) -> Result<Vec<(&'static str, f64)>> {
        *self.launches() = Some(vec![]);
        work();
        let launches = self.launches().take().unwrap_or_default();
        launches.iter().map(|launch| Ok((launch.name, self.driver.seconds_between(launch.marks)?))).collect()
    }

    /// Whether launches are timed one by one.
    pub(super) fn profiles(&self) -> bool {
        self.launches().is_some()
    }

    fn launches(&self) -> MutexGuard<'_, Option<Vec<Launch>>> {
        self.profile.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn timed(&self, name: &'static str, launch: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut launches = self.launches();
        let Some(launches) = launches.as_mut() else { return launch() };
        let start = self.driver.mark()?;
        launch()?;
        launches.push(Launch { name, marks: [start, self.driver.mark()?] });
        Ok(())
    }

    /// Waits until everything asked for has happened.
    pub fn synchronize(&self) -> Result<()> {
        self.driver.synchronize()
    }
}

impl AsRef<Arena> for Cuda {
    fn as_ref(&self) -> &Arena {
        &self.arena
    }
}

/// The two kernels of one operation: on f32 and on bf16 activations.
#[derive(Clone, Copy, Debug)]
pub struct Typed {
    pub f32: Kernel,
    pub bf16: Kernel,
}

impl Typed {
    /// The kernel for activations of `dtype`.
    pub fn of(self, dtype: DType) -> Kernel {
        match dtype {
            DType::F32 => self.f32,
            DType::BF16 => self.bf16,
            _ => panic!("activations are f32 or bf16, not {dtype:?}"),
        }
    }
}

/// `kernel!("file", "name")`: a kernel that has one type.
#[macro_export]
macro_rules! kernel {
    ($module:expr, $name:expr) => {
        $crate::device::cuda::Kernel { module: $module, name: $name }
    };
}

/// `kernels!("file", "name")`: the kernels `name_f32` and `name_bf16`.
#[macro_export]
macro_rules! kernels {
    ($module:literal, $name:literal) => {
        $crate::device::cuda::Typed {
            f32: $crate::kernel!($module, concat!($name, "_f32")),
            bf16: $crate::kernel!($module, concat!($name, "_bf16")),
        }
    };
}
