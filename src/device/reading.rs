use super::cuda::{Download, Driver};
use super::memory::or_throw;
use std::sync::Arc;

/// Elements on their way to the host, as they are when they are asked for: a card goes on meanwhile.
pub struct Reading(pub(super) Way);

pub(super) enum Way {
    /// They have arrived.
    Host(Vec<u8>),
    Cuda(Arc<dyn Driver>, Download),
}

impl Reading {
    /// Waits for them; `out` has as many as were asked for.
    pub fn finish<T: bytemuck::Pod>(self, out: &mut [T]) {
        let out = bytemuck::cast_slice_mut(out);
        match self.0 {
            Way::Host(bytes) => out.copy_from_slice(&bytes),
            Way::Cuda(driver, download) => or_throw(driver.end_download(download, out)),
        }
    }
}
