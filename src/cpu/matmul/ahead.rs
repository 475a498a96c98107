//! Asking for memory ahead of its use, since packing and the stores of an epilogue would wait for it.

use super::matrix::Matrix;
use super::vector::LANES;
use std::ops::Range;

/// Asks for the cache line at `place`, which need not exist, in the cache of level `LEVEL`, 1 or 2.
#[inline(always)]
pub(super) fn prefetch<const LEVEL: u8>(place: *const u32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address is harmless.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        if LEVEL == 1 { _mm_prefetch::<_MM_HINT_T0>(place.cast()) } else { _mm_prefetch::<_MM_HINT_T1>(place.cast()) }
    }
}

/// Cache lines, so many words apart, up to the last.
#[derive(Clone, Copy)]
pub(super) struct Lines {
    pub start: *const u32,
    pub stride: usize,
    pub last: *const u32,
}

/// A part of a matrix that will be packed later, down one column of cache lines after the other.
pub(super) struct Ahead {
    first: *const u32,
    stride: usize,
    /// Lines of a column, and columns, which lie side by side.
    lines: usize,
    columns: usize,
    /// Lines asked for in the first of the columns that are left.
    asked: usize,
}

impl Ahead {
    pub fn new(m: &Matrix, rows: Range<usize>, cols: Range<usize>) -> Ahead {
        let start = rows.start * m.row_stride + cols.start * m.col_stride;
        let (stride, lines, across) = if m.col_stride == 1 {
            (m.row_stride, rows.len(), cols.len())
        } else {
            (m.col_stride, cols.len(), rows.len())
        };
        let columns = if lines == 0 { 0 } else { across.div_ceil(LANES) };
        Ahead { first: m.data.as_ptr().wrapping_add(start).cast(), stride, lines, columns, asked: 0 }
    }

    /// The next lines, at most `most` of them, unless all have been asked for.
    #[inline(always)]
    pub fn next(&mut self, most: usize) -> Option<Lines> {
        if self.columns == 0 {
            return None;
        }
        let lines = most.min(self.lines - self.asked);
        let start = self.first.wrapping_add(self.asked * self.stride);
        self.asked += lines;
        if self.asked == self.lines {
            (self.first, self.columns, self.asked) = (self.first.wrapping_add(LANES), self.columns - 1, 0);
        }
        Some(Lines { start, stride: self.stride, last: start.wrapping_add((lines - 1) * self.stride) })
    }
}
