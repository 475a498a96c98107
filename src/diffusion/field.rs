use super::Guidance;
use crate::base::{DType, PatchGrid, Path, Prediction};
use crate::device::{Device, Replay};
use crate::nn::Network;
use crate::ops::solver::guide;
use crate::ops::unpatchify::{images, unpatchify};
use crate::tape::Tape;
use crate::tensor::{Slab, Tensor};

/// What is predicted of a process on a batch of images, from which every sampler can draw.
pub trait Field {
    fn device(&self) -> &Device;

    /// The path, and what is predicted of it.
    fn process(&self) -> (Path, Prediction);

    /// Writes the prediction at (z, t), with a time for each image.
    fn predict(&mut self, z: &Tensor, t: &[f64], p: &mut Tensor);

    /// Whether to go on; asked before every step of a solver.
    fn wanted(&self) -> bool {
        true
    }
}

/// The prediction (B, C, H, W) of a model that is told times `t` (B) under labels `y` (B).
pub fn predict(device: &Device, network: &Network, weights: &Slab, z: &Tensor, t: &Tensor, y: &Tensor) -> Tensor {
    let mut prediction = images(device, "prediction", t.len(), network.config.grid);
    write_prediction(device, network, weights, z, t, y, &mut prediction);
    prediction
}

fn write_prediction(
    device: &Device,
    network: &Network,
    weights: &Slab,
    z: &Tensor,
    t: &Tensor,
    y: &Tensor,
    v: &mut Tensor,
) {
    let mut tape = Tape::inference(device, weights);
    let tokens = network.forward(&mut tape, z, t, y, None);
    unpatchify(device, network.config.grid, tape.value(tokens), v);
}

/// The guided prediction of a model for one label per image.
pub struct ModelField<'a> {
    device: &'a Device,
    network: &'a Network,
    weights: &'a Slab,
    process: (Path, Prediction),
    guidance: Guidance,
    labels: Vec<u32>,
    /// The model under the labels, and under the labels and none, once each has been asked for.
    evaluations: [Option<Evaluation>; 2],
    stopped: &'a dyn Fn() -> bool,
}

/// The model on one batch in fixed memory.
struct Evaluation {
    z: Tensor,
    t: Tensor,
    y: Tensor,
    v: Tensor,
    /// The weight of guidance for each image, where there are two of it in the batch.
    weight: Tensor,
    replay: Replay,
}

impl Evaluation {
    fn new(device: &Device, grid: PatchGrid, labels: &[u32]) -> Evaluation {
        let batch = labels.len();
        Evaluation {
            z: images(device, "sampler", batch, grid),
            t: Tensor::new(device, "sampler", [batch], DType::F32),
            y: Tensor::from_slice(device, "sampler", [batch], labels),
            v: images(device, "sampler", batch, grid),
            weight: Tensor::new(device, "sampler", [batch.div_ceil(2)], DType::F32),
            replay: Replay::default(),
        }
    }
}

impl<'a> ModelField<'a> {
    /// `labels` has one entry per image, each below the number of classes, or equal to it for none.
    pub fn new(
        device: &'a Device,
        network: &'a Network,
        weights: &'a Slab,
        process: (Path, Prediction),
        guidance: Guidance,
        labels: &[u32],
    ) -> Self {
        let evaluations = [None, None];
        ModelField {
            device,
            network,
            weights,
            process,
            guidance,
            labels: labels.into(),
            evaluations,
            stopped: &|| false,
        }
    }

    /// Wanted until `stopped` says so.
    pub fn until(self, stopped: &'a dyn Fn() -> bool) -> Self {
        ModelField { stopped, ..self }
    }
}

impl Field for ModelField<'_> {
    fn device(&self) -> &Device {
        self.device
    }

    fn wanted(&self) -> bool {
        !(self.stopped)()
    }

    fn process(&self) -> (Path, Prediction) {
        self.process
    }

    fn predict(&mut self, z: &Tensor, t: &[f64], v: &mut Tensor) {
        let (device, network, weights) = (self.device, self.network, self.weights);
        let config = network.config;
        let guided = config.classes > 0 && t.iter().any(|&t| self.guidance.at(t) != 1.0);
        let evaluation = self.evaluations[usize::from(guided)].get_or_insert_with(|| {
            let mut labels = self.labels.clone();
            labels.resize(labels.len() * (1 + usize::from(guided)), config.classes as u32);
            Evaluation::new(device, config.grid, &labels)
        });
        let Evaluation { z: seen, t: times, y, v: prediction, weight, replay } = evaluation;
        (0..seen.len()).step_by(z.len()).for_each(|start| seen.copy(start, z));
        let told: Vec<f32> = t.iter().map(|&t| self.process.0.told(t) as f32).collect();
        times.write(&told.repeat(times.len() / told.len()));
        let asked = replay.run(device, || write_prediction(device, network, weights, seen, times, y, prediction));
        asked.unwrap_or_else(|error| error.throw());
        if guided {
            weight.write(&t.iter().map(|&t| self.guidance.at(t)).collect::<Vec<f32>>());
            let channels = self.guidance.channels.unwrap_or(config.grid.channels);
            guide(device, prediction, weight, channels, config.grid, v);
        } else {
            v.copy(0, prediction);
        }
    }
}
