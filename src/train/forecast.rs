use super::Plan;
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
    pub fn of(plan: &Plan) -> Forecast {
        let grid = plan.model.grid;
        let end = plan.recipe.train.steps;
        let reached = plan.recipe.stages().into_iter().filter(|stage| stage.begin < end);
        let stages = reached.map(|stage| {
            let settings = plan.of_stage(&stage).settings();
            let steps = stage.end.min(end) - stage.begin;
            let last = stage.begin + steps - 1;
            let flops = |step: u64| settings.cost(settings.tokens(step)).flops as f64;
            let points = steps.min(POINTS);
            let sum: f64 = (0..points).map(|i| flops(stage.begin + i * steps / points)).sum();
            Ahead {
                steps,
                batch: settings.batch,
                tokens: [settings.tokens(stage.begin), settings.tokens(last)],
                of: grid.tokens(),
                loss_drop: [stage.begin, last].map(|step| settings.mask.loss_drop.at(step)),
                lr: stage.recipe.optimizer.lr,
                ema: stage.recipe.train.ema.clone(),
                flops_of_step: flops(stage.begin),
                flops: sum / points as f64 * steps as f64,
            }
        });
        Forecast {
            model: plan.recipe.model.preset.clone(),
            parameters: Network::new(plan.model).1.elements(),
            image: [grid.channels, grid.height, grid.width],
            stages: stages.collect(),
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
        write!(f, "\nin all {steps} steps, {flops:.3e} operations")
    }
}
