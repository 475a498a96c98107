//! How a run goes from stage to stage.

use super::Trainer;
use crate::base::Result;
use crate::data::{Loader, Order, Split, Store, per_class};
use crate::train::checkpoint::State;
use crate::train::ema;
use crate::train::progress::{Event, Progress, Stretch};
use crate::train::recipe::{Recipe, Stage};
use crate::train::step::Settings;
use crate::train::{HeldOut, Plan, Run, Step};
use std::sync::Arc;

/// The rows of a run, the same in all of its stages.
pub(super) struct TrainedOn {
    pub store: Arc<Store>,
    pub rows: Vec<u32>,
    pub held_out: Vec<u32>,
}

impl TrainedOn {
    /// The rows of `store` that the recipe of `run` trains on.
    pub fn of(run: &Run, store: Arc<Store>) -> TrainedOn {
        let Split { train, held_out } = Split::of(store.rows());
        let objective = &run.plan.recipe.objective;
        let rows = per_class(&store, &train, objective.region, objective.seed);
        TrainedOn { store, rows, held_out }
    }

    /// The batches of `stage` of `recipe` from step `first` on, and the held-out loss in batches of its length.
    pub fn of_stage(
        &self,
        recipe: &Recipe,
        stage: &Stage,
        settings: &Settings,
        first: u64,
    ) -> Result<(Loader, Option<HeldOut>)> {
        let before = recipe.stages().into_iter().take(stage.number - 1);
        let images = before.map(|stage| (stage.end - stage.begin) * stage.recipe.train.batch_size as u64).sum();
        let order = Order::new(self.rows.clone(), settings.seed).from(stage.begin, images);
        let loader = Loader::start(self.store.clone(), order, settings.batch, first)?;
        Ok((loader, HeldOut::new(self.store.clone(), &self.held_out, settings)))
    }
}

/// Takes `step` over to the stage of the step after `state`: from the weights that samples are drawn from, unless their
/// average still lags, with zero moments.
pub(super) fn enter(plan: &Plan, state: &mut State, stage: &mut Stage, step: &mut Step) -> Result<()> {
    let lags = |&decay: &f64| ema::lag(decay, state.applied).is_some();
    let average = stage.recipe.train.ema.first().is_some_and(|decay| !lags(decay));
    *stage = plan.recipe.stage_after(state.step);
    step.restart(plan.of_stage(stage).settings(), average)?;
    state.applied = 0;
    Ok(())
}

impl Trainer {
    /// Goes over to the stage of the next step.
    pub(super) fn enter_next_stage(&mut self, progress: &mut Progress) -> Result<()> {
        self.take_in(0, progress)?;
        enter(&self.run.plan, &mut self.state, &mut self.stage, &mut self.step)?;
        let (recipe, settings) = (&self.run.plan.recipe, &self.step.settings);
        (self.loader, self.held_out) = self.data.of_stage(recipe, &self.stage, settings, self.state.step)?;
        progress.stage(&self.stage_event(), self.stretch());
        Ok(())
    }

    /// What there is to do, for the meter.
    pub(super) fn stretch(&self) -> Stretch {
        let plan = &self.run.plan;
        let stages = plan.recipe.stages();
        let reached = |stage: &&Stage| stage.begin < plan.recipe.train.steps;
        let later = stages.iter().skip(self.stage.number).filter(reached).map(|stage| {
            let settings = plan.of_stage(stage).settings();
            (stage.end - stage.begin) as f64 * settings.cost(settings.tokens(stage.begin)).flops as f64
        });
        Stretch {
            stage: [self.stage.number, stages.len()],
            end: self.stage.end,
            later: later.sum(),
            settings: self.step.settings.clone(),
        }
    }

    pub(super) fn stage_event(&self) -> Event<'static> {
        let Settings { batch, model, .. } = self.step.settings;
        Event::Stage {
            step: self.state.step,
            stage: [self.stage.number, self.run.plan.recipe.stages().len()],
            end: self.stage.end,
            batch,
            tokens: [self.step.settings.tokens(self.state.step), model.grid.tokens()],
            lr: self.stage.recipe.optimizer.lr,
        }
    }
}
