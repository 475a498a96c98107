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
    /// Whether so much time has gone into steps since the last checkpoint that losing them would hurt.
    pub(super) fn is_late(&self) -> bool {
        let minutes = self.run.plan.recipe.checkpoint.minutes;
        minutes > 0.0 && self.saved.elapsed().as_secs_f64() >= 60.0 * minutes
    }

    /// Saves where the run stands. Where that fails, a `later` checkpoint is the next try, or it is tried again at once. The third
    /// failure in a row is final; before the third try all checkpoints but the newest go, for a full disk often lacks room for one.
    pub(super) fn save(&mut self, later: bool, progress: &mut Progress) -> Result<()> {
        loop {
            self.saved = Instant::now();
            let saved = self.metrics.sync().and_then(|()| self.run.checkpoints.save(&self.state, &self.step));
            let error = match saved {
                Ok(path) => {
                    self.failed_saves = 0;
                    progress.event(&Event::Saved { step: self.state.step, path: &path });
                    self.left.checkpoint = Some(path);
                    if let Err(error) = draw_losses(&self.run.folder, &self.run.plan.recipe) {
                        progress.warn(&format!("{error}: the picture of the losses is not drawn"));
                    }
                    self.prune(self.run.plan.recipe.checkpoint.keep, progress);
                    return Ok(());
                }
                Err(error) => error,
            };
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
                self.prune(1, progress);
            }
            if later {
                return Ok(());
            }
        }
    }

    /// Leaves the newest checkpoint and those before it, `keep` in all.
    fn prune(&self, keep: usize, progress: &mut Progress) {
        let newest = self.left.checkpoint.as_ref().and_then(|path| step_of(path.file_name()?.to_str()?));
        if let Some(newest) = newest
            && let Err(error) = self.run.checkpoints.prune(newest, keep)
        {
            progress.warn(&format!("{error}: old checkpoints stay"));
        }
    }
}
