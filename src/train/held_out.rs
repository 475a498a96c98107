use super::step::{Settings, fill, objective};
use crate::base::Result;
use crate::data::Store;
use crate::device::Device;
use crate::nn::sit::Sit;
use crate::ops::noise::{Batch, Draw, Noise, Noised, noise};
use crate::tape::Tape;
use crate::tensor::Slab;
use std::sync::Arc;

/// Rows that are enough for two digits of a mean.
const MOST_ROWS: usize = 1024;

/// Steps end below this one, so its draws are no training step's.
const STEP: u32 = u32::MAX;

/// The loss on rows that are never trained on, with the same draws every time: what changes is the model alone.
pub struct HeldOut {
    store: Arc<Store>,
    rows: Vec<u32>,
    noise: Noise,
    batch: Batch,
    noised: Noised,
    images: Vec<f32>,
    labels: Vec<u32>,
}

impl HeldOut {
    /// Takes whole batches of rows, spread evenly over `held_out`; `None` where there are no rows.
    pub fn new(device: &Device, store: Arc<Store>, held_out: &[u32], settings: &Settings) -> Option<HeldOut> {
        let most = held_out.len().min(MOST_ROWS);
        let size = settings.batch.min(most);
        let count = most - most.checked_rem(size)?;
        let grid = settings.model.grid;
        Some(HeldOut {
            rows: (0..count).map(|i| held_out[i * held_out.len() / count]).collect(),
            noise: Noise { label_dropout: 0.0, ..settings.noise },
            batch: Batch::new(device, size, grid),
            noised: Noised::new(device, size, grid, settings.tokens),
            images: vec![0.0; size * store.width()],
            labels: vec![0; size],
            store,
        })
    }

    /// The mean loss of `sit` with `weights`, under the true labels; `None` once `stopped` says so.
    pub fn loss(
        &mut self,
        device: &Device,
        sit: &Sit,
        weights: &Slab,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Option<f64>> {
        let size = self.labels.len();
        let mut sum = 0.0;
        for (i, rows) in self.rows.chunks_exact(size).enumerate() {
            if stopped() {
                return Ok(None);
            }
            self.store.read(rows, &mut self.images)?;
            self.labels.iter_mut().zip(rows).for_each(|(label, &row)| *label = self.store.label(row));
            fill(&mut self.batch, &self.images, &self.labels);
            let draw = Draw { seed: 0, step: STEP, first: (i * size) as u32 };
            noise(device, self.noise, draw, &self.batch, sit.config.grid, &mut self.noised);
            sum += f64::from(objective(&mut Tape::inference(device, weights), sit, &self.noised).to_vec::<f32>()[0]);
        }
        Ok(Some(sum / (self.rows.len() / size) as f64))
    }
}
