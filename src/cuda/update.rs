use super::{THREADS, count, stride};
use crate::base::{AdamW, DType};
use crate::device::cuda::{Argument, Cuda, Grid, Kernel};
use crate::kernel;
use crate::tensor::{Slab, Tensor};

const NORM: Kernel = kernel!("update", "gradient_norm");
const ADAMW: Kernel = kernel!("update", "adamw");
const CAST: Kernel = kernel!("update", "cast_bf16");

/// Moving averages that one pass follows.
pub const MOST_AVERAGES: usize = 4;

/// The slabs of one update, all laid out as the gradients are.
pub struct State<'a> {
    pub weights: &'a mut Slab,
    /// The weights as products read them, in bf16.
    pub working: Option<&'a mut Slab>,
    pub gradients: &'a Slab,
    pub m: &'a mut Slab,
    pub v: &'a mut Slab,
    /// Each moving average with its decay.
    pub averages: Vec<(&'a mut Slab, f32)>,
    /// (2) u32: the updates applied so far, and a count that is zero between launches.
    pub applied: &'a mut Tensor,
}

/// Applies the next update, unless `loss` (1) or the norm of the gradients is not finite, and writes the `report`.
pub fn update(
    card: &Cuda,
    hyper: AdamW,
    clip: Option<f32>,
    rate: &Tensor,
    loss: &Tensor,
    state: State,
    report: &mut Tensor,
) {
    let State { weights, working, gradients, m, v, averages, applied } = state;
    assert!(
        averages.len() <= MOST_AVERAGES,
        "one pass follows {MOST_AVERAGES} moving averages, not {}",
        averages.len()
    );
    let elements = gradients.elements(gradients.count());
    let blocks = elements.div_ceil(4 * THREADS).clamp(1, 8 * card.card().multiprocessors);
    let grid = Grid::new(blocks, THREADS);
    let AdamW { beta1, beta2, epsilon, weight_decay } = hyper;

    // A double for each block.
    let mut partial = Tensor::workspace(card, [2 * blocks], DType::F32);
    let mut decision = Tensor::workspace(card, [5], DType::F32);
    let slab = [gradients.argument(), count(elements), (&mut partial).into(), loss.into(), rate.into()];
    let constants = [clip.unwrap_or(0.0), beta1, beta2, weight_decay].map(Argument::from);
    let outputs = [applied.into(), (&mut decision).into(), report.into()];
    card.launch(NORM, grid, &[&slab[..], &constants, &outputs].concat());

    let working = working.map_or(Argument::NULL, |slab| slab.argument());
    let slabs = [gradients.argument(), weights.argument(), working, m.argument(), v.argument(), count(elements)];
    let constants = [(&decision).into(), beta1.into(), beta2.into(), epsilon.into()];
    let mut followed = [[Argument::NULL, Argument::F32(0.0)]; MOST_AVERAGES];
    for (slot, (slab, decay)) in followed.iter_mut().zip(averages) {
        *slot = [slab.argument(), decay.into()];
    }
    card.launch(ADAMW, grid, &[&slabs[..], &constants, followed.as_flattened()].concat());
}

/// Rounds every part of an f32 slab to bf16.
pub fn cast(card: &Cuda, from: &Slab, to: &mut Slab) {
    let elements = from.elements(from.count());
    card.launch(CAST, stride(card, elements / 8), &[from.argument(), to.argument(), count(elements)]);
}
