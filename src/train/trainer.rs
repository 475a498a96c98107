use super::checkpoint::{State, restore};
use super::metrics::{Line, Metrics};
use super::progress::{Event, Progress};
use super::{HeldOut, Run, Step, Stop};
use crate::base::{Error, Result};
use crate::data::{Loader, Order, Split, Store, npy, png};
use crate::device::Device;
use crate::diffusion::sample;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Steps in a row that are not finite before a run gives up.
const MOST_SKIPPED: u32 = 10;
/// Checkpoints in a row that cannot be written before a run gives up.
const MOST_FAILED_SAVES: u32 = 3;

/// A run while it trains.
pub struct Trainer {
    run: Run,
    store: Arc<Store>,
    split: Split,
    step: Step,
    state: State,
    metrics: Metrics,
    held_out: Option<HeldOut>,
    failed_saves: u32,
}

/// What a call of [`Trainer::train`] came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Steps of this call; 0 if the run was finished before.
    pub steps: u64,
    /// The last held-out loss.
    pub held_out: Option<f64>,
    /// The last picture.
    pub sample: Option<PathBuf>,
}

impl Trainer {
    /// The run where its checkpoint left it, or at its beginning.
    pub fn new(run: Run, store: Arc<Store>, device: &Device) -> Result<Trainer> {
        let state = run.state();
        let settings = run.plan.settings();
        let split = Split::of(store.rows());
        let held_out = HeldOut::new(device, store.clone(), &split.held_out, &settings);
        let mut step = Step::new(device, settings)?;
        if let Some((folder, state)) = &run.found {
            restore(folder, state, &mut step)?;
        }
        let metrics = Metrics::open(&run.folder.join("metrics.jsonl"), state.step)?;
        Ok(Trainer { run, store, split, step, state, metrics, held_out, failed_saves: 0 })
    }

    /// Trains to the last step of the recipe, or until `stop`.
    pub fn train(mut self, progress: &mut Progress, stop: &Stop) -> Result<Outcome> {
        let (steps, first) = (self.run.plan.recipe.train.steps, self.state.step);
        let order = Order::new(std::mem::take(&mut self.split.train), self.run.plan.recipe.train.seed);
        let mut loader = Loader::start(self.store.clone(), order, self.step.settings.batch, first);
        let mut outcome = Outcome { steps: 0, held_out: None, sample: None };
        self.begin(progress);
        loop {
            // Here and not after a save, so that a run which died between the two draws it now.
            if let Some(path) = self.sample()? {
                progress.event(&Event::Sample { step: self.state.step, path: &path });
                outcome.sample = Some(path);
            }
            if self.state.step >= steps {
                break;
            }
            self.one_step(&mut loader, progress)?;
            let done = self.state.step;
            let due = done == steps || done.is_multiple_of(self.run.plan.recipe.checkpoint.every);
            if due && let Some(held_out) = &mut self.held_out {
                let loss = held_out.loss(self.step.device(), &self.step.sit, self.step.sampled())?;
                self.metrics.write(Line::HeldOut { step: done, held_out_loss: loss })?;
                progress.event(&Event::HeldOut { step: done, loss });
                outcome.held_out = Some(loss);
            }
            let stopping = stop.requested() && done < steps;
            if due || stopping {
                self.save(due && done < steps, progress)?;
            }
            if stopping {
                let folder = self.run.folder.display();
                let what = format_args!("stopped after step {done} of {steps}, which is saved");
                return Err(Error::Stopped(format!("{folder}: {what}; the same command goes on from there")));
            }
        }
        outcome.steps = self.state.step - first;
        progress.end();
        Ok(outcome)
    }

    fn begin(&self, progress: &mut Progress) {
        let plan = &self.run.plan;
        progress.begin(
            &Event::Begin {
                run: &self.run.folder,
                model: &plan.recipe.model.preset,
                parameters: self.step.params.list.elements(),
                data: &self.store.info().provenance,
                rows: self.store.rows() as usize,
                device: &super::run::describe(self.step.device()),
                step: self.state.step,
                steps: plan.recipe.train.steps,
            },
            self.step.device(),
            &self.step.settings,
        );
    }

    fn one_step(&mut self, loader: &mut Loader, progress: &mut Progress) -> Result<()> {
        let start = Instant::now();
        let batch = loader.next_batch()?;
        let lr = self.run.plan.learning_rate(self.state.step);
        let report = self.step.run(self.state.step, lr, &batch.values, &batch.labels);
        let seconds = start.elapsed().as_secs_f64();
        self.state.step += 1;
        self.state.applied = self.step.moments.applied;
        self.state.skipped_in_a_row = if report.applied { 0 } else { self.state.skipped_in_a_row + 1 };
        let (step, super::Report { loss, norm, applied }) = (self.state.step, report);
        self.metrics.write(Line::Step { step, loss, norm, lr, applied, seconds })?;
        if progress.step(step, &report, lr, seconds) {
            self.metrics.flush()?;
        }
        if !applied {
            let skipped = self.state.skipped_in_a_row;
            let what = format!("step {step}: loss {loss}, norm of the gradient {norm}");
            if skipped >= MOST_SKIPPED {
                self.metrics.flush()?;
                return Err(Error::Diverged(format!(
                    "{what}: {skipped} steps in a row are not finite, the weights are as {skipped} steps before; lower optimizer.lr, or \
                     set optimizer.clip=1, and give another --out"
                )));
            }
            progress.warn(&format!("{what}: the step is skipped, {skipped} in a row"));
        }
        Ok(())
    }

    /// Draws the picture of this step where one is due and missing.
    fn sample(&self) -> Result<Option<PathBuf>> {
        let (recipe, step) = (&self.run.plan.recipe, self.state.step);
        let every = recipe.sample.every;
        let due = every > 0 && step > 0 && (step.is_multiple_of(every) || step >= recipe.train.steps);
        let path = self.run.sample_path(step);
        if !due || path.exists() {
            return Ok(None);
        }
        let folder = self.run.folder.join("samples");
        fs::create_dir_all(&folder).map_err(|error| Error::file(&folder, error))?;
        let request = self.run.plan.samples();
        let (images, _) = sample(self.step.device(), &self.step.sit, self.step.sampled(), &request, |_| {});
        let grid = self.run.plan.model.grid;
        let shape = [request.labels.len(), grid.channels, grid.height, grid.width];
        match path.extension().is_some_and(|extension| extension == "png") {
            true => png::write_grid(&path, &images, shape)?,
            false => npy::write(&path, &shape, &images)?,
        }
        Ok(Some(path))
    }

    /// Saves where the run stands. A failure is final at the third in a row, or when there is no later try.
    fn save(&mut self, later: bool, progress: &mut Progress) -> Result<()> {
        loop {
            let saved = self.metrics.sync().and_then(|()| self.run.checkpoints.save(&self.state, &self.step));
            match saved {
                Ok(path) => {
                    self.failed_saves = 0;
                    let keep = self.run.plan.recipe.checkpoint.keep;
                    progress.event(&Event::Saved { step: self.state.step, path: &path });
                    return self.run.checkpoints.prune(self.state.step, keep);
                }
                Err(error) => {
                    self.failed_saves += 1;
                    if self.failed_saves == MOST_FAILED_SAVES {
                        let what = "it is the third failure in a row; make room, then run the same command again";
                        return Err(Error::Checkpoint(format!("{error}: the run cannot be saved, {what}")));
                    }
                    progress.warn(&format!("{error}: the run is not saved; it goes on"));
                    if later {
                        return Ok(());
                    }
                }
            }
        }
    }
}
