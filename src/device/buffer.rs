use super::arena::Slab;
use super::reading::Reading;
use crate::base::Element;
use std::sync::Arc;

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

impl Drop for Region {
    fn drop(&mut self) {
        self.slab.release(self.offset, self.bytes);
    }
}

impl Buffer {
    /// The allocation of `bytes` at `offset`, which is released when the buffer and all that is cut of it are dropped.
    pub(super) fn new(slab: Arc<Slab>, offset: usize, bytes: usize) -> Buffer {
        Buffer { region: Arc::new(Region { slab, offset, bytes }), offset, bytes }
    }

    /// The buffer as elements of `T`, on the processor.
    pub fn slice<T: Element>(&self) -> &[T] {
        // SAFETY: the range was handed out once, and shared access to this owner is shared access to it. Fresh pages of an
        // anonymous mapping are zero, so every byte is initialised memory.
        bytemuck::cast_slice(unsafe { std::slice::from_raw_parts(self.pointer(), self.bytes) })
    }

    /// The buffer as elements of `T`, to write.
    pub fn slice_mut<T: Element>(&mut self) -> &mut [T] {
        // SAFETY: as for `slice`; the range returns only when every part is dropped, so `&mut self` is the only access.
        bytemuck::cast_slice_mut(unsafe { std::slice::from_raw_parts_mut(self.pointer(), self.bytes) })
    }

    fn pointer(&self) -> *mut u8 {
        self.region.slab.memory.pointer(self.offset)
    }

    /// Copies its elements from element `start` on to the host's `out`.
    pub fn read<T: Element>(&self, start: usize, out: &mut [T]) {
        let start = self.within(start * size_of::<T>(), size_of_val(out));
        self.region.slab.memory.read(start, bytemuck::cast_slice_mut(out));
    }

    /// Asks for the first `bytes` bytes.
    pub fn begin_read(&self, bytes: usize) -> Reading {
        self.region.slab.memory.begin_read(self.within(0, bytes), bytes)
    }

    /// Copies the host's `values` to its elements from element `start` on.
    pub fn write<T: Element>(&mut self, start: usize, values: &[T]) {
        let start = self.within(start * size_of::<T>(), size_of_val(values));
        self.region.slab.memory.write(start, bytemuck::cast_slice(values));
    }

    /// Sets every byte to zero.
    pub fn zero(&mut self) {
        self.region.slab.memory.fill(self.offset, 0, self.bytes);
    }

    /// Copies the first `bytes` of `from`, a buffer of the same arena, to byte `start`.
    pub fn copy(&mut self, start: usize, from: &Buffer, bytes: usize) {
        assert!(Arc::ptr_eq(&self.region.slab, &from.region.slab), "a copy stays within one device");
        // Two owners never hold the same bytes.
        self.region.slab.memory.copy(self.within(start, bytes), from.within(0, bytes), bytes);
    }

    /// Where `bytes` bytes from byte `start` on lie in the arena.
    fn within(&self, start: usize, bytes: usize) -> usize {
        assert!(start + bytes <= self.bytes, "bytes {start} to {} of a buffer of {}", start + bytes, self.bytes);
        self.offset + start
    }

    /// Its place in the arena.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Its address in the memory of a card.
    pub fn address(&self) -> u64 {
        self.region.slab.memory.address(self.offset)
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
        let Some((first, bytes)) = Buffer::span(parts) else { return &[] };
        // SAFETY: every byte of the span belongs to a part that is borrowed for `'a`.
        bytemuck::cast_slice(unsafe { std::slice::from_raw_parts(first.pointer(), bytes) })
    }

    /// As [`Buffer::joined`], to write.
    pub fn joined_mut<'a, T: Element>(parts: impl Iterator<Item = &'a mut Buffer>) -> &'a mut [T] {
        let Some((first, bytes)) = Buffer::span(parts.map(|part| &*part)) else { return &mut [] };
        // SAFETY: every byte of the span belongs to a part that is mutably borrowed for `'a`.
        bytemuck::cast_slice_mut(unsafe { std::slice::from_raw_parts_mut(first.pointer(), bytes) })
    }

    /// The first of the parts of one allocation, and the bytes of all of them.
    ///
    /// # Panics
    /// If a part does not continue the one before it.
    pub fn span<'a>(mut parts: impl Iterator<Item = &'a Buffer>) -> Option<(&'a Buffer, usize)> {
        let first = parts.next()?;
        let mut bytes = first.bytes;
        for part in parts {
            let follows = Arc::ptr_eq(&first.region, &part.region) && first.offset + bytes == part.offset;
            assert!(follows, "the parts of a slab are neighbours in one allocation");
            bytes += part.bytes;
        }
        Some((first, bytes))
    }
}
