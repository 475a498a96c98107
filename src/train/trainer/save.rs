//! When a run is saved, and what it does where that fails.

use super::Trainer;
use crate::base::{Error, Result};
use crate::train::checkpoint::step_of;
use crate::train::losses::draw_losses;
use crate::train::progress::{Event, Progress};
use std::time::Instant;

/// Checkpoints in a row that cannot be written before a run gives up.
const MOST_FAILED_SAVES: u32 = 3;

impl Trainer {
    /// Whether losing what was done since the last save would hurt. What counts is the time since that save, or try, ended:
    /// of steps, held-out losses and samples, and not of the save itself, so that one on a slow disk does not bring on the next.
    pub(super) fn is_late(&self) -> bool {
        let minutes = self.run.plan.recipe.checkpoint.minutes;
        minutes > 0.0 && self.saved.elapsed().as_secs_f64() >= 60.0 * minutes
    }

    /// Saves where the run stands. Where that fails, a `later` checkpoint is the next try, or it is tried again at once. A failure
    /// between the steps that are due is only told. Of the others the third in a row is final; before the third try all
    /// checkpoints but the newest go, for a full disk often lacks room for one.
    pub(super) fn save(&mut self, later: bool, progress: &mut Progress) -> Result<()> {
        loop {
            let saved = self.metrics.sync().and_then(|()| self.run.checkpoints.save(&self.state, &self.step));
            self.saved = Instant::now();
            let error = match saved {
                Ok(path) => {
                    self.failed_saves = 0;
                    progress.event(&Event::Saved { step: self.state.step, path: &path });
                    self.left.checkpoint = Some(path);
                    if let Err(error) = draw_losses(&self.run.folder, &self.run.plan.recipe) {
                        progress.warn(&format!("{error}: the picture of the losses is not drawn"));
                    }
                    let recipe = &self.run.plan.recipe;
                    let ends: Vec<u64> = recipe.stages().iter().map(|stage| stage.end).collect();
                    let due = |step| ends.contains(&step) || recipe.is_saved_at(step);
                    self.prune(recipe.checkpoint.keep, due, progress);
                    return Ok(());
                }
                Err(error) => error,
            };
            if later && !self.due() {
                progress.warn(&format!("{error}: the run is not saved in between; it goes on"));
                return Ok(());
            }
            self.failed_saves += 1;
            if self.failed_saves == MOST_FAILED_SAVES {
                let newest =
                    self.left.checkpoint.as_ref().map_or("its beginning".into(), |path| path.display().to_string());
                let what = "the run cannot be saved, it is the third failure in a row; make room, then run the same command again";
                return Err(Error::Checkpoint(format!("{error}: {what}, which goes on from {newest}")));
            }
            let next = if later { "goes on" } else { "tries again" };
            progress.warn(&format!("{error}: the run is not saved; it {next}"));
            if self.failed_saves + 1 == MOST_FAILED_SAVES {
                self.prune(1, |_| true, progress);
            }
            if later {
                return Ok(());
            }
        }
    }

    /// Leaves the newest checkpoint and the last `keep` of the steps that are `due`.
    fn prune(&self, keep: usize, due: impl Fn(u64) -> bool, progress: &mut Progress) {
        let newest = self.left.checkpoint.as_ref().and_then(|path| step_of(path.file_name()?.to_str()?));
        if let Some(newest) = newest
            && let Err(error) = self.run.checkpoints.prune(newest, keep, due)
        {
            progress.warn(&format!("{error}: old checkpoints stay"));
        }
    }
}
