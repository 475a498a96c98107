//! `y = x Wᵀ + b`, or without b: x (.., K), W (M, K), b (M), y (.., M).

use crate::base::{Accumulate, Cost, DType};
use crate::cpu;
use crate::cpu::matmul::{Bias, Matrix, product};
use crate::cuda;
use crate::device::Device;
use crate::tape::{Backward, Output, Tape, Var};
use crate::tensor::Tensor;

struct Linear {
    x: Var,
    w: Var,
    b: Option<Var>,
}

impl Tape<'_> {
    /// `y = x Wᵀ + b`; without `b` nothing is added.
    pub fn linear(&mut self, x: Var, w: Var, b: impl Into<Option<Var>>) -> Var {
        let b = b.into();
        let (tx, tw, tb) = (self.value(x), self.value(w), b.map(|b| self.value(b)));
        let (rows, inner, width) = (tx.shape().rows(), tx.shape().width(), tw.shape().rows());
        assert!(tb.is_none_or(|tb| tb.len() == width), "linear: W is {:?}, b {tb:?}", tw.shape());
        assert_eq!(tw.shape().extents(), [width, inner], "linear: x is {:?}, W {:?}", tx.shape(), tw.shape());
        let mut y = self.output(tx.shape().with_width(width));
        match self.device() {
            Device::Cpu(cpu) => {
                let w = Matrix::new(tw.f32(), width, inner).transposed();
                let x = Matrix::new(tx.f32(), rows, inner);
                match tb {
                    Some(b) => product(cpu, x, w, y.f32_mut(), Bias(b.f32())),
                    None => product(cpu, x, w, y.f32_mut(), Accumulate::Set),
                }
            }
            Device::Cuda(card) => cuda::linear::forward(card, tx, tw, tb, &mut y),
        }
        let [y] = self.push([y], Linear { x, w, b });
        y
    }
}

impl Backward for Linear {
    fn backward(self: Box<Self>, outputs: Vec<Output>, tape: &mut Tape) {
        let Linear { x, w, b } = *self;
        let dy = Output::only_grad(outputs);
        tape.recall(x);
        let (rows, width) = (dy.shape().rows(), dy.shape().width());
        let inner = tape.value(x).shape().width();
        let ((mut dx, set_x), (mut dw, set_w)) = (tape.open(x), tape.open(w));
        let mut db = b.map(|b| tape.open(b));
        match tape.device() {
            Device::Cpu(cpu) => {
                let dy_rows = Matrix::new(dy.f32(), rows, width);
                product(cpu, dy_rows, Matrix::new(tape.value(w).f32(), width, inner), dx.f32_mut(), set_x);
                let x = Matrix::new(tape.value(x).f32(), rows, inner);
                product(cpu, dy_rows.transposed(), x, dw.f32_mut(), set_w);
                if let Some((db, set_b)) = &mut db {
                    cpu::column_sums(cpu, dy.f32(), rows, width, db.f32_mut(), *set_b);
                }
            }
            Device::Cuda(card) => {
                cuda::linear::input_gradient(card, &dy, tape.value(w), &mut dx, set_x);
                // The sums of a bias ride in the product of the weights, whether anybody wants them or not.
                let (mut unused, set) = (Tensor::new(tape.device(), "workspace", [width], DType::F32), Accumulate::Set);
                let db = db.as_mut().map_or((&mut unused, set), |(db, set_b)| (db, *set_b));
                cuda::linear::weight_gradient(card, &dy, tape.value(x), (&mut dw, set_w), db);
            }
        }
        tape.close(x, dx);
        tape.close(w, dw);
        if let (Some(b), Some((db, _))) = (b, db) {
            tape.close(b, db);
        }
    }
}

/// Of `rows` rows of `inner` elements to rows of `width`, forward and backward: three products; the gradient of y is read
/// once for those of x, W and b.
pub fn costs(rows: usize, inner: usize, width: usize) -> [Cost; 2] {
    let product = 2 * rows * inner * width;
    [
        Cost::new(rows * (inner + width) + width * inner, product),
        Cost::new(rows * (2 * inner + width) + 2 * width * inner, 2 * product),
    ]
}
