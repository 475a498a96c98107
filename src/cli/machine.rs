use crate::base::{DType, Result};
use crate::device::{Choice, Device};
use crate::train::recipe::Precision;
use std::num::NonZero;

/// Where a verb runs.
#[derive(clap::Args)]
pub struct Machine {
    /// Device to run on: auto, cpu, cuda or cuda:N; auto takes the best one there is
    #[arg(long, default_value = "auto")]
    device: Choice,
    /// Threads of the processor [default: all cores]; any number gives the same bits
    #[arg(long, allow_negative_numbers = true, value_parser = threads, value_name = "N")]
    threads: Option<NonZero<usize>>,
}

/// A number of threads that a system can start.
fn threads(text: &str) -> std::result::Result<NonZero<usize>, &'static str> {
    text.parse().ok().filter(|count: &NonZero<usize>| count.get() <= 1024).ok_or("give a whole number from 1 to 1024")
}

impl Machine {
    /// The device, computing with `precision`: what matrix products read on the processor, activations on a card.
    pub fn open(&self, precision: Precision) -> Result<Device> {
        let warn = |text: String| eprintln!("warning: {text}");
        self.device.open(self.threads, |on_card| precision.dtype(on_card), warn)
    }

    /// The type of activations on the card that is named, or else on the processor: nothing is opened.
    pub fn stored(&self, precision: Precision) -> DType {
        if let Choice::Cuda(_) = self.device { precision.dtype(true) } else { DType::F32 }
    }
}
