//! `y = x Wᵀ + b` and its gradients; the products that other operations are made of.

use crate::base::{Accumulate, DType};
use crate::device::cuda::{Argument, Boxes, Cuda, Grid, Kernel, Typed};
use crate::tensor::Tensor;
use crate::{kernel, kernels};
use std::ops::Range;

const FORWARD: Typed = kernels!("linear", "linear_forward");
const FORWARD_TILES: [Kernel; 4] = [
    kernel!("linear", "linear_forward_bf16_128x192"),
    kernel!("linear", "linear_forward_bf16_256x128"),
    kernel!("linear", "linear_forward_bf16_128x128"),
    kernel!("linear", "linear_forward_bf16_32x128"),
];
const INPUT_GRADIENT: Typed = kernels!("linear", "linear_input_gradient");
const INPUT_GRADIENT_TILES: [Kernel; 4] = [
    kernel!("linear", "linear_input_gradient_bf16_128x192"),
    kernel!("linear", "linear_input_gradient_bf16_256x128"),
    kernel!("linear", "linear_input_gradient_bf16_128x128"),
    kernel!("linear", "linear_input_gradient_bf16_32x128"),
];
const WEIGHT_GRADIENT: Typed = kernels!("linear", "linear_weight_gradient");
const WEIGHT_GRADIENT_TILES: [Kernel; 3] = [
    kernel!("linear", "linear_weight_gradient_bf16_128x192"),
    kernel!("linear", "linear_weight_gradient_bf16_256x128"),
    kernel!("linear", "linear_weight_gradient_bf16_128x128"),
];
const REDUCE: Typed = kernels!("linear", "linear_reduce");

/// What one block computes of a product.
#[derive(Clone, Copy, Debug)]
struct Tile {
    rows: usize,
    columns: usize,
    threads: usize,
    /// Bytes of shared memory.
    shared: usize,
    /// Blocks that one multiprocessor holds.
    resident: usize,
    /// Time of a term of the sum, in that of the same multiply-adds at the full rate of the tensor cores.
    slowness: f64,
}

/// The tile of `kernels/lib/stream.cuh`, for cards of capability 9.0, then those of `kernels/lib/tile.cuh`. The small ones take
/// more fragments, and more of level two, for each multiply-add. That of the first is a prediction for an H200.
const TILES: [Tile; 4] = [
    Tile { rows: 128, columns: 192, threads: 384, shared: 5 * (320 * 128 + 16), resident: 1, slowness: 0.72 },
    Tile { rows: 256, columns: 128, threads: 256, shared: 4 * 384 * 64, resident: 1, slowness: 1.0 },
    Tile { rows: 128, columns: 128, threads: 128, shared: 4 * 256 * 64, resident: 2, slowness: 1.15 },
    Tile { rows: 32, columns: 128, threads: 128, shared: 5 * 160 * 64, resident: 3, slowness: 2.4 },
];
/// The number of the first.
const STREAM: usize = 0;
/// Terms of a stage of the first, and elements of a row of its boxes.
const STAGE: usize = 64;
/// Blocks that share the right factor, their tiles one below the other.
const CLUSTER: usize = 2;

/// The tile of the kernels that take any extents.
const PLAIN: Tile = Tile { rows: 64, columns: 64, threads: 256, shared: 0, resident: 1, slowness: 1.0 };

/// Which index of a factor is contiguous in memory: that of the sum, or that of the output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Contiguous {
    Sum,
    Output,
}

/// How a product of (rows, terms) by (terms, columns) is cut into blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// The number of a tile; `None` for the kernels that take any extents.
    index: Option<usize>,
    tile: Tile,
    /// Tiles down and across.
    down: usize,
    across: usize,
    /// Parts of the sums, each computed by blocks of its own.
    parts: usize,
    /// Blocks of a part.
    blocks: usize,
}

impl Plan {
    /// The plan of a product by the largest `tiles` tiles of mma.sync or, on a card of capability 9.0, that of wgmma; its sums
    /// in parts where `splits`.
    ///
    /// `widths` are the extents that are contiguous in memory; tensor cores want multiples of eight.
    pub(super) fn new(
        card: &Cuda,
        dtype: DType,
        widths: [usize; 2],
        extents: [usize; 3],
        tiles: usize,
        splits: bool,
    ) -> Plan {
        let first = if card.card().capability == (9, 0) { STREAM } else { STREAM + 1 };
        let fits = dtype == DType::BF16 && widths.iter().all(|width| width.is_multiple_of(8));
        Plan::fastest(card.card().multiprocessors, extents, if fits { first..tiles + 1 } else { 0..0 }, splits)
    }

    /// The fastest plan by a model of a card of as many multiprocessors: waves of blocks at the tensor cores' rate, the start
    /// and end of a block, and the traffic of parts. It depends on nothing else, so a run repeats itself.
    fn fastest(multiprocessors: usize, [rows, columns, terms]: [usize; 3], tiles: Range<usize>, splits: bool) -> Plan {
        let plan = |index: Option<usize>, tile: Tile, parts: usize| {
            let (down, across) = (rows.div_ceil(tile.rows), columns.div_ceil(tile.columns));
            if index != Some(STREAM) {
                return Plan { index, tile, down, across, parts, blocks: down * across };
            }
            // A cluster takes its tiles one after another.
            let down = down.next_multiple_of(CLUSTER);
            let blocks = (multiprocessors / parts / CLUSTER).clamp(1, down * across / CLUSTER) * CLUSTER;
            Plan { index, tile, down, across, parts, blocks }
        };
        if tiles.is_empty() {
            return plan(None, PLAIN, 1);
        }
        let most = if splits { (terms / LEAST_TERMS).clamp(1, MOST_PARTS) } else { 1 };
        let plans = tiles.flat_map(|i| (1..=most).map(move |parts| plan(Some(i), TILES[i], parts)));
        let time = |plan: &Plan| plan.time(multiprocessors, rows * columns, terms);
        plans.min_by(|a, b| time(a).total_cmp(&time(b))).expect("there is a tile")
    }

    /// Clocks of one multiprocessor.
    fn time(&self, multiprocessors: usize, outputs: usize, terms: usize) -> f64 {
        let Tile { rows, columns, resident, slowness, .. } = self.tile;
        let turns = (self.down * self.across).div_ceil(self.blocks);
        let waves = turns * (self.blocks * self.parts).div_ceil(multiprocessors * resident);
        let block = (rows * columns * resident) as f64 / MULTIPLY_ADDS * (terms.div_ceil(self.parts) as f64 + EDGES);
        let parts = match self.parts {
            1 => 0.0,
            parts => LAUNCH + ((2 * parts + 1) * outputs * 4) as f64 / (multiprocessors as f64 * BYTES),
        };
        waves as f64 * block * slowness + parts
    }

    pub(super) fn grid(&self) -> Grid {
        Grid::volume([self.blocks, self.parts, 1], self.tile.threads).shared(self.tile.shared)
    }

    /// The left factor, of whose tiles the rows are the output's.
    pub(super) fn left(&self, matrix: &Tensor, contiguous: Contiguous) -> Argument {
        self.factor(matrix, if contiguous == Contiguous::Sum { self.tile.rows } else { STAGE })
    }

    /// The right factor, of which each block of a cluster copies its share.
    pub(super) fn right(&self, matrix: &Tensor, contiguous: Contiguous) -> Argument {
        self.factor(matrix, if contiguous == Contiguous::Sum { self.tile.columns } else { STAGE } / CLUSTER)
    }

    /// A row-major matrix as the kernel of this plan takes it: by its address, or in boxes of so many rows.
    fn factor(&self, matrix: &Tensor, down: usize) -> Argument {
        match Argument::from(matrix) {
            Argument::Pointer(address) if self.index == Some(STREAM) => {
                let (rows, columns) = (matrix.shape().rows(), matrix.shape().width());
                Argument::Boxes(Boxes { address, images: 1, rows, columns, across: STAGE, down })
            }
            pointer => pointer,
        }
    }

    /// The kernel of this plan, of those for tiles and those for any extents.
    pub(super) fn kernel(&self, tiles: &[Kernel], plain: Typed, dtype: DType) -> Kernel {
        self.index.map_or(plain.of(dtype), |i| tiles[i])
    }
}

/// Multiply-adds of bf16 that a multiprocessor does in a clock, and bytes of memory it moves meanwhile: an H200 with mma.sync.
const MULTIPLY_ADDS: f64 = 1270.0;
const BYTES: f64 = 18.0;
/// Clocks of a launch.
const LAUNCH: f64 = 4000.0;
/// Terms whose time a block spends on filling its ring and on storing its sums.
const EDGES: f64 = 200.0;
/// Fewer terms are not worth a block of their own.
const LEAST_TERMS: usize = 256;
const MOST_PARTS: usize = 32;

/// Writes `y` (.., width) from `x` (.., inner), `w` (width, inner) and, where there is one, `b` (width).
pub fn forward<'a>(card: &Cuda, x: &Tensor, w: &Tensor, b: impl Into<Option<&'a Tensor>>, y: &mut Tensor) {
    let (rows, inner, width) = (x.shape().rows(), x.shape().width(), y.shape().width());
    let plan = Plan::new(card, x.dtype(), [inner, width], [rows, width, inner], 3, false);
    let kernel = plan.kernel(&FORWARD_TILES, FORWARD, x.dtype());
    let extents = [rows, inner, width].map(Argument::from);
    let tensors = [plan.left(x, Contiguous::Sum), plan.right(w, Contiguous::Sum), b.into().into(), y.into()];
    card.launch(kernel, plan.grid(), &[&tensors[..], &extents].concat());
}

/// Writes the gradient `dx` (.., inner) from `dy` (.., width) and `w` (width, inner).
pub fn input_gradient(card: &Cuda, dy: &Tensor, w: &Tensor, dx: &mut Tensor, accumulate: Accumulate) {
    let (rows, width, inner) = (dy.shape().rows(), dy.shape().width(), dx.shape().width());
    let plan = Plan::new(card, dy.dtype(), [inner, width], [rows, inner, width], 3, true);
    let kernel = plan.kernel(&INPUT_GRADIENT_TILES, INPUT_GRADIENT, dy.dtype());
    let mut parts = (plan.parts > 1).then(|| Tensor::workspace(card, [plan.parts, rows * inner], DType::F32));
    let factors = [plan.left(dy, Contiguous::Sum), plan.right(w, Contiguous::Output)];
    let tensors = [factors[0], factors[1], (&mut *dx).into(), parts.as_ref().into()];
    let extents = [rows, inner, width].map(Argument::from);
    card.launch(kernel, plan.grid(), &[&tensors[..], &extents, &[add(accumulate)]].concat());
    if let Some(parts) = &mut parts {
        reduce(card, parts, dx, accumulate);
    }
}

/// Writes the gradients `dw` (width, inner) and `db` (width), f32, from `dy` (.., width) and `x` (.., inner).
pub fn weight_gradient(
    card: &Cuda,
    dy: &Tensor,
    x: &Tensor,
    (dw, set_w): (&mut Tensor, Accumulate),
    (db, set_b): (&mut Tensor, Accumulate),
) {
    let (rows, width, inner) = (dy.shape().rows(), dy.shape().width(), x.shape().width());
    let plan = Plan::new(card, dy.dtype(), [inner, width], [width, inner, rows], 2, true);
    let kernel = plan.kernel(&WEIGHT_GRADIENT_TILES, WEIGHT_GRADIENT, dy.dtype());
    let parts = (plan.parts > 1).then(|| Tensor::workspace(card, [plan.parts, width * inner], DType::F32));
    // The tiles of one row of tiles share its sums.
    let sharing = plan.index.map_or(1, |_| plan.across);
    let bias_parts = Tensor::workspace(card, [plan.parts * sharing, width], DType::F32);
    let (to, first) = match &parts {
        Some(parts) => (parts.into(), add(Accumulate::Set)),
        None => ((&mut *dw).into(), add(set_w)),
    };
    let factors = [plan.left(dy, Contiguous::Output), plan.right(x, Contiguous::Output)];
    let tensors = [factors[0], factors[1], to, (&bias_parts).into()];
    let extents = [rows, inner, width].map(Argument::from);
    card.launch(kernel, plan.grid(), &[&tensors[..], &extents, &[first]].concat());
    if let Some(parts) = &parts {
        reduce(card, parts, dw, set_w);
    }
    reduce(card, &bias_parts, db, set_b);
}

/// Sums the rows of `parts` (parts, elements of `out`) in their order.
pub(super) fn reduce(card: &Cuda, parts: &Tensor, out: &mut Tensor, accumulate: Accumulate) {
    let (rows, count) = (parts.shape().rows(), out.len());
    // Of few elements eight threads each.
    let sharing = if count < 1 << 16 { 8 } else { 1 };
    let across = 256 / sharing;
    let threads = [across as u32, sharing as u32, 1];
    let grid = Grid { threads, ..Grid::new(count.div_ceil(across), 256) };
    let arguments = [parts.into(), (&mut *out).into(), rows.into(), count.into(), add(accumulate)];
    card.launch(REDUCE.of(out.dtype()), grid, &arguments);
}

fn add(accumulate: Accumulate) -> Argument {
    (accumulate == Accumulate::Add).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tile's rows and columns and the parts, on a card of as many multiprocessors as an H200.
    fn plan(extents: [usize; 3], tiles: Range<usize>, splits: bool) -> ([usize; 2], usize) {
        let plan = Plan::fastest(132, extents, tiles, splits);
        ([plan.tile.rows, plan.tile.columns], plan.parts)
    }

    #[test]
    fn products_of_many_rows_take_large_tiles_whole() {
        for [width, inner] in [[3456, 1152], [1152, 1152], [4608, 1152], [1152, 4608]] {
            assert_eq!(plan([65536, width, inner], 1..4, true), ([256, 128], 1), "{inner} to {width}");
            assert_eq!(plan([65536, width, inner], 0..4, true), ([128, 192], 1), "{inner} to {width}");
        }
    }

    #[test]
    fn products_of_few_rows_take_small_tiles() {
        for tiles in [1..4, 0..4] {
            assert_eq!(plan([8, 193_536, 1152], tiles, false).0, [32, 128]);
        }
        assert_eq!(plan([256, 193_536, 1152], 1..4, false).0, [256, 128]);
    }

    #[test]
    fn sums_are_parted_where_tiles_are_few() {
        for first in [0, 1] {
            // The gradients of a projection's weight, and of the conditioning by that of all modulations.
            assert!(plan([1152, 1152, 65536], first..3, true).1 > 1);
            assert!(plan([8, 1152, 193_536], first..4, true).1 > 1);
            assert_eq!(plan([193_536, 1152, 256], first..3, true).1, 1);
        }
    }

    #[test]
    fn a_block_that_streams_takes_its_share_of_the_tiles() {
        let plan = Plan::fastest(132, [65536, 1152, 1152], 0..1, false);
        assert_eq!((plan.down * plan.across, plan.blocks), (512 * 6, 132));
        let plan = Plan::fastest(132, [1152, 1152, 65536], 0..1, true);
        // Nine tiles down, rounded to whole clusters.
        assert_eq!((plan.down, plan.blocks % CLUSTER), (10, 0));
        assert!(plan.parts > 1 && plan.blocks * plan.parts <= 132, "{plan:?}");
    }
}
