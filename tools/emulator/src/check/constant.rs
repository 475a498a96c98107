//! Bytes that `ld.global.nc` reads: nobody may write them in the same launch, before or after.

use std::collections::HashMap;

/// Bytes of a page.
const PAGE: u64 = 4096;

/// The bytes of a page that were read so, and those that were written: a bit each.
#[derive(Debug)]
struct Page {
    read: Bits,
    written: Bits,
}

type Bits = [u64; PAGE as usize / 64];

#[derive(Debug, Default)]
pub struct Constants {
    /// Index of each page among `pages`.
    index: HashMap<u64, usize>,
    pages: Vec<Page>,
    /// The page of the last access, where the next one often is.
    last: Option<(u64, usize)>,
}

impl Constants {
    /// Notes a read through the path for constants, or a write; false when the other has touched one of the bytes.
    #[inline]
    pub fn note(&mut self, address: u64, size: usize, write: bool) -> bool {
        let (mut at, end) = (address, address + size as u64);
        let mut agrees = true;
        while at < end {
            let page = self.page(at / PAGE);
            let (own, other) = if write { (&mut page.written, &page.read) } else { (&mut page.read, &page.written) };
            let (word, bit) = ((at % PAGE / 64) as usize, at % 64);
            let here = (64 - bit).min(end - at);
            let mask = (u64::MAX >> (64 - here)) << bit;
            own[word] |= mask;
            agrees &= other[word] & mask == 0;
            at += here;
        }
        agrees
    }

    #[inline]
    fn page(&mut self, number: u64) -> &mut Page {
        let index = match self.last {
            Some((last, index)) if last == number => index,
            _ => *self.index.entry(number).or_insert_with(|| {
                self.pages.push(Page { read: [0; _], written: [0; _] });
                self.pages.len() - 1
            }),
        };
        self.last = Some((number, index));
        &mut self.pages[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_apart_across_words_and_pages() {
        let mut constants = Constants::default();
        assert!(constants.note(PAGE - 70, 80, false));
        assert!(constants.note(PAGE - 71, 1, true) && constants.note(PAGE + 10, 200, true));
        assert!(!constants.note(PAGE + 9, 1, true) && !constants.note(PAGE - 70, 1, true));
        assert!(constants.note(PAGE, 4, false) && !constants.note(PAGE + 8, 4, false));
    }
}
