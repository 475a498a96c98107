//! A stream after its branch beside a long skip: `y = [stream + branch, skip]`: (.., D) each, y (.., 2 D).

use crate::base::Cost;
use crate::cpu;
use crate::cuda;
use crate::device::Device;
use crate::tape::{Backward, Output, Tape, Var};

struct Join {
    stream: Var,
    branch: Var,
    skip: Var,
}

impl Tape<'_> {
    /// `[stream + branch, skip]`, what a U-shaped model's linear of a skip takes.
    pub fn join(&mut self, stream: Var, branch: Var, skip: Var) -> Var {
        let inputs = [stream, branch, skip].map(|var| self.value(var));
        let shape = *inputs[0].shape();
        assert!(inputs.iter().all(|input| *input.shape() == shape), "join: of {inputs:?}");
        let mut y = self.output(shape.with_width(2 * shape.width()));
        match self.device() {
            Device::Cpu(cpu) => cpu::join::forward(cpu, inputs.map(|input| input.f32()), shape.width(), y.f32_mut()),
            Device::Cuda(card) => cuda::join::forward(card, inputs, &mut y),
        }
        let [y] = self.push([y], Join { stream, branch, skip });
        y
    }
}

impl Backward for Join {
    fn backward(self: Box<Self>, outputs: Vec<Output>, tape: &mut Tape) {
        let Join { stream, branch, skip } = *self;
        let dy = Output::only_grad(outputs);
        let width = dy.shape().width() / 2;
        let mut gradients = [(); 3].map(|()| tape.gradient(dy.shape().with_width(width)));
        match tape.device() {
            Device::Cpu(cpu) => {
                cpu::join::backward(cpu, dy.f32(), width, gradients.each_mut().map(|gradient| gradient.f32_mut()));
            }
            Device::Cuda(card) => cuda::join::backward(card, &dy, gradients.each_mut()),
        }
        for (var, gradient) in [stream, branch, skip].into_iter().zip(gradients) {
            tape.give(var, gradient);
        }
    }
}

/// Of `rows` rows of width `width`, forward and backward: what is read and written, twice as much and a half.
pub fn costs(rows: usize, width: usize) -> [Cost; 2] {
    [Cost::new(5 * rows * width, rows * width), Cost::new(5 * rows * width, 0)]
}
