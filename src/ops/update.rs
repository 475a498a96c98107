//! The update of all parameters from their gradients.

pub use crate::base::AdamW;
use crate::base::{Cost, Result, Shape};
use crate::cpu;
use crate::device::Device;
use crate::tensor::{Slab, Tensor};
use std::ops::Range;

/// What the update remembers from step to step.
pub struct Moments {
    pub m: Slab,
    pub v: Slab,
    /// Moving averages of the weights.
    pub averages: Vec<Average>,
    /// Updates applied so far; skipped steps do not count.
    pub applied: u64,
}

/// An exponential moving average of the weights.
pub struct Average {
    /// All parameters, constants too, so that an inference tape runs on them as on the weights.
    pub weights: Slab,
    pub decay: f32,
}

impl Moments {
    /// Zero moments, and averages that start at `weights`.
    pub fn new(device: &Device, weights: &Slab, trained: &[Shape], decays: &[f32]) -> Result<Moments> {
        let all: Vec<Shape> = (0..weights.count()).map(|i| *weights.part(i).shape()).collect();
        let averages = decays.iter().map(|&decay| {
            let mut average = Slab::zeros(device, "ema", &all)?;
            average.flat_mut(all.len()).copy_from_slice(weights.flat(all.len()));
            Ok(Average { weights: average, decay })
        });
        Ok(Moments {
            averages: averages.collect::<Result<_>>()?,
            m: Slab::zeros(device, "moments", trained)?,
            v: Slab::zeros(device, "moments", trained)?,
            applied: 0,
        })
    }
}

/// How one step updates.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    pub adamw: AdamW,
    /// The gradient is scaled down to this norm; `None` leaves it.
    pub clip: Option<f32>,
}

/// What an update did.
#[derive(Clone, Copy, Debug)]
pub struct Updated {
    /// The norm of the gradient before clipping.
    pub norm: f64,
    /// False if loss or norm was not finite: then nothing was touched.
    pub applied: bool,
}

/// Updates the first `gradients.count()` parts of `weights`, unless `loss` or the norm is not finite.
///
/// `undecayed` lists the parts that weight decay does not reach.
pub fn update(
    device: &Device,
    update: Update,
    loss: &Tensor,
    weights: &mut Slab,
    gradients: &Slab,
    moments: &mut Moments,
    undecayed: &[Range<usize>],
) -> Updated {
    let parts = gradients.count();
    match device {
        Device::Cpu(cpu) => {
            let gradient = gradients.flat(parts);
            let norm = cpu::update::norm(cpu, gradient);
            if !norm.is_finite() || !loss.f32()[0].is_finite() {
                return Updated { norm, applied: false };
            }
            let clip = update.clip.map_or(1.0, |limit| (f64::from(limit) / norm).min(1.0) as f32);
            moments.applied += 1;
            let state = cpu::update::State {
                weights: weights.flat_mut(parts),
                gradient,
                m: moments.m.flat_mut(parts),
                v: moments.v.flat_mut(parts),
                averages: moments.averages.iter_mut().map(|a| (a.weights.flat_mut(parts), a.decay)).collect(),
                undecayed,
            };
            cpu::update::adamw(cpu, update.adamw, moments.applied, clip, state);
            Updated { norm, applied: true }
        }
    }
}

/// `parameters` with `averages` moving averages: w, g, m, v and the averages read, all but g written; the norm reads g.
pub fn cost(parameters: usize, averages: usize) -> Cost {
    Cost::new(parameters * (8 + 2 * averages), parameters * (16 + 3 * averages))
}
