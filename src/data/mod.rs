//! Data at rest and on its way to a step: files, the dataset store, the loader.

pub mod atomic;
mod file_dtype;
mod header;
#[cfg(test)]
mod scratch;
mod source;
pub mod tensors;

pub use source::Source;
