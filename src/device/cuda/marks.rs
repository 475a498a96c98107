use cudarc::driver::result::{DriverError, event};
use cudarc::driver::sys;

type Result<T> = std::result::Result<T, DriverError>;

/// Events that tell the card's time.
#[derive(Default)]
pub(super) struct Marks {
    events: Vec<sys::CUevent>,
    /// Those that mark nothing.
    idle: Vec<usize>,
}

impl Marks {
    /// Marks this place of the stream; says by which event.
    ///
    /// # Safety
    /// The context is current, and the stream is its own.
    pub unsafe fn set(&mut self, stream: sys::CUstream) -> Result<usize> {
        let number = match self.idle.pop() {
            Some(number) => number,
            None => {
                self.events.push(event::create(sys::CUevent_flags::CU_EVENT_DEFAULT)?);
                self.events.len() - 1
            }
        };
        // SAFETY: the event is valid until `free`, and the stream by the caller's contract.
        unsafe { event::record(self.events[number], stream) }.map(|()| number)
    }

    /// The seconds between two marks that were set, which are idle from here on.
    ///
    /// # Safety
    /// The context is current.
    pub unsafe fn seconds_between(&mut self, marks: [usize; 2]) -> Result<f64> {
        self.idle.extend(marks);
        let [from, to] = marks.map(|number| self.events[number]);
        // SAFETY: both events are valid and were recorded, in this order.
        unsafe {
            event::synchronize(to)?;
            event::elapsed(from, to).map(|milliseconds| f64::from(milliseconds) / 1e3)
        }
    }

    /// Gives everything back.
    ///
    /// # Safety
    /// The context is current.
    pub unsafe fn free(&mut self) {
        for event in self.events.drain(..) {
            // SAFETY: nobody asks for it any more. What fails here has no one left to be told.
            let _ = unsafe { event::destroy(event) };
        }
    }
}
