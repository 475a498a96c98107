//! What a step leaves out: the tokens that are kept, the elements that the loss counts, and what it divides by.

use crate::base::rng::Draw;
use crate::base::{Cost, DType, Mask, PatchGrid, Windows};
use crate::cpu;
use crate::cuda;
use crate::device::Device;
use crate::ops::noise::Batch;
use crate::tensor::Tensor;

/// The masks of one step.
pub struct Masked {
    /// (B, N) u32, the kept patches, ascending; `None` where all are kept
    pub kept: Option<Tensor>,
    /// (B, C, H, W), 1 = supervised; `None` where everything is
    pub supervised: Option<Tensor>,
    /// (B), the factor of a sample's squared errors in the loss
    pub weight: Tensor,
}

/// Draws the masks of the step that `batch` is of: `windows` is what [`Mask::windows`] says of it.
pub fn mask(
    device: &Device,
    seed: u64,
    mask: &Mask,
    windows: Option<Windows>,
    batch: &Batch,
    grid: PatchGrid,
) -> Masked {
    let images = batch.y.len();
    let tokens = windows.map_or(grid.tokens(), |windows| windows.tokens());
    let image = [images, grid.channels, grid.height, grid.width];
    let mut kept = windows.map(|_| Tensor::new(device, "batch", [images, tokens], DType::U32));
    let mut supervised = mask.thins_loss().then(|| Tensor::new(device, "batch", image, DType::F32));
    let mut weight = Tensor::new(device, "batch", [images], DType::F32);
    match device {
        Device::Cpu(cpu) => {
            let (&[step, first], &[threshold]) = (batch.place.u32(), batch.threshold.u32()) else {
                panic!("mask: the place is {:?}, the threshold {:?}", batch.place, batch.threshold)
            };
            let draw = Draw { seed, step, first };
            if let (Some(windows), Some(kept)) = (windows, &mut kept) {
                cpu::mask::keep_tokens(cpu, draw, windows, grid.sides().1, kept.slice_mut());
            }
            if let Some(supervised) = &mut supervised {
                cpu::mask::thin_loss(cpu, draw, mask.loss, threshold, grid, supervised.f32_mut());
            }
            let (kept, supervised) = (kept.as_ref().map(Tensor::u32), supervised.as_ref().map(Tensor::f32));
            cpu::mask::weigh(cpu, mask.norm, grid, tokens, kept, supervised, batch.importance.f32(), weight.f32_mut());
        }
        Device::Cuda(card) => {
            let draws = (seed, &batch.place);
            if let (Some(windows), Some(kept)) = (windows, &mut kept) {
                cuda::mask::keep_tokens(card, draws, windows, grid, kept);
            }
            if let Some(supervised) = &mut supervised {
                cuda::mask::thin_loss(card, draws, mask.loss, &batch.threshold, grid, supervised);
            }
            let (kept, supervised) = (kept.as_ref(), supervised.as_ref());
            cuda::mask::weigh(card, mask.norm, grid, tokens, kept, supervised, &batch.importance, &mut weight);
        }
    }
    Masked { kept, supervised, weight }
}

/// `kept` indices and `elements` of the loss written, and the elements read to count them; a word of Philox is ten rounds of
/// eight operations for four.
pub fn cost(kept: usize, elements: usize) -> Cost {
    Cost::new(kept + 2 * elements, 20 * (kept + elements))
}
