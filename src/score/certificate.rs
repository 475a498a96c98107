use crate::ops::score::{LEAF, Query};

/// How far an answer can be from the exact one; what rounding in f64 adds is included.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Certificate {
    /// Of the posterior: half the sum over all rows of what each weight is off.
    pub total_variation: f64,
    /// Of log p, in nats.
    pub log_p: f64,
    /// Of the score: the length of the difference.
    pub score: f64,
}

/// Half a unit of f64.
pub(super) const HALF: f64 = f64::EPSILON / 2.0;
/// Bounds are computed in f64 too, by a few operations.
const SLACK: f64 = 1.0 + 1e-9;

/// What is known of the errors of one answer before they meet.
pub(super) struct Errors {
    /// No less than the weight of all rows that were left out, relative to that of all rows.
    pub missing: f64,
    /// No less than the error of any logit.
    pub logit: f64,
    /// How many weights were summed.
    pub count: usize,
    /// No less than the error of the mean that its own sums make, relative to the longest row.
    pub mean: f64,
}

impl Errors {
    /// The relative error of a weight and of a sum of weights: an exponential, the shift of its argument by the largest
    /// logit, a leaf, the leaves in order.
    fn weights(&self) -> f64 {
        (1024 + LEAF + self.count.div_ceil(LEAF)) as f64 * HALF
    }
}

impl Certificate {
    /// The bounds that follow for an answer of these errors.
    ///
    /// Weights that are each off by a factor within `exp(+-e)` make a posterior whose every probability is off by a factor
    /// within `exp(+-2e)`. `constants` is the size of the terms of log p, `radius` the length of the longest row.
    pub(super) fn new(errors: &Errors, query: Query<'_>, constants: f64, radius: f64) -> Certificate {
        let factor = errors.logit + errors.weights();
        let total_variation = (SLACK * (errors.missing + 0.5 * (2.0 * factor).exp_m1())).min(1.0);
        let missing = if errors.missing < 1.0 { -(-errors.missing).ln_1p() } else { f64::INFINITY };
        // What a sample of the logits have in common was taken from all: as much again.
        let log_p = SLACK * (missing + factor + errors.logit + 8.0 * HALF * constants);
        let mean = (2.0 * total_variation + errors.mean + 4.0 * HALF) * radius;
        let length = query.z.iter().map(|z| z * z).sum::<f64>().sqrt();
        let rounding = 8.0 * HALF * (query.alpha * radius + length);
        let score = SLACK * (query.alpha * mean + rounding) / (query.sigma * query.sigma);
        Certificate { total_variation, log_p, score }
    }
}

/// No less than the error of a logit of a squared distance that was computed in f64.
pub(super) fn logit_error(query: Query<'_>, squared_distance: f64, width: usize, radius: f64) -> f64 {
    let sum = (width / 32 + 20) as f64 * squared_distance;
    let terms = 4.0 * query.alpha * radius * squared_distance.sqrt();
    1.01 * HALF * (sum + terms) / (2.0 * query.sigma * query.sigma)
}
