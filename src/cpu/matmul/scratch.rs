use crate::base::Error;
use memmap2::MmapMut;
use std::cell::Cell;
use std::panic::panic_any;
use std::thread::LocalKey;

thread_local! {
    /// The operand that all tasks share.
    pub(super) static SHARED: Cell<Option<MmapMut>> = const { Cell::new(None) };
    /// The rows or columns of the other that the thread works on.
    pub(super) static OWN: Cell<Option<MmapMut>> = const { Cell::new(None) };
    /// Tiles whose sums are not finished.
    pub(super) static SUMS: Cell<Option<MmapMut>> = const { Cell::new(None) };
}

/// Memory for packed operands, which the thread keeps from one product to the next.
pub(super) struct Scratch {
    key: &'static LocalKey<Cell<Option<MmapMut>>>,
    map: Option<MmapMut>,
    words: usize,
}

impl Scratch {
    /// `words` words of arbitrary content, which start on a page. Throws an [`Error`] where there is no memory for them.
    pub fn new(key: &'static LocalKey<Cell<Option<MmapMut>>>, words: usize) -> Scratch {
        let bytes = 4 * words.max(1);
        let map = key.take().filter(|map| map.len() >= bytes).unwrap_or_else(|| {
            let map = MmapMut::map_anon(bytes.next_power_of_two()).unwrap_or_else(|error| {
                let what = format_args!("{bytes} bytes for the operands of a product: {error}");
                panic_any(Error::Memory(format!(
                    "out of memory: {what}; lower the batch size, train.batch_size or --batch"
                )))
            });
            // Packed operands are read from end to end: large pages spare most of the address translation.
            #[cfg(target_os = "linux")]
            let _ = map.advise(memmap2::Advice::HugePage);
            map
        });
        Scratch { key, map: Some(map), words }
    }

    pub fn words(&mut self) -> &mut [u32] {
        let map = self.map.as_mut().expect("the memory is there until the drop");
        &mut bytemuck::cast_slice_mut(map)[..self.words]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.key.set(self.map.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_not_there_is_an_error_that_says_what_to_lower() {
        let thrown = std::panic::catch_unwind(|| drop(Scratch::new(&OWN, 1 << 60))).unwrap_err();
        let Ok(Error::Memory(message)) = thrown.downcast::<Error>().map(|error| *error) else {
            panic!("no such error")
        };
        assert!(
            message.starts_with("out of memory: 4611686018427387904 bytes for the operands of a product: "),
            "{message}"
        );
        assert!(message.ends_with("; lower the batch size, train.batch_size or --batch"), "{message}");
    }
}
