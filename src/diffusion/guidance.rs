/// Classifier-free guidance (Ho and Salimans, 2022): `v = v_none + weight (v_label - v_none)`.
///
/// A weight of 1 is the conditional model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guidance {
    pub weight: f32,
    /// The first channels that are guided; `None` guides all. SiT and DiT publish numbers with 3 of 4.
    pub channels: Option<usize>,
    /// The times between which it acts, as REPA's `guidance_low` and `guidance_high` (data at t = 0).
    pub interval: [f64; 2],
}

impl Guidance {
    /// Whether the velocity at `t` differs from the conditional one.
    pub fn acts_at(&self, t: f64) -> bool {
        self.weight != 1.0 && self.interval[0] <= t && t <= self.interval[1]
    }
}
