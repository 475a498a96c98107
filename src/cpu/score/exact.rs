//! Distances and means in f64 from the values of rows.

use super::{Query, Rows};
use crate::device::{Chunks, Cpu};

/// Independent partial sums.
const LANES: usize = 32;
/// Pairs of a query and a row that one task takes.
const PAIRS: usize = 16;
/// Columns of a mean that one task sums.
const STRIP: usize = 1024;

/// `|z - alpha x_i|^2` of each query and each row picked for it.
///
/// Relative to the sum itself, the error is at most `(width / 32 + 16)` units of 2^-53, and that of the terms
/// `2 alpha |x| / |z - alpha x|` more.
pub fn squared_distances(cpu: &Cpu, rows: &Rows<'_>, queries: &[Query<'_>], picks: &[Vec<u32>]) -> Vec<Vec<f64>> {
    let pairs: Vec<(usize, u32)> =
        picks.iter().enumerate().flat_map(|(q, picks)| picks.iter().map(move |&row| (q, row))).collect();
    let mut all = vec![0.0; pairs.len()];
    cpu.threads.each(Chunks::new(&mut all, PAIRS), 1, |task, out| {
        let mut x = vec![0.0; rows.width];
        for (out, &(q, row)) in out.iter_mut().zip(&pairs[task * PAIRS..]) {
            rows.values(cpu.isa(), row as usize, 0..rows.width, &mut x);
            *out = squared_distance(cpu.isa(), queries[q].z, &x, queries[q].alpha);
        }
    });
    let mut all = all.into_iter();
    picks.iter().map(|picks| all.by_ref().take(picks.len()).collect()).collect()
}

vectorised! {
    /// `|z - alpha x|^2`.
    pub(super) fn squared_distance(z: &[f64], x: &[f32], alpha: f64) -> f64 {
        let mut sums = [0.0; LANES];
        let ((zs, z), (xs, x)) = (z.as_chunks::<LANES>(), x.as_chunks::<LANES>());
        for (z, x) in zs.iter().zip(xs) {
            for lane in 0..LANES {
                let difference = z[lane] - alpha * f64::from(x[lane]);
                sums[lane] += difference * difference;
            }
        }
        for ((sum, &z), &x) in sums.iter_mut().zip(z).zip(x) {
            let difference = z - alpha * f64::from(x);
            *sum += difference * difference;
        }
        let mut left = LANES;
        while left > 1 {
            left /= 2;
            for lane in 0..left {
                sums[lane] += sums[lane + left];
            }
        }
        sums[0]
    }
}

/// `sum over i of weights[q][i] x_i` of the rows picked for each query, in their order: (queries, width).
pub fn means(cpu: &Cpu, rows: &Rows<'_>, picks: &[Vec<u32>], weights: &[&[f64]]) -> Vec<f64> {
    let mut out = vec![0.0; picks.len() * rows.width];
    let strips = rows.width.div_ceil(STRIP);
    cpu.threads.each(Chunks::grouped(&mut out, rows.width, STRIP), 1, |task, out| {
        let (q, first) = (task / strips, task % strips * STRIP);
        let mut x = vec![0.0; out.len()];
        for (&row, &weight) in picks[q].iter().zip(weights[q]) {
            rows.values(cpu.isa(), row as usize, first..first + out.len(), &mut x);
            add_weighted(cpu.isa(), out, weight, &x);
        }
    });
    out
}

vectorised! {
    fn add_weighted(out: &mut [f64], weight: f64, x: &[f32]) {
        out.iter_mut().zip(x).for_each(|(out, &x)| *out += weight * f64::from(x));
    }
}
