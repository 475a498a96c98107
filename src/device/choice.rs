use super::cuda::{Cuda, Nvidia, TOOLKIT};
use super::{Cpu, Device};
use crate::base::{DType, Error, Result};
use std::num::NonZero;
use std::str::FromStr;
use std::sync::Arc;

/// Which device to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The best one that there is.
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

impl Choice {
    /// The device, where `products(on_card)` is what matrix products read on the processor, and activations on a card.
    ///
    /// The processor has `threads` threads, all cores for `None`. `warn` hears of a card that is there and cannot be used.
    pub fn open(
        self,
        threads: Option<NonZero<usize>>,
        products: impl Fn(bool) -> DType,
        warn: impl FnOnce(String),
    ) -> Result<Device> {
        let cpu = || Ok(Device::cpu(Cpu::new(threads, products(false))?));
        let card = |driver| Ok(Device::cuda(Cuda::new(Arc::new(driver), products(true))?));
        match self {
            Choice::Cpu => cpu(),
            Choice::Cuda(_) if TOOLKIT.is_none() => {
                let what = "this binary was built without CUDA kernels";
                Err(Error::Device(format!(
                    "--device cuda: {what}; build it where nvcc is found (tools/nvcc installs one), or give --device cpu"
                )))
            }
            Choice::Cuda(ordinal) => card(Nvidia::open(ordinal)?),
            Choice::Auto if TOOLKIT.is_none() => cpu(),
            Choice::Auto => match Nvidia::open(0) {
                // A machine without a card needs no word of it; a card that cannot be used does.
                Err(_) => cpu(),
                Ok(driver) => card(driver).or_else(|error: Error| {
                    warn(format!("{error}; this runs on the processor"));
                    cpu()
                }),
            },
        }
    }
}
