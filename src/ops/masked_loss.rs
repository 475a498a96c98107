//! The masked squared error against a target, and its gradient: the last operation of a training step.

use crate::base::{Cost, DType, PatchGrid};
use crate::cpu;
use crate::cuda;
use crate::device::Device;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// What a prediction is compared with.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// (B, C, H, W)
    pub values: &'a Tensor,
    /// (B, C, H, W), 1 = supervised; `None` supervises everything.
    pub mask: Option<&'a Tensor>,
    /// (B, N) u32, the patch of each token; `None` means all in order.
    pub kept: Option<&'a Tensor>,
    /// (B), the factor of the squared errors of each image
    pub weight: &'a Tensor,
    pub grid: PatchGrid,
}

impl Tape<'_> {
    /// The loss (1) of the prediction `v` (B, N, P P Cv), whose memory becomes its gradient: backward can start.
    pub fn masked_loss(&mut self, v: Var, target: Target) -> Tensor {
        let mut gradient = self.take(v);
        let [batch, tokens, width] = *gradient.shape().extents() else {
            panic!("masked_loss: v is {:?}", gradient.shape())
        };
        let grid = target.grid;
        assert_eq!(target.values.len(), batch * grid.image(), "masked_loss: the target is {:?}", target.values.shape());
        assert_eq!(target.weight.len(), batch, "masked_loss: the weights are {:?}", target.weight.shape());
        assert!(width >= grid.channels * grid.area(), "masked_loss: v is {:?}, the grid {grid:?}", gradient.shape());
        let mut loss = Tensor::new(self.device(), "loss", [1], DType::F32);
        match self.device() {
            Device::Cpu(cpu) => {
                loss.f32_mut()[0] = cpu::masked_loss::masked_loss(
                    cpu,
                    gradient.f32_mut(),
                    target.values.f32(),
                    target.mask.map(|mask| mask.f32()),
                    target.kept.map(|kept| kept.u32()),
                    target.weight.f32(),
                    grid,
                    tokens,
                );
            }
            Device::Cuda(card) => {
                let Target { values, mask, kept, weight, grid } = target;
                cuda::masked_loss(card, &mut gradient, values, mask, kept, weight, grid, &mut loss);
            }
        }
        self.close(v, gradient);
        loss
    }
}

/// `elements` of the prediction: read and written, the target read.
pub fn cost(elements: usize) -> Cost {
    Cost::new(3 * elements, 5 * elements)
}
