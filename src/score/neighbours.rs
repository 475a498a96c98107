use super::EmpiricalScore;
use super::request::{Queries, Request};
use crate::base::{Error, Path, Result};
use crate::ops::score::{Query, Select};

/// Points compared with all rows at once.
const BATCH: usize = 64;

/// The rows nearest to points of the data's space.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Neighbours {
    /// (B, count), nearest first, of equal ones the first row first.
    pub rows: Vec<u32>,
    /// `|x - x_i|`, (B, count).
    pub distances: Vec<f64>,
}

impl EmpiricalScore<'_> {
    /// The `count` rows of a class, or of all, that are nearest to each of the points `x` (B, d), exactly.
    ///
    /// # Errors
    /// `Usage` for points of another width or not finite, and for classes and numbers of rows that there are not.
    pub fn neighbours(&self, x: &[f64], class: Option<u32>, count: usize) -> Result<Neighbours> {
        let width = self.store().width();
        let times = vec![1.0; x.len() / width];
        let request = Request { class, nearest: count, ..Request::default() };
        let range = request.check(self.store(), Path::Linear, Queries { z: x, t: &times })?;
        let mut found = Neighbours::default();
        for x in x.chunks(BATCH * width) {
            let queries: Vec<Query<'_>> = x.chunks_exact(width).map(|z| Query { z, alpha: 1.0, sigma: 1.0 }).collect();
            let what = Select { cut: 0.0, nearest: count, shell: None };
            let selected = self.rows().select(range.clone(), &queries, what);
            let candidates: Vec<Vec<u32>> = selected.into_iter().map(|selected| selected.nearest).collect();
            for pairs in self.ranked(&queries, &candidates, count) {
                found.rows.extend(pairs.iter().map(|pair| pair.1));
                found.distances.extend(pairs.iter().map(|pair| pair.0));
            }
        }
        Ok(found)
    }

    /// Whether no row is nearer to each of the points `x` (B, d) than the one of `rows` (B) that it came from: their share
    /// is the memorisation of Experiment 4.2 of *Selective Underfitting*, where images are noised to a time, and
    /// integrated back. A copy of the row counts as the row.
    ///
    /// # Errors
    /// As [`neighbours`](EmpiricalScore::neighbours), and `Usage` for a row that there is not.
    pub fn returned(&self, x: &[f64], rows: &[u32]) -> Result<Vec<bool>> {
        let there = self.store().rows();
        if let Some(row) = rows.iter().find(|&&row| row >= there) {
            return Err(Error::Usage(format!("row {row}: there are {there} rows; give one of them")));
        }
        let nearest = self.neighbours(x, None, 1)?;
        let width = self.store().width();
        if rows.len() != nearest.rows.len() {
            let (rows, points) = (rows.len(), nearest.rows.len());
            return Err(Error::Usage(format!("rows: {rows} of them for {points} points; give one each")));
        }
        let queries: Vec<Query<'_>> = x.chunks_exact(width).map(|z| Query { z, alpha: 1.0, sigma: 1.0 }).collect();
        let own: Vec<Vec<u32>> = rows.iter().map(|&row| vec![row]).collect();
        let own = self.rows().squared_distances(&queries, &own);
        Ok(own.iter().zip(&nearest.distances).map(|(own, nearest)| own[0].sqrt() <= *nearest).collect())
    }

    /// `|x - x^(1)|^2` over the mean of `|x - x^(i)|^2` of the `n` nearest rows, for each of the points `x` (B, d): near 0
    /// where a point is a row, near 1 where it is like no row more than others (Experiment 4.3, n = 50).
    ///
    /// A point with n copies has 0.
    ///
    /// # Errors
    /// As [`neighbours`](EmpiricalScore::neighbours).
    pub fn calibrated_distances(&self, x: &[f64], n: usize) -> Result<Vec<f64>> {
        if n == 0 {
            return Err(Error::Usage("n = 0: is no number of neighbours; give 1 or more".into()));
        }
        let nearest = self.neighbours(x, None, n)?;
        let ratio = |distances: &[f64]| {
            let mean = distances.iter().map(|distance| distance * distance).sum::<f64>() / n as f64;
            if mean == 0.0 { 0.0 } else { distances[0] * distances[0] / mean }
        };
        Ok(nearest.distances.chunks_exact(n).map(ratio).collect())
    }
}
