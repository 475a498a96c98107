use super::stages::{TrainedOn, enter};
use super::{LESS, MOST_SKIPPED, begin};
use crate::base::{Error, Result};
use crate::data::{Loader, Store};
use crate::device::Device;
use crate::train::checkpoint::State;
use crate::train::metrics::{Line, Metrics};
use crate::train::recipe::{Stage, wrong};
use crate::train::{Plan, Report, Run, Step, Target};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// A run whose steps a program asks for, one at a time: on the batches of its data set, or on batches of the program's own.
///
/// Its folder is that of any run: on a data set, [`Trainer`](super::Trainer) goes on with it bit for bit.
pub struct Stepped {
    run: Run,
    step: Step,
    state: State,
    /// The stage of the last step that was done, or the first.
    stage: Stage,
    /// `None` where the program feeds it.
    data: Option<(TrainedOn, Loader)>,
    metrics: Metrics,
}

/// A step that was done.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// Steps of the run so far.
    pub step: u64,
    pub report: Report,
    pub lr: f32,
}

impl Stepped {
    /// The run where its checkpoint left it, or at its beginning; without a store a program feeds it.
    ///
    /// # Errors
    /// `Usage` for a recipe whose targets come from an empirical score.
    pub fn new(run: Run, store: Option<Arc<Store>>, device: &Device) -> Result<Stepped> {
        let recipe = &run.plan.recipe;
        if recipe.objective.target != Target::Data {
            let what = "a run that a program steps learns from its data; give data, or train it by engine train";
            return Err(Error::Usage(format!("objective.target: {what}")));
        }
        let (state, stage, step) = begin(&run, device)?;
        let read = |store| -> Result<(TrainedOn, Loader)> {
            let data = TrainedOn::of(&run, store);
            let (loader, _) = data.of_stage(recipe, &stage, &step.settings, state.step)?;
            Ok((data, loader))
        };
        let data = store.map(read).transpose()?;
        let metrics = Metrics::open(&run.folder.join("metrics.jsonl"), state.step)?;
        Ok(Stepped { run, step, state, stage, data, metrics })
    }

    pub fn plan(&self) -> &Plan {
        &self.run.plan
    }

    /// Steps done.
    pub fn done(&self) -> u64 {
        self.state.step
    }

    /// Values of all parameters of the model.
    pub fn parameters(&self) -> usize {
        self.step.params.list.elements()
    }

    /// Images of the next step.
    pub fn batch(&self) -> usize {
        if self.state.step < self.stage.end {
            return self.step.settings.batch;
        }
        self.run.plan.recipe.stage_after(self.state.step).recipe.train.batch_size
    }

    /// Does the next step, on the batch that is `given`, images (B, C, H, W) and labels (B), or else on that of the data set.
    ///
    /// # Errors
    /// `Usage` after the last step of the recipe, and for a batch where the run has its own, or none where it has not;
    /// `Diverged` at the tenth step in a row that is not finite. One that is not is skipped, and touches nothing.
    ///
    /// # Panics
    /// If what is given is not as long as [`batch`](Stepped::batch) images.
    pub fn step(&mut self, given: Option<(&[f32], &[u32])>) -> Result<Done> {
        let steps = self.run.plan.recipe.train.steps;
        if self.state.step >= steps {
            return Err(wrong("train.steps", steps, "so many are done; give more to go on"));
        }
        match (&self.data, given) {
            (Some(_), Some(_)) => return Err(refused("reads its batches from a data set; give none")),
            (None, None) => return Err(refused("is fed by its program; give a batch")),
            _ => {}
        }
        if self.state.step == self.stage.end {
            enter(&self.run.plan, &mut self.state, &mut self.stage, &mut self.step)?;
            if let Some((data, loader)) = &mut self.data {
                let (recipe, settings) = (&self.run.plan.recipe, &self.step.settings);
                *loader = data.of_stage(recipe, &self.stage, settings, self.state.step)?.0;
            }
        }
        let (start, lr) = (Instant::now(), self.stage.learning_rate(self.state.step));
        let report = match (&mut self.data, given) {
            (_, Some((images, labels))) => self.step.run(self.state.step, lr, images, labels)?,
            (data, None) => {
                let (_, loader) = data.as_mut().expect("a run that is not fed has data");
                let batch = loader.next_batch()?;
                self.step.run(self.state.step, lr, &batch.values, &batch.labels)?
            }
        };
        self.state.step += 1;
        let (step, Report { loss, norm, applied }) = (self.state.step, report);
        self.state.applied += u64::from(applied);
        self.state.skipped_in_a_row = if applied { 0 } else { self.state.skipped_in_a_row + 1 };
        self.metrics.add(Line::Step { step, loss, norm, lr, applied, seconds: start.elapsed().as_secs_f64() });
        if self.state.skipped_in_a_row == MOST_SKIPPED {
            let what = format_args!("{MOST_SKIPPED} steps in a row are not finite and were skipped; {LESS}");
            return Err(Error::Diverged(format!("step {step}: loss {loss}, norm of the gradient {norm}: {what}")));
        }
        Ok(Done { step, report, lr })
    }

    /// Saves where the run stands, and returns the checkpoint. `warn` is told of old ones that cannot be removed.
    pub fn save(&mut self, warn: impl FnOnce(String)) -> Result<PathBuf> {
        self.metrics.sync()?;
        let path = self.run.checkpoints.save(&self.state, &self.step)?;
        let pruned = self.run.checkpoints.prune(self.state.step, self.run.plan.recipe.checkpoint.keep, |_| true);
        pruned.unwrap_or_else(|error| warn(format!("{error}: old checkpoints stay")));
        Ok(path)
    }
}

fn refused(what: &str) -> Error {
    Error::Usage(format!("the run: {what}"))
}
