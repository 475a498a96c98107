//! The update of all parameters at the end of a step, unless the step is not finite.

pub use crate::base::AdamW;
use crate::base::{Cost, DType, Result, Shape};
use crate::cpu;
use crate::cuda;
pub use crate::cuda::update::MOST_AVERAGES;
use crate::device::{Device, Reading};
use crate::tensor::{Slab, Tensor};

/// What the update remembers from step to step.
pub struct Moments {
    pub m: Slab,
    pub v: Slab,
    /// Moving averages of the weights.
    pub averages: Vec<Average>,
    /// (2) u32: the updates applied so far, without skipped steps; and zero, for kernels that count their blocks.
    pub applied: Tensor,
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
        let averages = decays.iter().map(|&decay| {
            let mut average = Slab::zeros(device, "ema", &weights.shapes())?;
            average.copy(weights);
            Ok(Average { weights: average, decay })
        });
        Ok(Moments {
            averages: averages.collect::<Result<_>>()?,
            m: Slab::zeros(device, "moments", trained)?,
            v: Slab::zeros(device, "moments", trained)?,
            applied: Tensor::from_slice(device, "moments", [2], &[0u32, 0]),
        })
    }

    /// Goes back to zero moments, and to averages with `decays` that start at `weights`.
    pub fn restart(&mut self, device: &Device, weights: &Slab, decays: &[f32]) -> Result<()> {
        self.averages.truncate(decays.len());
        for (i, &decay) in decays.iter().enumerate() {
            if i == self.averages.len() {
                self.averages.push(Average { weights: Slab::zeros(device, "ema", &weights.shapes())?, decay });
            }
            self.averages[i].decay = decay;
            self.averages[i].weights.copy(weights);
        }
        for slab in [&mut self.m, &mut self.v] {
            (0..slab.count()).for_each(|i| slab.part_mut(i).zero());
        }
        self.applied.write(&[0u32, 0]);
        Ok(())
    }
}

/// How every step updates.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    pub adamw: AdamW,
    /// The gradient is scaled down to this norm; `None` leaves it.
    pub clip: Option<f32>,
}

/// The weights of a model.
pub struct Weights<'a> {
    /// In f32, what is updated.
    pub masters: &'a mut Slab,
    /// What products read, where that is another type.
    pub working: Option<&'a mut Slab>,
}

/// Memory for the weights as products of `device` read them; `None` where they read f32.
pub fn working(device: &Device, weights: &Slab) -> Result<Option<Slab>> {
    match device.activations() {
        DType::F32 => Ok(None),
        dtype => Slab::typed(device, "weights", &weights.shapes(), dtype).map(Some),
    }
}

/// Rounds every part of `from` to the type of `to`.
pub fn cast(device: &Device, from: &Slab, to: &mut Slab) {
    match device {
        Device::Cpu(_) => unreachable!("the processor computes with f32"),
        Device::Cuda(card) => cuda::update::cast(card, from, to),
    }
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    pub loss: f32,
    /// The norm of the gradient before clipping.
    pub norm: f32,
    /// False if loss or norm was not finite: then nothing was touched.
    pub applied: bool,
}

impl Report {
    /// Memory for a report on `device`.
    pub fn memory(device: &Device) -> Tensor {
        Tensor::new(device, "loss", [3], DType::F32)
    }

    /// Waits for what an update wrote.
    pub fn finish(reading: Reading) -> Report {
        let mut numbers = [0.0f32; 3];
        reading.finish(&mut numbers);
        let [loss, norm, applied] = numbers;
        Report { loss, norm, applied: applied != 0.0 }
    }
}

/// Updates the first `gradients.count()` parts of the weights at learning rate `rate` (1), unless `loss` (1), the norm or the
/// square of the clipped norm is not finite in f32, and writes the `report`.
pub fn update(
    device: &Device,
    update: Update,
    rate: &Tensor,
    loss: &Tensor,
    weights: Weights,
    gradients: &Slab,
    moments: &mut Moments,
    report: &mut Tensor,
) {
    let parts = gradients.count();
    match device {
        Device::Cpu(cpu) => {
            let gradient = gradients.flat(parts);
            let norm = cpu::update::norm(cpu, gradient);
            let loss = loss.f32()[0];
            let clip = update.clip.map_or(1.0, |limit| (f64::from(limit) / norm).min(1.0));
            // The norm bounds every element, so no second moment comes to infinity, from which it would not return.
            let square = (norm * clip).powi(2) as f32;
            let applied = (norm as f32).is_finite() && square.is_finite() && loss.is_finite();
            report.write(&[loss, norm as f32, f32::from(applied)]);
            if !applied {
                return;
            }
            let count = moments.applied.u32()[0] + 1;
            moments.applied.write(&[count, 0]);
            let state = cpu::update::State {
                weights: weights.masters.flat_mut(parts),
                gradient,
                m: moments.m.flat_mut(parts),
                v: moments.v.flat_mut(parts),
                averages: moments.averages.iter_mut().map(|a| (a.weights.flat_mut(parts), a.decay)).collect(),
            };
            cpu::update::adamw(cpu, update.adamw, rate.f32()[0], count, clip as f32, state);
        }
        Device::Cuda(card) => {
            let state = cuda::update::State {
                weights: weights.masters,
                working: weights.working,
                gradients,
                m: &mut moments.m,
                v: &mut moments.v,
                averages: moments.averages.iter_mut().map(|a| (&mut a.weights, a.decay)).collect(),
                applied: &mut moments.applied,
            };
            cuda::update::update(card, update.adamw, update.clip, rate, loss, state, report);
        }
    }
}

/// `parameters` with `averages` moving averages: w, g, m, v and the averages read, all but g written; the norm reads g.
pub fn cost(parameters: usize, averages: usize) -> Cost {
    Cost::new(parameters * (8 + 2 * averages), parameters * (16 + 3 * averages))
}
