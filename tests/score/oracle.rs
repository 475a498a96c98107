//! The definition, summed in pairs of f64 (Dekker 1971): about 32 digits where differences cancel.

use engine::data::Store;
use std::f64::consts::PI;
use std::ops::{Add, Div, Mul, Range, Sub};

/// The sum of two f64 that do not overlap.
#[derive(Clone, Copy, Debug)]
pub struct Pair(pub f64, pub f64);

impl Pair {
    pub fn get(self) -> f64 {
        self.0 + self.1
    }

    fn product(a: f64, b: f64) -> Pair {
        let product = a * b;
        Pair(product, a.mul_add(b, -product))
    }
}

impl From<f64> for Pair {
    fn from(x: f64) -> Pair {
        Pair(x, 0.0)
    }
}

impl Add for Pair {
    type Output = Pair;
    fn add(self, other: Pair) -> Pair {
        let sum = self.0 + other.0;
        let part = sum - self.0;
        let lost = (self.0 - (sum - part)) + (other.0 - part) + self.1 + other.1;
        let high = sum + lost;
        Pair(high, lost - (high - sum))
    }
}

impl Sub for Pair {
    type Output = Pair;
    fn sub(self, other: Pair) -> Pair {
        self + Pair(-other.0, -other.1)
    }
}

impl Mul for Pair {
    type Output = Pair;
    fn mul(self, other: Pair) -> Pair {
        let Pair(high, low) = Pair::product(self.0, other.0);
        Pair(high, 0.0) + Pair(low + (self.0 * other.1 + self.1 * other.0), 0.0)
    }
}

impl Div for Pair {
    type Output = Pair;
    fn div(self, other: Pair) -> Pair {
        let first = self.0 / other.0;
        let rest = self - other * Pair::from(first);
        Pair::from(first) + Pair::from(rest.get() / other.0)
    }
}

/// The exact answer to one query, on the linear path.
pub struct Exact {
    pub score: Vec<Pair>,
    pub velocity: Vec<f64>,
    pub denoised: Vec<f64>,
    pub log_p: Pair,
    pub posterior: Vec<f64>,
    pub n_effective: f64,
    /// Of each row of the range, in order.
    pub distances: Vec<f64>,
    pub r_star: f64,
}

pub fn exact(store: &Store, range: Range<u32>, z: &[f64], t: f64) -> Exact {
    let (alpha, sigma) = (1.0 - t, t);
    let rows: Vec<Vec<f64>> = range.map(|i| super::row(store, i)).collect();
    let squared = |x: &Vec<f64>| {
        z.iter().zip(x).fold(Pair::from(0.0), |sum, (&z, &x)| {
            let difference = Pair::from(z) - Pair::product(alpha, x);
            sum + difference * difference
        })
    };
    let squared: Vec<Pair> = rows.iter().map(squared).collect();
    let variance = Pair::product(sigma, sigma);
    let logits: Vec<Pair> =
        squared.iter().map(|&squared| Pair::from(0.0) - squared / (Pair::from(2.0) * variance)).collect();
    let largest = logits.iter().copied().max_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))).unwrap();
    let weights: Vec<f64> = logits.iter().map(|&logit| (logit - largest).get().exp()).collect();
    let total = weights.iter().fold(Pair::from(0.0), |sum, &weight| sum + Pair::from(weight));
    let squares = weights.iter().fold(Pair::from(0.0), |sum, &weight| sum + Pair::product(weight, weight));
    let mean: Vec<Pair> = (0..z.len())
        .map(|j| {
            let sum = weights.iter().zip(&rows).fold(Pair::from(0.0), |sum, (&w, x)| sum + Pair::product(w, x[j]));
            sum / total
        })
        .collect();
    let from_mean = |(&z, &m): (&f64, &Pair)| Pair::from(alpha) * m - Pair::from(z);
    let score: Vec<Pair> = z.iter().zip(&mean).map(|pair| from_mean(pair) / variance).collect();
    let distances: Vec<f64> = squared.iter().map(|squared| squared.get().sqrt()).collect();
    let shell = sigma * (z.len() as f64).sqrt();
    let ratios = distances.iter().map(|distance| distance / shell);
    let r_star = ratios.min_by(|a, b| (a - 1.0).abs().total_cmp(&(b - 1.0).abs())).unwrap();
    let constants = [
        Pair::from(total.get().ln()),
        Pair::from(-(rows.len() as f64).ln()),
        Pair::product(-0.5 * z.len() as f64, (2.0 * PI * sigma * sigma).ln()),
    ];
    Exact {
        velocity: z.iter().zip(&mean).map(|(z, m)| -m.get() - (alpha * m.get() - z) / sigma).collect(),
        denoised: mean.iter().map(|m| m.get()).collect(),
        score,
        log_p: constants.into_iter().fold(largest, Add::add),
        posterior: weights.iter().map(|weight| weight / total.get()).collect(),
        n_effective: total.get() * total.get() / squares.get(),
        distances,
        r_star,
    }
}
