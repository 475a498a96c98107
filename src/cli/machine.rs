use crate::base::{Error, Result};
use crate::device::cuda::{Cuda, Nvidia, TOOLKIT};
use crate::device::{Cpu, Device};
use crate::train::recipe::Precision;
use std::num::NonZero;
use std::str::FromStr;
use std::sync::Arc;

/// Where a verb runs.
#[derive(clap::Args)]
pub struct Machine {
    /// Device to run on: auto, cpu, cuda or cuda:N; auto takes the best one there is
    #[arg(long, default_value = "auto")]
    device: Choice,
    /// Threads of the processor [default: all cores]; any number gives the same bits
    #[arg(long, allow_negative_numbers = true, value_parser = super::count, value_name = "N")]
    threads: Option<NonZero<usize>>,
}

#[derive(Clone, Copy)]
enum Choice {
    Auto,
    Cpu,
    /// The card of this number.
    Cuda(usize),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Choice, String> {
        match text {
            "auto" => Ok(Choice::Auto),
            "cpu" => Ok(Choice::Cpu),
            "cuda" => Ok(Choice::Cuda(0)),
            _ => {
                let number = text.strip_prefix("cuda:").and_then(|number| number.parse().ok());
                number.map(Choice::Cuda).ok_or_else(|| "give auto, cpu, cuda or cuda:N".into())
            }
        }
    }
}

impl Machine {
    /// The device, computing with `precision`: what matrix products read on the processor, activations on a card.
    pub fn open(&self, precision: Precision) -> Result<Device> {
        let cpu = || Ok(Device::cpu(Cpu::new(self.threads, precision.dtype(false))?));
        match self.device {
            Choice::Cpu => cpu(),
            Choice::Cuda(ordinal) => card(ordinal, precision),
            Choice::Auto if TOOLKIT.is_none() => cpu(),
            Choice::Auto => match Nvidia::open(0) {
                // A machine without a card needs no word of it; a card that cannot be used does.
                Err(_) => cpu(),
                Ok(driver) => on_card(driver, precision).or_else(|error| {
                    eprintln!("warning: {error}; this runs on the processor");
                    cpu()
                }),
            },
        }
    }
}

fn card(ordinal: usize, precision: Precision) -> Result<Device> {
    if TOOLKIT.is_none() {
        let what = "this binary was built without CUDA kernels";
        return Err(Error::Device(format!(
            "--device cuda: {what}; build it where nvcc is found (tools/nvcc installs one), or give --device cpu"
        )));
    }
    on_card(Nvidia::open(ordinal)?, precision)
}

fn on_card(driver: Nvidia, precision: Precision) -> Result<Device> {
    Ok(Device::cuda(Cuda::new(Arc::new(driver), precision.dtype(true))?))
}
