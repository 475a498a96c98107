//! The passes of a card. It says which leaves and rows may matter; the processor judges, weighs and joins.

use crate::base::{DType, Element, Error, Result};
use crate::cpu;
use crate::cpu::score::{Digits, PIXEL_CENTER, Query, SIGNED_CENTER, Select, Selected, Sieve};
use crate::cpu::scratch::Scratch;
use crate::cuda::score::{self, Asked, LEAF, PITCH, Rows};
use crate::data::Store;
use crate::data::tensors::FileDType;
use crate::device::cuda::Cuda;
use crate::device::{Cpu, Device};
use crate::tensor::Tensor;
use half::f16;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of bounds that are read back at once.
const HELD: usize = 64 << 20;
/// What a card bounds together the sieve takes together.
const _: () = assert!(LEAF == cpu::score::LEAF);
/// Half a unit of f64.
const HALF: f64 = f64::EPSILON / 2.0;

/// The rows of a data set in the memory of a card.
pub struct CardRows {
    device: Device,
    card: Arc<Cuda>,
    rows: Rows,
    width: usize,
    count: usize,
    center: f64,
    radius: f64,
}

impl CardRows {
    pub fn new(card: &Arc<Cuda>, device: &Device, store: &Store) -> Result<CardRows> {
        let (bytes, width, count) = (store.mapped()?, store.width(), store.rows() as usize);
        let pitch = width.next_multiple_of(PITCH);
        let (dtype, center) = match store.info().dtype {
            FileDType::U8 => (DType::U8, PIXEL_CENTER),
            FileDType::F16 => (DType::F16, SIGNED_CENTER),
            _ => (DType::F32, SIGNED_CENTER),
        };
        let sliced = dtype != DType::U8 || pitch != width;
        drop(
            device
                .alloc("score", bytes.len() + if sliced { count * pitch } else { 0 } + 4 * count * size_of::<f64>())?,
        );
        let mut rows = Rows {
            values: Tensor::new(device, "score", [count, width], dtype),
            slices: sliced.then(|| Tensor::new(device, "score", [count, pitch], DType::U8)),
            facts: Tensor::new(device, "score", [4, count], DType::F64),
        };
        match dtype {
            DType::U8 => rows.values.write(bytes),
            DType::F16 => write::<f16>(&mut rows.values, bytes),
            _ => write::<f32>(&mut rows.values, bytes),
        }
        score::slice(card, &mut rows);
        let mut facts = vec![0.0f64; 2 * count];
        rows.facts.read_from(count, &mut facts);
        let (squares, lengths) = facts.split_at(count);
        if let Some(i) = squares.iter().position(|square| !square.is_finite()) {
            store.read(&[i as u32], &mut vec![0.0; width])?;
            return Err(Error::Data(format!("row {i}: the square of its length is no number of f64; scale the data")));
        }
        let radius = lengths.iter().copied().fold(0.0, f64::max);
        Ok(CardRows { device: device.clone(), card: card.clone(), rows, width, count, center, radius })
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn radius(&self) -> f64 {
        self.radius
    }

    pub fn select(&self, cpu: &Cpu, range: Range<usize>, queries: &[Query<'_>], what: Select) -> Vec<Selected> {
        let (mut sieves, asked) = self.ask(queries, what);
        let leaves = range.len().div_ceil(LEAF);
        let mut extremes = self.workspace([queries.len(), leaves, 4], DType::F64);
        score::extremes(&self.card, &self.rows, range.clone(), &asked, &mut extremes);
        let extremes = extremes.to_vec::<f64>();
        let mut listed: Vec<Vec<u32>> = vec![vec![]; leaves];
        for (q, (sieve, extremes)) in sieves.iter().zip(extremes.chunks(4 * leaves)).enumerate() {
            sieve.leaves(extremes.as_chunks().0).into_iter().for_each(|leaf| listed[leaf as usize].push(q as u32));
        }
        let some: Vec<u32> = (0..).zip(&listed).filter(|(_, queries)| !queries.is_empty()).map(|(i, _)| i).collect();
        let each = 2 * LEAF * queries.len();
        for some in some.chunks((HELD / (each * size_of::<f64>())).max(1)) {
            let list = self.on_card([some.len()], some);
            let mut bounds = self.workspace([some.len(), each], DType::F64);
            score::bounds(&self.card, &self.rows, range.clone(), &asked, &list, &mut bounds);
            for (&leaf, bounds) in some.iter().zip(bounds.to_vec::<f64>().chunks(each)) {
                let first = range.start + leaf as usize * LEAF;
                let rows = LEAF.min(range.end - first);
                for &q in &listed[leaf as usize] {
                    let (lower, upper) = bounds[q as usize * 2 * LEAF..][..2 * LEAF].split_at(LEAF);
                    sieves[q as usize].leaf(cpu, first as u32, &lower[..rows], &upper[..rows]);
                }
            }
        }
        sieves.into_iter().map(Sieve::finish).collect()
    }

    /// Queries as whole numbers, with the sieve of each.
    fn ask(&self, queries: &[Query<'_>], what: Select) -> (Vec<Sieve>, Asked) {
        let pitch = self.width.next_multiple_of(PITCH);
        let mut digits = vec![0u8; queries.len() * pitch];
        let mut sieves = Vec::with_capacity(queries.len());
        for (&query, out) in queries.iter().zip(digits.chunks_mut(pitch)) {
            let digits = Digits::new(query, 1);
            out.iter_mut().zip(&digits.digits).for_each(|(out, &digit)| *out = digit as u8);
            sieves.push(Sieve::new(query, &digits, self.center, what));
        }
        let terms: Vec<f64> = sieves.iter().flat_map(Sieve::terms).collect();
        let digits = self.on_card([queries.len(), pitch], &digits);
        (sieves, Asked { digits, terms: self.on_card([queries.len(), 8], &terms) })
    }

    pub fn squared_distances(&self, queries: &[Query<'_>], picks: &[Vec<u32>]) -> Vec<Vec<f64>> {
        let pairs: Vec<u32> =
            (0..).zip(picks).flat_map(|(q, picks)| picks.iter().flat_map(move |&row| [q, row])).collect();
        if pairs.is_empty() {
            return vec![vec![]; picks.len()];
        }
        let alphas: Vec<f64> = queries.iter().map(|query| query.alpha).collect();
        let (z, alphas) = (self.points(queries), self.on_card([alphas.len()], &alphas));
        let pairs = self.on_card([pairs.len() / 2, 2], &pairs);
        let mut out = self.workspace([pairs.shape().rows()], DType::F64);
        score::squared_distances(&self.card, &self.rows, [&z, &alphas], &pairs, &mut out);
        let mut all = out.to_vec::<f64>().into_iter();
        picks.iter().map(|picks| all.by_ref().take(picks.len()).collect()).collect()
    }

    pub fn means(&self, picks: &[Vec<u32>], weights: &[&[f64]]) -> Vec<f64> {
        let (rows, weights) = (picks.concat(), weights.concat());
        if rows.is_empty() {
            return vec![0.0; picks.len() * self.width];
        }
        let ends = picks.iter().scan(0, |end, picks| {
            *end += picks.len() as u32;
            Some(*end)
        });
        let offsets: Vec<u32> = std::iter::once(0).chain(ends).collect();
        let (offsets, rows) = (self.on_card([offsets.len()], &offsets), self.on_card([rows.len()], &rows));
        let weights = self.on_card([weights.len()], &weights);
        let mut out = self.workspace([picks.len(), self.width], DType::F64);
        score::picked_sums(&self.card, &self.rows, &offsets, &rows, &weights, &mut out);
        out.to_vec()
    }

    pub fn logits(&self, range: Range<usize>, queries: &[Query<'_>]) -> Vec<Scratch<f64>> {
        let constants: Vec<f64> = queries
            .iter()
            .flat_map(|query| {
                let own = query.logit(query.z.iter().map(|z| z * z).sum());
                [query.kappa(), 0.5 * query.kappa() * query.alpha, own]
            })
            .collect();
        let (z, constants) = (self.points(queries), self.on_card([queries.len(), 3], &constants));
        let mut out = self.workspace([queries.len(), range.len()], DType::F64);
        score::logits(&self.card, &self.rows, range.clone(), [&z, &constants], &mut out);
        out.to_vec::<f64>().chunks(range.len()).map(Scratch::from).collect()
    }

    /// Every product and every sum of as many terms as columns is in f64, and so are the few steps behind them.
    pub fn logits_error(&self, query: Query<'_>) -> f64 {
        let kappa = query.kappa();
        let square: f64 = query.z.iter().map(|z| z * z).sum();
        let sizes =
            [kappa * square.sqrt() * self.radius, -query.logit(square), kappa * query.alpha * self.radius.powi(2)];
        1.01 * (self.width as f64 + 8.0) * HALF * sizes.iter().sum::<f64>()
    }

    pub fn weighted_sums(&self, range: Range<usize>, weights: &[&[f64]]) -> Vec<f64> {
        let weights = self.on_card([weights.len(), range.len()], &weights.concat());
        let mut out = self.workspace([weights.shape().rows(), self.width], DType::F64);
        score::weighted_sums(&self.card, &self.rows, range, &weights, &mut out);
        out.to_vec()
    }

    /// Of sums of all rows.
    pub fn means_error(&self) -> f64 {
        1.01 * (self.count as f64 + 2.0) * HALF
    }

    fn points(&self, queries: &[Query<'_>]) -> Tensor {
        let z: Vec<f64> = queries.iter().flat_map(|query| query.z).copied().collect();
        self.on_card([queries.len(), self.width], &z)
    }

    fn workspace<const N: usize>(&self, shape: [usize; N], dtype: DType) -> Tensor {
        Tensor::workspace(&*self.card, shape, dtype)
    }

    fn on_card<T: Element, const N: usize>(&self, shape: [usize; N], values: &[T]) -> Tensor {
        Tensor::from_slice(&self.device, "workspace", shape, values)
    }
}

/// Writes values that lie in a file at any address.
fn write<T: Element>(tensor: &mut Tensor, bytes: &[u8]) {
    /// Bytes that are copied to whole elements at once.
    const CHUNK: usize = 1 << 24;
    let (size, mut start) = (size_of::<T>(), 0);
    for bytes in bytes.chunks(CHUNK) {
        let values: Vec<T> = bytes.chunks_exact(size).map(bytemuck::pod_read_unaligned).collect();
        tensor.write_from(start, &values);
        start += bytes.len() / size;
    }
}
