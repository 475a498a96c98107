//! Weighted sums of pixels by whole numbers, where the processor multiplies bytes.
//!
//! A weight is three digits of eight bits, relative to the largest weight of its leaf for the query. Sums over a leaf are
//! exact; then the leaf's sums are scaled and added in f64. Four rows at a time, the bytes of a column lie in one word.

use super::aligned::Aligned;
use super::{LEAF, Rows};
use crate::cpu::scratch::Scratch;
use crate::device::{Chunks, Cpu, Isa};
use std::arch::x86_64::*;
use std::ops::Range;

const DIGITS: usize = 3;
/// Queries of a tile: with 64 columns 24 sums, four vectors of pixels and one of digits fit into 32 registers.
const QUERIES: usize = 2;
const COLUMNS: usize = 64;
/// Rows whose bytes make one word, and how many of them a leaf has.
const QUAD: usize = 4;
const QUADS: usize = LEAF / QUAD;
/// Bytes of the digits of a tile: (quad, query, digit, row of the quad).
const TILE: usize = QUADS * QUERIES * DIGITS * QUAD;
/// The largest weight of a leaf as a whole number.
const LARGEST: f64 = 127.0 * 65536.0;
/// Columns of a leaf that are interleaved at once: they stay in the second cache while all queries pass.
const STRIP: usize = 12 * COLUMNS;

/// Whether the processor has the instructions.
pub fn supported(isa: Isa) -> bool {
    isa >= Isa::Avx512 && is_x86_feature_detected!("avx512vnni")
}

/// The sum of the pixels of the rows in `range` weighted for each query, (queries, width).
pub fn weighted_sums(cpu: &Cpu, rows: &Rows<'_>, range: Range<usize>, weights: &[&[f64]]) -> Vec<f64> {
    assert!(supported(cpu.isa()), "{} multiplies no bytes", cpu.isa());
    let (width, asked, leaves) = (rows.width, weights.len(), range.len().div_ceil(LEAF));
    let tiles = asked.div_ceil(QUERIES);
    let mut digits = Scratch::<i8>::new(leaves * tiles * TILE);
    // For each leaf and query what the last digit is worth, and the sum of the whole numbers.
    let mut steps = vec![[0.0; 2]; leaves * tiles * QUERIES];
    let parts = (Chunks::new(&mut digits, tiles * TILE), Chunks::new(&mut steps, tiles * QUERIES));
    cpu.threads.each(parts, 1, |leaf, (digits, steps)| {
        for (q, (weights, step)) in weights.iter().zip(steps).enumerate() {
            let weights = &weights[leaf * LEAF..weights.len().min((leaf + 1) * LEAF)];
            let place = q % QUERIES * DIGITS * QUAD;
            // SAFETY: the instructions are there.
            *step = unsafe { split(weights, &mut digits[q / QUERIES * TILE..][..TILE], place) };
        }
    });
    let strip = width.div_ceil(cpu.threads.count()).next_multiple_of(COLUMNS);
    let mut strips: Vec<Vec<f64>> = (0..width.div_ceil(strip)).map(|_| vec![]).collect();
    cpu.threads.each(Chunks::new(&mut strips, 1), 1, |number, sums| {
        let columns = number * strip..width.min((number + 1) * strip);
        // SAFETY: the instructions are there.
        sums[0] = unsafe { sum_strip(rows, range.clone(), columns, &digits, &steps, tiles) };
    });
    let mut out = vec![0.0; asked * width];
    for (q, out) in out.chunks_exact_mut(width).enumerate() {
        let total: f64 = (0..leaves).map(|leaf| steps[leaf * tiles * QUERIES + q]).map(|[step, sum]| step * sum).sum();
        for (out, sums) in out.chunks_mut(strip).zip(&strips) {
            let scale = rows.facts[range.start].scale;
            for (out, sums) in out.chunks_mut(COLUMNS).zip(sums.chunks_exact(tiles * QUERIES * COLUMNS)) {
                let sum = |column| sums[q * COLUMNS + place_of(column)];
                out.iter_mut().enumerate().for_each(|(j, out)| *out = scale * (sum(j) - rows.center * total));
            }
        }
    }
    out
}

/// Where the tile leaves the sum of a column: its vector i holds the columns 16 l + 4 i + j, in the order of l and j.
fn place_of(column: usize) -> usize {
    column / 4 % 4 * 16 + column / 16 * 4 + column % 4
}

/// Writes the digits of the weights of a leaf; returns what a unit is worth, and the sum of the units.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn split(weights: &[f64], digits: &mut [i8], place: usize) -> [f64; 2] {
    let largest = weights.iter().copied().fold(0.0, f64::max);
    if largest == 0.0 {
        return [0.0; 2];
    }
    let mut numbers = [0i32; LEAF];
    let units = LARGEST / largest;
    numbers.iter_mut().zip(weights).for_each(|(number, weight)| *number = (weight * units).round_ties_even() as i32);
    let sum: i64 = numbers.iter().map(|&number| i64::from(number)).sum();
    for digit in (0..DIGITS).rev() {
        let low = numbers.map(|number| number as i8);
        numbers.iter_mut().zip(low).for_each(|(number, low)| *number = (*number - i32::from(low)) >> 8);
        for (quad, low) in low.as_chunks::<QUAD>().0.iter().enumerate() {
            digits[quad * QUERIES * DIGITS * QUAD + place + digit * QUAD..][..QUAD].copy_from_slice(low);
        }
    }
    [largest / LARGEST, sum as f64]
}

/// The sums of some columns in units of the digits, (group of columns, query, column), columns as [`place_of`] says.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
fn sum_strip(
    rows: &Rows<'_>,
    range: Range<usize>,
    columns: Range<usize>,
    digits: &[i8],
    steps: &[[f64; 2]],
    tiles: usize,
) -> Vec<f64> {
    let group = tiles * QUERIES * COLUMNS;
    let mut sums = vec![0.0; columns.len().div_ceil(COLUMNS) * group];
    // (group of columns, quad, vector, byte)
    let mut words = Aligned::<u8>::zeros(LEAF * STRIP);
    for (leaf, (digits, steps)) in digits.chunks(tiles * TILE).zip(steps.chunks(tiles * QUERIES)).enumerate() {
        let leaf = range.start + leaf * LEAF..range.end.min(range.start + (leaf + 1) * LEAF);
        for (start, sums) in columns.clone().step_by(STRIP).zip(sums.chunks_mut(STRIP / COLUMNS * group)) {
            let strip = start..columns.end.min(start + STRIP);
            interleave(rows.slices(leaf.clone()), rows.width, strip.clone(), &mut words);
            let mut ahead = rows.ahead(leaf.end, LEAF, strip);
            let lines = ahead.per(sums.len() / (QUERIES * COLUMNS));
            for (words, sums) in words.chunks_exact(LEAF * COLUMNS).zip(sums.chunks_exact_mut(group)) {
                let tiles = digits.chunks_exact(TILE).zip(steps.as_chunks().0).zip(sums.as_chunks_mut().0);
                for ((digits, steps), sums) in tiles {
                    ahead.ask(lines);
                    add_tile(words, digits, steps, sums);
                }
            }
        }
    }
    sums
}

/// Brings the bytes of a column in four rows into one word.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn interleave(bytes: &[u8], width: usize, columns: Range<usize>, words: &mut [u8]) {
    let rows = bytes.len() / width;
    for (start, words) in columns.clone().step_by(COLUMNS).zip(words.chunks_exact_mut(LEAF * COLUMNS)) {
        let there = COLUMNS.min(columns.end - start);
        let mask = if there == COLUMNS { !0 } else { (1u64 << there) - 1 };
        for (quad, words) in words.chunks_exact_mut(QUAD * COLUMNS).enumerate() {
            let [a, b, c, d]: [__m512i; QUAD] = std::array::from_fn(|r| {
                let row = quad * QUAD + r;
                if row >= rows {
                    return _mm512_setzero_si512();
                }
                // SAFETY: the mask selects columns of the row.
                unsafe { _mm512_maskz_loadu_epi8(mask, bytes[row * width + start..].as_ptr().cast()) }
            });
            let (low, high) = (_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b));
            let (lower, higher) = (_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d));
            let vectors = [
                _mm512_unpacklo_epi16(low, lower),
                _mm512_unpackhi_epi16(low, lower),
                _mm512_unpacklo_epi16(high, higher),
                _mm512_unpackhi_epi16(high, higher),
            ];
            for (words, vector) in words.chunks_exact_mut(64).zip(vectors) {
                // SAFETY: 64 bytes.
                unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), vector) };
            }
        }
    }
}

/// Adds the sums of 64 columns over a leaf for two queries.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
fn add_tile(words: &[u8], digits: &[i8], steps: &[[f64; 2]; QUERIES], sums: &mut [f64; QUERIES * COLUMNS]) {
    assert!(words.len() == LEAF * COLUMNS && digits.len() == TILE);
    let mut whole = [[_mm512_setzero_si512(); 4]; QUERIES * DIGITS];
    for (words, digits) in words.chunks_exact(QUAD * COLUMNS).zip(digits.chunks_exact(QUERIES * DIGITS * QUAD)) {
        // SAFETY: four vectors of 64 bytes.
        let x: [__m512i; 4] = std::array::from_fn(|v| unsafe { _mm512_loadu_si512(words.as_ptr().add(64 * v).cast()) });
        for (whole, digits) in whole.iter_mut().zip(digits.as_chunks::<QUAD>().0) {
            let digits = _mm512_set1_epi32(i32::from_le_bytes(digits.map(|digit| digit as u8)));
            for (whole, x) in whole.iter_mut().zip(x) {
                *whole = _mm512_dpbusd_epi32(*whole, x, digits);
            }
        }
    }
    for (q, ([first, second, third], step)) in whole.as_chunks::<DIGITS>().0.iter().zip(steps).enumerate() {
        let (step, base) = (_mm512_set1_pd(step[0]), _mm512_set1_pd(256.0));
        for (v, ((&first, &second), &third)) in first.iter().zip(second).zip(third).enumerate() {
            // 128 rows, 255 and 128 * 257 at most: below 2^31.
            let upper = _mm512_add_epi32(_mm512_slli_epi32::<8>(first), second);
            let halves =
                |x| [_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64::<1>(x)].map(|x| _mm512_cvtepi32_pd(x));
            for (half, (upper, lower)) in halves(upper).into_iter().zip(halves(third)).enumerate() {
                let total = _mm512_fmadd_pd(upper, base, lower);
                // SAFETY: the sums of the tile lie within the slice.
                unsafe {
                    let sum = sums.as_mut_ptr().add(q * COLUMNS + 16 * v + 8 * half);
                    _mm512_storeu_pd(sum, _mm512_fmadd_pd(step, total, _mm512_loadu_pd(sum)));
                }
            }
        }
    }
}
