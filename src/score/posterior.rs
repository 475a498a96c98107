use crate::base::rng::Stream;
use crate::ops::score::{LEAF, Weights};
use std::ops::Range;

/// The rows that have a weight, ascending.
pub enum Picks {
    All(Range<usize>),
    Some(Vec<u32>),
}

impl Picks {
    pub fn row(&self, i: usize) -> u32 {
        match self {
            Picks::All(range) => (range.start + i) as u32,
            Picks::Some(rows) => rows[i],
        }
    }
}

/// The posterior of the row behind a query.
pub struct Posterior {
    pub picks: Picks,
    pub weights: Weights,
}

impl Posterior {
    pub fn n_effective(&self) -> f64 {
        self.weights.total * self.weights.total / self.weights.squares
    }

    /// `count` rows, draw j a function of `stream` and j: its leaf by the sums of leaves, its row by
    /// the weights of that leaf.
    pub fn draws(&self, stream: Stream, count: usize) -> impl Iterator<Item = u32> {
        let ends: Vec<f64> = self
            .weights
            .leaves
            .iter()
            .scan(0.0, |sum, leaf| {
                *sum += leaf;
                Some(*sum)
            })
            .collect();
        (0..count).map(move |draw| {
            let [a, b, ..] = stream.words(draw as u32);
            self.picks.row(self.at(fraction(a, b) * self.weights.total, &ends))
        })
    }

    /// The entry in whose part of the whole `target` lies; `ends` are the sums of the leaves up to each.
    fn at(&self, target: f64, ends: &[f64]) -> usize {
        let leaf = ends.partition_point(|&end| end <= target).min(ends.len() - 1);
        let left = target - if leaf > 0 { ends[leaf - 1] } else { 0.0 };
        let first = leaf * LEAF;
        let weights = &self.weights.weights[first..self.weights.weights.len().min(first + LEAF)];
        first + chosen(weights, left)
    }
}

/// Two words as a number of [0, 1): 53 bits, so that every value that is taken is exact.
pub fn fraction(a: u32, b: u32) -> f64 {
    ((u64::from(a) << 32 | u64::from(b)) >> 11) as f64 / (1u64 << 53) as f64
}

/// The weight in whose part of the sum `left` lies; the last that is not 0 where rounding has left more than there is.
pub fn chosen(weights: &[f64], mut left: f64) -> usize {
    let mut last = 0;
    for (i, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
        last = i;
        if left < weight {
            break;
        }
        left -= weight;
    }
    last
}
