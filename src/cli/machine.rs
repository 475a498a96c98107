use crate::base::{DType, Result};
use crate::device::{Cpu, Device};
use std::num::NonZero;

/// Where a verb runs.
#[derive(clap::Args)]
pub struct Machine {
    /// Device to run on; auto takes the best one there is
    #[arg(long, value_enum, default_value = "auto")]
    device: Choice,
    /// Threads of the processor [default: all cores]; any number gives the same bits
    #[arg(long, value_name = "N")]
    threads: Option<NonZero<usize>>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Choice {
    Auto,
    Cpu,
}

impl Machine {
    /// The device, with matrix products on `products`.
    pub fn open(&self, products: DType) -> Result<Device> {
        match self.device {
            Choice::Auto | Choice::Cpu => Ok(Device::cpu(Cpu::new(self.threads, products)?)),
        }
    }
}
