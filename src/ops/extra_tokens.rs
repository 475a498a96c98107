//! Tokens of label and time before those of the patches, (B, N, D) to (B, E + N, D), with learned positions; and back.

use crate::base::{Accumulate, Cost};
use crate::cpu;
use crate::cuda;
use crate::device::Device;
use crate::tape::{Backward, Output, Tape, Var};
use crate::tensor::Tensor;

/// What a time is multiplied by: U-ViT counts in steps of a thousandth.
const TIME_SCALE: f64 = 999.0;

/// The parameters of the tokens before those of the patches, and of the positions of all.
#[derive(Clone, Copy, Debug)]
pub struct ExtraTokens {
    /// (classes + 1, D), the last row for no label; `None` for a model without labels
    pub table: Option<Var>,
    /// (E + T, D): label, time, the patches of the grid
    pub position: Var,
}

struct Prepend {
    x: Var,
    extra: ExtraTokens,
    /// (B) u32
    labels: Tensor,
    /// (B, N) u32
    kept: Option<Tensor>,
}

struct Strip {
    y: Var,
}

impl ExtraTokens {
    /// How many there are.
    pub fn count(&self) -> usize {
        1 + usize::from(self.table.is_some())
    }
}

impl Tape<'_> {
    /// Label, time and patches `x` (B, N, D), which `kept` (B, N) u32 names or which are all, each with its position added.
    pub fn prepend(&mut self, x: Var, t: &Tensor, y: &Tensor, kept: Option<&Tensor>, extra: ExtraTokens) -> Var {
        let (tx, position) = (self.value(x), self.value(extra.position));
        let table = extra.table.map(|table| self.value(table));
        let (batch, tokens, width) = extents(tx);
        assert!(t.len() == batch && y.len() == batch, "prepend: x is {tx:?}, t {t:?}, y {y:?}");
        assert_eq!(position.shape().width(), width, "prepend: x is {tx:?}, the positions {position:?}");
        let mut out = self.output([batch, extra.count() + tokens, width]);
        match self.device() {
            Device::Cpu(cpu) => {
                let (table, kept) = (table.map(|table| (table.f32(), y.u32())), kept.map(|kept| kept.u32()));
                let (t, position, out) = ((t.f32(), TIME_SCALE), position.f32(), out.f32_mut());
                cpu::extra_tokens::prepend(cpu, tx.f32(), t, table, kept, position, width, out);
            }
            Device::Cuda(card) => {
                let table = table.map(|table| (table, y));
                cuda::extra_tokens::prepend(card, tx, (t, TIME_SCALE), table, kept, position, &mut out);
            }
        }
        let labels = y.copied(self.device(), "activations");
        let kept = kept.map(|kept| kept.copied(self.device(), "activations"));
        let [out] = self.push([out], Prepend { x, extra, labels, kept });
        out
    }

    /// The last `tokens` tokens of each image of `y`: those of the patches.
    pub fn strip(&mut self, y: Var, tokens: usize) -> Var {
        let ty = self.value(y);
        let (batch, all, width) = extents(ty);
        assert!(tokens <= all, "strip: {tokens} tokens of {ty:?}");
        let mut x = self.output([batch, tokens, width]);
        strip(self.device(), ty, all, &mut x);
        let [x] = self.push([x], Strip { y });
        x
    }
}

/// (B, N, D) of tokens.
fn extents(tokens: &Tensor) -> (usize, usize, usize) {
    let [batch, count, width] = *tokens.shape().extents() else { panic!("tokens are {tokens:?}") };
    (batch, count, width)
}

fn strip(device: &Device, y: &Tensor, all: usize, x: &mut Tensor) {
    let (_, tokens, width) = extents(x);
    match device {
        Device::Cpu(cpu) => cpu::extra_tokens::strip(cpu, y.f32(), all, tokens, width, x.f32_mut()),
        Device::Cuda(card) => cuda::extra_tokens::strip(card, y, x),
    }
}

impl Backward for Prepend {
    fn backward(self: Box<Self>, outputs: Vec<Output>, tape: &mut Tape) {
        let Prepend { x, extra, labels, kept } = *self;
        let dy = Output::only_grad(outputs);
        let (_, all, width) = extents(&dy);
        let mut dx = tape.gradient(*tape.value(x).shape());
        strip(tape.device(), &dy, all, &mut dx);
        let (mut dposition, accumulate) = tape.open(extra.position);
        let mut dtable = extra.table.map(|table| tape.open_zeroed(table));
        match tape.device() {
            Device::Cpu(cpu) => {
                let (table, kept) =
                    (dtable.as_mut().map(|table| table.f32_mut()), kept.as_ref().map(|kept| kept.u32()));
                let position = (dposition.f32_mut(), accumulate);
                cpu::extra_tokens::backward(cpu, dy.f32(), labels.u32(), table, kept, position, width);
            }
            Device::Cuda(card) => {
                let (table, position) = (dtable.as_mut(), (&mut dposition, accumulate));
                cuda::extra_tokens::backward(card, &dy, &labels, table, kept.as_ref(), position);
            }
        }
        tape.close(extra.position, dposition);
        if let (Some(var), Some(gradient)) = (extra.table, dtable) {
            tape.close(var, gradient);
        }
        tape.give(x, dx);
    }
}

impl Backward for Strip {
    fn backward(self: Box<Self>, outputs: Vec<Output>, tape: &mut Tape) {
        let dx = Output::only_grad(outputs);
        let (_, tokens, width) = extents(&dx);
        let (mut dy, accumulate) = tape.open(self.y);
        assert_eq!(accumulate, Accumulate::Set, "strip is the only reader of its tokens");
        let (_, all, _) = extents(&dy);
        match tape.device() {
            Device::Cpu(cpu) => cpu::extra_tokens::pad(cpu, dx.f32(), all, tokens, width, dy.f32_mut()),
            Device::Cuda(card) => cuda::extra_tokens::pad(card, &dx, &mut dy),
        }
        tape.close(self.y, dy);
    }
}

/// Of `batch` images of `tokens` patches, `extras` tokens before them and `places` positions of width `width`, forward and
/// backward: tokens read and written, positions read or their gradients written.
pub fn costs(batch: usize, tokens: usize, extras: usize, places: usize, width: usize) -> [Cost; 2] {
    let elements = batch * (2 * tokens + extras) * width;
    [Cost::new(elements + places * width, elements), Cost::new(elements + places * width, elements)]
}

/// Of the way back: the patches' tokens read and written, and the zeros of the others.
pub fn strip_costs(batch: usize, tokens: usize, extras: usize, width: usize) -> [Cost; 2] {
    [Cost::new(2 * batch * tokens * width, 0), Cost::new(batch * (2 * tokens + extras) * width, 0)]
}
