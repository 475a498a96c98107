use super::buffer::Buffer;
use super::cuda::Driver;
use super::memory::Memory;
use crate::base::{Bytes, Error, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Every allocation starts on a cache line pair, so that vector loads never straddle needlessly.
const ALIGN: usize = 256;

/// Bytes behind every allocation of a poisoned arena that nobody may write: a row of the widest vector store.
const GUARD: usize = 64;
const GUARD_BYTE: u8 = 0xA5;

/// Bytes of the host's addresses with less than which nothing is begun.
const LEAST: usize = 1 << 30;

/// One slab of memory with a deterministic free list: the same calls give the same addresses.
///
/// The free list is first fit by address, so a step that allocates and frees in the same order as the last one gets the
/// same addresses, which is what makes a captured step valid.
pub struct Arena {
    slab: Arc<Slab>,
}

/// The memory of an arena and the book of who holds what.
pub(super) struct Slab {
    pub memory: Memory,
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
    /// Where memory has been taken since [`Arena::note`].
    noted: Option<Plan>,
}

/// The ranges of an arena, offset to length, that a recorded step takes and gives back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan(BTreeMap<usize, usize>);

/// Who holds how many bytes of an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    pub label: &'static str,
    pub bytes: usize,
}

impl Arena {
    /// An arena of the host's memory: it reserves addresses for all that this process may have, and the operating system
    /// provides pages when they are first touched.
    ///
    /// Where the addresses of a process are limited it reserves half, again and again, down to a GiB.
    pub(super) fn host() -> Result<Arena> {
        let mut capacity = available_memory().next_multiple_of(ALIGN);
        loop {
            match Memory::host(capacity) {
                Err(_) if capacity / 2 >= LEAST => capacity = (capacity / 2).next_multiple_of(ALIGN),
                memory => return Ok(Arena::over(memory?, capacity)),
            }
        }
    }

    /// An arena of `bytes` of a card's memory.
    pub(super) fn cuda(driver: Arc<dyn Driver>, bytes: usize) -> Result<Arena> {
        let capacity = bytes / ALIGN * ALIGN;
        Ok(Arena::over(Memory::cuda(driver, capacity)?, capacity))
    }

    fn over(memory: Memory, capacity: usize) -> Arena {
        let book = Book { free: BTreeMap::from([(0, capacity)]), ..Book::default() };
        Arena { slab: Arc::new(Slab { memory, capacity, poison: false, book: Mutex::new(book) }) }
    }

    pub(super) fn poison(&mut self) {
        Arc::get_mut(&mut self.slab).expect("poison is set before the first allocation").poison = true;
    }

    /// `bytes` of uninitialised memory, accounted under `label`.
    pub fn alloc(&self, label: &'static str, bytes: usize) -> Result<Buffer> {
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
        if let Some(Plan(ranges)) = &mut book.noted {
            let longest = ranges.entry(offset).or_default();
            *longest = size.max(*longest);
        }
        book.used += size;
        book.peak = book.peak.max(book.used);
        drop(book);
        slab.memory.occupy(offset, bytes, label);
        if slab.poison {
            slab.memory.fill(offset, 0xFF, bytes); // every float of all ones is a NaN
            slab.memory.fill(offset + bytes, GUARD_BYTE, size - bytes);
        }
        Ok(Buffer::new(slab.clone(), offset, bytes))
    }

    /// Notes where memory is taken from here on.
    pub(super) fn note(&self) {
        self.slab.book().noted = Some(Plan::default());
    }

    /// What was noted since [`Arena::note`].
    pub(super) fn noted(&self) -> Plan {
        self.slab.book().noted.take().expect("the arena was told to note")
    }

    /// Whether nobody holds what a plan takes.
    pub(super) fn has_free(&self, plan: &Plan) -> bool {
        let book = self.slab.book();
        plan.0.iter().all(|(&offset, &length)| {
            let before = book.free.range(..=offset).next_back();
            before.is_some_and(|(&start, &free)| start + free >= offset + length)
        })
    }

    /// Bytes that there are.
    pub fn capacity(&self) -> usize {
        self.slab.capacity
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
        let guard = if self.poison || self.memory.checks() { GUARD } else { 0 };
        bytes.saturating_add(guard).max(1).next_multiple_of(ALIGN)
    }

    /// Whether something was written behind an allocation; only a poisoned arena can tell.
    fn overrun(&self, offset: usize, bytes: usize) -> bool {
        let mut guard = [GUARD_BYTE; GUARD];
        if self.poison {
            self.memory.read(offset + bytes, &mut guard);
        }
        guard != [GUARD_BYTE; GUARD]
    }

    /// Takes the allocation of `bytes` at `offset` back.
    ///
    /// # Panics
    /// If something was written behind it.
    pub fn release(&self, offset: usize, bytes: usize) {
        let overrun = self.overrun(offset, bytes);
        self.memory.vacate(offset);
        let Holding { label, .. } = self.forget(offset);
        // A panic on the way of another would end the process and hide the first.
        assert!(
            !overrun || std::thread::panicking(),
            "a kernel wrote behind an allocation of {bytes} bytes for {label}"
        );
    }

    fn forget(&self, offset: usize) -> Holding {
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
        Bytes(size as u64),
        Bytes(book.used as u64),
        Bytes(capacity as u64)
    );
    for holding in book.holdings() {
        text += &format!("\n  {:>10}  {}", Bytes(holding.bytes as u64).to_string(), holding.label);
    }
    text
}

/// What this process may have: the memory that others leave free, or what its control group allows of it; 16 GiB where the
/// system says neither.
fn available_memory() -> usize {
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<usize>().ok();
    let group = number("/sys/fs/cgroup/memory.max").or_else(|| number("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    let kib = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
        line.split_whitespace().nth(1)?.parse::<usize>().ok()
    });
    let free = kib.map_or(16 << 30, |kib| kib * 1024);
    group.map_or(free, |group| group.min(free))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_calls_give_the_same_addresses() {
        let arena = Arena::host().unwrap();
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
    fn a_plan_is_free_until_somebody_holds_a_part_of_it() {
        let arena = Arena::host().unwrap();
        let _kept = arena.alloc("weights", 1000).unwrap();
        let step = || {
            let a = arena.alloc("a", 1000).unwrap();
            let _b = arena.alloc("b", 5000).unwrap();
            drop(a);
            let _c = arena.alloc("c", 300).unwrap();
        };
        arena.note();
        step();
        let plan = arena.noted();
        assert!(arena.has_free(&plan));
        arena.note();
        step();
        assert_eq!(arena.noted(), plan);
        let held = arena.alloc("held", 10).unwrap();
        assert!(!arena.has_free(&plan));
        drop(held);
        assert!(arena.has_free(&plan));
    }

    #[test]
    fn what_does_not_fit_names_the_holders() {
        let arena = Arena::host().unwrap();
        let _held = arena.alloc("weights", 1 << 20).unwrap();
        let error = arena.alloc("activations", 1 << 60).err().unwrap().to_string();
        assert!(error.contains("for activations") && error.contains("1.0 MiB  weights"), "{error}");
    }

    #[test]
    fn poison_is_not_a_number() {
        let mut arena = Arena::host().unwrap();
        arena.poison();
        assert!(arena.alloc("a", 64).unwrap().slice::<f32>().iter().all(|x| x.is_nan()));
    }

    #[test]
    #[should_panic(expected = "wrote behind an allocation of 60 bytes for gradients")]
    fn a_write_behind_an_allocation_is_found_when_it_is_released() {
        let mut arena = Arena::host().unwrap();
        arena.poison();
        drop(arena.alloc("activations", 60).unwrap());
        let buffer = arena.alloc("gradients", 60).unwrap();
        arena.slab.memory.fill(buffer.offset() + 60, 0, 1);
    }
}
