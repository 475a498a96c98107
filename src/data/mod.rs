//! Data at rest and on its way to a step: files, the dataset store, the loader.

pub mod atomic;
mod embedded;
mod file_dtype;
mod foreign;
mod header;
mod idx;
mod images;
pub mod ingest;
mod loader;
mod memory;
mod moments;
pub mod npy;
mod pack;
pub mod pictures;
pub mod png;
#[cfg(test)]
pub(crate) mod scratch;
mod source;
mod store;
mod subset;
pub mod svg;
pub mod tensors;
mod warnings;

pub use embedded::fashion_mnist;
pub use loader::{Batch, Loader, Order, Split};
pub use pack::Progress;
pub use source::Source;
pub use store::{Info, Store, values};
pub use subset::per_class;
