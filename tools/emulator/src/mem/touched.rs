//! Which sectors of an allocation a launch has touched, and how many: without a look at all of them when it starts or ends.

use super::bits::pieces;

/// Bytes of the unit in which device memory moves.
pub const SECTOR: usize = 32;

#[derive(Debug, Default)]
pub struct Touched {
    /// Launches so far. What an older one has left in a word counts as zero.
    launch: u32,
    /// For 64 sectors each: the launch that touched some of them last, and which.
    words: Vec<(u32, u64)>,
    sectors: u64,
}

impl Touched {
    pub fn new(bytes: usize) -> Self {
        Self { launch: 1, words: vec![(0, 0); bytes.div_ceil(64 * SECTOR)], sectors: 0 }
    }

    /// Notes an access to `size` bytes from `at` on.
    #[inline]
    pub fn touch(&mut self, at: usize, size: usize) {
        let first = at / SECTOR;
        pieces(first, (at + size).div_ceil(SECTOR) - first, |word, mask| {
            let (launch, bits) = &mut self.words[word];
            if *launch != self.launch {
                (*launch, *bits) = (self.launch, 0);
            }
            self.sectors += u64::from((mask & !*bits).count_ones());
            *bits |= mask;
            true
        });
    }

    /// Sectors touched since the last call.
    pub fn take(&mut self) -> u64 {
        self.launch += 1;
        std::mem::take(&mut self.sectors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_counts_once_in_every_launch() {
        let mut touched = Touched::new(10_000);
        touched.touch(30, 4);
        touched.touch(0, 64);
        touched.touch(32 * 60, 32 * 10);
        assert_eq!(touched.take(), 12);
        touched.touch(40, 1);
        assert_eq!((touched.take(), touched.take()), (1, 0));
    }
}
