use std::fmt;

/// The extents of a contiguous tensor, outermost first; at most four.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    extents: [usize; Shape::MAX_RANK],
    rank: usize,
}

impl Shape {
    pub const MAX_RANK: usize = 4;

    pub fn new(extents: &[usize]) -> Shape {
        assert!(extents.len() <= Shape::MAX_RANK, "a shape has at most {} extents, got {extents:?}", Shape::MAX_RANK);
        let mut all = [1; Shape::MAX_RANK];
        all[..extents.len()].copy_from_slice(extents);
        Shape { extents: all, rank: extents.len() }
    }

    pub fn extents(&self) -> &[usize] {
        &self.extents[..self.rank]
    }

    pub fn len(&self) -> usize {
        self.extents().iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last extent: the width of a row.
    pub fn width(&self) -> usize {
        self.extents().last().copied().unwrap_or(1)
    }

    /// The product of all extents but the last: the number of rows.
    pub fn rows(&self) -> usize {
        self.extents().split_last().map_or(1, |(_, outer)| outer.iter().product())
    }

    /// The same rows with another width.
    pub fn with_width(&self, width: usize) -> Shape {
        let mut shape = *self;
        shape.extents[self.rank.checked_sub(1).expect("a scalar has no width")] = width;
        shape
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(extents: [usize; N]) -> Shape {
        Shape::new(&extents)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.extents())
    }
}
