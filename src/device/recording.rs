use super::Device;
use super::Plan;
use super::cuda::{Cuda, Graph};
use crate::base::{Error, Result};
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
        card.driver.begin_capture()?;
        card.arena.note();
        let capture = Capture(&card);
        work();
        let (graph, plan) = capture.end();
        Ok(Some(Recording { graph: graph?, plan, card }))
    }

    /// Does what was recorded; false, and nothing is done, if somebody holds memory that it uses.
    pub fn replay(&self) -> Result<bool> {
        let free = self.card.arena.has_free(&self.plan);
        if free {
            let named = |error| Error::Device(format!("what was recorded: {error}"));
            self.card.driver.replay(self.graph).map_err(named)?;
        }
        Ok(free)
    }
}

/// A recording under way, which also ends where an operation throws.
struct Capture<'a>(&'a Cuda);

impl Capture<'_> {
    fn end(self) -> (Result<Graph>, Plan) {
        let Capture(card) = self;
        std::mem::forget(self);
        (card.driver.end_capture(), card.arena.noted())
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        self.0.arena.noted();
        if let Ok(graph) = self.0.driver.end_capture() {
            self.0.driver.discard(graph);
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.card.driver.discard(self.graph);
    }
}
