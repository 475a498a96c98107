//! All logits and all weights at once, for queries to which most rows matter: two matrix products.
//!
//! Pixels are whole numbers, and so are three digits of a query: the logits are exact up to what the digits leave out.
//! Other rows are multiplied in f32. Weights are multiplied in f32. Every chain of f32 sums is short and ends in f64, so
//! that the bounds of the errors are small.

use super::aligned::Aligned;
use super::digits::{Digits, bounds};
use super::float::{COLUMNS, blend, packed, products_f32};
#[cfg(target_arch = "x86_64")]
use super::pixels;
use super::{LEAF, Query, Rows, products};
use crate::cpu::scratch::Scratch;
use crate::data::tensors::FileDType;
use crate::device::{Chunks, Cpu, Group};
use std::ops::Range;

/// Digits of a query that is multiplied with pixels: 24 bits.
const DIGITS: usize = 3;
/// Columns of one chain of f32 sums, 16 of which run side by side.
pub(super) const CHAIN: usize = 512;
/// Half a unit of f32.
const HALF: f64 = f32::EPSILON as f64 / 2.0;
/// Queries whose weights lie side by side.
pub(super) const GROUP: usize = 8;

/// The logits of the rows in `range` for each query.
pub fn logits(cpu: &Cpu, rows: &Rows<'_>, range: Range<usize>, queries: &[Query<'_>]) -> Vec<Scratch<f64>> {
    if rows.dtype == FileDType::U8 {
        return logits_of_pixels(cpu, rows, range, queries);
    }
    let z = packed(queries, rows.width);
    let units: Vec<Unit> = queries.iter().map(|query| Unit { worth: query.kappa(), shift: 0.0 }).collect();
    by_leaf(cpu, rows, range, queries, &units, |leaf, sums| {
        products_f32(cpu.isa(), rows, leaf, &z, queries.len(), sums);
    })
}

fn logits_of_pixels(cpu: &Cpu, rows: &Rows<'_>, range: Range<usize>, queries: &[Query<'_>]) -> Vec<Scratch<f64>> {
    let scale = rows.facts[range.start].scale;
    let mut all = Aligned::<i8>::zeros(queries.len() * DIGITS * rows.width);
    let mut units = Vec::with_capacity(queries.len() * DIGITS);
    for (&query, all) in queries.iter().zip(all.chunks_mut(DIGITS * rows.width)) {
        let digits = Digits::new(query, DIGITS);
        all.copy_from_slice(&digits.digits);
        units.extend(
            digits
                .steps
                .iter()
                .zip(&digits.sums)
                .map(|(step, sum)| Unit { worth: query.kappa() * scale * step, shift: rows.center * sum }),
        );
    }
    by_leaf(cpu, rows, range, queries, &units, |leaf, sums| {
        products(cpu.isa(), rows.slices(leaf), &all, rows.width, sums);
    })
}

/// What a sum of products adds to a logit: `worth (sum - shift)`.
#[derive(Clone, Copy)]
struct Unit {
    worth: f64,
    shift: f64,
}

/// Logits from what `multiply` leaves in the sums of each leaf, as many for each query, one of `units` each.
fn by_leaf(
    cpu: &Cpu,
    rows: &Rows<'_>,
    range: Range<usize>,
    queries: &[Query<'_>],
    units: &[Unit],
    multiply: impl Fn(Range<usize>, &mut [f64]) + Sync,
) -> Vec<Scratch<f64>> {
    let own: Vec<f64> = queries.iter().map(|query| query.logit(query.z.iter().map(|z| z * z).sum())).collect();
    let each = units.len() / queries.len();
    let mut logits: Vec<Scratch<f64>> = queries.iter().map(|_| Scratch::new(range.len())).collect();
    let parts: Group<_> = logits.iter_mut().map(|logits| Chunks::new(logits, LEAF)).collect();
    cpu.threads.each(parts, 1, |leaf, logits| {
        let first = range.start + leaf * LEAF;
        let leaf = first..range.end.min(first + LEAF);
        let mut sums = Aligned::<f64>::zeros(units.len() * LEAF);
        multiply(leaf.clone(), &mut sums);
        let mut squares = [0.0; LEAF];
        squares.iter_mut().zip(&rows.facts[leaf]).for_each(|(square, facts)| *square = facts.square);
        let parts = logits.into_iter().zip(queries).zip(&own);
        for (((logits, query), &own), (units, sums)) in parts.zip(units.chunks(each).zip(sums.chunks(each * LEAF))) {
            let constants = [0.5 * query.kappa() * query.alpha, own];
            join(cpu.isa(), units, sums.as_chunks().0, &squares, constants, logits);
        }
    });
    logits
}

vectorised! {
    fn join(units: &[Unit], sums: &[[f64; LEAF]], squares: &[f64; LEAF], constants: [f64; 2], logits: &mut [f64]) {
        let [half, own] = constants;
        let mut out = [0.0; LEAF];
        for (unit, sums) in units.iter().zip(sums) {
            for (out, sum) in out.iter_mut().zip(sums) {
                *out += unit.worth * (sum - unit.shift);
            }
        }
        for ((logit, out), square) in logits.iter_mut().zip(&out).zip(squares) {
            *logit = out - half * square + own;
        }
    }
}

/// What [`logits`] leave out of z: the logit of row x lacks `kappa <rest, x>`, up to rounding.
pub fn rest(rows: &Rows<'_>, query: Query<'_>) -> Vec<f64> {
    if rows.dtype == FileDType::U8 {
        return Digits::new(query, DIGITS).rest;
    }
    query.z.iter().map(|&z| z - f64::from(z as f32)).collect()
}

/// No less than the error of any of the [`logits`] of a query.
pub fn logits_error(rows: &Rows<'_>, query: Query<'_>) -> f64 {
    let kappa = query.kappa();
    let [length, rest] = bounds(query, DIGITS);
    let size = kappa * length * rows.radius;
    // Each step of a logit in f64, among them sums of as many terms as columns.
    let own = -query.logit(length * length);
    let rounding = 1e-12 * (size + own + kappa * query.alpha * rows.radius * rows.radius);
    let error = if rows.dtype == FileDType::U8 {
        let residual = rows.facts.first().map_or(0.0, |facts| facts.residual);
        kappa * (rest * rows.radius + length * residual)
    } else {
        // z is rounded, then a chain of sums, then those of the 16 lanes.
        let roundings = 1 + CHAIN / 16 + 4;
        1.01 * roundings as f64 * HALF * size
    };
    error + rounding
}

/// The sum of the rows in `range` weighted for each query, (queries, width), from `weights`, one slice a query.
///
/// The error of a sum has a length of at most [`means_error`] times the sum of the weights times that of the longest row.
pub fn weighted_sums(cpu: &Cpu, rows: &Rows<'_>, range: Range<usize>, weights: &[&[f64]]) -> Vec<f64> {
    #[cfg(target_arch = "x86_64")]
    if rows.dtype == FileDType::U8 && pixels::supported(cpu.isa()) {
        return pixels::weighted_sums(cpu, rows, range, weights);
    }
    let (width, asked) = (rows.width, weights.len());
    let groups = asked.div_ceil(GROUP);
    // (leaf, group, row of the leaf, query of the group)
    let mut packed = Scratch::<f32>::new(range.len().div_ceil(LEAF) * groups * LEAF * GROUP);
    cpu.threads.each(Chunks::new(&mut packed, groups * LEAF * GROUP), 1, |leaf, packed| {
        for (q, weights) in weights.iter().enumerate() {
            let weights = &weights[leaf * LEAF..];
            let packed = packed[q / GROUP * LEAF * GROUP + q % GROUP..].iter_mut().step_by(GROUP);
            packed.zip(&weights[..LEAF.min(weights.len())]).for_each(|(packed, &weight)| *packed = weight as f32);
        }
    });
    let strip = width.div_ceil(cpu.threads.count()).next_multiple_of(COLUMNS);
    let mut strips: Vec<Vec<f64>> = (0..width.div_ceil(strip)).map(|_| vec![]).collect();
    cpu.threads.each(Chunks::new(&mut strips, 1), 1, |number, sums| {
        let columns = number * strip..width.min((number + 1) * strip);
        sums[0] = blend(cpu.isa(), rows, range.clone(), columns, &packed, groups);
    });
    let mut out = vec![0.0; asked * width];
    for (q, out) in out.chunks_exact_mut(width).enumerate() {
        for (out, sums) in out.chunks_mut(strip).zip(&strips) {
            for (out, sums) in out.chunks_mut(COLUMNS).zip(sums.chunks_exact(groups * GROUP * COLUMNS)) {
                out.copy_from_slice(&sums[q * COLUMNS..][..out.len()]);
            }
        }
    }
    out
}

/// Of [`weighted_sums`], relative to the longest row.
///
/// In f32 a weight is rounded, then a chain of as many sums as a leaf has rows. In whole numbers every weight of a leaf is
/// off by as much as the rounding of the largest, and a pixel by its residual. And then some for f64.
pub fn means_error(rows: &Rows<'_>) -> f64 {
    let residual = if rows.dtype == FileDType::U8 { rows.facts[0].residual / rows.radius } else { 0.0 };
    1.01 * ((LEAF as f64 + 1.0) * HALF + residual)
}
