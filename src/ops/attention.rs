//! Softmax attention over all tokens of an image: qkv (B, N, 3 H K), out (B, N, H K).

use crate::base::{Accumulate, Cost};
use crate::cpu;
use crate::cpu::attention::Heads;
use crate::cuda;
use crate::device::Device;
use crate::tape::{Backward, Output, Tape, Var};
use crate::tensor::Tensor;

struct Attention {
    qkv: Var,
    heads: Heads,
    /// Logarithm of each softmax's sum, (B, H, N).
    lse: Tensor,
}

impl Tape<'_> {
    /// Attention of `heads` heads; the columns of `qkv` are q, k, v, each (H, K).
    pub fn attention(&mut self, qkv: Var, heads: usize) -> Var {
        let input = self.value(qkv);
        let [batch, tokens, columns] = *input.shape().extents() else {
            panic!("attention: qkv is {:?}", input.shape())
        };
        assert!(columns.is_multiple_of(3 * heads), "attention: {columns} columns are no q, k, v of {heads} heads");
        let width = columns / 3;
        let heads = Heads { tokens, heads, width: width / heads };
        let mut out = self.output([batch, tokens, width]);
        let mut lse = self.statistics([batch, heads.heads, tokens]);
        match self.device() {
            Device::Cpu(cpu) => cpu::attention::forward(cpu, heads, input.f32(), out.f32_mut(), lse.f32_mut()),
            Device::Cuda(card) => cuda::attention::forward(card, heads.heads, input, &mut out, &mut lse),
        }
        let [out] = self.push([out], Attention { qkv, heads, lse });
        out
    }
}

impl Backward for Attention {
    fn backward(self: Box<Self>, outputs: Vec<Output>, tape: &mut Tape) {
        let Attention { qkv, heads, lse } = *self;
        let [Output { value: Some(out), grad: Some(dout) }] = &outputs[..] else { panic!("attention has one output") };
        let (mut dqkv, accumulate) = tape.open(qkv);
        assert_eq!(accumulate, Accumulate::Set, "attention is the only reader of its q, k, v");
        match tape.device() {
            Device::Cpu(cpu) => {
                let qkv = tape.value(qkv).f32();
                cpu::attention::backward(cpu, heads, qkv, out.f32(), lse.f32(), dout.f32(), dqkv.f32_mut());
            }
            Device::Cuda(card) => {
                cuda::attention::backward(card, heads.heads, tape.value(qkv), out, &lse, dout, &mut dqkv);
            }
        }
        tape.close(qkv, dqkv);
    }
}

/// Of `batch` images of `tokens` tokens of width `width`, forward and backward. Forward reads q, k, v, writes o and has two
/// products; backward reads q, k, v, o, do, writes dq, dk, dv and has five.
pub fn costs(batch: usize, tokens: usize, width: usize) -> [Cost; 2] {
    let stream = batch * tokens * width;
    let product = 2 * tokens * stream;
    [Cost::new(4 * stream, 2 * product), Cost::new(8 * stream, 5 * product)]
}
