//! The passes of the empirical score over the rows of a data set; nothing here is differentiated.

pub use crate::cpu::score::{LEAF, Query, Select, Selected, Weights};

use crate::base::{Cost, Error, Result};
use crate::cpu::score;
use crate::data::Store;
use crate::device::{Cpu, Device};
use std::ops::Range;
use std::sync::Arc;

/// The rows of a data set on a device, ready for passes.
pub struct Rows<'a> {
    cpu: Arc<Cpu>,
    host: score::Rows<'a>,
}

impl<'a> Rows<'a> {
    /// Reads every row of `store` once. Pixels are scanned where they lie; of other rows a copy of one byte a value is made.
    ///
    /// # Errors
    /// `Data` if a value is not finite or the file cannot be mapped; `Memory` if the copy does not fit; `Device` for one
    /// that has no passes.
    pub fn new(device: &Device, store: &'a Store) -> Result<Rows<'a>> {
        match device {
            Device::Cpu(cpu) => Ok(Rows { cpu: cpu.clone(), host: score::Rows::new(cpu, device, store)? }),
            Device::Cuda(_) => Err(only_processors(device)),
        }
    }

    /// Values of one row.
    pub fn width(&self) -> usize {
        self.host.width()
    }

    /// No less than the length of any row.
    pub fn radius(&self) -> f64 {
        self.host.radius()
    }

    /// Finds the rows in `range` that can matter to each query.
    pub fn select(&self, range: Range<usize>, queries: &[Query<'_>], what: Select) -> Vec<Selected> {
        score::select(&self.cpu, &self.host, range, queries, what)
    }

    /// `|z - alpha x_i|^2` in f64 of each query and each row picked for it.
    ///
    /// Relative to the sum itself, the error is at most `(width / 32 + 16)` units of 2^-53, and that of the terms
    /// `2 alpha |x| / |z - alpha x|` more.
    pub fn squared_distances(&self, queries: &[Query<'_>], picks: &[Vec<u32>]) -> Vec<Vec<f64>> {
        score::squared_distances(&self.cpu, &self.host, queries, picks)
    }

    /// The sums in f64 of the rows picked for each query, weighted: (queries, width).
    pub fn means(&self, picks: &[Vec<u32>], weights: &[&[f64]]) -> Vec<f64> {
        score::means(&self.cpu, &self.host, picks, weights)
    }

    /// The logits of all rows in `range` for each query.
    pub fn logits(&self, range: Range<usize>, queries: &[Query<'_>]) -> Vec<Vec<f64>> {
        score::logits(&self.cpu, &self.host, range, queries)
    }

    /// What [`logits`](Rows::logits) leave out of z: the logit of row x lacks `kappa <rest, x>`, up to rounding.
    pub fn rest(&self, query: Query<'_>) -> Vec<f64> {
        score::rest(&self.host, query)
    }

    /// No less than the error of any of the [`logits`](Rows::logits) of a query.
    pub fn logits_error(&self, query: Query<'_>) -> f64 {
        score::logits_error(&self.host, query)
    }

    /// The sum of all rows in `range`, weighted for each query: (queries, width).
    ///
    /// The error of a sum has a length of at most [`means_error`](Rows::means_error) times the sum of the weights times that
    /// of the longest row.
    pub fn weighted_sums(&self, range: Range<usize>, weights: &[&[f64]]) -> Vec<f64> {
        score::weighted_sums(&self.cpu, &self.host, range, weights)
    }

    /// Of [`weighted_sums`](Rows::weighted_sums), relative to the longest row.
    pub fn means_error(&self) -> f64 {
        score::means_error(&self.host)
    }

    /// Replaces the heaviest weights of the rows in `range` by those of distances in f64, where they are few: many errors
    /// that are independent cancel, few do not. Of many, what they have in common is taken from the largest logit, by a
    /// sample. Like the others they leave out `rests` of the queries.
    pub fn refine(&self, range: Range<usize>, queries: &[Query<'_>], rests: &[Vec<f64>], weights: &mut [Weights]) {
        score::refine(&self.cpu, &self.host, range, queries, rests, weights)
    }

    /// Takes back the memory of logits that are no longer needed.
    pub fn keep(&self, weights: Weights) {
        self.host.keep(weights);
    }

    /// Turns logits into weights, each within four units of 2^-53 of the exponential.
    pub fn weigh(&self, logits: Vec<Vec<f64>>) -> Vec<Weights> {
        score::weigh(&self.cpu, logits)
    }
}

/// The mean of all rows of `store`, in f64.
///
/// # Errors
/// `Data` if a row cannot be read.
pub fn mean(store: &Store) -> Result<Vec<f64>> {
    score::mean(store)
}

/// The covariance of all rows of `store`, whose mean is `mean`, divided by their number: (width, width), in f64.
///
/// # Errors
/// `Data` if a row cannot be read; `Memory` if the covariance does not fit; `Device` for a device that has no passes.
pub fn covariance(device: &Device, store: &Store, mean: &[f64]) -> Result<Vec<f64>> {
    let Device::Cpu(cpu) = device else { return Err(only_processors(device)) };
    let (elements, mut out) = (mean.len() * mean.len(), Vec::new());
    if out.try_reserve_exact(elements).is_err() {
        let what = format_args!("the covariance of {} values takes {} bytes", mean.len(), 8 * elements);
        return Err(Error::Memory(format!("out of memory: {what}; take smaller images")));
    }
    out.resize(elements, 0.0);
    score::covariance(cpu, store, mean, &mut out)?;
    Ok(out)
}

fn only_processors(device: &Device) -> Error {
    let device = device.describe();
    Error::Device(format!("{device}: the empirical score is computed on the processor; give --device cpu"))
}

/// A selection among `rows` rows for `queries` queries: one byte a value is read once. Products of bytes are no
/// floating-point operations.
pub fn select_cost(rows: usize, width: usize, queries: usize) -> Cost {
    Cost { bytes: (rows * width + 8 * queries * width) as u64, flops: 0 }
}
