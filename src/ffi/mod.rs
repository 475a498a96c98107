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
mod score;
mod status;
mod trainer;

pub use device::{
    engine_device, engine_device_args, engine_device_close, engine_device_description, engine_device_open,
};
pub use model::{
    engine_model, engine_model_close, engine_model_describe, engine_model_info, engine_model_open, engine_predict,
    engine_predict_args,
};
pub use sample::{engine_sample, engine_sample_args};
pub use score::{
    ENGINE_ALL_CLASSES, engine_score, engine_score_answer, engine_score_args, engine_score_at, engine_score_close,
    engine_score_open, engine_score_query,
};
pub use status::{engine_last_error, engine_status};
pub use trainer::{
    engine_batch, engine_report, engine_trainer, engine_trainer_args, engine_trainer_close, engine_trainer_describe,
    engine_trainer_info, engine_trainer_open, engine_trainer_save, engine_trainer_step,
};

/// Handles may be used from any thread, which the header promises.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<engine_device>();
    shared::<engine_model>();
    shared::<engine_trainer>();
    shared::<engine_score>();
};

/// The version of this interface; it changes where a program compiled against the last one would no longer be right.
pub const ENGINE_ABI_VERSION: u32 = 1;

/// The ENGINE_ABI_VERSION of the library, to compare with that of the header.
#[unsafe(no_mangle)]
pub extern "C" fn engine_abi_version() -> u32 {
    ENGINE_ABI_VERSION
}
