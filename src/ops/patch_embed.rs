//! Gather of the kept patches and their embedding: z (B, C, H, W) to x (B, N, D).
//!
//! `x[b, n] = W patch(z[b], kept[b, n]) + bias + position[kept[b, n]]`, or without the position. No gradient flows into z.

use crate::base::{Cost, PatchGrid};
use crate::cpu;
use crate::cuda;
use crate::device::Device;
use crate::tape::{Backward, Output, Tape, Var};
use crate::tensor::Tensor;

/// The parameters of the embedding.
#[derive(Clone, Copy, Debug)]
pub struct PatchEmbed {
    /// (D, C P P), the published convolution (D, C, P, P) flattened.
    pub weight: Var,
    /// (D)
    pub bias: Var,
    /// (T, D), a constant; `None` for a model that learns its positions
    pub position: Option<Var>,
    pub grid: PatchGrid,
}

struct Undo {
    embed: PatchEmbed,
    /// (B, N, C P P)
    patches: Tensor,
}

impl Tape<'_> {
    /// The tokens that `kept` (B, N) u32 names, or all T in order.
    pub fn patch_embed(&mut self, z: &Tensor, kept: Option<&Tensor>, embed: PatchEmbed) -> Var {
        let grid = embed.grid;
        let [weight, bias] = [embed.weight, embed.bias].map(|var| self.value(var));
        let position = embed.position.map(|position| self.value(position));
        let [batch, ..] = *z.shape().extents() else { panic!("patch_embed: z is {:?}", z.shape()) };
        assert_eq!(z.len(), batch * grid.image(), "patch_embed: z is {:?}, the grid {grid:?}", z.shape());
        let rows = position.map_or(grid.tokens(), |position| position.shape().rows());
        assert_eq!(rows, grid.tokens(), "patch_embed: positions {position:?}, the grid {grid:?}");
        let tokens = kept.map_or(grid.tokens(), |kept| kept.shape().width());
        let mut patches = self.output([batch, tokens, grid.channels * grid.area()]);
        let mut x = self.output([batch, tokens, bias.len()]);
        match self.device() {
            Device::Cpu(cpu) => {
                let kept = kept.map(|kept| kept.u32());
                cpu::patch_embed::gather(cpu, grid, z.f32(), kept, tokens, patches.f32_mut());
                let (weight, bias, position) = (weight.f32(), bias.f32(), position.map(Tensor::f32));
                cpu::patch_embed::forward(cpu, patches.f32(), weight, bias, position, kept, tokens, x.f32_mut());
            }
            Device::Cuda(card) => {
                cuda::patch_embed::gather(card, grid, z, kept, &mut patches);
                match position {
                    Some(position) => {
                        cuda::patch_embed::forward(card, &patches, [weight, bias, position], kept, &mut x);
                    }
                    None => cuda::linear::forward(card, &patches, weight, bias, &mut x),
                }
            }
        }
        let [x] = self.push([x], Undo { embed, patches });
        x
    }
}

impl Backward for Undo {
    fn backward(self: Box<Self>, outputs: Vec<Output>, tape: &mut Tape) {
        let Undo { embed, patches } = *self;
        let dx = Output::only_grad(outputs);
        let ((mut dweight, set_weight), (mut dbias, set_bias)) = (tape.open(embed.weight), tape.open(embed.bias));
        match tape.device() {
            Device::Cpu(cpu) => {
                let (dweight, dbias) = ((dweight.f32_mut(), set_weight), (dbias.f32_mut(), set_bias));
                cpu::patch_embed::backward(cpu, dx.f32(), patches.f32(), dweight, dbias);
            }
            Device::Cuda(card) => {
                let (dweight, dbias) = ((&mut dweight, set_weight), (&mut dbias, set_bias));
                cuda::linear::weight_gradient(card, &dx, &patches, dweight, dbias);
            }
        }
        tape.close(embed.weight, dweight);
        tape.close(embed.bias, dbias);
    }
}

/// Of `tokens` tokens of each of `batch` images, of `inner` elements, to width `width`, forward and backward. Forward reads
/// z, the weight and the positions and writes the patches and x; backward reads the patches and dx and writes the gradients
/// of weight and bias.
pub fn costs(batch: usize, tokens: usize, inner: usize, width: usize) -> [Cost; 2] {
    let rows = batch * tokens;
    let product = 2 * rows * inner * width;
    [
        Cost::new(rows * (2 * inner + width) + width * (inner + tokens), product),
        Cost::new(rows * (inner + width) + width * inner, product),
    ]
}
