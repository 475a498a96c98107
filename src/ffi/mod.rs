//! The C API. `include/engine.h` is made from this floor, and says what a caller must know.
//!
//! A handle is a box that the caller owns. Every call runs within [`status::call`], which lets no panic pass; what a caller
//! hands over is read by [`given`] alone.
//!
//! # Safety
//! A pointer is null, or what the head of `include/engine.h` and the comment of its function ask for.

#![allow(non_camel_case_types, clippy::missing_safety_doc)]

mod device;
mod given;
mod model;
mod sample;
mod status;

pub use device::{
    engine_device, engine_device_args, engine_device_close, engine_device_description, engine_device_open,
};
pub use model::{
    engine_model, engine_model_close, engine_model_describe, engine_model_info, engine_model_open, engine_predict,
    engine_predict_args,
};
pub use sample::{engine_sample, engine_sample_args};
pub use status::{engine_last_error, engine_status};

/// Handles may be used from any thread, which the header promises.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<engine_device>();
    shared::<engine_model>();
};

/// The version of this interface; it changes where a program compiled against the last one would no longer be right.
pub const ENGINE_ABI_VERSION: u32 = 1;

/// The ENGINE_ABI_VERSION of the library, to compare with that of the header.
#[unsafe(no_mangle)]
pub extern "C" fn engine_abi_version() -> u32 {
    ENGINE_ABI_VERSION
}
