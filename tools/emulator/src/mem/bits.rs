//! A set of small integers as a bitmap, with ranges set and tested a word at a time.

#[derive(Debug, Clone, Default)]
pub struct Bits {
    words: Vec<u64>,
}

impl Bits {
    pub fn new(length: usize) -> Self {
        Self { words: vec![0; length.div_ceil(64)] }
    }

    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Adds `length` numbers from `from` on.
    #[inline]
    pub fn set(&mut self, from: usize, length: usize) {
        pieces(from, length, |word, mask| {
            self.words[word] |= mask;
            true
        });
    }

    /// Whether all of `length` numbers from `from` on are in the set.
    #[inline]
    pub fn all(&self, from: usize, length: usize) -> bool {
        pieces(from, length, |word, mask| self.words[word] & mask == mask)
    }
}

/// Visits the words of a range with the bits of the range in each; stops where `visit` says false.
#[inline]
pub(super) fn pieces(from: usize, length: usize, mut visit: impl FnMut(usize, u64) -> bool) -> bool {
    let (mut at, end) = (from, from + length);
    while at < end {
        let (word, bit) = (at / 64, at % 64);
        let here = (64 - bit).min(end - at);
        let mask = (u64::MAX >> (64 - here)) << bit;
        if !visit(word, mask) {
            return false;
        }
        at += here;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_across_words_is_set_whole_and_alone() {
        let mut bits = Bits::new(200);
        bits.set(60, 70);
        assert!(bits.all(60, 70) && !bits.all(59, 2) && !bits.all(129, 2));
    }
}
