use super::Guidance;
use crate::device::Device;
use crate::nn::sit::Sit;
use crate::ops::solver::guide;
use crate::ops::unpatchify::{images, unpatchify};
use crate::tape::Tape;
use crate::tensor::{Slab, Tensor};

/// A velocity field `dz/dt = v(z, t)` on a batch of images, which every sampler can integrate.
pub trait Velocity {
    fn device(&self) -> &Device;

    /// Writes `v(z, t)`, with one time for the whole batch.
    fn velocity(&mut self, z: &Tensor, t: f64, v: &mut Tensor);

    /// Whether to go on; asked before every step of a solver.
    fn wanted(&self) -> bool {
        true
    }
}

/// The prediction (B, C, H, W) of a model at times `t` (B) under labels `y` (B).
pub fn predict(device: &Device, sit: &Sit, weights: &Slab, z: &Tensor, t: &Tensor, y: &Tensor) -> Tensor {
    let mut tape = Tape::inference(device, weights);
    let tokens = sit.forward(&mut tape, z, t, y, None);
    let mut prediction = images(device, "prediction", t.len(), sit.config.grid);
    unpatchify(device, sit.config.grid, tape.value(tokens), &mut prediction);
    prediction
}

/// The guided velocity of a model for one label per image.
pub struct ModelVelocity<'a> {
    device: &'a Device,
    sit: &'a Sit,
    weights: &'a Slab,
    guidance: Guidance,
    labels: Tensor,
    /// The label for none, once per image.
    none: Tensor,
    stopped: &'a dyn Fn() -> bool,
}

impl<'a> ModelVelocity<'a> {
    /// `labels` has one entry per image, each below the number of classes, or equal to it for none.
    pub fn new(device: &'a Device, sit: &'a Sit, weights: &'a Slab, guidance: Guidance, labels: &[u32]) -> Self {
        let none = vec![sit.config.classes as u32; labels.len()];
        let [labels, none] = [labels, &none].map(|y| Tensor::from_slice(device, "batch", [y.len()], y));
        ModelVelocity { device, sit, weights, guidance, labels, none, stopped: &|| false }
    }

    /// Wanted until `stopped` says so.
    pub fn until(self, stopped: &'a dyn Fn() -> bool) -> Self {
        ModelVelocity { stopped, ..self }
    }
}

impl Velocity for ModelVelocity<'_> {
    fn device(&self) -> &Device {
        self.device
    }

    fn wanted(&self) -> bool {
        !(self.stopped)()
    }

    fn velocity(&mut self, z: &Tensor, t: f64, v: &mut Tensor) {
        let times = vec![t as f32; self.labels.len()];
        let times = Tensor::from_slice(self.device, "batch", [times.len()], &times);
        *v = predict(self.device, self.sit, self.weights, z, &times, &self.labels);
        if self.sit.config.classes > 0 && self.guidance.acts_at(t) {
            let u = predict(self.device, self.sit, self.weights, z, &times, &self.none);
            let grid = self.sit.config.grid;
            guide(self.device, v, &u, self.guidance.weight, self.guidance.channels.unwrap_or(grid.channels), grid);
        }
    }
}
