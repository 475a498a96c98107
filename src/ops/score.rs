//! The passes of the empirical score over the rows of a data set; nothing here is differentiated.

mod card;

pub use crate::cpu::score::{LEAF, Query, Select, Selected, Weights};
pub use crate::cpu::scratch::Scratch;

use crate::base::{Cost, DType, Error, Result};
use crate::cpu::score;
use crate::data::Store;
use crate::device::{Cpu, Device};
use card::CardRows;
use std::ops::Range;
use std::sync::Arc;

/// The rows of a data set on a device, ready for passes.
///
/// Weights and what follows from them are the processor's on every device; what reads rows is the device's.
pub struct Rows<'a> {
    cpu: Arc<Cpu>,
    place: Place<'a>,
}

enum Place<'a> {
    Host(score::Rows<'a>),
    Card(CardRows),
}

impl<'a> Rows<'a> {
    /// Reads every row of `store` once. Pixels are scanned where they lie; of other rows a copy of one byte a value is made. A
    /// card takes a copy of everything.
    ///
    /// # Errors
    /// `Data` if a value is not finite or the file cannot be mapped; `Memory` if the copy does not fit.
    pub fn new(device: &Device, store: &'a Store) -> Result<Rows<'a>> {
        Ok(match device {
            Device::Cpu(cpu) => Rows { cpu: cpu.clone(), place: Place::Host(score::Rows::new(cpu, device, store)?) },
            Device::Cuda(card) => Rows { cpu: host()?, place: Place::Card(CardRows::new(card, device, store)?) },
        })
    }

    /// Values of one row.
    pub fn width(&self) -> usize {
        match &self.place {
            Place::Host(rows) => rows.width(),
            Place::Card(rows) => rows.width(),
        }
    }

    /// No less than the length of any row.
    pub fn radius(&self) -> f64 {
        match &self.place {
            Place::Host(rows) => rows.radius(),
            Place::Card(rows) => rows.radius(),
        }
    }

    /// Finds the rows in `range` that can matter to each query.
    pub fn select(&self, range: Range<usize>, queries: &[Query<'_>], what: Select) -> Vec<Selected> {
        match &self.place {
            Place::Host(rows) => score::select(&self.cpu, rows, range, queries, what),
            Place::Card(rows) => rows.select(&self.cpu, range, queries, what),
        }
    }

    /// `|z - alpha x_i|^2` in f64 of each query and each row picked for it.
    ///
    /// Relative to the sum itself, the error is at most `(width / 32 + 16)` units of 2^-53, and that of the terms
    /// `2 alpha |x| / |z - alpha x|` more.
    pub fn squared_distances(&self, queries: &[Query<'_>], picks: &[Vec<u32>]) -> Vec<Vec<f64>> {
        match &self.place {
            Place::Host(rows) => score::squared_distances(&self.cpu, rows, queries, picks),
            Place::Card(rows) => rows.squared_distances(queries, picks),
        }
    }

    /// The sums in f64 of the rows picked for each query, weighted: (queries, width).
    pub fn means(&self, picks: &[Vec<u32>], weights: &[&[f64]]) -> Vec<f64> {
        match &self.place {
            Place::Host(rows) => score::means(&self.cpu, rows, picks, weights),
            Place::Card(rows) => rows.means(picks, weights),
        }
    }

    /// The logits of all rows in `range` for each query.
    pub fn logits(&self, range: Range<usize>, queries: &[Query<'_>]) -> Vec<Scratch<f64>> {
        match &self.place {
            Place::Host(rows) => score::logits(&self.cpu, rows, range, queries),
            Place::Card(rows) => rows.logits(range, queries),
        }
    }

    /// What [`logits`](Rows::logits) leave out of z: the logit of row x lacks `kappa <rest, x>`, up to rounding.
    pub fn rest(&self, query: Query<'_>) -> Vec<f64> {
        match &self.place {
            Place::Host(rows) => score::rest(rows, query),
            Place::Card(rows) => vec![0.0; rows.width()],
        }
    }

    /// No less than the error of any of the [`logits`](Rows::logits) of a query.
    pub fn logits_error(&self, query: Query<'_>) -> f64 {
        match &self.place {
            Place::Host(rows) => score::logits_error(rows, query),
            Place::Card(rows) => rows.logits_error(query),
        }
    }

    /// The sum of all rows in `range`, weighted for each query: (queries, width).
    ///
    /// The error of a sum has a length of at most [`means_error`](Rows::means_error) times the sum of the weights times that
    /// of the longest row.
    pub fn weighted_sums(&self, range: Range<usize>, weights: &[&[f64]]) -> Vec<f64> {
        match &self.place {
            Place::Host(rows) => score::weighted_sums(&self.cpu, rows, range, weights),
            Place::Card(rows) => rows.weighted_sums(range, weights),
        }
    }

    /// Of [`weighted_sums`](Rows::weighted_sums), relative to the longest row.
    pub fn means_error(&self) -> f64 {
        match &self.place {
            Place::Host(rows) => score::means_error(rows),
            Place::Card(rows) => rows.means_error(),
        }
    }

    /// Replaces the heaviest weights of the rows in `range` by those of distances in f64, where they are few: many errors
    /// that are independent cancel, few do not. Of many, what they have in common is taken from the largest logit, by a
    /// sample. Like the others they leave out `rests` of the queries. Where all logits are in f64, nothing changes.
    pub fn refine(&self, range: Range<usize>, queries: &[Query<'_>], rests: &[Vec<f64>], weights: &mut [Weights]) {
        if let Place::Host(rows) = &self.place {
            score::refine(&self.cpu, rows, range, queries, rests, weights);
        }
    }

    /// Turns logits into weights, each within four units of 2^-53 of the exponential.
    pub fn weigh(&self, logits: Vec<Scratch<f64>>) -> Vec<Weights> {
        score::weigh(&self.cpu, logits)
    }
}

/// The processor, for what a card leaves to it.
fn host() -> Result<Arc<Cpu>> {
    Ok(Arc::new(Cpu::new(None, DType::F32)?))
}

/// The processor of `device`, or the host's for a card.
fn processor(device: &Device) -> Result<Arc<Cpu>> {
    match device {
        Device::Cpu(cpu) => Ok(cpu.clone()),
        Device::Cuda(_) => host(),
    }
}

/// The mean of all rows of `store`, in f64.
///
/// # Errors
/// `Data` if a row cannot be read.
pub fn mean(store: &Store) -> Result<Vec<f64>> {
    score::mean(store)
}

/// The covariance of all rows of `store`, whose mean is `mean`, divided by their number: (width, width), in f64, by the
/// processor.
///
/// # Errors
/// `Data` if a row cannot be read; `Memory` if the covariance does not fit.
pub fn covariance(device: &Device, store: &Store, mean: &[f64]) -> Result<Vec<f64>> {
    let cpu = processor(device)?;
    let (elements, mut out) = (mean.len() * mean.len(), Vec::new());
    if out.try_reserve_exact(elements).is_err() {
        let what = format_args!("the covariance of {} values takes {} bytes", mean.len(), 8 * elements);
        return Err(Error::Memory(format!("out of memory: {what}; take smaller images")));
    }
    out.resize(elements, 0.0);
    score::covariance(&cpu, store, mean, &mut out)?;
    Ok(out)
}

/// A selection among `rows` rows for `queries` queries: one byte a value is read once. Products of bytes are no
/// floating-point operations.
pub fn select_cost(rows: usize, width: usize, queries: usize) -> Cost {
    Cost { bytes: (rows * width + 8 * queries * width) as u64, flops: 0 }
}

/// Adds `<u, x>^2` and `<u, x>^4` of all `rows` x (R, width) to the sums of each of the `directions` u (U, width), in f64, by
/// the processor.
pub fn powers_along(
    device: &Device,
    rows: &[f64],
    directions: &[f64],
    width: usize,
    sums: &mut [[f64; 2]],
) -> Result<()> {
    score::powers_along(&*processor(device)?, rows, directions, width, sums);
    Ok(())
}
