use crate::base::{Error, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Whether a run has been asked to end: it finishes its step and saves.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asked by the first SIGTERM or SIGINT; the second ends the process at once, with 128 + its number.
    pub fn on_signals() -> Result<Stop> {
        let stop = Stop::default();
        for signal in [SIGTERM, SIGINT] {
            // In this order: the first signal must find the flag down.
            flag::register_conditional_shutdown(signal, 128 + signal, stop.0.clone())
                .and_then(|_| flag::register(signal, stop.0.clone()))
                .map_err(|error| Error::Device(format!("signal {signal}: it cannot be handled: {error}")))?;
        }
        Ok(stop)
    }

    /// Says once that it was asked, however long the step takes.
    pub fn acknowledge(&self, say: impl FnOnce() + Send + 'static) {
        let stop = self.clone();
        thread::spawn(move || {
            while !stop.requested() {
                thread::sleep(Duration::from_millis(50));
            }
            say();
        });
    }

    /// Asks as a signal does.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{RecvTimeoutError, channel};

    #[test]
    fn a_request_is_acknowledged_when_it_comes_and_not_before() {
        let (stop, (said, heard)) = (Stop::default(), channel());
        stop.acknowledge(move || said.send(()).unwrap());
        assert_eq!(heard.recv_timeout(Duration::from_millis(200)), Err(RecvTimeoutError::Timeout));
        stop.request();
        heard.recv_timeout(Duration::from_secs(60)).unwrap();
    }
}
