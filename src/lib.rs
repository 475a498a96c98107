//! A compute engine for diffusion transformers: kernels, autograd, optimizer, samplers.
//!
//! The modules are floors; each imports only from those above it in this list.

pub mod base;
pub mod device;
pub mod tensor;
pub mod data;
pub mod cpu;
pub mod cuda;
pub mod tape;
pub mod ops;
pub mod nn;
pub mod diffusion;
pub mod score;
pub mod train;
pub mod study;
pub mod cli;
pub mod ffi;
