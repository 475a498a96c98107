//! Contiguous device memory with a shape and an element type, and one owner; and slabs that are cut into tensors.

use crate::base::{DType, Element, Result, Shape};
use crate::device::cuda::Argument;
use crate::device::{Arena, Buffer, Device, Reading};
use std::fmt;

/// A tensor is contiguous and has one owner: it is not `Clone`, never strided, shared or lazy. `&Tensor` is a kernel's
/// input, `&mut Tensor` its output, so the borrow checker proves that kernels do not alias.
pub struct Tensor {
    buffer: Buffer,
    shape: Shape,
    dtype: DType,
}

impl Tensor {
    /// Uninitialised memory for `shape` elements of `dtype`, accounted under `label`.
    ///
    /// # Panics
    /// If the device's memory does not hold it. What is thrown is the [`Error`](crate::base::Error), which the edge catches:
    /// no operation of a step returns a `Result`.
    pub fn new(device: &Device, label: &'static str, shape: impl Into<Shape>, dtype: DType) -> Tensor {
        Tensor::within(device.arena(), label, shape.into(), dtype)
    }

    fn within(arena: &Arena, label: &'static str, shape: Shape, dtype: DType) -> Tensor {
        let buffer = arena.alloc(label, shape.len() * dtype.size());
        Tensor { buffer: buffer.unwrap_or_else(|error| error.throw()), shape, dtype }
    }

    /// A tensor with the elements of `values`.
    pub fn from_slice<T: Element>(
        device: &Device,
        label: &'static str,
        shape: impl Into<Shape>,
        values: &[T],
    ) -> Tensor {
        let mut tensor = Tensor::new(device, label, shape, T::DTYPE);
        tensor.write(values);
        tensor
    }

    /// Memory of a processor or a card that one part of an operation writes and another reads.
    pub fn workspace(owner: &impl AsRef<Arena>, shape: impl Into<Shape>, dtype: DType) -> Tensor {
        Tensor::within(owner.as_ref(), "workspace", shape.into(), dtype)
    }

    /// A second tensor with the same elements.
    pub fn copied(&self, device: &Device, label: &'static str) -> Tensor {
        let mut copy = Tensor::new(device, label, self.shape, self.dtype);
        copy.buffer.copy(0, &self.buffer, self.len() * self.dtype.size());
        copy
    }

    /// Copies the elements of `from` to element `start`, on the device.
    pub fn copy(&mut self, start: usize, from: &Tensor) {
        let end = start + from.len();
        assert!(end <= self.len() && self.dtype == from.dtype, "{from:?} is copied to element {start} of {self:?}");
        self.buffer.copy(start * self.dtype.size(), &from.buffer, from.len() * self.dtype.size());
    }

    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the elements to the host's `out`, which has as many.
    pub fn read<T: Element>(&self, out: &mut [T]) {
        assert_eq!(self.len(), out.len(), "a tensor of {:?} is read into {} elements", self.shape, out.len());
        self.read_from(0, out);
    }

    /// Asks for the elements as they are now; nobody waits for a card until the reading is finished.
    pub fn begin_read(&self) -> Reading {
        self.buffer.begin_read(self.len() * self.dtype.size())
    }

    /// A copy of the elements on the host.
    pub fn to_vec<T: Element>(&self) -> Vec<T> {
        let mut values = vec![T::zeroed(); self.len()];
        self.read(&mut values);
        values
    }

    /// Copies the host's `values`, as many as there are elements, to the device.
    pub fn write<T: Element>(&mut self, values: &[T]) {
        assert_eq!(self.len(), values.len(), "a tensor of {:?} is written from {} elements", self.shape, values.len());
        self.write_from(0, values);
    }

    /// Copies the elements from element `start` on to the host's `out`.
    pub fn read_from<T: Element>(&self, start: usize, out: &mut [T]) {
        self.check::<T>();
        let (len, end) = (self.len(), start + out.len());
        assert!(end <= len, "elements {start} to {end} of a tensor of {len} are read");
        self.buffer.read(start, out);
    }

    /// Copies the host's `values` to the elements from element `start` on.
    pub fn write_from<T: Element>(&mut self, start: usize, values: &[T]) {
        self.check::<T>();
        let (len, end) = (self.len(), start + values.len());
        assert!(end <= len, "elements {start} to {end} of a tensor of {len} are written");
        self.buffer.write(start, values);
    }

    /// Sets every element to zero.
    pub fn zero(&mut self) {
        self.buffer.zero();
    }

    /// The elements, on the processor.
    pub fn slice<T: Element>(&self) -> &[T] {
        self.check::<T>();
        &self.buffer.slice()[..self.shape.len()]
    }

    /// The elements to write, on the processor.
    pub fn slice_mut<T: Element>(&mut self) -> &mut [T] {
        self.check::<T>();
        &mut self.buffer.slice_mut()[..self.shape.len()]
    }

    pub fn f32(&self) -> &[f32] {
        self.slice()
    }

    pub fn f32_mut(&mut self) -> &mut [f32] {
        self.slice_mut()
    }

    pub fn u32(&self) -> &[u32] {
        self.slice()
    }

    fn check<T: Element>(&self) {
        assert_eq!(self.dtype, T::DTYPE, "a tensor of {:?} is read as {:?}", self.dtype, T::DTYPE);
    }
}

impl From<&Tensor> for Argument {
    fn from(tensor: &Tensor) -> Argument {
        Argument::Pointer(tensor.buffer.address())
    }
}

impl From<&mut Tensor> for Argument {
    fn from(tensor: &mut Tensor) -> Argument {
        Argument::from(&*tensor)
    }
}

impl From<Option<&Tensor>> for Argument {
    fn from(tensor: Option<&Tensor>) -> Argument {
        tensor.map_or(Argument::NULL, Argument::from)
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor {:?} {:?}", self.dtype, self.shape)
    }
}

/// One allocation cut into tensors, so that an update, a checkpoint or an all-reduce touches it as one array.
///
/// Every part starts on a multiple of 64 elements; the gaps between parts are zero and stay zero.
pub struct Slab {
    /// `None` while a kernel has the part out to write it.
    parts: Vec<Option<Tensor>>,
}

impl Slab {
    /// Elements to which the start of each part is rounded up.
    const ALIGN: usize = 64;

    /// A slab of f32 zeros with one part for each of `shapes`.
    pub fn zeros(device: &Device, label: &'static str, shapes: &[Shape]) -> Result<Slab> {
        Slab::typed(device, label, shapes, DType::F32)
    }

    /// A slab of zeros of `dtype`.
    pub fn typed(device: &Device, label: &'static str, shapes: &[Shape], dtype: DType) -> Result<Slab> {
        let padded = |shape: &Shape| shape.len().next_multiple_of(Slab::ALIGN) * dtype.size();
        let mut rest = device.alloc(label, shapes.iter().map(padded).sum())?;
        rest.zero();
        let mut parts = Vec::with_capacity(shapes.len());
        for shape in shapes {
            let (buffer, tail) = rest.cut(padded(shape));
            parts.push(Some(Tensor { buffer, shape: *shape, dtype }));
            rest = tail;
        }
        Ok(Slab { parts })
    }

    /// The number of parts.
    pub fn count(&self) -> usize {
        self.parts.len()
    }

    pub fn part(&self, i: usize) -> &Tensor {
        self.parts[i].as_ref().expect("the part is not being written")
    }

    pub fn part_mut(&mut self, i: usize) -> &mut Tensor {
        self.parts[i].as_mut().expect("the part is not being written")
    }

    /// Elements from the start of part `i` to that of the next.
    pub fn padded_len(&self, i: usize) -> usize {
        self.part(i).len().next_multiple_of(Slab::ALIGN)
    }

    /// Takes a part out to write it beside others; [`Slab::put_back`] returns it.
    pub fn take(&mut self, i: usize) -> Tensor {
        self.parts[i].take().expect("a part is written by one kernel at a time")
    }

    pub fn put_back(&mut self, i: usize, part: Tensor) {
        assert!(self.parts[i].replace(part).is_none(), "part {i} was never taken");
    }

    /// The shapes of the parts.
    pub fn shapes(&self) -> Vec<Shape> {
        (0..self.count()).map(|i| *self.part(i).shape()).collect()
    }

    /// The type of the elements; f32 where there is no part.
    pub fn dtype(&self) -> DType {
        self.parts.first().map_or(DType::F32, |_| self.part(0).dtype())
    }

    /// Elements of the first `parts` parts, gaps included.
    pub fn elements(&self, parts: usize) -> usize {
        (0..parts).map(|i| self.padded_len(i)).sum()
    }

    /// Copies every part of a slab of the same shapes and type.
    pub fn copy(&mut self, from: &Slab) {
        for i in 0..self.count() {
            let part = from.part(i);
            self.part_mut(i).buffer.copy(0, &part.buffer, part.len() * part.dtype.size());
        }
    }

    /// The first `parts` parts as one array, gaps included, on the processor.
    pub fn flat(&self, parts: usize) -> &[f32] {
        Buffer::joined((0..parts).map(|i| &self.part(i).buffer))
    }

    /// As [`Slab::flat`], to write; the gaps must stay zero.
    pub fn flat_mut(&mut self, parts: usize) -> &mut [f32] {
        Buffer::joined_mut(
            self.parts[..parts].iter_mut().map(|part| &mut part.as_mut().expect("no part is out").buffer),
        )
    }

    /// All parts as one array, for a kernel of a card.
    pub fn argument(&self) -> Argument {
        let span = Buffer::span((0..self.count()).map(|i| &self.part(i).buffer));
        span.map_or(Argument::NULL, |(first, _)| Argument::Pointer(first.address()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Cpu;

    fn device() -> Device {
        Device::cpu(Cpu::new(None, DType::F32).unwrap())
    }

    #[test]
    fn what_is_written_from_the_host_is_read_back_whole_and_by_ranges() {
        let mut slab = Slab::zeros(&device(), "test", &[Shape::from([3]), Shape::from([2, 2])]).unwrap();
        slab.part_mut(1).write(&[1.0f32, 2.0, 3.0, 4.0]);
        slab.part_mut(1).write_from(1, &[5.0f32, 6.0]);
        let mut last = [0.0f32; 2];
        slab.part(1).read_from(2, &mut last);
        assert_eq!(last, [6.0, 4.0]);
        assert_eq!(slab.part(1).to_vec::<f32>(), [1.0, 5.0, 6.0, 4.0]);
        assert_eq!(slab.part(0).to_vec::<f32>(), [0.0; 3]);
    }

    #[test]
    #[should_panic(expected = "elements 2 to 4 of a tensor of 3 are written")]
    fn the_gap_after_a_part_is_not_written() {
        let mut slab = Slab::zeros(&device(), "test", &[Shape::from([3])]).unwrap();
        slab.part_mut(0).write_from(2, &[1.0f32, 1.0]);
    }
}
