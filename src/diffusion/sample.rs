use super::{Course, Guidance, ModelField, Sampler};
use crate::base::rng::{Purpose, Stream};
use crate::base::{Error, Path, Prediction, Result};
use crate::device::Device;
use crate::nn::Network;
use crate::ops::unpatchify::images;
use crate::tensor::Slab;
use std::cell::Cell;

/// Which images to draw, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// One label per image; the number of classes stands for none.
    pub labels: Vec<u32>,
    /// What the network has learnt.
    pub path: Path,
    pub prediction: Prediction,
    pub sampler: Sampler,
    /// Of samplers whose steps have a fixed length.
    pub steps: usize,
    /// The largest value that predicted data may have, for samplers that predict them.
    pub bound: Option<f32>,
    pub guidance: Guidance,
    pub seed: u64,
    /// Images integrated at once; it changes the speed and the memory, never an image.
    pub batch: usize,
}

/// Draws the images of a request, (labels, C, H, W), and counts the evaluations of the velocity, or of what else
/// the model predicts, for each image: with guidance the network sees two images in each.
///
/// Image `i` starts from the noise of (seed, i) alone, so it does not depend on the others. `progress` is told before every
/// step of the solver how much is done, in images: half of a batch where all of it is half-way.
///
/// # Errors
/// `Memory` if the images do not fit; `Stopped` once `stopped`, asked before every step of the solver, says so.
pub fn sample(
    device: &Device,
    network: &Network,
    weights: &Slab,
    request: &Request,
    stopped: &dyn Fn() -> bool,
    progress: &dyn Fn(usize),
) -> Result<(Vec<f32>, Vec<usize>)> {
    let grid = network.config.grid;
    let mut all = Vec::new();
    let values = request.labels.len().checked_mul(grid.image());
    if values.is_none_or(|values| all.try_reserve_exact(values).is_err()) {
        let count = request.labels.len();
        return Err(Error::Memory(format!("out of memory: {count} images of {} values; draw fewer", grid.image())));
    }
    let mut evaluations = Vec::new();
    for (i, labels) in request.labels.chunks(request.batch).enumerate() {
        let mut z = images(device, "sampler", labels.len(), grid);
        let mut start = vec![0.0; z.len()];
        for (j, image) in start.chunks_exact_mut(grid.image()).enumerate() {
            let index = i * request.batch + j;
            Stream::new(request.seed, index as u32, 0, Purpose::Start).fill_normals(image);
        }
        z.write(&start);
        let (before, step) = (all.len() / grid.image(), Cell::new(0));
        let stopped = || {
            // A solver that finds its own steps may take more.
            let done = step.replace(step.get() + 1).min(request.steps);
            progress(before + labels.len() * done / request.steps);
            stopped()
        };
        let process = (request.path, request.prediction);
        let mut field = ModelField::new(device, network, weights, process, request.guidance, labels).until(&stopped);
        let first = (i * request.batch) as u32;
        let course = request.sampler.course(request.path, request.prediction, request.steps);
        let course = Course { bound: request.bound, seed: request.seed, first, ..course };
        evaluations.extend(request.sampler.integrate(&mut field, &mut z, &course, &mut |_, _| {}));
        if stopped() {
            return Err(Error::Stopped("the images are not finished".into()));
        }
        all.extend(z.to_vec::<f32>());
    }
    Ok((all, evaluations))
}
