use super::exact::squared_distance;
use super::{LEAF, Query, Rows};
use crate::cpu::scratch::Scratch;
use crate::device::{Chunks, Cpu, Isa};
use std::ops::Range;

/// Weights `exp(l_i - largest)` summed by leaves of [`LEAF`] in their order.
#[derive(Debug)]
pub struct Weights {
    /// The largest logit.
    pub largest: f64,
    pub weights: Scratch<f64>,
    /// The sum of each leaf.
    pub leaves: Vec<f64>,
    /// Of all leaves, in order.
    pub total: f64,
    /// Of the squares of the weights.
    pub squares: f64,
}

/// Turns the logits of each query, one or more, into weights, each within four units of 2^-53 of the exponential.
pub fn weigh(cpu: &Cpu, logits: Vec<Scratch<f64>>) -> Vec<Weights> {
    let mut all: Vec<Weights> = logits
        .into_iter()
        .map(|weights| Weights { largest: f64::NAN, weights, leaves: vec![], total: f64::NAN, squares: f64::NAN })
        .collect();
    cpu.threads.each(Chunks::new(&mut all, 1), 1, |_, weights| weights[0].weigh(cpu.isa()));
    all
}

/// Replaces the heaviest weights of the rows in `range` by those of distances in f64, where they are few: many errors
/// that are independent cancel, few do not. Of many, what they have in common is taken from the largest logit, by a sample.
/// Like the others they leave out `rests` of the queries.
pub fn refine(
    cpu: &Cpu,
    rows: &Rows<'_>,
    range: Range<usize>,
    queries: &[Query<'_>],
    rests: &[Vec<f64>],
    weights: &mut [Weights],
) {
    cpu.threads.each(Chunks::new(weights, 1), 1, |q, weights| {
        let (query, weights) = (queries[q], &mut weights[0]);
        let leaves = weights.leaves.iter().zip(weights.weights.chunks(LEAF)).enumerate();
        let mut heavy: Vec<usize> = leaves
            .filter(|(_, (sum, _))| **sum >= HEAVY)
            .flat_map(|(leaf, (_, weights))| (leaf * LEAF..).zip(weights))
            .filter(|(_, weight)| **weight >= HEAVY)
            .map(|(i, _)| i)
            .take(FEW + 1)
            .collect();
        let many = heavy.len() > FEW;
        if many {
            heavy.truncate(SAMPLE);
        }
        let mut common = [0.0; 2];
        let mut x = vec![0.0; rows.width];
        for i in heavy {
            rows.values(cpu.isa(), range.start + i, 0..rows.width, &mut x);
            let squared = squared_distance(cpu.isa(), query.z, &x, query.alpha);
            let rest: f64 = rests[q].iter().zip(&x).map(|(rest, &x)| rest * f64::from(x)).sum();
            let (off, weight) = (query.logit(squared) - query.kappa() * rest - weights.largest, weights.weights[i]);
            if many {
                common = [common[0] + weight * (off - weight.ln()), common[1] + weight];
            } else {
                weights.weights[i] = off.exp();
            }
        }
        if many {
            weights.largest += common[0] / common[1];
        } else {
            weights.sum(cpu.isa());
        }
    });
}

/// Of the heaviest weight, and how many such weights are few.
const HEAVY: f64 = 0.01;
const FEW: usize = 256;
/// Of many, rows that tell what their errors have in common.
const SAMPLE: usize = 64;

impl Weights {
    fn weigh(&mut self, isa: Isa) {
        self.largest = self.weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        self.weights.chunks_mut(LEAF).for_each(|leaf| exponentials(isa, leaf, self.largest));
        self.sum(isa);
    }

    fn sum(&mut self, isa: Isa) {
        (self.total, self.squares) = (0.0, 0.0);
        self.leaves.clear();
        for leaf in self.weights.chunks(LEAF) {
            let [sum, squares] = sums(isa, leaf);
            self.leaves.push(sum);
            self.total += sum;
            self.squares += squares;
        }
    }
}

/// Independent partial sums.
const LANES: usize = 16;

vectorised! {
    fn exponentials(leaf: &mut [f64], largest: f64) {
        leaf.iter_mut().for_each(|x| *x = exp(*x - largest));
    }

    /// The sum of the weights of a leaf and that of their squares.
    fn sums(leaf: &[f64]) -> [f64; 2] {
        let mut sums = [[0.0; LANES]; 2];
        let (whole, rest) = leaf.as_chunks::<LANES>();
        for weights in whole {
            for lane in 0..LANES {
                sums[0][lane] += weights[lane];
                sums[1][lane] += weights[lane] * weights[lane];
            }
        }
        for (lane, weight) in rest.iter().enumerate() {
            sums[0][lane] += weight;
            sums[1][lane] += weight * weight;
        }
        sums.map(|mut sums| {
            let mut left = LANES;
            while left > 1 {
                left /= 2;
                for lane in 0..left {
                    sums[lane] += sums[lane + left];
                }
            }
            sums[0]
        })
    }
}

/// exp(x) for x <= 0; 0 below -708.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`, exp(r) by its Taylor polynomial, whose next term is below 2^-57.
#[inline(always)]
fn exp(x: f64) -> f64 {
    /// 1.5 * 2^52: adding it rounds to an integer and leaves that integer in the low bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    /// ln 2 to 32 bits, so that its products with whole numbers are exact, and the rest of it.
    const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let bounded = if x > -708.0 { x } else { -708.0 };
    let shifted = bounded * std::f64::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (bounded - n * LN_2_HIGH) - n * LN_2_LOW;
    let mut p = 1.0 / 6_227_020_800.0;
    for factorial in
        [479_001_600.0, 39_916_800.0, 3_628_800.0, 362_880.0, 40_320.0, 5_040.0, 720.0, 120.0, 24.0, 6.0, 2.0]
    {
        p = p * r + 1.0 / factorial;
    }
    let p = 1.0 + (r + r * r * p);
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(1023) << 52;
    if x > -708.0 { p * f64::from_bits(exponent) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_within_four_units() {
        for i in 0..2_000_000 {
            let x = -708.0 * (f64::from(i) / 2e6).powi(3);
            let exact = x.exp();
            assert!((exp(x) - exact).abs() <= 2.0 * f64::EPSILON * exact, "exp({x})");
        }
        assert_eq!([exp(0.0), exp(-709.0), exp(f64::NEG_INFINITY)], [1.0, 0.0, 0.0]);
    }
}
