//! The one harness that tests every operation from its specification.

#![allow(dead_code, unused_imports)] // each test crate uses its own part

mod check;
mod devices;
mod dual;
mod emulated;
mod graph;
mod input;
pub mod mixture;
mod probes;

pub use check::{Oracle, check, check_products};
pub use devices::{all_cpus, cards, cpu, cpus, devices, get, kind, normals, put};
pub use dual::{Bf16Factors, Dual, Float, rounded};
pub use emulated::Emulated;
pub use input::{Input, Place};
