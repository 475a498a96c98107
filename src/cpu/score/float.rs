//! The f32 products of the dense regime.

use super::ahead::Ahead;
use super::aligned::Aligned;
use super::dense::{CHAIN, GROUP};
use super::{LEAF, Query, Rows};
use crate::device::Isa;
use std::ops::Range;

/// Rows of a tile of inner products, and columns of a tile of weighted sums: 24 vectors of sums each.
const ROWS: usize = 8;
pub(super) const COLUMNS: usize = 48;
/// Rows that go through all chains before the next, while those are fetched: half of the second cache holds both.
const BLOCK: usize = 32;
/// Columns of weighted sums whose rows are decoded at once: whole cache lines of each.
const STRIP: usize = 8 * COLUMNS;

/// The points in f32, (chain, query, column of the chain), the columns padded to a multiple of 16: what one pass over the
/// rows of a leaf reads lies together.
pub fn packed(queries: &[Query<'_>], width: usize) -> Aligned<f32> {
    let mut z = Aligned::zeros(queries.len() * width.next_multiple_of(16));
    for (start, z) in (0..width).step_by(CHAIN).zip(z.chunks_mut(queries.len() * CHAIN)) {
        let length = z.len() / queries.len();
        for (query, z) in queries.iter().zip(z.chunks_exact_mut(length)) {
            z.iter_mut().zip(&query.z[start..width.min(start + CHAIN)]).for_each(|(single, &z)| *single = z as f32);
        }
    }
    z
}

/// `out[q, r] = <z_q, x_r>` for the rows of a leaf, `z` from [`packed`], `out` (queries, [`LEAF`]).
pub fn products_f32(isa: Isa, rows: &Rows<'_>, leaf: Range<usize>, z: &[f32], asked: usize, out: &mut [f64]) {
    out.fill(0.0);
    let mut x = Aligned::<f32>::zeros(ROWS * CHAIN);
    for start in (0..leaf.len()).step_by(BLOCK) {
        let block = leaf.start + start..leaf.end.min(leaf.start + start + BLOCK);
        for (column, z) in (0..rows.width).step_by(CHAIN).zip(z.chunks(asked * CHAIN)) {
            let columns = column..rows.width.min(column + CHAIN);
            for first in block.clone().step_by(ROWS) {
                let there = ROWS.min(block.end - first);
                let length = z.len() / asked;
                for (r, x) in x.chunks_exact_mut(length).take(there).enumerate() {
                    rows.values(isa, first + r, columns.clone(), &mut x[..columns.len()]);
                    x[columns.len()..].fill(0.0);
                }
                let ahead = rows.ahead(first + BLOCK, ROWS, columns.clone());
                add_products(isa, &x[..ROWS * length], z, there, ahead, &mut out[first - leaf.start..]);
            }
        }
    }
}

/// Adds the products of up to [`ROWS`] rows with all queries, both of one length.
fn add_products(isa: Isa, x: &[f32], z: &[f32], there: usize, mut ahead: Ahead, out: &mut [f64]) {
    let length = x.len() / ROWS;
    let asked = z.len() / length;
    let query = |q: usize| &z[q * length..][..length];
    let lines = ahead.per(asked.div_ceil(3));
    for q in (0..asked).step_by(3) {
        ahead.ask(lines);
        let mut sums = [[0.0; ROWS]; 3];
        match asked - q {
            1 => [sums[0]] = tile(isa, [query(q)], x),
            2 => [sums[0], sums[1]] = tile(isa, [query(q), query(q + 1)], x),
            _ => sums = tile(isa, [query(q), query(q + 1), query(q + 2)], x),
        }
        for (sums, out) in sums.iter().zip(out[q * LEAF..].chunks_mut(LEAF)) {
            out[..there].iter_mut().zip(sums).for_each(|(out, &sum)| *out += f64::from(sum));
        }
    }
}

/// Inner products of queries with rows, all of one length, a multiple of 16.
fn tile<const C: usize>(isa: Isa, queries: [&[f32]; C], rows: &[f32]) -> [[f32; ROWS]; C] {
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Avx512 {
        // SAFETY: an `Isa` is never above what the processor was found to have.
        return unsafe { x86::tile(queries, rows) };
    }
    let length = rows.len() / ROWS;
    queries.map(|query| std::array::from_fn(|r| product(isa, query, &rows[r * length..][..length])))
}

vectorised! {
    fn product(query: &[f32], row: &[f32]) -> f32 {
        let mut sums = [0.0f32; 16];
        let (rows, _) = row.as_chunks::<16>();
        let (queries, _) = query.as_chunks::<16>();
        for (q, x) in queries.iter().zip(rows) {
            for lane in 0..16 {
                sums[lane] += q[lane] * x[lane];
            }
        }
        let mut left = 16;
        while left > 1 {
            left /= 2;
            for lane in 0..left {
                sums[lane] += sums[lane + left];
            }
        }
        sums[0]
    }
}

/// The weighted sums of some columns, (tile of columns, groups of queries x [`GROUP`], [`COLUMNS`]).
///
/// `weights` (leaf, group, row of the leaf, query of the group).
pub fn blend(
    isa: Isa,
    rows: &Rows<'_>,
    range: Range<usize>,
    columns: Range<usize>,
    weights: &[f32],
    groups: usize,
) -> Vec<f64> {
    let tile = groups * GROUP * COLUMNS;
    let mut sums = vec![0.0; columns.len().div_ceil(COLUMNS) * tile];
    let mut values = Aligned::<f32>::zeros(STRIP);
    // (tile of columns, row, column)
    let mut x = Aligned::<f32>::zeros(LEAF * STRIP);
    for (leaf, weights) in weights.chunks_exact(groups * LEAF * GROUP).enumerate() {
        let first = range.start + leaf * LEAF;
        let there = LEAF.min(range.end - first);
        for (start, sums) in columns.clone().step_by(STRIP).zip(sums.chunks_mut(STRIP / COLUMNS * tile)) {
            let strip = start..columns.end.min(start + STRIP);
            for r in 0..there {
                rows.values(isa, first + r, strip.clone(), &mut values[..strip.len()]);
                for (values, x) in values.as_chunks::<COLUMNS>().0.iter().zip(x.chunks_exact_mut(LEAF * COLUMNS)) {
                    x.as_chunks_mut::<COLUMNS>().0[r] = *values;
                }
            }
            let mut ahead = rows.ahead(first + LEAF, LEAF, strip);
            let lines = ahead.per(sums.len() / (GROUP * COLUMNS));
            for (x, sums) in x.chunks_exact(LEAF * COLUMNS).zip(sums.chunks_exact_mut(tile)) {
                for (weights, sums) in weights.chunks_exact(LEAF * GROUP).zip(sums.as_chunks_mut().0) {
                    ahead.ask(lines);
                    add_tile(isa, x, &weights[..there * GROUP], sums);
                }
            }
        }
    }
    sums
}

/// Adds the weighted sums of 48 columns for the queries of a group.
fn add_tile(isa: Isa, x: &[f32], weights: &[f32], sums: &mut [f64; GROUP * COLUMNS]) {
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Avx512 {
        // SAFETY: an `Isa` is never above what the processor was found to have.
        unsafe { x86::add_tile(x, weights, sums) };
        return;
    }
    add_plain(isa, x, weights, sums);
}

vectorised! {
    fn add_plain(x: &[f32], weights: &[f32], sums: &mut [f64; GROUP * COLUMNS]) {
        for (q, sums) in sums.as_chunks_mut::<COLUMNS>().0.iter_mut().enumerate() {
            let mut chain = [0.0f32; COLUMNS];
            for (row, weights) in x.as_chunks::<COLUMNS>().0.iter().zip(weights.as_chunks::<GROUP>().0) {
                for (chain, x) in chain.iter_mut().zip(row) {
                    *chain += weights[q] * x;
                }
            }
            for (sum, chain) in sums.iter_mut().zip(chain) {
                *sum += f64::from(chain);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{COLUMNS, GROUP, ROWS};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub fn tile<const C: usize>(queries: [&[f32]; C], rows: &[f32]) -> [[f32; ROWS]; C] {
        let length = rows.len() / ROWS;
        assert!(length.is_multiple_of(16) && queries.iter().all(|query| query.len() == length));
        let mut sums = [[_mm512_setzero_ps(); ROWS]; C];
        for at in (0..length).step_by(16) {
            // SAFETY: rows and queries hold 16 columns from `at` on.
            unsafe {
                let q: [__m512; C] = std::array::from_fn(|c| _mm512_loadu_ps(queries[c].as_ptr().add(at)));
                for r in 0..ROWS {
                    let x = _mm512_loadu_ps(rows.as_ptr().add(r * length + at));
                    for (sums, q) in sums.iter_mut().zip(q) {
                        sums[r] = _mm512_fmadd_ps(x, q, sums[r]);
                    }
                }
            }
        }
        std::array::from_fn(|c| {
            let mut out = [0.0; ROWS];
            // SAFETY: eight floats.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), totals(&sums[c])) };
            out
        })
    }

    /// The sum of the lanes of each of eight vectors.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx2")]
    fn totals(sums: &[__m512; ROWS]) -> __m256 {
        let halves: [__m256; ROWS] = std::array::from_fn(|r| {
            _mm256_add_ps(_mm512_castps512_ps256(sums[r]), _mm512_extractf32x8_ps::<1>(sums[r]))
        });
        let four = |i: usize| {
            let pairs = [0, 2].map(|j| _mm256_hadd_ps(halves[i + j], halves[i + j + 1]));
            _mm256_hadd_ps(pairs[0], pairs[1])
        };
        let (low, high) = (four(0), four(4));
        _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high))
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
    pub fn add_tile(x: &[f32], weights: &[f32], sums: &mut [f64; GROUP * COLUMNS]) {
        let mut chains = [[_mm512_setzero_ps(); COLUMNS / 16]; GROUP];
        for (row, weights) in x.as_chunks::<COLUMNS>().0.iter().zip(weights.as_chunks::<GROUP>().0) {
            // SAFETY: 48 columns.
            let x: [__m512; COLUMNS / 16] =
                std::array::from_fn(|v| unsafe { _mm512_loadu_ps(row.as_ptr().add(16 * v)) });
            for (chain, &weight) in chains.iter_mut().zip(weights) {
                for (chain, x) in chain.iter_mut().zip(x) {
                    *chain = _mm512_fmadd_ps(_mm512_set1_ps(weight), x, *chain);
                }
            }
        }
        for (eight, half) in sums.as_chunks_mut::<8>().0.iter_mut().zip(0..) {
            let chain = chains.as_flattened()[half / 2];
            let eight_more =
                if half % 2 == 0 { _mm512_castps512_ps256(chain) } else { _mm512_extractf32x8_ps::<1>(chain) };
            // SAFETY: eight doubles.
            unsafe {
                let sum = _mm512_add_pd(_mm512_loadu_pd(eight.as_ptr()), _mm512_cvtps_pd(eight_more));
                _mm512_storeu_pd(eight.as_mut_ptr(), sum);
            }
        }
    }
}
