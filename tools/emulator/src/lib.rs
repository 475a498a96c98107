//! Runs the PTX that nvcc emits, on the CPU: strict, deterministic, checked and counted.

#![deny(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "a lane is an index into rows of several registers")]
#![allow(clippy::precedence, reason = "shifts before masks before exclusive ors, as everywhere in bit manipulation")]

mod alu;
mod cfg;
mod check;
mod count;
mod cpu;
mod decode;
mod driver;
mod error;
mod ir;
mod lex;
mod mem;
mod parse;
mod regs;
mod report;
mod run;
mod tensor;
mod tmap;
mod types;
mod window;

pub use {
    check::{Checks, Fault, Kind},
    count::{Class, Count, Counts},
    driver::{Argument, Config, Device, Error, Function, Module, Result},
    error::LoadError,
    report::Report,
    run::{Launch, Policy},
    tensor::swizzle::Swizzle,
    tmap::{TensorMap, TensorType},
};

/// The example of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
