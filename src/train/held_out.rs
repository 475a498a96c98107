use super::step::{Settings, objective};
use crate::base::{Mask, Result, Times};
use crate::data::Store;
use crate::device::Device;
use crate::nn::Network;
use crate::ops::mask::mask;
use crate::ops::noise::{Batch, Noise, Noised, noise};
use crate::tape::Tape;
use crate::tensor::Slab;
use std::sync::Arc;

/// Rows that are enough for two digits of a mean.
const MOST_ROWS: usize = 1024;

/// Steps end below this one, so its draws are no training step's.
const STEP: u32 = u32::MAX;

/// The loss on rows that are never trained on, of whole images and with the same draws every time: what changes is the model
/// alone, and runs with different masks can be compared.
pub struct HeldOut {
    store: Arc<Store>,
    rows: Vec<u32>,
    noise: Noise,
    batch: usize,
}

impl HeldOut {
    /// Takes rows that are spread evenly over `held_out`; `None` where there are none. They are computed in the batches of
    /// training, so that they fit, and the last batch has what is left: rows and draws do not depend on the batch.
    pub fn new(store: Arc<Store>, held_out: &[u32], settings: &Settings) -> Option<HeldOut> {
        let count = held_out.len().min(MOST_ROWS);
        let rows: Vec<u32> = (0..count).map(|i| held_out[i * held_out.len() / count]).collect();
        let times = Times { strata: 1, ..settings.noise.times };
        let noise = Noise { times, label_dropout: 0.0, seed: 0, ..settings.noise };
        (count > 0).then_some(HeldOut { store, rows, noise, batch: settings.batch })
    }

    /// The mean loss of `network` with `weights`, under the true labels; `None` once `stopped` says so.
    pub fn loss(
        &self,
        device: &Device,
        network: &Network,
        weights: &Slab,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Option<f64>> {
        let grid = network.config.grid;
        let mut sum = 0.0;
        for (i, rows) in self.rows.chunks(self.batch).enumerate() {
            if stopped() {
                return Ok(None);
            }
            let mut images = vec![0.0; rows.len() * self.store.width()];
            self.store.read(rows, &mut images)?;
            let labels: Vec<u32> = rows.iter().map(|&row| self.store.label(row)).collect();
            let mut batch = Batch::new(device, rows.len(), grid);
            batch.fill(&self.noise, &images, &labels, STEP, (i * self.batch) as u32);
            let mut noised = Noised::new(device, rows.len(), grid);
            noise(device, self.noise, &batch, &mut noised);
            let masked = mask(device, 0, &Mask::none(), None, &batch, grid);
            let mean = objective(&mut Tape::inference(device, weights), network, &noised, &masked).to_vec::<f32>()[0];
            sum += f64::from(mean) * rows.len() as f64;
        }
        Ok(Some(sum / self.rows.len() as f64))
    }
}
