use super::Device;
use super::Plan;
use super::cuda::{Cuda, Graph};
use crate::base::Result;
use std::sync::Arc;

/// What a card was asked for, to be asked for again as a whole: one call for all launches of a step.
pub struct Recording {
    card: Arc<Cuda>,
    graph: Graph,
    /// The memory that it uses as its own.
    plan: Plan,
}

impl Recording {
    /// Records what `work` asks of a device, without doing it. `None`, and nothing is done, on a device that does not record.
    ///
    /// `work` has run before, so that every kernel is loaded; it exchanges nothing with the host, and what it takes of the
    /// arena it gives back.
    pub fn of(device: &Device, work: impl FnOnce()) -> Result<Option<Recording>> {
        let card = match device {
            Device::Cpu(_) => return Ok(None),
            Device::Cuda(card) => card.clone(),
        };
        card.arena.note();
        card.driver.begin_capture()?;
        work();
        let graph = card.driver.end_capture();
        let plan = card.arena.noted();
        Ok(Some(Recording { graph: graph?, plan, card }))
    }

    /// Does what was recorded; false, and nothing is done, if somebody holds memory that it uses.
    pub fn replay(&self) -> Result<bool> {
        let free = self.card.arena.has_free(&self.plan);
        if free {
            self.card.driver.replay(self.graph)?;
        }
        Ok(free)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.card.driver.discard(self.graph);
    }
}
