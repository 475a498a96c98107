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

/// Cache lines, and the words from one to the next.
#[derive(Clone, Copy)]
pub(super) struct Lines {
    pub start: *const u32,
    pub stride: usize,
}

/// The rows of a matrix that will be packed later, line by line in the order of memory.
pub(super) struct Ahead {
    first: *const u32,
    stride: usize,
    /// Lines of a run, and of all runs, which start side by side.
    run: usize,
    lines: usize,
    /// Lines asked for.
    asked: usize,
}

impl Ahead {
    pub fn new(m: &Matrix, rows: Range<usize>) -> Ahead {
        let first = m.data.as_ptr().wrapping_add(rows.start * m.row_stride).cast();
        let (stride, run, runs) = if m.col_stride == 1 {
            (LANES, (rows.len() * m.row_stride).div_ceil(LANES), 1)
        } else {
            (m.col_stride, m.cols, rows.len().div_ceil(LANES))
        };
        Ahead { first, stride, run, lines: runs * run, asked: 0 }
    }

    /// The next `lines` lines, unless all have been asked for.
    #[inline(always)]
    pub fn next(&mut self, lines: usize) -> Option<Lines> {
        let i = self.asked;
        self.asked += lines;
        (i < self.lines).then(|| Lines {
            start: self.first.wrapping_add(i / self.run * LANES + i % self.run * self.stride),
            stride: self.stride,
        })
    }
}
