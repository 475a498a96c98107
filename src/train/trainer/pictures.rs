//! The pictures that a run draws of its progress.

use super::Trainer;
use crate::base::{Error, Result};
use crate::data::{npy, png};
use crate::diffusion::sample;
use crate::train::Stop;
use crate::train::ema;
use crate::train::progress::{Event, Progress};
use std::fs;
use std::path::Path;

impl Trainer {
    /// Whether a picture belongs to this step.
    pub(super) fn draws(&self) -> bool {
        let (recipe, step) = (&self.run.plan.recipe, self.state.step);
        let every = recipe.sample.every;
        every > 0 && step > 0 && (step.is_multiple_of(every) || step >= recipe.train.steps)
    }

    /// Draws the picture of this step where one is due and missing. A run does not end for want of a picture, and none
    /// keeps it from stopping.
    pub(super) fn draw(&mut self, progress: &mut Progress, stop: &Stop) {
        let step = self.state.step;
        if !self.draws() {
            return;
        }
        let path = self.run.sample_path(step);
        if !path.exists() {
            self.say_lag(progress);
            let request = self.run.plan.samples();
            let (device, network, weights) = self.step.sampled();
            let bar = progress.drawing(step, request.labels.len());
            let drawn =
                sample(device, network, weights, &request, &|| stop.requested(), &|done| bar.set_position(done as u64));
            bar.finish_and_clear();
            let grid = self.run.plan.model.grid;
            let shape = [request.labels.len(), grid.channels, grid.height, grid.width];
            match drawn.and_then(|(images, _)| write_images(&path, &images, shape)) {
                Err(Error::Stopped(_)) => return progress.event(&Event::NotDrawn { step }),
                Err(error) => {
                    let last = step >= self.run.plan.recipe.train.steps;
                    let again = if last { "; the same command draws its samples again" } else { "" };
                    return progress.warn(&format!("step {step}: {error}{again}"));
                }
                Ok(()) => progress.event(&Event::Sample { step, path: &path }),
            }
        }
        self.left.samples = Some(path);
    }

    /// Says, before the first samples of a start, what they show while their average lags.
    fn say_lag(&self, progress: &mut Progress) {
        let (train, step) = (&self.run.plan.recipe.train, self.state.step);
        if self.left.samples.is_none()
            && let Some(&decay) = train.ema.first()
            && let Some(what) = ema::lag(decay, self.state.applied)
        {
            progress.warn(&format!("step {step}: {what}; {}", ema::remedy(decay, train.steps)));
        }
    }
}

/// A picture, or an array, as the ending of `path` says.
fn write_images(path: &Path, images: &[f32], shape: [usize; 4]) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| Error::file(folder, error))?;
    }
    match path.extension().is_some_and(|extension| extension == "png") {
        true => png::write_grid(path, images, shape),
        false => npy::write(path, &shape, images),
    }
}
