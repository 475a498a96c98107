use crate::base::{Element, Error, Result};
use memmap2::{MmapOptions, MmapRaw};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

/// Every allocation starts on a cache line pair, so that vector loads never straddle needlessly.
const ALIGN: usize = 256;

/// Bytes behind every allocation of a poisoned arena that nobody may write: a row of the widest vector store.
const GUARD: usize = 64;
const GUARD_BYTE: u8 = 0xA5;

/// One slab of memory with a deterministic free list: the same calls give the same addresses.
///
/// The slab reserves addresses for the whole physical memory; the operating system provides pages when they are first
/// touched. The free list is first fit by address, so a step that allocates and frees in the same order as the last one
/// gets the same addresses, which is what makes a captured step valid.
pub struct Arena {
    slab: Arc<Slab>,
}

struct Slab {
    map: MmapRaw,
    capacity: usize,
    poison: bool,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    /// Free ranges, offset to length, none adjacent to another.
    free: BTreeMap<usize, usize>,
    live: BTreeMap<usize, Holding>,
    used: usize,
    peak: usize,
}

/// Who holds how many bytes of an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    pub label: &'static str,
    pub bytes: usize,
}

impl Arena {
    pub(super) fn new() -> Result<Arena> {
        let capacity = physical_memory().next_multiple_of(ALIGN);
        let map = MmapOptions::new()
            .len(capacity)
            .no_reserve_swap()
            .map_anon()
            .map_err(|e| Error::Memory(format!("reserving {} of addresses: {e}", Bytes(capacity))))?;
        // Large pages spare most of the address translation; where the system has none, nothing is lost.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        let book = Book { free: BTreeMap::from([(0, capacity)]), ..Book::default() };
        Ok(Arena { slab: Arc::new(Slab { map: map.into(), capacity, poison: false, book: Mutex::new(book) }) })
    }

    pub(super) fn poison(&mut self) {
        Arc::get_mut(&mut self.slab).expect("poison is set before the first allocation").poison = true;
    }

    pub(super) fn alloc(&self, label: &'static str, bytes: usize) -> Result<Buffer> {
        let slab = &self.slab;
        let size = slab.size(bytes);
        let mut book = slab.book();
        let fit = book.free.iter().find(|&(_, &length)| length >= size).map(|(&offset, &length)| (offset, length));
        let Some((offset, length)) = fit else {
            return Err(Error::Memory(out_of_memory(label, size, slab.capacity, &book)));
        };
        book.free.remove(&offset);
        if length > size {
            book.free.insert(offset + size, length - size);
        }
        book.live.insert(offset, Holding { label, bytes: size });
        book.used += size;
        book.peak = book.peak.max(book.used);
        drop(book);
        let mut buffer = Buffer { region: Arc::new(Region { slab: slab.clone(), offset, bytes }), offset, bytes };
        if slab.poison {
            buffer.bytes_mut().fill(0xFF); // every float of all ones is a NaN
            // SAFETY: the range was reserved above for this buffer, which does not reach into it.
            unsafe { buffer.pointer().add(bytes).write_bytes(GUARD_BYTE, size - bytes) };
        }
        Ok(buffer)
    }

    /// Bytes held now.
    pub fn used(&self) -> usize {
        self.slab.book().used
    }

    /// The most bytes ever held at once.
    pub fn peak(&self) -> usize {
        self.slab.book().peak
    }

    /// What is held now, summed by label, largest first.
    pub fn holdings(&self) -> Vec<Holding> {
        self.slab.book().holdings()
    }
}

impl Slab {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// What an allocation takes.
    fn size(&self, bytes: usize) -> usize {
        let guard = if self.poison { GUARD } else { 0 };
        bytes.saturating_add(guard).max(1).next_multiple_of(ALIGN)
    }

    fn release(&self, offset: usize) -> Holding {
        let mut book = self.book();
        let holding = book.live.remove(&offset).expect("a buffer is released once");
        let size = holding.bytes;
        book.used -= size;
        let mut start = offset;
        let mut length = size;
        if let Some((&before, &free)) = book.free.range(..offset).next_back()
            && before + free == offset
        {
            book.free.remove(&before);
            start = before;
            length += free;
        }
        if let Some(free) = book.free.remove(&(offset + size)) {
            length += free;
        }
        book.free.insert(start, length);
        holding
    }
}

impl Book {
    fn holdings(&self) -> Vec<Holding> {
        let mut sums = BTreeMap::<&'static str, usize>::new();
        for holding in self.live.values() {
            *sums.entry(holding.label).or_default() += holding.bytes;
        }
        let mut holdings: Vec<_> = sums.into_iter().map(|(label, bytes)| Holding { label, bytes }).collect();
        holdings.sort_by_key(|h| std::cmp::Reverse(h.bytes));
        holdings
    }
}

fn out_of_memory(label: &str, size: usize, capacity: usize, book: &Book) -> String {
    let mut text = format!(
        "out of memory: {} for {label} do not fit beside {} in use of {}; lower the batch size or the model size",
        Bytes(size),
        Bytes(book.used),
        Bytes(capacity)
    );
    for holding in book.holdings() {
        text += &format!("\n  {:>10}  {}", Bytes(holding.bytes).to_string(), holding.label);
    }
    text
}

/// A byte count in the largest binary unit that keeps it above one.
struct Bytes(usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut value, mut unit) = (self.0 as f64, "B");
        for larger in ["KiB", "MiB", "GiB", "TiB"] {
            if value < 1024.0 {
                break;
            }
            (value, unit) = (value / 1024.0, larger);
        }
        write!(f, "{value:.1} {unit}")
    }
}

/// Physical memory in bytes, as the system reports it; 16 GiB where it does not.
fn physical_memory() -> usize {
    let kib = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<usize>().ok()
    });
    kib.map_or(16 << 30, |kib| kib * 1024)
}

/// A range of an arena with one owner; its memory returns to the arena when it is dropped.
pub struct Buffer {
    region: Arc<Region>,
    offset: usize,
    bytes: usize,
}

/// One allocation, held by the buffers it was cut into.
struct Region {
    slab: Arc<Slab>,
    offset: usize,
    bytes: usize,
}

impl Region {
    /// Whether something was written behind the allocation; only a poisoned arena can tell.
    fn overrun(&self) -> bool {
        let guard = self.slab.size(self.bytes) - self.bytes;
        // SAFETY: the guard belongs to this allocation, which has not returned yet, and was written when it was made.
        let guard =
            unsafe { std::slice::from_raw_parts(self.slab.map.as_mut_ptr().add(self.offset + self.bytes), guard) };
        guard.iter().any(|&byte| byte != GUARD_BYTE)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let overrun = self.slab.poison && self.overrun();
        let Holding { label, .. } = self.slab.release(self.offset);
        // A panic on the way of another would end the process and hide the first.
        assert!(
            !overrun || std::thread::panicking(),
            "a kernel wrote behind an allocation of {} bytes for {label}",
            self.bytes
        );
    }
}

impl Buffer {
    fn pointer(&self) -> *mut u8 {
        // SAFETY: `offset` lies inside the mapping, by construction in `Arena::alloc` and `Buffer::cut`.
        unsafe { self.region.slab.map.as_mut_ptr().add(self.offset) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the range was handed out once and returns only when every part is dropped, so `&mut self` is the only
        // access to it. Fresh pages of an anonymous mapping are zero, so every byte is initialised memory.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(), self.bytes) }
    }

    /// The buffer as elements of `T`.
    pub fn slice<T: Element>(&self) -> &[T] {
        // SAFETY: as for `bytes_mut`, with shared access only.
        bytemuck::cast_slice(unsafe { std::slice::from_raw_parts(self.pointer(), self.bytes) })
    }

    /// The buffer as elements of `T`, to write.
    pub fn slice_mut<T: Element>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(self.bytes_mut())
    }

    /// Copies its elements from element `start` on to the host's `out`.
    pub fn read<T: Element>(&self, start: usize, out: &mut [T]) {
        out.copy_from_slice(&self.slice()[start..start + out.len()]);
    }

    /// Copies the host's `values` to its elements from element `start` on.
    pub fn write<T: Element>(&mut self, start: usize, values: &[T]) {
        self.slice_mut()[start..start + values.len()].copy_from_slice(values);
    }

    /// Its place in the arena.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Cuts the buffer into a head of `bytes` and the rest; the memory is returned once both are dropped.
    pub fn cut(self, bytes: usize) -> (Buffer, Buffer) {
        assert!(bytes <= self.bytes, "a buffer of {} bytes is cut at {bytes}", self.bytes);
        let rest = Buffer { region: self.region.clone(), offset: self.offset + bytes, bytes: self.bytes - bytes };
        (Buffer { bytes, ..self }, rest)
    }

    /// The parts of one allocation, in order and without a gap, as one slice.
    ///
    /// # Panics
    /// If a part does not continue the one before it.
    pub fn joined<'a, T: Element>(parts: impl Iterator<Item = &'a Buffer>) -> &'a [T] {
        let (start, bytes) = Buffer::span(parts);
        // SAFETY: every byte of the span belongs to a part that is borrowed for `'a`.
        bytemuck::cast_slice(unsafe { std::slice::from_raw_parts(start, bytes) })
    }

    /// As [`Buffer::joined`], to write.
    pub fn joined_mut<'a, T: Element>(parts: impl Iterator<Item = &'a mut Buffer>) -> &'a mut [T] {
        let (start, bytes) = Buffer::span(parts.map(|part| &*part));
        // SAFETY: every byte of the span belongs to a part that is mutably borrowed for `'a`.
        bytemuck::cast_slice_mut(unsafe { std::slice::from_raw_parts_mut(start, bytes) })
    }

    fn span<'a>(mut parts: impl Iterator<Item = &'a Buffer>) -> (*mut u8, usize) {
        let Some(first) = parts.next() else { return (std::ptr::NonNull::<u64>::dangling().as_ptr().cast(), 0) };
        let mut bytes = first.bytes;
        for part in parts {
            let follows = Arc::ptr_eq(&first.region, &part.region) && first.offset + bytes == part.offset;
            assert!(follows, "the parts of a slab are neighbours in one allocation");
            bytes += part.bytes;
        }
        (first.pointer(), bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_calls_give_the_same_addresses() {
        let arena = Arena::new().unwrap();
        let step = || {
            let a = arena.alloc("a", 1000).unwrap();
            let b = arena.alloc("b", 5000).unwrap();
            let first = (a.offset(), b.offset());
            drop(a);
            let c = arena.alloc("c", 300).unwrap();
            let d = arena.alloc("d", 900).unwrap();
            (first, c.offset(), d.offset())
        };
        assert_eq!(step(), step());
        assert_eq!(arena.used(), 0);
        assert_eq!(arena.slab.book().free.len(), 1, "freed ranges merge");
    }

    #[test]
    fn what_does_not_fit_names_the_holders() {
        let arena = Arena::new().unwrap();
        let _held = arena.alloc("weights", 1 << 20).unwrap();
        let error = arena.alloc("activations", 1 << 60).err().unwrap().to_string();
        assert!(error.contains("for activations") && error.contains("1.0 MiB  weights"), "{error}");
    }

    #[test]
    fn poison_is_not_a_number() {
        let mut arena = Arena::new().unwrap();
        arena.poison();
        assert!(arena.alloc("a", 64).unwrap().slice::<f32>().iter().all(|x| x.is_nan()));
    }

    #[test]
    #[should_panic(expected = "wrote behind an allocation of 60 bytes for gradients")]
    fn a_write_behind_an_allocation_is_found_when_it_is_released() {
        let mut arena = Arena::new().unwrap();
        arena.poison();
        drop(arena.alloc("activations", 60).unwrap());
        let buffer = arena.alloc("gradients", 60).unwrap();
        // SAFETY: the byte belongs to the guard of this allocation.
        unsafe { buffer.pointer().add(60).write(0) };
    }
}
