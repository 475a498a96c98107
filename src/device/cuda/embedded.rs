//! What `build.rs` made of `kernels/`.

#[cfg(engine_cuda)]
use super::Image;
use super::Module;
use crate::base::{Error, Result};

// MODULES and TOOLKIT.
include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// Bytes at an address that the driver may read as words.
#[cfg(engine_cuda)]
#[repr(align(64))]
struct Aligned<T: ?Sized>(T);

/// The module of the file `name`.
pub fn module(name: &str) -> Result<&'static Module> {
    MODULES.iter().find(|module| module.name == name).ok_or_else(|| match TOOLKIT {
        Some(_) => Error::Device(format!("{name}: there is no file of kernels of this name")),
        None => Error::Device("this build has no CUDA kernels; build with nvcc in reach, see the README".into()),
    })
}
