use super::{EmpiricalScore, Queries, Request, Scores};
use crate::base::{Path, Prediction};
use crate::device::Device;
use crate::diffusion::Field;
use crate::tensor::Tensor;

/// The velocity of the ideal denoiser: what a network that learnt the data set by heart would predict.
pub struct EmpiricalVelocity<'a> {
    device: &'a Device,
    score: &'a EmpiricalScore<'a>,
    class: Option<u32>,
}

impl<'a> EmpiricalVelocity<'a> {
    /// The field of all rows, or of those of one class.
    pub fn new(device: &'a Device, score: &'a EmpiricalScore<'a>, class: Option<u32>) -> EmpiricalVelocity<'a> {
        EmpiricalVelocity { device, score, class }
    }

    /// r* of the first point of `z`.
    pub fn r_star(&self, z: &Tensor, t: f64) -> f64 {
        self.answer(z, &vec![t; z.len() / self.score.store().width()], true).r_star[0]
    }

    /// # Panics
    /// If the class has no rows, or where no score is defined.
    fn answer(&self, z: &Tensor, t: &[f64], r_star: bool) -> Scores {
        let z: Vec<f64> = z.to_vec::<f32>().into_iter().map(f64::from).collect();
        let request = Request { class: self.class, r_star, ..Request::default() };
        let answer = self.score.answer(Queries { z: &z, t }, &request);
        answer.unwrap_or_else(|error| panic!("the velocity at {t:?}: {error}"))
    }
}

impl Field for EmpiricalVelocity<'_> {
    fn device(&self) -> &Device {
        self.device
    }

    fn process(&self) -> (Path, Prediction) {
        (self.score.path(), Prediction::V)
    }

    fn predict(&mut self, z: &Tensor, t: &[f64], v: &mut Tensor) {
        let velocity: Vec<f32> = self.answer(z, t, false).velocity.into_iter().map(|v| v as f32).collect();
        v.write(&velocity);
    }
}
