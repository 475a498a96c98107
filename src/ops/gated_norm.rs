//! Gate, residual, layer norm and modulation: `s' = s + gate * branch`, `y = norm(s') (1 + scale) + shift`.
//!
//! Stream, branch and both outputs are (B, N, D); gate, shift and scale are chunks of width D of the modulation (B, chunks
//! D), constant over the tokens of an image.

use crate::base::{Accumulate, Cost};
use crate::cpu;
use crate::cuda;
use crate::device::Device;
use crate::tape::{Backward, Output, Tape, Var};
use crate::tensor::Tensor;

/// The modulation of one norm: which chunks of `modulation` shift and scale it.
#[derive(Clone, Copy, Debug)]
pub struct Modulated {
    /// (B, chunks D)
    pub modulation: Var,
    pub shift: usize,
    pub scale: usize,
}

struct GatedNorm {
    stream: Var,
    branch: Option<Branch>,
    norm: Modulated,
    /// Mean and inverse deviation of each row, (B, N, 2).
    stats: Tensor,
}

#[derive(Clone, Copy)]
struct Branch {
    var: Var,
    gate: usize,
}

impl Tape<'_> {
    /// `norm(stream) (1 + scale) + shift`: the norm before the first branch.
    pub fn modulated_norm(&mut self, stream: Var, norm: Modulated) -> Var {
        let (normed, stats) = normed(self, self.value(stream), norm);
        let [normed] = self.push([normed], GatedNorm { stream, branch: None, norm, stats });
        normed
    }

    /// `[s', y]` with `s' = stream + gate * branch` and `y = norm(s') (1 + scale) + shift`; `gate` is a chunk of the norm's
    /// modulation.
    pub fn gated_norm(&mut self, stream: Var, branch: Var, gate: usize, norm: Modulated) -> [Var; 2] {
        let (s, b) = (self.value(stream), self.value(branch));
        assert_eq!(s.shape(), b.shape(), "gated_norm: the stream is {:?}, the branch {:?}", s.shape(), b.shape());
        let (tokens, width) = extents(s);
        let [mut gated, mut normed] = [self.output(*s.shape()), self.output(*s.shape())];
        let mut stats = self.statistics(s.shape().with_width(2));
        match self.device() {
            Device::Cpu(cpu) => cpu::gated_norm::gated_norm(
                cpu,
                s.f32(),
                b.f32(),
                norm.on_cpu(self, width),
                gate,
                gated.f32_mut(),
                normed.f32_mut(),
                stats.f32_mut(),
                tokens,
                width,
            ),
            Device::Cuda(card) => {
                let (branch, modulation) = (cuda::gated_norm::Branch { value: b, gate }, norm.on_cuda(self, width));
                cuda::gated_norm::gated_norm(card, s, branch, modulation, &mut gated, &mut normed, &mut stats);
            }
        }
        let branch = Some(Branch { var: branch, gate });
        self.push([gated, normed], GatedNorm { stream, branch, norm, stats })
    }
}

/// The modulated norm of a stream, and its statistics.
fn normed(tape: &Tape, s: &Tensor, norm: Modulated) -> (Tensor, Tensor) {
    let (tokens, width) = extents(s);
    let mut normed = tape.output(*s.shape());
    let mut stats = tape.statistics(s.shape().with_width(2));
    match tape.device() {
        Device::Cpu(cpu) => {
            let modulation = norm.on_cpu(tape, width);
            cpu::gated_norm::norm(cpu, s.f32(), modulation, normed.f32_mut(), stats.f32_mut(), tokens, width);
        }
        Device::Cuda(card) => {
            cuda::gated_norm::norm(card, s, norm.on_cuda(tape, width), &mut normed, &mut stats);
        }
    }
    (normed, stats)
}

/// (N, D) of a stream (B, N, D).
fn extents(stream: &Tensor) -> (usize, usize) {
    let [_, tokens, width] = *stream.shape().extents() else {
        panic!("gated_norm: the stream is {:?}", stream.shape())
    };
    (tokens, width)
}

impl Modulated {
    fn value<'a>(&self, tape: &'a Tape, width: usize) -> &'a Tensor {
        let modulation = tape.value(self.modulation);
        let columns = modulation.shape().width();
        assert!(columns.is_multiple_of(width), "gated_norm: {columns} columns of modulation for width {width}");
        modulation
    }

    fn on_cpu<'a>(&self, tape: &'a Tape, width: usize) -> cpu::gated_norm::Modulation<'a> {
        let values = self.value(tape, width);
        let chunks = values.shape().width() / width;
        cpu::gated_norm::Modulation { values: values.f32(), chunks, shift: self.shift, scale: self.scale }
    }

    fn on_cuda<'a>(&self, tape: &'a Tape, width: usize) -> cuda::gated_norm::Modulation<'a> {
        cuda::gated_norm::Modulation { values: self.value(tape, width), shift: self.shift, scale: self.scale }
    }
}

impl Backward for GatedNorm {
    /// The normed stream, the last output, comes again from s' or, without a branch, from s.
    fn remakes(&self, output: usize) -> bool {
        output == usize::from(self.branch.is_some())
    }

    fn remake(&self, outputs: &[Var], _: usize, tape: &Tape) -> Tensor {
        let s = tape.value(if self.branch.is_some() { outputs[0] } else { self.stream });
        normed(tape, s, self.norm).0
    }

    fn backward(self: Box<Self>, mut outputs: Vec<Output>, tape: &mut Tape) {
        let GatedNorm { stream, branch, norm, stats } = *self;
        let normed = outputs.pop().expect("the normed stream is the last output");
        let mut dnormed = normed.grad.expect("the normed stream is used");
        drop(normed.value);
        let gated = outputs.pop();
        let (value, (mut dstream, accumulate)) = match gated {
            // Without a branch s' is s itself.
            None => (None, tape.open(stream)),
            Some(Output { value, grad: Some(grad) }) => (value, (grad, Accumulate::Add)),
            Some(Output { value, grad: None }) => (value, (tape.gradient(*dnormed.shape()), Accumulate::Set)),
        };
        let mut dmodulation = tape.open_zeroed(norm.modulation);
        let (tokens, width) = extents(&dnormed);
        match tape.device() {
            Device::Cpu(cpu) => cpu::gated_norm::backward(
                cpu,
                dnormed.f32_mut(),
                (dstream.f32_mut(), accumulate),
                value.as_ref().unwrap_or_else(|| tape.value(stream)).f32(),
                branch.map(|b| cpu::gated_norm::Branch { value: tape.value(b.var).f32(), gate: b.gate }),
                stats.f32(),
                norm.on_cpu(tape, width),
                dmodulation.f32_mut(),
                tokens,
                width,
            ),
            Device::Cuda(card) => cuda::gated_norm::backward(
                card,
                &mut dnormed,
                (&mut dstream, accumulate),
                value.as_ref().unwrap_or_else(|| tape.value(stream)),
                branch.map(|b| cuda::gated_norm::Branch { value: tape.value(b.var), gate: b.gate }),
                &stats,
                norm.on_cuda(tape, width),
                &mut dmodulation,
            ),
        }
        tape.close(norm.modulation, dmodulation);
        match branch {
            None => tape.close(stream, dstream),
            Some(branch) => {
                tape.give(stream, dstream);
                tape.give(branch.var, dnormed);
            }
        }
    }
}

/// Of `rows` rows, forward and backward. Forward reads stream and branch and writes both outputs; backward reads both
/// gradients, stream and branch and writes the gradients of stream and branch.
pub fn costs(rows: usize, width: usize) -> [Cost; 2] {
    let stream = rows * width;
    [Cost::new(4 * stream, 10 * stream), Cost::new(6 * stream, 20 * stream)]
}

/// The same without a branch. Forward reads the stream and writes its norm; backward reads gradient and stream, and reads
/// and writes the gradient of the stream, which has another reader.
pub fn norm_costs(rows: usize, width: usize) -> [Cost; 2] {
    let stream = rows * width;
    [Cost::new(2 * stream, 8 * stream), Cost::new(4 * stream, 17 * stream)]
}
