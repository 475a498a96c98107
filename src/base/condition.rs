//! What the conditioning is made of, on every device; `src/cpu/condition.rs` has its formulas.

/// Features of a time: cosines, then sines.
pub const FEATURES: usize = 256;

/// The parameters, their values or their gradients.
#[derive(Clone, Copy, Debug)]
pub struct Params<T> {
    /// (D, 256)
    pub w0: T,
    /// (D)
    pub b0: T,
    /// (D, D)
    pub w2: T,
    /// (D)
    pub b2: T,
    /// (classes + 1, D), the last row for no label; `None` for a model without labels
    pub table: Option<T>,
    /// (chunks D, D), the adaLN rows of every layer
    pub modulation_w: T,
    /// (chunks D)
    pub modulation_b: T,
}

impl<T> Params<T> {
    /// What `f` makes of each.
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> Params<U> {
        Params {
            w0: f(self.w0),
            b0: f(self.b0),
            w2: f(self.w2),
            b2: f(self.b2),
            table: self.table.map(&mut f),
            modulation_w: f(self.modulation_w),
            modulation_b: f(self.modulation_b),
        }
    }
}

/// What forward keeps for backward.
pub struct Saved<T> {
    /// f (B, 256)
    pub features: T,
    /// h (B, D)
    pub hidden: T,
    /// c (B, D)
    pub sum: T,
    /// silu(c) (B, D)
    pub active: T,
}
