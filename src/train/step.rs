use super::Ideal;
use crate::base::{Accumulate, Cost, DType, Mask, Result, Shape, Windows};
use crate::device::{Device, Reading, Replay};
use crate::nn::{Config, Network, ParamList, ParamStore};
use crate::ops::mask::{Masked, mask};
use crate::ops::masked_loss::Target;
use crate::ops::noise::{Batch, Noise, Noised, noise};
pub use crate::ops::update::Report;
use crate::ops::update::{AdamW, Moments, Update, Weights, cast, update, working};
use crate::tape::{Keep, Tape};
use crate::tensor::{Slab, Tensor};
use serde::Serialize;
use std::collections::{HashMap, VecDeque};

/// Kinds of steps that are kept recorded: where the rate of a mask changes, old ones do not come back.
const MOST_REPLAYS: usize = 64;

/// What every step of a run has in common.
#[derive(Clone, Debug)]
pub struct Settings {
    pub model: Config,
    /// Images of a step.
    pub batch: usize,
    /// What steps leave out.
    pub mask: Mask,
    pub noise: Noise,
    pub adamw: AdamW,
    pub clip: Option<f32>,
    /// Decays of the moving averages.
    pub averages: Vec<f32>,
    pub keep: Keep,
    /// Of the initial weights and the masks.
    pub seed: u64,
}

impl Settings {
    /// What of an image the samples of `step` keep; `None` for everything.
    pub fn windows(&self, step: u64) -> Option<Windows> {
        self.mask.windows(self.seed, step, self.model.grid)
    }

    /// Patches of an image that `step` computes.
    pub fn tokens(&self, step: u64) -> usize {
        self.windows(step).map_or(self.model.grid.tokens(), |windows| windows.tokens())
    }

    /// What the network of a step that computes `tokens` patches of an image must move and compute, forward and backward.
    pub fn cost(&self, tokens: usize) -> Cost {
        self.model.forward_cost(self.batch, tokens) + self.model.backward_cost(self.batch, tokens)
    }

    /// What a step that computes `tokens` patches of an image holds of a model with the parameters `list`, on a device whose
    /// activations are of type `stored`.
    pub fn memory(&self, list: &ParamList, tokens: usize, stored: DType) -> Memory {
        let trained: usize = list.shapes(list.trained()).iter().map(Shape::len).sum();
        let f32s = list.elements() * (1 + self.averages.len()) + 3 * trained;
        // Of another type there is a copy of the weights that products read, and of those that samples are drawn from.
        let copies = if stored == DType::F32 { 0 } else { 2 * list.elements() };
        let activations = self.model.activations(self.batch, tokens, self.keep == Keep::BlockOutputs);
        Memory { model: (4 * f32s + stored.size() * copies) as u64, activations: (stored.size() * activations) as u64 }
    }
}

/// Bytes that a step holds at its fullest, within a tenth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Weights, gradients, moments and averages.
    pub model: u64,
    pub activations: u64,
}

impl Memory {
    pub fn bytes(&self) -> u64 {
        self.model + self.activations
    }
}

/// A training step in fixed buffers: one call noises a batch, runs forward and backward, and updates.
pub struct Step {
    pub settings: Settings,
    pub network: Network,
    pub params: ParamStore,
    pub moments: Moments,
    device: Device,
    gradients: Slab,
    batch: Batch,
    noised: Noised,
    /// (1), the learning rate
    rate: Tensor,
    report: Tensor,
    /// The reports that are out.
    asked: VecDeque<Reading>,
    /// The recordings of steps by what they keep.
    replays: HashMap<Option<Windows>, Replay>,
    /// The weights that samples are drawn from, as products read them, where that is another type.
    drawn: Option<Slab>,
}

impl Step {
    /// A step at its initial weights.
    pub fn new(device: &Device, settings: Settings) -> Result<Step> {
        let (network, list) = Network::new(settings.model);
        let params = ParamStore::new(device, list, settings.seed)?;
        let trained: Vec<Shape> = params.list.shapes(params.list.trained());
        let grid = settings.model.grid;
        Ok(Step {
            moments: Moments::new(device, &params.weights, &trained, &settings.averages)?,
            gradients: params.zeros(device, "gradients")?,
            batch: Batch::new(device, settings.batch, grid),
            noised: Noised::new(device, settings.batch, grid),
            rate: Tensor::new(device, "batch", [1], DType::F32),
            report: Report::memory(device),
            asked: VecDeque::new(),
            replays: HashMap::new(),
            drawn: working(device, &params.weights)?,
            device: device.clone(),
            settings,
            network,
            params,
        })
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The model that samples are drawn from: with the first moving average, or the weights where there is none.
    pub fn sampled(&mut self) -> (&Device, &Network, &Slab) {
        let average = self.moments.averages.first().map(|average| &average.weights);
        let weights = match (average, &mut self.drawn) {
            (None, _) => self.params.network(),
            (Some(average), None) => average,
            (Some(average), Some(drawn)) => {
                cast(&self.device, average, drawn);
                drawn
            }
        };
        (&self.device, &self.network, weights)
    }

    /// Goes over to `settings` of the same model, from the weights that samples are drawn from if `average`, else from the
    /// weights: with zero moments and with averages that start there.
    pub fn restart(&mut self, settings: Settings, average: bool) -> Result<()> {
        assert!(self.asked.is_empty(), "the reports of earlier steps come first");
        assert_eq!(settings.model, self.settings.model, "the model stays");
        assert_eq!(settings.noise.path, self.settings.noise.path, "the path stays");
        // Whatever was recorded holds the addresses of buffers that go.
        self.replays.clear();
        if let (true, Some(first)) = (average, self.moments.averages.first()) {
            self.params.weights.copy(&first.weights);
        }
        self.params.round(&self.device);
        self.moments.restart(&self.device, &self.params.weights, &settings.averages)?;
        if settings.batch != self.settings.batch {
            self.batch = Batch::new(&self.device, settings.batch, settings.model.grid);
            self.noised = Noised::new(&self.device, settings.batch, settings.model.grid);
        }
        self.settings = settings;
        Ok(())
    }

    /// Step number `step`, from 0 on, at learning rate `lr`, on `images` (B, C, H, W) under `labels` (B).
    pub fn run(&mut self, step: u64, lr: f32, images: &[f32], labels: &[u32]) -> Result<Report> {
        assert!(self.asked.is_empty(), "the reports of earlier steps come first");
        self.ask(step, lr, images, labels)?;
        Ok(self.report().expect("a step was asked for"))
    }

    /// Asks for a step as [`Step::run`] does; a card may still be computing it when this returns.
    pub fn ask(&mut self, step: u64, lr: f32, images: &[f32], labels: &[u32]) -> Result<()> {
        self.ask_towards(None, step, lr, images, labels)
    }

    /// Asks for a step whose targets are those of `ideal`, if there is one.
    pub fn ask_towards(
        &mut self,
        ideal: Option<&Ideal<'_>>,
        step: u64,
        lr: f32,
        images: &[f32],
        labels: &[u32],
    ) -> Result<()> {
        self.batch.fill(&self.settings.noise, images, labels, step as u32, 0);
        self.batch.threshold.write(&[self.settings.mask.threshold(step)]);
        self.rate.write(&[lr]);
        if let Some(ideal) = ideal {
            noise(&self.device, self.settings.noise, &self.batch, &mut self.noised);
            ideal.retarget(&self.batch, &mut self.noised);
        }
        let windows = self.settings.windows(step);
        let (device, mut replay) = (self.device.clone(), self.replays.remove(&windows).unwrap_or_default());
        let asked = replay.run(&device, || self.perform(windows, ideal.is_none()));
        if self.replays.len() == MOST_REPLAYS {
            self.replays.clear();
        }
        self.replays.insert(windows, replay);
        asked?;
        self.asked.push_back(self.report.begin_read());
        Ok(())
    }

    /// Waits for the first of the steps asked for whose report is out; `None` if there is none.
    pub fn report(&mut self) -> Option<Report> {
        self.asked.pop_front().map(Report::finish)
    }

    /// Asks the device for every operation of a step that keeps `windows`, from its noise on unless that is there.
    fn perform(&mut self, windows: Option<Windows>, from_noise: bool) {
        let Step { settings, network, params, moments, device, gradients, batch, noised, rate, report, .. } = self;
        if from_noise {
            noise(device, settings.noise, batch, noised);
        }
        let masked = mask(device, settings.seed, &settings.mask, windows, batch, settings.model.grid);
        let mut tape = Tape::training(device, params.network(), gradients, Accumulate::Set, settings.keep);
        let loss = objective(&mut tape, network, noised, &masked);
        tape.backward();
        let how = Update { adamw: settings.adamw, clip: settings.clip };
        let weights = Weights { masters: &mut params.weights, working: params.working.as_mut() };
        update(device, how, rate, &loss, weights, gradients, moments, report);
    }
}

/// The loss of the model on what it sees, as the last operation of the tape.
pub(super) fn objective(tape: &mut Tape, network: &Network, noised: &Noised, masked: &Masked) -> Tensor {
    let Masked { kept, supervised, weight } = masked;
    let (kept, grid) = (kept.as_ref(), network.config.grid);
    let v = network.forward(tape, &noised.z, &noised.t, &noised.y, kept);
    tape.masked_loss(v, Target { values: &noised.target, mask: supervised.as_ref(), kept, weight, grid })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{PatchGrid, Path, Prediction, Times, Weighting};
    use crate::device::Cpu;
    use crate::nn::Family;

    fn step() -> Step {
        let grid = PatchGrid { channels: 1, height: 4, width: 4, patch: 2 };
        let settings = Settings {
            model: Config { family: Family::Sit, grid, depth: 1, width: 8, heads: 2, classes: 2, learn_sigma: false },
            batch: 2,
            mask: Mask::patches(0.25),
            noise: Noise {
                path: Path::Linear,
                prediction: Prediction::V,
                times: Times::UNIFORM,
                weighting: Weighting::None,
                label_dropout: 0.5,
                null_label: 2,
                seed: 3,
            },
            adamw: AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1 },
            clip: Some(1.0),
            averages: vec![0.5],
            keep: Keep::Everything,
            seed: 3,
        };
        Step::new(&Device::cpu(Cpu::new(None, DType::F32).unwrap().poisoned()), settings).unwrap()
    }

    fn bits(step: &Step) -> Vec<u32> {
        let Moments { m, v, averages, applied } = &step.moments;
        let slabs = [&step.params.weights, m, v, &averages[0].weights];
        let parts = slabs.iter().flat_map(|slab| (0..slab.count()).map(|i| slab.part(i)));
        parts.flat_map(|part| part.to_vec::<f32>()).map(f32::to_bits).chain(applied.to_vec::<u32>()).collect()
    }

    #[test]
    fn a_step_that_is_not_finite_touches_nothing() {
        let mut step = step();
        assert!(step.run(0, 0.1, &[0.5; 32], &[0, 1]).unwrap().applied);
        let before = bits(&step);
        for (number, value) in [(1, f32::NAN), (2, f32::INFINITY), (3, 1e30)] {
            let report = step.run(number, 0.1, &[value; 32], &[0, 1]).unwrap();
            assert!(!report.applied, "{value}: {report:?}");
            assert!(bits(&step) == before, "{value}");
        }
        assert!(step.run(4, 0.1, &[0.5; 32], &[0, 1]).unwrap().applied);
        assert!(bits(&step) != before);
    }
}
