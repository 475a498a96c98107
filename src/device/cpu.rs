use super::{Arena, Isa, Threads};
use crate::base::{DType, Result};
use std::num::NonZero;

/// The processor as a device: its threads, its instruction set, its memory.
pub struct Cpu {
    /// The threads that every kernel shares.
    pub threads: Threads,
    /// The instruction set that kernels choose their inner loops by; never above what was detected.
    isa: Isa,
    /// The type that matrix products read: `F32`, or `BF16` with sums in f32. Everything else is f32.
    pub products: DType,
    pub(super) arena: Arena,
}

impl Cpu {
    /// A processor with `threads` threads (all cores for `None`) and matrix products on `products`.
    pub fn new(threads: Option<NonZero<usize>>, products: DType) -> Result<Cpu> {
        assert!(matches!(products, DType::F32 | DType::BF16), "matrix products read f32 or bf16, not {products:?}");
        let threads = threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZero::get);
        Ok(Cpu { threads: Threads::new(threads)?, isa: Isa::detect(), products, arena: Arena::host()? })
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The same device held to `isa`, so that every path is tested on one machine.
    ///
    /// # Panics
    /// If the processor does not have it.
    pub fn with_isa(mut self, isa: Isa) -> Cpu {
        assert!(isa <= Isa::detect(), "this processor has no {isa}");
        self.isa = isa;
        self
    }

    /// The same device with every fresh allocation filled with NaN, so that a test sees what a kernel did not write.
    pub fn poisoned(mut self) -> Cpu {
        self.arena.poison();
        self
    }
}

impl AsRef<Arena> for Cpu {
    fn as_ref(&self) -> &Arena {
        &self.arena
    }
}
