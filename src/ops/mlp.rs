//! `y = gelu(x W1ᵀ + b1) W2ᵀ + b2`: x (.., D), W1 (F, D), W2 (D, F), y (.., D).
//!
//! One operation, so that GELU, its derivative and the bias gradients ride in the products. The processor keeps only the
//! argument of GELU for backward; a card, which has the memory and not the time, its value and its derivative.

use crate::base::{Cost, Gelu};
use crate::cpu;
use crate::cpu::matmul::{Bias, GeluBackward, Map, Matrix, product};
use crate::cuda;
use crate::device::Device;
use crate::tape::{Backward, Output, Tape, Var};
use crate::tensor::Tensor;

/// The parameters of one MLP.
#[derive(Clone, Copy, Debug)]
pub struct Mlp {
    /// (F, D)
    pub w1: Var,
    /// (F)
    pub b1: Var,
    /// (D, F)
    pub w2: Var,
    /// (D)
    pub b2: Var,
    pub gelu: Gelu,
}

struct Undo {
    x: Var,
    mlp: Mlp,
    kept: Kept,
}

/// What backward knows of GELU, (.., F) each.
enum Kept {
    Argument(Tensor),
    Evaluated { value: Tensor, slope: Tensor },
}

impl Tape<'_> {
    /// `y = gelu(x W1ᵀ + b1) W2ᵀ + b2`.
    pub fn mlp(&mut self, x: Var, mlp: Mlp) -> Var {
        let [tx, w1, b1, w2, b2] = [x, mlp.w1, mlp.b1, mlp.w2, mlp.b2].map(|var| self.value(var));
        let (rows, width, hidden) = (tx.shape().rows(), tx.shape().width(), b1.len());
        assert_eq!(w1.shape().extents(), [hidden, width], "mlp: x is {:?}, W1 {:?}", tx.shape(), w1.shape());
        assert_eq!(w2.shape().extents(), [width, hidden], "mlp: x is {:?}, W2 {:?}", tx.shape(), w2.shape());
        let mut y = self.output(*tx.shape());
        let kept = match self.device() {
            Device::Cpu(cpu) => {
                let mut pre = self.output(tx.shape().with_width(hidden));
                let w1 = Matrix::new(w1.f32(), hidden, width).transposed();
                product(cpu, Matrix::new(tx.f32(), rows, width), w1, pre.f32_mut(), Bias(b1.f32()));
                let active = Matrix::new(pre.f32(), rows, hidden).mapped(Map::Gelu(mlp.gelu));
                let w2 = Matrix::new(w2.f32(), width, hidden).transposed();
                product(cpu, active, w2, y.f32_mut(), Bias(b2.f32()));
                Kept::Argument(pre)
            }
            Device::Cuda(card) => {
                let [mut value, mut slope] = [(); 2].map(|()| self.output(tx.shape().with_width(hidden)));
                match mlp.gelu {
                    Gelu::Tanh => cuda::mlp::forward(card, tx, w1, b1, &mut value, &mut slope),
                    Gelu::Erf => {
                        cuda::linear::forward(card, tx, w1, b1, &mut value);
                        cuda::mlp::evaluate_erf(card, &mut value, &mut slope);
                    }
                }
                cuda::linear::forward(card, &value, w2, b2, &mut y);
                Kept::Evaluated { value, slope }
            }
        };
        let [y] = self.push([y], Undo { x, mlp, kept });
        y
    }
}

impl Backward for Undo {
    fn backward(self: Box<Self>, outputs: Vec<Output>, tape: &mut Tape) {
        let Undo { x, mlp, kept } = *self;
        let dy = Output::only_grad(outputs);
        tape.recall(x);
        let (rows, width, hidden) = (dy.shape().rows(), dy.shape().width(), tape.value(mlp.b1).len());
        let mut dpre = tape.gradient(dy.shape().with_width(hidden));
        let [(mut dx, set_x), (mut dw1, set_w1), (mut db1, set_b1), (mut dw2, set_w2), (mut db2, set_b2)] =
            [x, mlp.w1, mlp.b1, mlp.w2, mlp.b2].map(|var| tape.open(var));
        match (tape.device(), kept) {
            (Device::Cpu(cpu), Kept::Argument(pre)) => {
                let (x, w1, w2) = (tape.value(x).f32(), tape.value(mlp.w1).f32(), tape.value(mlp.w2).f32());
                let dy_rows = Matrix::new(dy.f32(), rows, width);
                let derivative = GeluBackward { pre: pre.f32(), width: hidden, form: mlp.gelu };
                product(cpu, dy_rows, Matrix::new(w2, width, hidden), dpre.f32_mut(), derivative);
                let active = Matrix::new(pre.f32(), rows, hidden).mapped(Map::Gelu(mlp.gelu));
                product(cpu, dy_rows.transposed(), active, dw2.f32_mut(), set_w2);
                cpu::column_sums(cpu, dy.f32(), rows, width, db2.f32_mut(), set_b2);
                let dpre_rows = Matrix::new(dpre.f32(), rows, hidden);
                product(cpu, dpre_rows, Matrix::new(w1, hidden, width), dx.f32_mut(), set_x);
                product(cpu, dpre_rows.transposed(), Matrix::new(x, rows, width), dw1.f32_mut(), set_w1);
                cpu::column_sums(cpu, dpre.f32(), rows, hidden, db1.f32_mut(), set_b1);
            }
            (Device::Cuda(card), Kept::Evaluated { value, slope }) => {
                let [x, w1, w2] = [x, mlp.w1, mlp.w2].map(|var| tape.value(var));
                cuda::mlp::backward(card, &dy, w2, &slope, &mut dpre);
                cuda::linear::weight_gradient(card, &dy, &value, (&mut dw2, set_w2), (&mut db2, set_b2));
                cuda::linear::input_gradient(card, &dpre, w1, &mut dx, set_x);
                cuda::linear::weight_gradient(card, &dpre, x, (&mut dw1, set_w1), (&mut db1, set_b1));
            }
            (Device::Cpu(_), Kept::Evaluated { .. }) | (Device::Cuda(_), Kept::Argument(_)) => {
                unreachable!("a tape stays on its device")
            }
        }
        for (var, grad) in [(x, dx), (mlp.w1, dw1), (mlp.b1, db1), (mlp.w2, dw2), (mlp.b2, db2)] {
            tape.close(var, grad);
        }
    }
}

/// Of `rows` rows of width `width` through `hidden`, forward and backward. Forward reads x and the weights and writes the
/// argument of GELU and y; backward reads dy, x, the argument and the weights and writes the gradients of x and the weights.
pub fn costs(rows: usize, width: usize, hidden: usize) -> [Cost; 2] {
    let product = 2 * rows * width * hidden;
    [
        Cost::new(rows * (2 * width + hidden) + 2 * width * hidden, 2 * product),
        Cost::new(rows * (3 * width + hidden) + 4 * width * hidden, 4 * product),
    ]
}
