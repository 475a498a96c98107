use super::given::{arguments, close, handle, open, refused, text};
use super::status::{call, engine_status};
use crate::base::Result;
use crate::device::{Choice, Device};
use crate::train::recipe::Precision;
use clap::ValueEnum;
use std::cell::Cell;
use std::ffi::{CString, c_char, c_void};
use std::num::NonZero;
use std::sync::{Arc, Mutex};

/// A device: the processor with its threads, or a CUDA card with its memory.
pub struct engine_device(pub(super) Arc<Machine>);

/// Which device to open.
#[repr(C)]
pub struct engine_device_args {
    /// sizeof(engine_device_args)
    pub size: usize,
    /// "auto", "cpu", "cuda" or "cuda:N"; null is "auto", the best one that there is.
    pub device: *const c_char,
    /// Threads of the processor, 0 for one on each core. Any number gives the same bits.
    pub threads: usize,
    /// What matrix products read: "f32", "bf16" or "auto"; null is "auto", bf16 on a card and f32 on the processor.
    pub precision: *const c_char,
    /// Hears what is worth a warning and no failure, from within any call on the device; null hears nothing.
    pub warn: Option<unsafe extern "C" fn(context: *mut c_void, text: *const c_char)>,
    /// Handed to `warn`.
    pub context: *mut c_void,
}

/// What handles on a device share.
pub(super) struct Machine {
    device: Device,
    description: CString,
    warning: Warning,
    /// One call at a time: what a card was asked for is replayed while nobody else takes memory.
    turn: Mutex<()>,
}

struct Warning {
    warn: Option<unsafe extern "C" fn(*mut c_void, *const c_char)>,
    context: *mut c_void,
}

// SAFETY: the header asks that `warn` and its context may be used from every thread that uses the device.
unsafe impl Send for Warning {}
// SAFETY: as above.
unsafe impl Sync for Warning {}

thread_local! {
    /// Whether this thread is within a call on a device.
    static WITHIN: Cell<bool> = const { Cell::new(false) };
}

/// Ends the call of this thread, however it does.
struct Within;

impl Drop for Within {
    fn drop(&mut self) {
        WITHIN.set(false);
    }
}

impl Machine {
    fn open(args: &engine_device_args) -> Result<Machine> {
        // SAFETY: the caller of `engine_device_open` promises texts.
        let [name, precision] = unsafe {
            [text("engine_device_args.device", args.device)?, text("engine_device_args.precision", args.precision)?]
        };
        let named =
            |field: &str, text: &str, what: &str| refused(format_args!("engine_device_args.{field} = {text}"), what);
        let name = name.unwrap_or("auto");
        let choice: Choice = name.parse().map_err(|what: String| named("device", name, &what))?;
        let precision = precision.unwrap_or("auto");
        let products = <Precision as ValueEnum>::from_str(precision, false)
            .map_err(|_| named("precision", precision, "give auto, f32 or bf16"))?;
        let warning = Warning { warn: args.warn, context: args.context };
        let device =
            choice.open(NonZero::new(args.threads), |on_card| products.dtype(on_card), |text| warning.say(&text))?;
        let description = CString::new(device.describe()).unwrap_or_default();
        Ok(Machine { device, description, warning, turn: Mutex::default() })
    }

    /// Runs `work` on the device when nobody else does.
    pub fn take<R>(&self, work: impl FnOnce(&Device) -> Result<R>) -> Result<R> {
        if WITHIN.replace(true) {
            return Err(refused("device", "is asked from within a callback; return from that first"));
        }
        let _within = Within;
        // A call that panicked left nothing half-done in the device itself.
        let _turn = self.turn.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        work(&self.device)
    }

    pub fn warn(&self, text: &str) {
        self.warning.say(text);
    }
}

impl Warning {
    fn say(&self, text: &str) {
        let text = CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default();
        if let Some(warn) = self.warn {
            // SAFETY: the caller gave the function for this context, and the text lives until it returns.
            unsafe { warn(self.context, text.as_ptr()) };
        }
    }
}

/// Opens a device. `*device` is the caller's, to be closed; it is null where the call fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_device_open(
    args: *const engine_device_args,
    device: *mut *mut engine_device,
) -> engine_status {
    // SAFETY: as the caller promises.
    call(|| unsafe {
        open("device", device, || Ok(engine_device(Arc::new(Machine::open(arguments("engine_device_args", args)?)?))))
    })
}

/// The device in words: "cpu, 2 threads, avx512bf16", or the name of the card. The text is the handle's, and ends with it;
/// null where the call fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_device_description(device: *const engine_device) -> *const c_char {
    let mut text = std::ptr::null();
    call(|| {
        // SAFETY: as the caller promises.
        text = unsafe { handle("device", device)? }.0.description.as_ptr();
        Ok(())
    });
    text
}

/// Closes a device; null is none. What was opened on it goes on, and its memory goes with the last of all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_device_close(device: *mut engine_device) {
    call(|| {
        // SAFETY: as the caller promises.
        unsafe { close(device) };
        Ok(())
    });
}
