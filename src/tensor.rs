//! Contiguous device memory with a shape and an element type, and one owner.

use crate::base::{DType, Element, Shape};
use crate::device::{Buffer, Device};
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
    /// If the device's memory does not hold it; the message is that of the memory error. Callers that allocate on a
    /// user's behalf go through [`Device::alloc`] first or catch the failure at the edge.
    pub fn new(device: &Device, label: &'static str, shape: impl Into<Shape>, dtype: DType) -> Tensor {
        let shape = shape.into();
        let buffer = device.alloc(label, shape.len() * dtype.size()).unwrap_or_else(|error| panic!("{error}"));
        Tensor { buffer, shape, dtype }
    }

    /// A tensor with the elements of `values`.
    pub fn from_slice<T: Element>(
        device: &Device,
        label: &'static str,
        shape: impl Into<Shape>,
        values: &[T],
    ) -> Tensor {
        let mut tensor = Tensor::new(device, label, shape, T::DTYPE);
        tensor.slice_mut().copy_from_slice(values);
        tensor
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

    /// The elements, on the processor.
    pub fn slice<T: Element>(&self) -> &[T] {
        self.check::<T>();
        self.buffer.slice()
    }

    /// The elements to write, on the processor.
    pub fn slice_mut<T: Element>(&mut self) -> &mut [T] {
        self.check::<T>();
        self.buffer.slice_mut()
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

    /// The same memory under another shape of as many elements.
    pub fn reshaped(mut self, shape: impl Into<Shape>) -> Tensor {
        let shape = shape.into();
        assert_eq!(self.len(), shape.len(), "reshape from {:?} to {shape:?}", self.shape);
        self.shape = shape;
        self
    }

    fn check<T: Element>(&self) {
        assert_eq!(self.dtype, T::DTYPE, "a tensor of {:?} is read as {:?}", self.dtype, T::DTYPE);
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor {:?} {:?}", self.dtype, self.shape)
    }
}
