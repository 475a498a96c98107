use super::EmpiricalScore;
use super::request::{Queries, Request};
use crate::base::{Path, Result};
use crate::ops::score::{Query, Select};

/// Rows that are compared with all others at once.
const BATCH: usize = 64;

/// Two rows of a data set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Ascending.
    pub rows: [u32; 2],
    /// `|x_i - x_j|`.
    pub distance: f64,
}

impl Pair {
    /// `exp(-alpha^2 |x_i - x_j|^2 / 8 sigma^2)`, the Bhattacharyya coefficient of the two rows seen through the noise of
    /// time t. That of the closest pair is C(t), the largest of all: near 0 no two shells overlap.
    ///
    /// Where sigma is 0 there is no noise that overlaps: 0, and 1 for equal rows.
    pub fn overlap(&self, path: Path, t: f64) -> f64 {
        let shift = path.alpha(t) * self.distance;
        if shift == 0.0 { 1.0 } else { (-(shift / path.sigma(t)).powi(2) / 8.0).exp() }
    }

    fn before(&self, other: &Pair) -> bool {
        (self.distance, self.rows) < (other.distance, other.rows)
    }
}

impl EmpiricalScore<'_> {
    /// The two rows of a class, or of all, that are closest to each other, of equal pairs the first; `None` where there is
    /// one row only.
    ///
    /// Bytes rule out the pairs that are certainly further apart than one that was found; the others are measured in f64.
    ///
    /// # Errors
    /// `Usage` for a class that there is not; `Data` for a row that cannot be read.
    pub fn closest_pair(&self, class: Option<u32>) -> Result<Option<Pair>> {
        let request = Request { class, ..Request::default() };
        let range = request.check(self.store(), Path::Linear, Queries { z: &[], t: &[] })?;
        let mut closest: Option<Pair> = None;
        for first in range.clone().step_by(BATCH) {
            let batch = first..range.end.min(first + BATCH);
            let z = self.values(batch.clone())?;
            let queries: Vec<Query<'_>> =
                z.chunks_exact(self.store().width()).map(|z| Query { z, alpha: 1.0, sigma: 1.0 }).collect();
            let measure = |picks: Vec<Vec<u32>>, closest: &mut Option<Pair>| {
                let squared = self.rows().squared_distances(&queries, &picks);
                for (row, (picks, squared)) in (batch.start as u32..).zip(picks.iter().zip(squared)) {
                    for (&other, squared) in picks.iter().zip(squared).filter(|pair| *pair.0 != row) {
                        let pair = Pair { rows: [row.min(other), row.max(other)], distance: squared.sqrt() };
                        if closest.is_none_or(|closest| pair.before(&closest)) {
                            *closest = Some(pair);
                        }
                    }
                }
            };
            if closest.is_none() {
                let next = |row: usize| (row + 1 < range.end).then_some(row as u32 + 1);
                measure(batch.clone().map(|row| next(row).into_iter().collect()).collect(), &mut closest);
            }
            // The pairs with earlier rows are known.
            if let Some(Pair { distance, .. }) = closest {
                let what = Select { cut: 0.5 * distance * distance * (1.0 + 1e-9), nearest: 0, shell: None };
                let selected = self.rows().select(batch.start..range.end, &queries, what);
                measure(selected.into_iter().map(|selected| selected.rows).collect(), &mut closest);
            }
        }
        Ok(closest)
    }
}
