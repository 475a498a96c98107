/// How a kernel writes a gradient: the first writer of a step sets it, later writers add to it.
///
/// With this no gradient is ever cleared before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accumulate {
    Set,
    Add,
}

impl Accumulate {
    /// `*slot = value` or `*slot += value`.
    #[inline(always)]
    pub fn put(self, slot: &mut f32, value: f32) {
        match self {
            Accumulate::Set => *slot = value,
            Accumulate::Add => *slot += value,
        }
    }
}
