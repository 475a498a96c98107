//! Residual and layer norm with weights: `s' = s + branch`, `y = norm(s') w + b`; stream, branch and outputs are (.., D).

use crate::base::{Accumulate, Cost};
use crate::cpu;
use crate::cuda;
use crate::device::Device;
use crate::tape::{Backward, Output, Tape, Var};
use crate::tensor::Tensor;

/// The parameters of one norm, (D) each.
#[derive(Clone, Copy, Debug)]
pub struct Affine {
    pub w: Var,
    pub b: Var,
}

struct LayerNorm {
    stream: Var,
    branch: Option<Var>,
    affine: Affine,
    /// Mean and inverse deviation of each row, (.., 2).
    stats: Tensor,
}

impl Tape<'_> {
    /// `norm(stream) w + b`.
    pub fn layer_norm(&mut self, stream: Var, affine: Affine) -> Var {
        let (normed, stats) = normed(self, self.value(stream), affine);
        let [normed] = self.push([normed], LayerNorm { stream, branch: None, affine, stats });
        normed
    }

    /// `[s', y]` with `s' = stream + branch` and `y = norm(s') w + b`.
    pub fn residual_norm(&mut self, stream: Var, branch: Var, affine: Affine) -> [Var; 2] {
        let (s, added) = (self.value(stream), self.value(branch));
        assert_eq!(s.shape(), added.shape(), "residual_norm: the stream is {:?}, not {:?}", s.shape(), added.shape());
        let [w, b] = affine.values(self, s);
        let [mut sum, mut normed] = [self.output(*s.shape()), self.output(*s.shape())];
        let mut stats = self.statistics(s.shape().with_width(2));
        match self.device() {
            Device::Cpu(cpu) => {
                let (sum, normed, stats) = (sum.f32_mut(), normed.f32_mut(), stats.f32_mut());
                cpu::layer_norm::residual_norm(cpu, [s.f32(), added.f32()], [w.f32(), b.f32()], sum, normed, stats);
            }
            Device::Cuda(card) => {
                cuda::layer_norm::forward(card, s, [w, b], Some((added, &mut sum)), &mut normed, &mut stats);
            }
        }
        self.push([sum, normed], LayerNorm { stream, branch: Some(branch), affine, stats })
    }
}

impl Affine {
    fn values<'a>(&self, tape: &'a Tape, stream: &Tensor) -> [&'a Tensor; 2] {
        let [w, b] = [self.w, self.b].map(|var| tape.value(var));
        let width = stream.shape().width();
        assert!(w.len() == width && b.len() == width, "layer_norm: {w:?} and {b:?} for the stream {stream:?}");
        [w, b]
    }
}

/// The norm of a stream, and its statistics.
fn normed(tape: &Tape, s: &Tensor, affine: Affine) -> (Tensor, Tensor) {
    let [w, b] = affine.values(tape, s);
    let (mut normed, mut stats) = (tape.output(*s.shape()), tape.statistics(s.shape().with_width(2)));
    match tape.device() {
        Device::Cpu(cpu) => {
            cpu::layer_norm::norm(cpu, s.f32(), [w.f32(), b.f32()], normed.f32_mut(), stats.f32_mut());
        }
        Device::Cuda(card) => cuda::layer_norm::forward(card, s, [w, b], None, &mut normed, &mut stats),
    }
    (normed, stats)
}

impl Backward for LayerNorm {
    /// The normed stream, the last output, comes again from s' or, without a branch, from s.
    fn remakes(&self, output: usize) -> bool {
        output == usize::from(self.branch.is_some())
    }

    fn remake(&self, outputs: &[Var], _: usize, tape: &Tape) -> Tensor {
        let s = tape.value(if self.branch.is_some() { outputs[0] } else { self.stream });
        normed(tape, s, self.affine).0
    }

    fn backward(self: Box<Self>, mut outputs: Vec<Output>, tape: &mut Tape) {
        let LayerNorm { stream, branch, affine, stats } = *self;
        let normed = outputs.pop().expect("the normed stream is the last output");
        let mut dnormed = normed.grad.expect("the normed stream is used");
        drop(normed.value);
        let (value, (mut dstream, accumulate)) = match outputs.pop() {
            // Without a branch s' is s itself.
            None => (None, tape.open(stream)),
            Some(Output { value, grad: Some(grad) }) => (value, (grad, Accumulate::Add)),
            Some(Output { value, grad: None }) => (value, (tape.gradient(*dnormed.shape()), Accumulate::Set)),
        };
        let ((mut dw, set_w), (mut db, set_b)) = (tape.open(affine.w), tape.open(affine.b));
        let (s, w) = (value.as_ref().unwrap_or_else(|| tape.value(stream)), tape.value(affine.w));
        match tape.device() {
            Device::Cpu(cpu) => {
                let (dw, db) = ((dw.f32_mut(), set_w), (db.f32_mut(), set_b));
                let dstream = (dstream.f32_mut(), accumulate);
                cpu::layer_norm::backward(cpu, dnormed.f32_mut(), dstream, s.f32(), stats.f32(), w.f32(), dw, db);
            }
            Device::Cuda(card) => {
                let (dw, db) = ((&mut dw, set_w), (&mut db, set_b));
                cuda::layer_norm::backward(card, &mut dnormed, (&mut dstream, accumulate), s, &stats, w, dw, db);
            }
        }
        tape.close(affine.w, dw);
        tape.close(affine.b, db);
        match branch {
            None => tape.close(stream, dstream),
            Some(branch) => {
                tape.give(stream, dstream);
                tape.give(branch, dnormed);
            }
        }
    }
}

/// Of `rows` rows of width `width`, with a branch, forward and backward. Forward reads stream and branch and writes both
/// outputs; backward reads both gradients and the stream and writes the gradients of stream and branch.
pub fn costs(rows: usize, width: usize) -> [Cost; 2] {
    let elements = rows * width;
    [Cost::new(4 * elements, 9 * elements), Cost::new(5 * elements, 17 * elements)]
}
