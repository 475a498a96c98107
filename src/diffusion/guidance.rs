/// Classifier-free guidance (Ho and Salimans, 2022): `p = p_none + weight (p_label - p_none)`.
///
/// A weight of 1 is the conditional model. Predictions of one kind are those of another up to a factor and what z adds, so that
/// guidance of any of them is guidance of all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guidance {
    pub weight: f32,
    /// The first channels that are guided; `None` guides all. SiT and DiT publish numbers with 3 of 4.
    pub channels: Option<usize>,
    /// The times between which it acts, as REPA's `guidance_low` and `guidance_high` (data at t = 0).
    pub interval: [f64; 2],
}

impl Guidance {
    /// The weight at `t`.
    pub fn at(&self, t: f64) -> f32 {
        if self.interval[0] <= t && t <= self.interval[1] { self.weight } else { 1.0 }
    }
}
