//! What `build.rs` made of `kernels/`.

use super::Module;
#[cfg(engine_cuda)]
use super::{Image, Packed};
use crate::base::{Error, Result};

// MODULES and TOOLKIT.
include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// The module of the file `name`.
pub fn module(name: &str) -> Result<&'static Module> {
    MODULES.iter().find(|module| module.name == name).ok_or_else(|| match TOOLKIT {
        Some(_) => Error::Device(format!("{name}: there is no file of kernels of this name")),
        None => Error::Device("this build has no CUDA kernels; build with nvcc in reach, see the README".into()),
    })
}
