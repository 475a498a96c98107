/// Memory that will be read soon, asked for line by line between products: all at once would make them wait.
pub struct Ahead {
    next: *const u8,
    /// Lines of a piece that are left, of each, and what lies between the end of a piece and the next.
    left: usize,
    lines: usize,
    gap: isize,
    pieces: usize,
}

impl Ahead {
    /// Pieces of `piece` bytes, `stride` apart; the first starts `start` bytes into `bytes`. None of them need exist.
    pub fn new(bytes: &[u8], start: usize, piece: usize, stride: usize, pieces: usize) -> Ahead {
        let lines = piece.div_ceil(64);
        let gap = stride as isize - 64 * lines as isize;
        Ahead { next: bytes.as_ptr().wrapping_add(start), left: lines, lines, gap, pieces }
    }

    /// The lines to ask for in each of `steps` steps.
    pub fn per(&self, steps: usize) -> usize {
        (self.lines * self.pieces).div_ceil(steps.max(1))
    }

    /// Asks for the next lines, unless all were asked for, in the second cache.
    #[inline]
    pub fn ask(&mut self, lines: usize) {
        for _ in 0..lines {
            if self.pieces == 0 {
                return;
            }
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a prefetch of any address is harmless.
            unsafe {
                use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
                _mm_prefetch::<_MM_HINT_T1>(self.next.cast());
            }
            self.next = self.next.wrapping_add(64);
            self.left -= 1;
            if self.left == 0 {
                (self.next, self.left) = (self.next.wrapping_offset(self.gap), self.lines);
                self.pieces -= 1;
            }
        }
    }
}
