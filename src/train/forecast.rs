use super::{Memory, Plan};
use crate::base::{Bytes, DType};
use crate::nn::Network;
use serde::Serialize;
use std::fmt;

/// What a run will do, by its plan alone: nothing is computed and no memory taken.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forecast {
    pub model: String,
    pub parameters: usize,
    /// Channels, height, width.
    pub image: [usize; 3],
    pub stages: Vec<Ahead>,
    /// Of the stage that holds most.
    pub memory: Memory,
}

/// A stage of a run that has not begun.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ahead {
    pub steps: u64,
    pub batch: usize,
    /// Patches of an image that the first and the last step compute, of how many.
    pub tokens: [usize; 2],
    pub of: usize,
    /// Share of the loss that the first and the last step leave out.
    pub loss_drop: [f64; 2],
    /// Learning rate after the warm-up.
    pub lr: f64,
    pub ema: Vec<f64>,
    /// Of the first step and of all, with a kind of mask that is drawn taken as it is drawn at the ends.
    pub flops_of_step: f64,
    pub flops: f64,
}

/// Points of a ramp at which the work of a step is looked at.
const POINTS: u64 = 256;

impl Forecast {
    /// What `plan` does on a device whose activations are of type `stored`.
    pub fn of(plan: &Plan, stored: DType) -> Forecast {
        let list = Network::new(plan.model).1;
        let grid = plan.model.grid;
        let end = plan.recipe.train.steps;
        let reached = plan.recipe.stages().into_iter().filter(|stage| stage.begin < end);
        let ahead = reached.map(|stage| {
            let settings = plan.of_stage(&stage).settings();
            let steps = stage.end.min(end) - stage.begin;
            let last = stage.begin + steps - 1;
            let flops = |step: u64| settings.cost(settings.tokens(step)).flops as f64;
            let points = steps.min(POINTS);
            let sum: f64 = (0..points).map(|i| flops(stage.begin + i * steps / points)).sum();
            let tokens = [settings.tokens(stage.begin), settings.tokens(last)];
            let memory = settings.memory(&list, tokens[0].max(tokens[1]), stored);
            let ahead = Ahead {
                steps,
                batch: settings.batch,
                tokens,
                of: grid.tokens(),
                loss_drop: [stage.begin, last].map(|step| settings.mask.loss_drop.at(step)),
                lr: stage.recipe.optimizer.lr,
                ema: stage.recipe.train.ema.clone(),
                flops_of_step: flops(stage.begin),
                flops: sum / points as f64 * steps as f64,
            };
            (ahead, memory)
        });
        let (stages, memory): (Vec<Ahead>, Vec<Memory>) = ahead.unzip();
        Forecast {
            model: plan.recipe.model.preset.clone(),
            parameters: list.elements(),
            image: [grid.channels, grid.height, grid.width],
            stages,
            memory: memory.into_iter().max_by_key(Memory::bytes).expect("a run has a first stage"),
        }
    }
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [channels, height, width] = self.image;
        let millions = self.parameters as f64 / 1e6;
        write!(f, "{}: {millions:.2} million parameters, images of {channels} x {height} x {width}", self.model)?;
        for (i, stage) in self.stages.iter().enumerate() {
            let Ahead { steps, batch, tokens: [first, last], of, loss_drop, lr, ema, flops_of_step, .. } = stage;
            write!(f, "\nstage {} of {}: {steps} steps of {batch} images, {first}", i + 1, self.stages.len())?;
            if first != last {
                write!(f, " to {last}")?;
            }
            write!(f, " of {of} patches, ")?;
            match loss_drop {
                [0.0, 0.0] => {}
                [first, last] if first == last => write!(f, "{first} of the loss left out, ")?,
                [first, last] => write!(f, "{first} to {last} of the loss left out, ")?,
            }
            write!(f, "learning rate {lr}, averages {ema:?}, {flops_of_step:.3e} operations a step")?;
        }
        let [steps, flops] = [
            self.stages.iter().map(|stage| stage.steps as f64).sum::<f64>(),
            self.stages.iter().map(|stage| stage.flops).sum::<f64>(),
        ];
        let [all, model] = [self.memory.bytes(), self.memory.model].map(Bytes);
        let parts = format_args!("{model} of it weights, gradients, moments and averages");
        write!(f, "\nin all {steps} steps, {flops:.3e} operations, about {all} of memory, {parts}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Cpu, Device};
    use crate::train::recipe::Change;
    use crate::train::{Recipe, Step};

    #[test]
    fn the_memory_that_is_foretold_is_what_a_step_holds() {
        for preset in ["model.preset=sit-xs-2", "model.preset=uvit-s-4"] {
            for sets in [
                &["model.depth=2"][..],
                &["model.depth=6", "train.batch_size=3"],
                &["model.depth=4", "mask.drop=0.5", "train.ema=[0.9, 0.99]"],
                &["model.depth=6", "train.recompute=true"],
            ] {
                let given = [&[preset, "model.width=128", "train.batch_size=8"], sets].concat();
                let changes: Vec<Change> = given.iter().map(|set| Change::set(set).unwrap()).collect();
                let plan = Plan::of(Recipe::read("r", "", &changes).unwrap(), [4, 32, 32], 10).unwrap();
                let (device, settings) = (Device::cpu(Cpu::new(None, DType::F32).unwrap()), plan.settings());
                let foretold = Forecast::of(&plan, DType::F32).memory;
                let near = |foretold: u64, held: usize, what: &str| {
                    let ratio = foretold as f64 / held as f64;
                    assert!((0.9..1.1).contains(&ratio), "{given:?}: {what}: {foretold} for {held}");
                };
                let batch = settings.batch;
                let mut step = Step::new(&device, settings).unwrap();
                let model = device.arena().used();
                near(foretold.model, model, "the model");
                step.run(0, 0.1, &vec![0.5; batch << 12], &vec![0; batch]).unwrap();
                near(foretold.activations, device.arena().peak() - model, "activations");
            }
        }
    }
}
