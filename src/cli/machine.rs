use crate::base::{Error, Result};
use crate::device::{Cpu, Device};
use crate::train::recipe::Precision;
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
    #[value(hide = true)]
    Cuda,
}

impl Machine {
    /// The device, with matrix products on `precision`.
    pub fn open(&self, precision: Precision) -> Result<Device> {
        match self.device {
            Choice::Auto | Choice::Cpu => Ok(Device::cpu(Cpu::new(self.threads, precision.dtype())?)),
            Choice::Cuda => {
                Err(Error::Device("--device cuda: this build has no CUDA device; give --device cpu".into()))
            }
        }
    }
}

/// What matrix products read, for verbs that have no recipe to say it.
#[derive(clap::Args)]
pub struct Products {
    /// What matrix products read; everything else is f32
    #[arg(long, value_enum, default_value = "f32")]
    pub precision: Precision,
}
