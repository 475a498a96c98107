use super::{Device, Recording};
use crate::base::Result;

/// Work that a device is asked for again and again on the same memory: the first time call by call, from then on, where the
/// device records, as a whole.
#[derive(Default)]
pub struct Replay {
    recording: Option<Recording>,
    /// Whether the work has been done.
    warm: bool,
}

impl Replay {
    /// Does `work`, which exchanges nothing with the host and gives back the memory that it takes.
    pub fn run(&mut self, device: &Device, mut work: impl FnMut()) -> Result<()> {
        if device.profiles() {
            work();
            return Ok(());
        }
        if let Some(recording) = &self.recording
            && recording.replay()?
        {
            return Ok(());
        }
        if std::mem::replace(&mut self.warm, true) {
            self.recording = None;
            self.recording = Recording::of(device, &mut work)?;
        }
        match &self.recording {
            Some(recording) => assert!(recording.replay()?, "recorded work gives back the memory that it takes"),
            None => work(),
        }
        Ok(())
    }
}
