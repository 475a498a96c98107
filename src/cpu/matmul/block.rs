use super::matrix::Matrix;
use super::scratch::{self, Scratch};
use super::tile::Tile;
use super::vector::{LANES, Vector, Work};
use super::{Epilogue, pack};
use std::marker::PhantomData;
use std::ops::Range;

/// Most steps of k between two visits to a tile: `STEPS` words of three strips of B and of A stay in the L2 cache.
const STEPS: usize = 512;

/// Words of the strips of A that one task packs: a third of an L2 cache of 1 MiB.
const A_WORDS: usize = 96 * 1024;

/// Strips of B between whose blocks of k the unfinished sums wait.
const GROUP: usize = 24;

/// The output, whose rectangles are written by one task each.
#[derive(Clone, Copy)]
pub(super) struct Output<'a> {
    start: *mut f32,
    stride: usize,
    slice: PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for a `&mut [f32]`, and tasks write disjoint rectangles of it.
unsafe impl Send for Output<'_> {}
unsafe impl Sync for Output<'_> {}

impl<'a> Output<'a> {
    /// The rows of `c`, `stride` apart.
    pub fn new(c: &'a mut [f32], rows: usize, cols: usize, stride: usize) -> Output<'a> {
        let needed = if rows == 0 || cols == 0 { 0 } else { (rows - 1) * stride + cols };
        assert!(cols <= stride || rows <= 1, "product: rows of {cols} columns cannot start {stride} apart");
        assert!(c.len() >= needed, "product: an output of {rows} x {cols}, stride {stride}, in {} elements", c.len());
        Output { start: c.as_mut_ptr(), stride, slice: PhantomData }
    }

    /// # Safety
    /// `row` and `col` lie inside the output.
    #[inline(always)]
    unsafe fn at(&self, row: usize, col: usize) -> *mut f32 {
        // SAFETY: the caller's.
        unsafe { self.start.add(row * self.stride + col) }
    }
}

/// How many rows a task should take, of `rows` shared by `threads`.
pub(super) fn rows_per_task(rows: usize, steps: usize, threads: usize) -> usize {
    let fits = (A_WORDS / steps).clamp(32, 128);
    let fair = rows.div_ceil(4 * threads);
    fits.min(fair).next_multiple_of(LANES)
}

/// Packs strips of an operand.
pub(super) struct Pack<'a> {
    pub source: &'a Matrix<'a>,
    pub first: usize,
    pub round: bool,
    pub steps: usize,
    pub out: &'a mut [u32],
}

impl Work for Pack<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        // SAFETY: this runs inside `V::run`.
        unsafe { pack::strips::<V>(self.source, self.first, self.round, self.steps, self.out) };
    }
}

/// A rectangle of the output: `rows` of A by the strips of B, which is packed.
pub(super) struct Block<'a, E> {
    pub a: &'a Matrix<'a>,
    pub rows: Range<usize>,
    pub b: &'a [u32],
    pub cols: Range<usize>,
    pub steps: usize,
    pub round: bool,
    pub output: Output<'a>,
    pub epilogue: &'a E,
}

impl<E: Epilogue> Work for Block<'_, E> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let strip = self.steps * LANES;
        let mut a = Scratch::new(&scratch::A, self.rows.len().div_ceil(LANES) * strip);
        // SAFETY: this runs inside `V::run`.
        unsafe { pack::strips::<V>(self.a, self.rows.start, self.round, self.steps, a.words()) };
        let blocks = self.steps.div_ceil(STEPS);
        let depth = self.steps.div_ceil(blocks);
        let tile_rows = self.rows.len().div_ceil(V::ROWS);
        let waiting = if blocks == 1 { V::ROWS * V::VECTORS * LANES } else { tile_rows * V::ROWS * GROUP * LANES };
        let mut sums = Scratch::new(&scratch::SUMS, waiting);
        let strips = self.cols.len().div_ceil(LANES);
        for group in (0..strips).step_by(GROUP) {
            for block in 0..blocks {
                let steps = block * depth..self.steps.min((block + 1) * depth);
                self.group::<V>(a.words(), group..strips.min(group + GROUP), steps, sums.words());
            }
        }
    }
}

impl<E: Epilogue> Block<'_, E> {
    /// The steps `steps` of the strips `strips`, for all rows.
    #[inline(always)]
    fn group<V: Vector>(&self, a: &[u32], strips: Range<usize>, steps: Range<usize>, sums: &mut [u32]) {
        let strip = self.steps * LANES;
        let one_block = steps.len() == self.steps;
        let mut first = strips.start;
        let mut waiting = 0;
        while first < strips.end {
            // As even as possible: four strips are two and two, not three and one.
            let left = strips.end - first;
            let vectors = left.div_ceil(left.div_ceil(V::VECTORS));
            for row in (0..self.rows.len()).step_by(V::ROWS) {
                let size = V::ROWS * vectors * LANES;
                let slot = if one_block { &mut sums[..size] } else { &mut sums[waiting..waiting + size] };
                waiting += size;
                let a = &a[row / LANES * strip + steps.start * LANES + row % LANES..];
                let b = &self.b[first * strip + steps.start * LANES..];
                let tile = Tile {
                    steps: steps.len(),
                    a: a.as_ptr(),
                    b: b.as_ptr(),
                    b_stride: strip,
                    sums: slot.as_mut_ptr(),
                    resume: steps.start > 0,
                };
                // SAFETY: this runs inside `V::run`; the strips hold `self.steps` steps each, and the slot holds the tile.
                unsafe { V::tile(vectors, tile) };
                if steps.end == self.steps {
                    let sums = bytemuck::cast_slice(slot);
                    match vectors {
                        3 => self.finish::<{ 3 * LANES }>(row, first, sums),
                        2 => self.finish::<{ 2 * LANES }>(row, first, sums),
                        _ => self.finish::<LANES>(row, first, sums),
                    }
                }
            }
            first += vectors;
        }
    }

    /// Hands the sums of a tile, `WIDTH` in a row, to the epilogue.
    #[inline(always)]
    fn finish<const WIDTH: usize>(&self, first_row: usize, first_strip: usize, sums: &[f32]) {
        let col = self.cols.start + first_strip * LANES;
        let rows = (self.rows.start + first_row..self.rows.end).zip(sums.as_chunks::<WIDTH>().0);
        if self.cols.end - col >= WIDTH {
            // Here the compiler knows the length of a row.
            for (row, sums) in rows {
                // SAFETY: the rectangle lies inside the output and belongs to this task.
                let out = unsafe { &mut *self.output.at(row, col).cast::<[f32; WIDTH]>() };
                self.epilogue.write(row, col, sums, out);
            }
        } else {
            let width = self.cols.end - col;
            for (row, sums) in rows {
                // SAFETY: as above.
                let out = unsafe { std::slice::from_raw_parts_mut(self.output.at(row, col), width) };
                self.epilogue.write(row, col, &sums[..width], out);
            }
        }
    }
}
