//! The passes of the empirical score over the rows of a data set.
//!
//! ```text
//! l_i = -|z - alpha x_i|^2 / 2 sigma^2                    the logit of row i; kappa = alpha / sigma^2
//!     = kappa <z, x_i> - kappa alpha |x_i|^2 / 2 - |z|^2 / 2 sigma^2
//! ```
//! [`select`] reads a slice of each row, one byte a value, once: inner products of bytes are exact whole numbers, and the
//! length of what the slices leave out bounds how far a logit can be off. What is kept is computed from the values
//! themselves, in f64, by [`squared_distances`] and [`means`]. Where most rows would be kept, [`logits`] and [`weighted_sums`] take all of them.

mod ahead;
mod aligned;
mod covariance;
mod decode;
mod dense;
mod digits;
mod exact;
mod float;
#[cfg(target_arch = "x86_64")]
mod pixels;
mod products;
mod select;
mod weights;

pub use covariance::{covariance, mean, powers_along};
pub use dense::{logits, logits_error, means_error, rest, weighted_sums};
pub use digits::Digits;
pub use exact::{means, squared_distances};
pub use products::products;
pub use select::{Extremes, Select, Selected, Sieve, select};
pub use weights::{Weights, refine, weigh};

use crate::base::{DType, Error, Result};
use crate::data::Store;
use crate::data::tensors::FileDType;
use crate::device::{Chunks, Cpu, Device, Isa};
use crate::tensor::Tensor;
use ahead::Ahead;
use decode::decode;
use std::ops::Range;

/// Rows whose weights are summed together, in order, before anything else: the same bits for any batch and threads.
pub const LEAF: usize = 128;

/// The rows of a data set, made ready for passes.
///
/// Row `x = x' + r` has the slice `x'_j = scale (byte_j - center)`.
pub struct Rows<'a> {
    bytes: &'a [u8],
    dtype: FileDType,
    width: usize,
    /// The slices, where they are not the bytes of the rows themselves.
    slices: Option<Tensor>,
    center: f64,
    facts: Vec<Facts>,
    /// The largest length of a row.
    radius: f64,
}

/// What is known of a row.
#[derive(Clone, Copy, Default)]
pub(super) struct Facts {
    scale: f64,
    /// |x|^2.
    square: f64,
    /// No less than |x'| and |x|.
    length: f64,
    /// No less than |x - x'|.
    residual: f64,
}

impl<'a> Rows<'a> {
    /// Reads every row of `store` once. Pixels are their own slices; of other rows a copy of one byte a value is made.
    ///
    /// # Errors
    /// `Data` if a value is not finite; `Memory` if the slices do not fit.
    pub fn new(cpu: &Cpu, device: &Device, store: &'a Store) -> Result<Rows<'a>> {
        let (bytes, dtype, width) = (store.mapped()?, store.info().dtype, store.width());
        let count = store.rows() as usize;
        let mut facts = vec![Facts::default(); count];
        let size = width * dtype.size() as usize;
        let row = |i: usize| &bytes[i * size..][..size];
        let (center, slices) = if dtype == FileDType::U8 {
            cpu.threads.each(Chunks::new(&mut facts, LEAF), 1, |leaf, facts| {
                let mut x = vec![0.0; width];
                for (i, facts) in facts.iter_mut().enumerate() {
                    decode(cpu.isa(), dtype, row(leaf * LEAF + i), &mut x);
                    *facts = Facts::of_pixels(&x);
                }
            });
            (PIXEL_CENTER, None)
        } else {
            device.alloc("score", count * width)?;
            let mut slices = Tensor::new(device, "score", [count, width], DType::U8);
            let parts = (Chunks::new(&mut facts, LEAF), Chunks::new(slices.slice_mut(), LEAF * width));
            cpu.threads.each(parts, 1, |leaf, (facts, slices)| {
                let mut x = vec![0.0; width];
                for (i, (facts, slice)) in facts.iter_mut().zip(slices.chunks_exact_mut(width)).enumerate() {
                    decode(cpu.isa(), dtype, row(leaf * LEAF + i), &mut x);
                    *facts = Facts::sliced(&x, slice);
                }
            });
            (SIGNED_CENTER, Some(slices))
        };
        if let Some(i) = facts.iter().position(|facts| !facts.square.is_finite()) {
            store.read(&[i as u32], &mut vec![0.0; width])?;
            return Err(Error::Data(format!("row {i}: the square of its length is no number of f64; scale the data")));
        }
        let radius = facts.iter().fold(0.0, |radius: f64, facts| radius.max(facts.length));
        Ok(Rows { bytes, dtype, width, slices, center, facts, radius })
    }

    pub fn count(&self) -> usize {
        self.facts.len()
    }

    pub fn width(&self) -> usize {
        self.width
    }

    /// No less than the length of any row.
    pub fn radius(&self) -> f64 {
        self.radius
    }

    /// The slices of `rows`.
    fn slices(&self, rows: Range<usize>) -> &[u8] {
        let slices = self.slices.as_ref().map_or(self.bytes, |slices| slices.slice());
        &slices[rows.start * self.width..rows.end * self.width]
    }

    /// Some columns of `count` rows from `row` on, none of which need exist.
    fn ahead(&self, row: usize, count: usize, columns: Range<usize>) -> Ahead {
        let size = self.dtype.size() as usize;
        let start = (row * self.width + columns.start) * size;
        Ahead::new(self.bytes, start, columns.len() * size, self.width * size, count)
    }

    /// The values of some columns of a row.
    fn values(&self, isa: Isa, row: usize, columns: Range<usize>, out: &mut [f32]) {
        let size = self.dtype.size() as usize;
        let bytes = &self.bytes[(row * self.width + columns.start) * size..][..columns.len() * size];
        decode(isa, self.dtype, bytes, out);
    }
}

/// Bytes `u` of pixels are read as `2 u / 255 - 1 = 2 / 255 (u - 127.5)`, rounded to f32.
pub const PIXEL_CENTER: f64 = 127.5;
/// Slices of signed values are shifted to 1..=255.
pub const SIGNED_CENTER: f64 = 128.0;
/// What a sum of so many f64 squares may be off, relatively, and then some.
const SLACK: f64 = 1.0 + 1e-9;

impl Facts {
    fn of_pixels(x: &[f32]) -> Facts {
        /// A value is rounded to half a unit twice, at a size of at most 2 and of at most 1.
        const ROUNDING: f64 = f32::EPSILON as f64 * 0.75;
        let square = square(x);
        let residual = (x.len() as f64).sqrt() * ROUNDING;
        Facts { scale: 2.0 / 255.0, square, length: square.sqrt() * SLACK + residual, residual }
    }

    fn sliced(x: &[f32], slice: &mut [u8]) -> Facts {
        let largest = x.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        let scale = if largest > 0.0 { f64::from(largest) / 127.0 } else { 1.0 };
        let mut residual = 0.0;
        for (&x, slice) in x.iter().zip(slice) {
            let byte = (f64::from(x) / scale).round();
            *slice = (byte + SIGNED_CENTER) as u8;
            residual += (f64::from(x) - scale * byte).powi(2);
        }
        let (square, residual) = (square(x), residual.sqrt() * SLACK);
        Facts { scale, square, length: square.sqrt() * SLACK + residual, residual }
    }
}

fn square(x: &[f32]) -> f64 {
    x.iter().map(|&x| f64::from(x) * f64::from(x)).sum()
}

/// A point at a time of a path.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    pub z: &'a [f64],
    pub alpha: f64,
    pub sigma: f64,
}

impl Query<'_> {
    /// alpha / sigma^2.
    pub fn kappa(&self) -> f64 {
        self.alpha / (self.sigma * self.sigma)
    }

    /// The logit of a squared distance `|z - alpha x|^2`.
    pub fn logit(&self, squared_distance: f64) -> f64 {
        -squared_distance / (2.0 * self.sigma * self.sigma)
    }
}
