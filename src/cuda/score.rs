//! The passes of the empirical score over the rows of a data set; see `kernels/score.cu`.

use super::THREADS;
use crate::base::DType;
use crate::device::cuda::{Argument, Cuda, Grid, Kernel};
use crate::kernel;
use crate::tensor::Tensor;
use std::ops::Range;

/// Rows of which a selection judges the bounds together.
pub const LEAF: usize = 128;
/// Bytes to which a slice is filled up, a stage of the products.
pub const PITCH: usize = 64;

/// A kernel for the values of each type of a store.
struct OfValues {
    u8: Kernel,
    f16: Kernel,
    f32: Kernel,
}

impl OfValues {
    fn of(&self, values: &Tensor) -> Kernel {
        match values.dtype() {
            DType::U8 => self.u8,
            DType::F16 => self.f16,
            DType::F32 => self.f32,
            other => panic!("the values of a store are not of type {other:?}"),
        }
    }
}

macro_rules! of_values {
    ($name:literal) => {
        OfValues {
            u8: kernel!("score", concat!($name, "_u8")),
            f16: kernel!("score", concat!($name, "_f16")),
            f32: kernel!("score", concat!($name, "_f32")),
        }
    };
}

const SLICES: OfValues = of_values!("score_slices");
const DISTANCES: OfValues = of_values!("score_distances");
const PICKED: OfValues = of_values!("score_picked");
const ADD_PARTS: Kernel = kernel!("score", "score_add_parts");

/// The kernels for as many queries in a block.
struct Tile {
    queries: usize,
    /// Of a block that bounds a leaf.
    threads: usize,
    stages: usize,
    extremes: Kernel,
    bounds: Kernel,
    /// Of all rows.
    logits: OfValues,
    sums: OfValues,
}

/// Those of `kernels/score/bounds.cuh` and `kernels/score/exact.cuh`.
const TILES: [Tile; 2] = [
    Tile {
        queries: 16,
        threads: 64,
        stages: 5,
        extremes: kernel!("score", "score_extremes_16"),
        bounds: kernel!("score", "score_bounds_16"),
        logits: of_values!("score_logits_16"),
        sums: of_values!("score_sums_16"),
    },
    Tile {
        queries: 64,
        threads: 256,
        stages: 3,
        extremes: kernel!("score", "score_extremes_64"),
        bounds: kernel!("score", "score_bounds_64"),
        logits: of_values!("score_logits_64"),
        sums: of_values!("score_sums_64"),
    },
];

impl Tile {
    fn of(queries: usize) -> &'static Tile {
        &TILES[usize::from(queries > TILES[0].queries)]
    }

    /// Of the blocks that bound leaves.
    fn grid(&self, leaves: usize, queries: usize) -> Grid {
        let (stages, sums) =
            (self.stages * (LEAF + self.queries) * PITCH, self.queries * (LEAF + 2) * size_of::<f64>());
        Grid::new(leaves * queries.div_ceil(self.queries), self.threads).shared(stages + sums)
    }
}

/// The rows of a data set.
pub struct Rows {
    /// (rows, width), as they lie in a store.
    pub values: Tensor,
    /// (rows, pitch); `None` where the values are their own slices.
    pub slices: Option<Tensor>,
    /// (4, rows): scale, squared length, no less than the length, no less than the length of what the slice leaves out.
    pub facts: Tensor,
}

impl Rows {
    fn extents(&self) -> [usize; 2] {
        let shape = self.values.shape();
        [shape.rows(), self.values.len() / shape.rows()]
    }

    /// Slices, facts, and then rows, pitch and the ends of `range`.
    fn sliced(&self, range: &Range<usize>) -> [Argument; 6] {
        let [rows, width] = self.extents();
        let slices = self.slices.as_ref().unwrap_or(&self.values);
        let extents = [rows, width.next_multiple_of(PITCH), range.start, range.end].map(Argument::from);
        [slices.into(), (&self.facts).into(), extents[0], extents[1], extents[2], extents[3]]
    }
}

/// Queries as whole numbers, and the numbers that make bounds of their sums with slices.
pub struct Asked {
    /// (queries, pitch) of i8, zero beyond the width of a row.
    pub digits: Tensor,
    /// (queries, 8).
    pub terms: Tensor,
}

impl Asked {
    fn arguments(&self) -> ([Argument; 3], usize) {
        let queries = self.terms.shape().rows();
        ([(&self.digits).into(), (&self.terms).into(), queries.into()], queries)
    }
}

/// Writes slices and facts from the values.
pub fn slice(card: &Cuda, rows: &mut Rows) {
    let [count, width] = rows.extents();
    let extents = [width, width.next_multiple_of(PITCH), count].map(Argument::from);
    let outputs = [rows.slices.as_ref().into(), (&mut rows.facts).into()];
    card.launch(
        SLICES.of(&rows.values),
        Grid::new(count, THREADS),
        &[&[(&rows.values).into()], &extents[..], &outputs].concat(),
    );
}

/// Writes `extremes` (queries, leaves, 4) of the leaves of `range`.
pub fn extremes(card: &Cuda, rows: &Rows, range: Range<usize>, asked: &Asked, extremes: &mut Tensor) {
    let ((queries, count), leaves) = (asked.arguments(), range.len().div_ceil(LEAF));
    let tile = Tile::of(count);
    let arguments = [&rows.sliced(&range)[..], &queries, &[extremes.into()]].concat();
    card.launch(tile.extremes, tile.grid(leaves, count), &arguments);
}

/// Writes `bounds` (leaves of the list, queries, 2, LEAF) of the rows of some `leaves` of `range`.
pub fn bounds(card: &Cuda, rows: &Rows, range: Range<usize>, asked: &Asked, leaves: &Tensor, bounds: &mut Tensor) {
    let (queries, count) = asked.arguments();
    let tile = Tile::of(count);
    let arguments = [&rows.sliced(&range)[..], &queries, &[leaves.into(), bounds.into()]].concat();
    card.launch(tile.bounds, tile.grid(leaves.len(), count), &arguments);
}

/// Writes `|z - alpha x|^2` of each of `pairs` (P, 2), a query and a row, to `out` (P); z is (queries, width), alpha (queries).
pub fn squared_distances(card: &Cuda, rows: &Rows, [z, alpha]: [&Tensor; 2], pairs: &Tensor, out: &mut Tensor) {
    let [_, width] = rows.extents();
    let arguments = [(&rows.values).into(), width.into(), z.into(), alpha.into(), pairs.into(), out.into()];
    card.launch(DISTANCES.of(&rows.values), Grid::new(pairs.shape().rows(), THREADS), &arguments);
}

/// Writes the weighted sums of the rows picked for each query to `out` (queries, width); query q has the picks from
/// `offsets[q]` to `offsets[q + 1]`.
pub fn picked_sums(card: &Cuda, rows: &Rows, offsets: &Tensor, picks: &Tensor, weights: &Tensor, out: &mut Tensor) {
    let [_, width] = rows.extents();
    let blocks = (offsets.len() - 1) * width.div_ceil(THREADS);
    let inputs = [(&rows.values).into(), width.into(), offsets.into(), picks.into(), weights.into()];
    card.launch(PICKED.of(&rows.values), Grid::new(blocks, THREADS), &[&inputs[..], &[out.into()]].concat());
}

/// Rows of a block of logits, and columns of a block of weighted sums.
const EDGE: usize = 64;

/// Writes `kappa <z, x> - half |x|^2 + own` of the rows in `range` to `logits` (queries, range); `constants` are (queries, 3).
pub fn logits(card: &Cuda, rows: &Rows, range: Range<usize>, [z, constants]: [&Tensor; 2], logits: &mut Tensor) {
    let ([count, width], queries) = (rows.extents(), z.shape().rows());
    let tile = Tile::of(queries);
    let blocks = queries.div_ceil(tile.queries) * range.len().div_ceil(EDGE);
    let extents = [count, range.start, range.len()].map(Argument::from);
    let inputs = [(&rows.values).into(), width.into(), (&rows.facts).into()];
    let outputs = [z.into(), constants.into(), queries.into(), logits.into()];
    card.launch(tile.logits.of(&rows.values), Grid::new(blocks, THREADS), &[&inputs[..], &extents, &outputs].concat());
}

/// Rows of a part of weighted sums; more parts than these many are no faster.
const PART: usize = 1024;
const MOST_PARTS: usize = 32;

/// Writes the sums of the rows in `range`, weighted by `weights` (queries, range), to `out` (queries, width).
pub fn weighted_sums(card: &Cuda, rows: &Rows, range: Range<usize>, weights: &Tensor, out: &mut Tensor) {
    let ([_, width], queries) = (rows.extents(), weights.shape().rows());
    let each = range.len().div_ceil(MOST_PARTS).max(PART);
    let parts = range.len().div_ceil(each);
    let mut summed = Tensor::workspace(card, [parts, queries, width], DType::F64);
    let tile = Tile::of(queries);
    let blocks = [queries.div_ceil(tile.queries) * width.div_ceil(EDGE), parts, 1];
    let extents = [width, range.start, range.len(), each].map(Argument::from);
    let rest = [weights.into(), queries.into(), (&mut summed).into()];
    let arguments = [&[(&rows.values).into()], &extents[..], &rest].concat();
    card.launch(tile.sums.of(&rows.values), Grid::volume(blocks, THREADS), &arguments);
    let size = queries * width;
    let arguments = [(&summed).into(), parts.into(), size.into(), out.into()];
    card.launch(ADD_PARTS, Grid::new(size.div_ceil(THREADS), THREADS), &arguments);
}
