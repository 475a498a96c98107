use super::Epilogue;
use super::ahead::{Ahead, Lines, prefetch};
use super::matrix::Matrix;
use super::pack::{self, Pack};
use super::tile::Tile;
use super::vector::{LANES, Vector, Work};
use crate::cpu::scratch::Scratch;
use std::marker::PhantomData;
use std::ops::Range;

/// Most steps of k between two visits to a tile.
const STEPS: usize = 512;

/// Rows of A that stay in the second-level cache, `STEPS` steps of them in 256 KiB, while strips of B pass by.
pub(super) const ROWS: usize = 128;

/// Columns of B that stay there while blocks of rows pass by, in 192 KiB.
pub(super) const COLS: usize = 96;

/// The output, whose rectangles are written by one task each.
#[derive(Clone, Copy)]
pub(super) struct Output<'a> {
    start: *mut f32,
    stride: usize,
    slice: PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for a `&mut [f32]`, and tasks write disjoint rectangles of it.
unsafe impl Send for Output<'_> {}
// SAFETY: as above: what is shared is the right to write disjoint rectangles.
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

    /// Asks for the lines of `vectors` vectors from `col` on in some rows: otherwise the stores wait for each in turn.
    #[inline(always)]
    fn prefetch(&self, rows: Range<usize>, col: usize, vectors: usize) {
        for row in rows {
            for v in 0..vectors {
                prefetch::<1>(self.start.wrapping_add(row * self.stride + col + v * LANES).cast());
            }
        }
    }
}

/// Which operand all tasks share, packed; the other is packed by the task that uses it.
#[derive(Clone, Copy)]
pub(super) enum Shared<'a> {
    A(&'a [u32]),
    B(&'a [u32]),
}

/// A rectangle of the output, the work of one task.
pub(super) struct Block<'a, E> {
    pub a: &'a Matrix<'a>,
    /// B transposed: its rows are columns of the output, its columns run along k.
    pub b: &'a Matrix<'a>,
    pub shared: Shared<'a>,
    pub rows: Range<usize>,
    pub cols: Range<usize>,
    pub round: bool,
    pub output: Output<'a>,
    /// Rows of the operand that is not shared, of the task that likely follows on this thread.
    pub ahead: Range<usize>,
    pub epilogue: &'a E,
}

impl<E: Epilogue> Work for Block<'_, E> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let steps = pack::steps::<V>(self.a.cols);
        let blocks = steps.div_ceil(STEPS);
        let depth = steps.div_ceil(blocks);
        let (own, range) = match self.shared {
            Shared::A(_) => (self.b, self.cols.clone()),
            Shared::B(_) => (self.a, self.rows.clone()),
        };
        // The rows or columns that the task works on, and tiles whose sums are not finished.
        let mut packed = Scratch::<u32>::new(range.len().div_ceil(LANES) * depth * LANES);
        let tile = V::ROWS * V::VECTORS * LANES;
        let area = self.rows.len().next_multiple_of(V::ROWS) * self.cols.len().next_multiple_of(LANES);
        let mut sums = Scratch::<u32>::new(if blocks == 1 { tile } else { area });
        for start in (0..steps).step_by(depth) {
            let block = start..steps.min(start + depth);
            let packed = &mut packed[..range.len().div_ceil(LANES) * block.len() * LANES];
            Pack { source: own, first: range.start, steps: block.clone(), round: self.round, out: packed }.run::<V>();
            let (a, b) = match self.shared {
                Shared::A(a) => (Strips::part(a, self.rows.start, steps, start), Strips::whole(packed, block.len())),
                Shared::B(b) => (Strips::whole(packed, block.len()), Strips::part(b, self.cols.start, steps, start)),
            };
            // What is packed next: the rest of k, or the following task.
            let (rows, k) = if block.end == steps { (self.ahead.clone(), 0) } else { (range.clone(), block.end) };
            let ahead = Ahead::new(own, rows, k * V::DEPTH..own.cols.min((k + depth) * V::DEPTH));
            self.multiply::<V>(a, b, block, steps, &mut sums, ahead);
        }
    }
}

/// Packed strips, or some steps of them.
#[derive(Clone, Copy)]
struct Strips<'a> {
    words: &'a [u32],
    /// Words from one strip to the next.
    stride: usize,
}

impl<'a> Strips<'a> {
    fn whole(words: &'a [u32], steps: usize) -> Strips<'a> {
        Strips { words, stride: steps * LANES }
    }

    /// From row (or column) `first` and step `start` on, of strips of `steps` steps.
    fn part(words: &'a [u32], first: usize, steps: usize, start: usize) -> Strips<'a> {
        Strips { words: &words[first * steps + start * LANES..], stride: steps * LANES }
    }

    #[inline(always)]
    fn at(&self, row: usize) -> *const u32 {
        self.words[row / LANES * self.stride + row % LANES..].as_ptr()
    }

    /// The lines of strip `strip`.
    #[inline(always)]
    fn lines(&self, strip: usize) -> Lines {
        let start = self.at(strip * LANES);
        Lines { start, stride: LANES, last: start.wrapping_add(self.stride) }
    }
}

impl<E: Epilogue> Block<'_, E> {
    /// Adds the steps `block` of all `steps` to every tile of the rectangle, and finishes it with the last of them.
    #[inline(always)]
    fn multiply<V: Vector>(
        &self,
        a: Strips,
        b: Strips,
        block: Range<usize>,
        steps: usize,
        sums: &mut [u32],
        mut ahead: Ahead,
    ) {
        let strips = self.cols.len().div_ceil(LANES);
        let mut waiting = 0;
        for first_row in (0..self.rows.len()).step_by(ROWS) {
            let rows = first_row..self.rows.len().min(first_row + ROWS);
            let mut strip = 0;
            while strip < strips {
                // As even as possible: four strips are two and two, not three and one.
                let left = strips - strip;
                let vectors = left.div_ceil(left.div_ceil(V::VECTORS));
                for (i, row) in rows.clone().step_by(V::ROWS).enumerate() {
                    let size = V::ROWS * vectors * LANES;
                    let slot =
                        if block.len() == steps { &mut sums[..size] } else { &mut sums[waiting..waiting + size] };
                    waiting += size;
                    // The first tiles ask for the strips of the next ones, which may lie in memory.
                    let next = strip + vectors + i;
                    let next = if i < V::VECTORS && next < strips {
                        b.lines(next)
                    } else {
                        ahead.next(block.len()).unwrap_or(b.lines(strip))
                    };
                    if block.end == steps {
                        let end = self.rows.end.min(self.rows.start + row + V::ROWS);
                        self.output.prefetch(self.rows.start + row..end, self.cols.start + strip * LANES, vectors);
                    }
                    let tile = Tile {
                        steps: block.len(),
                        a: a.at(row),
                        b: b.at(strip * LANES),
                        b_stride: b.stride,
                        next,
                        sums: slot.as_mut_ptr(),
                        resume: block.start > 0,
                    };
                    // SAFETY: this runs inside `V::run`; strips and slot hold what the tile reads and writes.
                    unsafe { V::tile(vectors, tile) };
                    if block.end == steps {
                        let sums = bytemuck::cast_slice(slot);
                        match vectors {
                            3 => self.finish::<{ 3 * LANES }>(row, strip * LANES, sums),
                            2 => self.finish::<{ 2 * LANES }>(row, strip * LANES, sums),
                            _ => self.finish::<LANES>(row, strip * LANES, sums),
                        }
                    }
                }
                strip += vectors;
            }
        }
    }

    /// Hands the sums of the tile at `row`, `col` of the rectangle, `WIDTH` in a row, to the epilogue.
    #[inline(always)]
    fn finish<const WIDTH: usize>(&self, row: usize, col: usize, sums: &[f32]) {
        let col = self.cols.start + col;
        let rows = (self.rows.start + row..self.rows.end).zip(sums.as_chunks::<WIDTH>().0);
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
