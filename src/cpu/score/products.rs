//! Exact inner products of rows of unsigned bytes with queries of signed bytes.

use super::LEAF;
use super::ahead::Ahead;
use super::aligned::Aligned;
use crate::device::Isa;

/// Columns of one pass: a sum of as many products of 255 by 127 fits into 32 bits.
const COLUMNS: usize = 1 << 16;

/// `out[q, r] = sum over j of rows[r, j] queries[q, j]`, whole numbers, so exact in any order.
///
/// `rows` (R, width) with R <= [`LEAF`], `queries` (Q, width), `out` (Q, [`LEAF`]).
pub fn products(isa: Isa, rows: &[u8], queries: &[i8], width: usize, out: &mut [f64]) {
    let (count, asked) = (rows.len() / width, queries.len() / width);
    assert!(count <= LEAF && out.len() == asked * LEAF, "{count} rows, {asked} queries, {} sums", out.len());
    out.fill(0.0);
    for start in (0..width).step_by(COLUMNS) {
        let columns = COLUMNS.min(width - start);
        #[cfg(target_arch = "x86_64")]
        if isa >= Isa::Avx512 && is_x86_feature_detected!("avx512vnni") {
            // SAFETY: the instructions are there; the block's rows and queries lie within the slices, `out` was checked.
            unsafe { x86::block(&rows[start..], &queries[start..], width, columns, [count, asked], out) };
            continue;
        }
        for (q, out) in out.chunks_exact_mut(LEAF).enumerate() {
            let query = &queries[q * width + start..][..columns];
            for (r, out) in out[..count].iter_mut().enumerate() {
                *out += f64::from(product(isa, &rows[r * width + start..][..columns], query));
            }
        }
    }
}

vectorised! {
    fn product(row: &[u8], query: &[i8]) -> i32 {
        let mut sums = [0i32; 32];
        let (rows, row) = row.as_chunks::<32>();
        let (queries, query) = query.as_chunks::<32>();
        for (x, q) in rows.iter().zip(queries) {
            for lane in 0..32 {
                sums[lane] += i32::from(i16::from(x[lane])) * i32::from(i16::from(q[lane]));
            }
        }
        let rest: i32 = row.iter().zip(query).map(|(&x, &q)| i32::from(x) * i32::from(q)).sum();
        rest + sums.iter().sum::<i32>()
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Ahead, Aligned, LEAF};
    use std::arch::x86_64::*;

    /// Rows of a tile: with three queries 24 sums, beyond latency times ports, three vectors of queries and one of a row
    /// fit into 32 registers. The rows of a tile stay in the first cache while all queries pass.
    const ROWS: usize = 8;
    /// Queries for which the copy of a tile is little work.
    const MANY: usize = 16;

    /// Adds the products of `columns` columns; the slices begin at the first of them and their rows lie `width` apart.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2")]
    pub fn block(
        rows: &[u8],
        queries: &[i8],
        width: usize,
        columns: usize,
        [count, asked]: [usize; 2],
        out: &mut [f64],
    ) {
        assert!(rows.len() >= (count - 1) * width + columns && queries.len() >= (asked - 1) * width + columns);
        // Where many queries pass, a tile is first brought to whole cache lines.
        let stride = columns.next_multiple_of(64);
        let mut copies = Aligned::<u8>::zeros(if asked >= MANY { ROWS * stride } else { 0 });
        for first in (0..count).step_by(ROWS) {
            let there = ROWS.min(count - first);
            // A short tile computes its last row again.
            let mut x = std::array::from_fn(|r| &rows[(first + r.min(there - 1)) * width..][..columns]);
            if asked >= MANY {
                copies.chunks_exact_mut(stride).zip(x).for_each(|(copy, x)| copy[..columns].copy_from_slice(x));
                x = std::array::from_fn(|r| &copies[r * stride..][..columns]);
            }
            let mut ahead = Ahead::new(rows, (first + ROWS) * width, columns, width, ROWS);
            let lines = if asked >= MANY { ahead.per(asked.div_ceil(3)) } else { 0 };
            for q in (0..asked).step_by(3) {
                ahead.ask(lines);
                let query = |c: usize| &queries[(q + c) * width..][..columns];
                let out = &mut out[q * LEAF + first..];
                match asked - q {
                    1 => tile([query(0)], x, there, out),
                    2 => tile([query(0), query(1)], x, there, out),
                    _ => tile([query(0), query(1), query(2)], x, there, out),
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2")]
    fn tile<const C: usize>(queries: [&[i8]; C], rows: [&[u8]; ROWS], there: usize, out: &mut [f64]) {
        let columns = rows[0].len();
        let mut sums = [[_mm512_setzero_si512(); ROWS]; C];
        let mut step = |at: usize, mask: __mmask64| {
            // SAFETY: every slice holds the columns from `at` on that the mask selects.
            unsafe {
                let q: [__m512i; C] =
                    std::array::from_fn(|c| _mm512_maskz_loadu_epi8(mask, queries[c].as_ptr().add(at)));
                for r in 0..ROWS {
                    let x = _mm512_maskz_loadu_epi8(mask, rows[r].as_ptr().add(at).cast());
                    for (sums, q) in sums.iter_mut().zip(q) {
                        sums[r] = _mm512_dpbusd_epi32(sums[r], x, q);
                    }
                }
            }
        };
        let whole = columns - columns % 64;
        for at in (0..whole).step_by(64) {
            step(at, !0);
        }
        if whole < columns {
            step(whole, (1 << (columns - whole)) - 1);
        }
        for (c, sums) in sums.iter().enumerate() {
            let mut eight = [0.0; ROWS];
            // SAFETY: eight doubles.
            unsafe { _mm512_storeu_pd(eight.as_mut_ptr(), _mm512_cvtepi32_pd(totals(sums))) };
            for (out, sum) in out[c * LEAF..].iter_mut().zip(&eight[..there]) {
                *out += sum;
            }
        }
    }

    /// The sum of the lanes of each of eight vectors.
    #[inline]
    #[target_feature(enable = "avx512f,avx2")]
    fn totals(sums: &[__m512i; ROWS]) -> __m256i {
        let halves: [__m256i; ROWS] = std::array::from_fn(|r| {
            _mm256_add_epi32(_mm512_castsi512_si256(sums[r]), _mm512_extracti64x4_epi64::<1>(sums[r]))
        });
        let four = |i: usize| {
            let pairs = [0, 2].map(|j| _mm256_hadd_epi32(halves[i + j], halves[i + j + 1]));
            _mm256_hadd_epi32(pairs[0], pairs[1])
        };
        let (low, high) = (four(0), four(4));
        _mm256_add_epi32(_mm256_permute2x128_si256::<0x20>(low, high), _mm256_permute2x128_si256::<0x31>(low, high))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::{Purpose, Stream};

    #[test]
    fn products_are_exact_at_the_extremes_and_at_every_ragged_size() {
        for (count, asked, width) in [(1, 1, 1), (3, 2, 63), (8, 3, 64), (9, 4, 65), (128, 7, 130), (2, 1, 70_000)] {
            let words = |sample, len: usize| -> Vec<u8> {
                let stream = Stream::new(1, sample, 0, Purpose::Fixture);
                let words = (0..len.div_ceil(4) as u32).flat_map(|block| stream.words(block));
                words.take(len).map(|word| if word % 3 == 0 { 255 } else { (word >> 8) as u8 }).collect()
            };
            let rows = words(0, count * width);
            let queries: Vec<i8> = words(1, asked * width).iter().map(|&q| (q as i8).max(-127)).collect();
            for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16] {
                if isa > Isa::detect() {
                    continue;
                }
                let mut out = vec![f64::NAN; asked * LEAF];
                products(isa, &rows, &queries, width, &mut out);
                for (q, out) in out.chunks(LEAF).enumerate() {
                    for (r, &sum) in out[..count].iter().enumerate() {
                        let pairs = rows[r * width..][..width].iter().zip(&queries[q * width..][..width]);
                        let exact: i64 = pairs.map(|(&x, &q)| i64::from(x) * i64::from(q)).sum();
                        assert_eq!(sum, exact as f64, "{isa}, row {r}, query {q} of {count} x {asked} x {width}");
                    }
                }
            }
        }
    }
}
