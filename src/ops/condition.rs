//! Time and label to the modulation of every layer: t (B), y (B), modulation (B, chunks D).

use crate::base::Cost;
use crate::base::condition::{FEATURES, Params, Saved};
use crate::cpu;
use crate::cuda;
use crate::device::Device;
use crate::tape::{Backward, Output, Tape, Var};
use crate::tensor::Tensor;

/// The parameters of the conditioning.
pub type Conditioning = Params<Var>;

struct Undo {
    conditioning: Conditioning,
    /// (B) u32
    labels: Tensor,
    saved: Saved<Tensor>,
}

impl Tape<'_> {
    /// The modulation of times `t` (B) f32 and labels `y` (B) u32; labels are not read where there is no table.
    pub fn condition(&mut self, t: &Tensor, y: &Tensor, conditioning: Conditioning) -> Var {
        let p = conditioning.map(|var| self.value(var));
        let (batch, width) = (t.len(), p.b0.len());
        assert_eq!(batch, y.len(), "condition: {batch} times, {} labels", y.len());
        assert_eq!(p.w0.shape().extents(), [width, FEATURES], "condition: W0 is {:?}", p.w0.shape());
        let mut saved = Saved {
            features: self.output([batch, FEATURES]),
            hidden: self.output([batch, width]),
            sum: self.output([batch, width]),
            active: self.output([batch, width]),
        };
        let mut modulation = self.output([batch, p.modulation_b.len()]);
        match self.device() {
            Device::Cpu(cpu) => {
                let p = conditioning.map(|var| self.value(var).f32());
                let mut saved = Saved {
                    features: saved.features.f32_mut(),
                    hidden: saved.hidden.f32_mut(),
                    sum: saved.sum.f32_mut(),
                    active: saved.active.f32_mut(),
                };
                cpu::condition::forward(cpu, t.f32(), y.u32(), &p, &mut saved, modulation.f32_mut());
            }
            Device::Cuda(card) => cuda::condition::forward(card, t, y, &p, &mut saved, &mut modulation),
        }
        let labels = y.copied(self.device(), "activations");
        let [modulation] = self.push([modulation], Undo { conditioning, labels, saved });
        modulation
    }
}

impl Backward for Undo {
    fn backward(self: Box<Self>, outputs: Vec<Output>, tape: &mut Tape) {
        let Undo { conditioning, labels, mut saved } = *self;
        let dmodulation = Output::only_grad(outputs);
        let mut table = conditioning.table.map(|table| tape.open_zeroed(table));
        let mut grads = Conditioning { table: None, ..conditioning }.map(|var| tape.open(var));
        match tape.device() {
            Device::Cpu(cpu) => {
                let p = conditioning.map(|var| tape.value(var).f32());
                let saved = Saved {
                    features: saved.features.f32(),
                    hidden: saved.hidden.f32(),
                    sum: saved.sum.f32(),
                    active: saved.active.f32(),
                };
                let mut d = Params {
                    w0: (grads.w0.0.f32_mut(), grads.w0.1),
                    b0: (grads.b0.0.f32_mut(), grads.b0.1),
                    w2: (grads.w2.0.f32_mut(), grads.w2.1),
                    b2: (grads.b2.0.f32_mut(), grads.b2.1),
                    table: None,
                    modulation_w: (grads.modulation_w.0.f32_mut(), grads.modulation_w.1),
                    modulation_b: (grads.modulation_b.0.f32_mut(), grads.modulation_b.1),
                };
                let dtable = table.as_mut().map(|table| table.f32_mut());
                cpu::condition::backward(cpu, labels.u32(), &p, &saved, dmodulation.f32(), &mut d, dtable);
            }
            Device::Cuda(card) => {
                let p = conditioning.map(|var| tape.value(var));
                cuda::condition::backward(card, &labels, &p, &mut saved, &dmodulation, &mut grads, table.as_mut());
            }
        }
        for (var, grad) in [
            (conditioning.w0, grads.w0.0),
            (conditioning.b0, grads.b0.0),
            (conditioning.w2, grads.w2.0),
            (conditioning.b2, grads.b2.0),
            (conditioning.modulation_w, grads.modulation_w.0),
            (conditioning.modulation_b, grads.modulation_b.0),
        ] {
            tape.close(var, grad);
        }
        if let (Some(var), Some(grad)) = (conditioning.table, table) {
            tape.close(var, grad);
        }
    }
}

/// Of `batch` times to `columns` columns of modulation, at width `width`, forward and backward. Forward reads every weight
/// once; backward writes the gradients of all parameters, the table's `rows` rows included, and reads all weights but W0,
/// since times have no gradient.
pub fn costs(batch: usize, width: usize, columns: usize, rows: usize) -> [Cost; 2] {
    let first = width * FEATURES;
    let weights = first + width * (width + columns);
    [
        Cost::new(weights + batch * (width + columns), 2 * batch * weights),
        Cost::new(2 * weights - first + batch * columns + rows * width, 2 * batch * (2 * weights - first)),
    ]
}
