//! Working memory, which each thread keeps from one use to the next: new pages take longer to come than they take to fill.

use crate::base::Error;
use bytemuck::Pod;
use memmap2::MmapMut;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// The smallest size; all are powers of two, so that what one use leaves fits another.
const PAGE: usize = 1 << 12;

thread_local! {
    /// What nobody uses, the last one that was in use at the end.
    static FREE: RefCell<Vec<MmapMut>> = const { RefCell::new(Vec::new()) };
}

/// Elements of arbitrary content, which start on a page. The thread that drops them keeps their memory.
#[derive(Debug)]
pub struct Scratch<T> {
    map: Option<MmapMut>,
    len: usize,
    of: PhantomData<T>,
}

impl<T: Pod> Scratch<T> {
    /// Throws an [`Error`] where there is no memory for `len` elements.
    pub fn new(len: usize) -> Scratch<T> {
        let bytes = len * size_of::<T>();
        let size = bytes.next_power_of_two().max(PAGE);
        let kept = FREE.with_borrow_mut(|free| {
            let at = free.iter().rposition(|map| map.len() == size);
            at.map(|at| free.remove(at))
        });
        let map = kept.unwrap_or_else(|| {
            let map = MmapMut::map_anon(size).unwrap_or_else(|error| {
                let what = format_args!("{bytes} bytes of working memory: {error}");
                Error::Memory(format!("out of memory: {what}; lower the batch size, train.batch_size or --batch"))
                    .throw()
            });
            // It is read from end to end: large pages spare most of the address translation.
            #[cfg(target_os = "linux")]
            let _ = map.advise(memmap2::Advice::HugePage);
            map
        });
        Scratch { map: Some(map), len, of: PhantomData }
    }
}

impl<T: Pod> From<&[T]> for Scratch<T> {
    fn from(values: &[T]) -> Scratch<T> {
        let mut scratch = Scratch::new(values.len());
        scratch.copy_from_slice(values);
        scratch
    }
}

impl<T: Pod> Deref for Scratch<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let map = self.map.as_ref().expect("the memory is there until the drop");
        bytemuck::cast_slice(&map[..self.len * size_of::<T>()])
    }
}

impl<T: Pod> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let map = self.map.as_mut().expect("the memory is there until the drop");
        bytemuck::cast_slice_mut(&mut map[..self.len * size_of::<T>()])
    }
}

impl<T> Drop for Scratch<T> {
    fn drop(&mut self) {
        // A thread that is ending keeps nothing.
        let _ = FREE.try_with(|free| free.borrow_mut().extend(self.map.take()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_by_what_is_as_large_and_by_one_at_a_time() {
        let place = |scratch: &Scratch<u32>| scratch.as_ptr();
        let [first, second] = [5000, 5000].map(Scratch::<u32>::new);
        let places = [place(&first), place(&second)];
        assert_ne!(places[0], places[1]);
        drop(first);
        drop(second);
        assert_eq!(place(&Scratch::new(8192)), places[1], "the last one, which the cache may hold");
        assert!(!places.contains(&place(&Scratch::new(8193))));
        let mut bytes = Scratch::<u8>::new(20_001);
        bytes.fill(7);
        assert_eq!((bytes.as_ptr().cast(), bytes.len()), (places[1], 20_001));
        assert!(Scratch::<f64>::new(0).is_empty());
    }

    #[test]
    fn memory_that_is_not_there_is_an_error_that_says_what_to_lower() {
        let thrown = std::panic::catch_unwind(|| drop(Scratch::<u32>::new(1 << 60))).unwrap_err();
        let Ok(Error::Memory(message)) = thrown.downcast::<Error>().map(|error| *error) else {
            panic!("no such error")
        };
        assert!(message.starts_with("out of memory: 4611686018427387904 bytes of working memory: "), "{message}");
        assert!(message.ends_with("; lower the batch size, train.batch_size or --batch"), "{message}");
    }
}
