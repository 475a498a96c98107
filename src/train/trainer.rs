mod pictures;
mod save;
mod stages;
mod stepped;

use super::checkpoint::{State, restore};
use super::metrics::{Line, Metrics};
use super::progress::{Event, Outcome, Progress};
use super::recipe::Stage;
use super::run::Run;
use super::{Forecast, HeldOut, Ideal, Report, Step, Stop, Target};
use crate::base::{Bytes, Error, Result};
use crate::data::{Loader, Split, Store, per_class};
use crate::device::Device;
use crate::ops::peak_flops;
use stages::TrainedOn;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
pub use stepped::{Done, Stepped};

/// Steps in a row that are not finite before a run gives up.
const MOST_SKIPPED: u32 = 10;

/// Rounds of a millisecond in which the peak is looked for.
const PEAK_ROUNDS: usize = 40;

/// What to do about a run that left the finite numbers.
const LESS: &str = "lower optimizer.lr or set optimizer.clip=1, in another --out";

/// A run while it trains.
pub struct Trainer {
    run: Run,
    step: Step,
    state: State,
    /// The stage of the last step that was done, or the first.
    stage: Stage,
    data: TrainedOn,
    loader: Loader,
    held_out: Option<HeldOut>,
    /// D_score, where targets come from it.
    scored: Option<Store>,
    metrics: Metrics,
    failed_saves: u32,
    /// When the last save, or try of one, ended, or the run began.
    saved: Instant,
    left: Left,
    /// Steps whose reports are out, and since when the first of them has been computed.
    asked: VecDeque<Asked>,
    since: Instant,
}

/// A step that the device was asked for.
struct Asked {
    step: u64,
    lr: f32,
}

/// The last of each that the run has.
#[derive(Default)]
struct Left {
    held_out: Option<f64>,
    checkpoint: Option<PathBuf>,
    samples: Option<PathBuf>,
}

/// Where `run` stands, the stage of its last step, and its step with the weights of its checkpoint, or of its beginning.
fn begin(run: &Run, device: &Device) -> Result<(State, Stage, Step)> {
    let state = run.state();
    let stage = run.plan.recipe.stage_of(state.step);
    let mut step = Step::new(device, run.plan.of_stage(&stage).settings())?;
    match (&run.found, &run.origin) {
        (Some((folder, state)), _) => restore(folder, state, &mut step)?,
        (None, Some(origin)) => origin.load(&mut step)?,
        (None, None) => {}
    }
    Ok((state, stage, step))
}

impl Trainer {
    /// The run where its checkpoint left it, or at its beginning.
    pub fn new(run: Run, store: Arc<Store>, device: &Device) -> Result<Trainer> {
        let (state, stage, step) = begin(&run, device)?;
        let objective = &run.plan.recipe.objective;
        let scored = match objective.target {
            Target::Data => None,
            _ => {
                let rows = Split::of(store.rows()).train;
                Some(store.part(&per_class(&store, &rows, objective.score, objective.seed))?)
            }
        };
        let data = TrainedOn::of(&run, store);
        let (loader, held_out) = data.of_stage(&run.plan.recipe, &stage, &step.settings, state.step)?;
        let metrics = Metrics::open(&run.folder.join("metrics.jsonl"), state.step)?;
        let left = Left { checkpoint: run.found.as_ref().map(|found| found.0.clone()), ..Left::default() };
        Ok(Trainer {
            run,
            step,
            state,
            stage,
            data,
            loader,
            held_out,
            scored,
            metrics,
            failed_saves: 0,
            saved: Instant::now(),
            left,
            asked: VecDeque::new(),
            since: Instant::now(),
        })
    }

    /// Trains to the last step of the recipe, or until `stop`. Returns the steps done before, and after.
    pub fn train(mut self, progress: &mut Progress, stop: &Stop) -> Result<[u64; 2]> {
        let (start, from) = (Instant::now(), self.state.step);
        let (scored, objective, noise) =
            (self.scored.take(), &self.run.plan.recipe.objective, self.step.settings.noise);
        let ideal = |store| Ideal::new(self.step.device(), store, objective.target, objective.softmax, noise);
        let ideal = scored.as_ref().map(ideal).transpose();
        self.begin(progress);
        let ended = ideal.and_then(|ideal| self.go_on(progress, stop, ideal.as_ref()));
        progress.end(&Event::End {
            run: &self.run.folder,
            outcome: match ended {
                Ok(()) => Outcome::Done,
                Err(Error::Stopped(_)) => Outcome::Stopped,
                Err(_) => Outcome::Failed,
            },
            from,
            // On a card a step may be on its way whose report nobody waits for any more.
            step: self.state.step - self.asked.len() as u64,
            held_out: self.left.held_out,
            checkpoint: self.left.checkpoint.as_deref(),
            samples: self.left.samples.as_deref(),
            seconds: start.elapsed().as_secs_f64(),
        });
        ended.map(|()| [from, self.state.step])
    }

    fn begin(&self, progress: &mut Progress) {
        let (recipe, device, stretch) = (&self.run.plan.recipe, self.step.device(), self.stretch());
        let memory = Forecast::of(&self.run.plan, device.activations()).memory.bytes();
        let peak = peak_flops(device, PEAK_ROUNDS);
        progress.begin(
            &Event::Begin {
                run: &self.run.folder,
                model: &recipe.model.preset,
                parameters: self.step.params.list.elements(),
                data: &self.data.store.info().provenance,
                trained_on: self.data.rows.len(),
                held_out: self.data.held_out.len(),
                device: &device.describe(),
                step: self.state.step,
                steps: recipe.train.steps,
                memory_bytes: memory,
                least_seconds: stretch.flops(self.state.step, recipe.train.steps) / peak,
            },
            peak,
            stretch,
        );
        let there = device.arena().capacity() as u64;
        if memory > there && self.state.step < recipe.train.steps {
            let what = format_args!("the run needs about {} of memory, and {} are free", Bytes(memory), Bytes(there));
            progress.warn(&format!("{what}; lower train.batch_size, or set train.recompute=true"));
        }
        if recipe.stages().len() > 1 && self.state.step < recipe.train.steps {
            progress.event(&self.stage_event());
        }
        if let Some((_, State { step, config: before, .. })) = &self.run.found
            && let stages = [before, recipe].map(|recipe| recipe.stage_after(*step))
            && let [before, now] = &stages
            && let rates = [before, now].map(|stage| stage.learning_rate(*step))
            && rates[0] != rates[1]
            && *step < recipe.train.steps
        {
            progress.event(&Event::Decay { step: *step, ends: [before, now].map(Stage::decay_end), rates });
        }
    }

    fn go_on(&mut self, progress: &mut Progress, stop: &Stop, ideal: Option<&Ideal<'_>>) -> Result<()> {
        let steps = self.run.plan.recipe.train.steps;
        // Left out when a signal ended the run at this step.
        self.hold_out(progress, stop)?;
        if stop.requested() && self.lacks_held_out() {
            return Err(self.stopped());
        }
        self.metrics.flush()?;
        loop {
            // Here and not after a save, so that a run which died between the two draws it now.
            self.draw(progress, stop);
            if self.state.step >= steps {
                return match self.state.skipped_in_a_row {
                    0 => Ok(()),
                    _ => Err(self.diverged("the last step is not finite and was skipped")),
                };
            }
            if self.state.step == self.stage.end {
                self.enter_next_stage(progress)?;
            }
            self.one_step(progress, ideal)?;
            let done = self.state.step;
            if self.due() || self.draws() {
                self.take_in(0, progress)?;
            }
            self.hold_out(progress, stop)?;
            let stopping = stop.requested() && done < steps;
            if self.due() || stopping || self.is_late() {
                self.take_in(0, progress)?;
                self.save(done < steps && !stopping, progress)?;
            }
            if stopping {
                return Err(self.stopped());
            }
        }
    }

    /// Whether a checkpoint and a held-out loss belong to this step: every so many, and at the end of a stage.
    fn due(&self) -> bool {
        let (recipe, step) = (&self.run.plan.recipe, self.state.step);
        step > 0 && (self.stage.end == step || recipe.is_saved_at(step))
    }

    fn lacks_held_out(&self) -> bool {
        self.due() && self.held_out.is_some() && self.metrics.held_out() != self.state.step
    }

    /// Computes the held-out loss of this step where one is due and missing. A run that is asked to stop leaves it out,
    /// except that of its last step; resumed, it computes it with the same weights.
    fn hold_out(&mut self, progress: &mut Progress, stop: &Stop) -> Result<()> {
        let (step, steps) = (self.state.step, self.run.plan.recipe.train.steps);
        let stopped = || step < steps && stop.requested();
        if self.lacks_held_out()
            && let Some(held_out) = &self.held_out
            && let (device, network, weights) = self.step.sampled()
            && let Some(loss) = held_out.loss(device, network, weights, &stopped)?
        {
            self.metrics.add(Line::HeldOut { step, held_out_loss: loss });
            progress.event(&Event::HeldOut { step, loss });
            self.left.held_out = Some(loss);
            if step == steps && !loss.is_finite() {
                self.metrics.flush()?;
                return Err(self.diverged(&format!("the held-out loss is {loss}")));
            }
        }
        Ok(())
    }

    fn stopped(&self) -> Error {
        let (folder, step, steps) = (self.run.folder.display(), self.state.step, self.run.plan.recipe.train.steps);
        let what = format_args!("stopped after step {step} of {steps}, which is saved");
        Error::Stopped(format!("{folder}: {what}; the same command goes on from there"))
    }

    fn diverged(&self, what: &str) -> Error {
        let (folder, step) = (self.run.folder.display(), self.state.step);
        Error::Diverged(format!("{folder}: step {step}: {what}; {LESS}"))
    }

    /// Asks for a step. A card computes it while the host prepares the one after it, so one report stays out.
    fn one_step(&mut self, progress: &mut Progress, ideal: Option<&Ideal<'_>>) -> Result<()> {
        if self.asked.is_empty() {
            self.since = Instant::now();
        }
        let batch = self.loader.next_batch()?;
        let lr = self.stage.learning_rate(self.state.step);
        self.step.ask_towards(ideal, self.state.step, lr, &batch.values, &batch.labels)?;
        self.state.step += 1;
        self.asked.push_back(Asked { step: self.state.step, lr });
        self.take_in(usize::from(self.step.device().runs_later()), progress)
    }

    /// Waits for reports until `out` are left.
    fn take_in(&mut self, out: usize, progress: &mut Progress) -> Result<()> {
        while self.asked.len() > out {
            let asked = self.asked.pop_front().expect("it is not empty");
            let report = self.step.report().expect("every step that was asked for reports");
            let seconds = std::mem::replace(&mut self.since, Instant::now()).elapsed().as_secs_f64();
            self.report(asked, report, seconds, progress)?;
        }
        Ok(())
    }

    fn report(&mut self, asked: Asked, report: Report, seconds: f64, progress: &mut Progress) -> Result<()> {
        let (Asked { step, lr }, Report { loss, norm, applied }) = (asked, report);
        self.state.applied += u64::from(applied);
        self.state.skipped_in_a_row = if applied { 0 } else { self.state.skipped_in_a_row + 1 };
        let skipped = self.state.skipped_in_a_row;
        self.metrics.add(Line::Step { step, loss, norm, lr, applied, seconds });
        let said = progress.step(step, &report, lr, seconds);
        if (said || skipped == MOST_SKIPPED)
            && let Err(error) = self.metrics.flush()
        {
            progress.warn(&error.to_string());
        }
        if applied {
            return Ok(());
        }
        let what = format!("step {step}: loss {loss}, norm of the gradient {norm}");
        if skipped == MOST_SKIPPED {
            let what = format_args!("{what}: {skipped} steps in a row are not finite and were skipped; {LESS}");
            return Err(Error::Diverged(what.to_string()));
        }
        progress.warn(&format!("{what}: the step is skipped, {skipped} in a row"));
        Ok(())
    }
}
