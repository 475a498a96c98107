use crate::base::{Error, Result};
use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How a call ended. The numbers are the exit codes of the `engine` binary.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum engine_status {
    /// Done.
    Ok = 0,
    /// An argument, a recipe or a folder cannot be used as given.
    Usage = 2,
    /// A data set, or a file of weights, is missing, corrupt or does not fit.
    Data = 3,
    /// No valid checkpoint was found, or none could be written.
    Checkpoint = 4,
    /// The device's memory does not hold what was asked for.
    Memory = 5,
    /// The device failed, or the required device is missing.
    Device = 6,
    /// Training left the finite numbers.
    Diverged = 7,
    /// A callback asked for the end.
    Stopped = 75,
    /// The engine has a bug; please report the text.
    Bug = 101,
}

impl From<&Error> for engine_status {
    fn from(error: &Error) -> engine_status {
        match error {
            Error::Usage(_) => engine_status::Usage,
            Error::Data(_) => engine_status::Data,
            Error::Checkpoint(_) => engine_status::Checkpoint,
            Error::Memory(_) => engine_status::Memory,
            Error::Device(_) => engine_status::Device,
            Error::Diverged(_) => engine_status::Diverged,
            Error::Stopped(_) => engine_status::Stopped,
        }
    }
}

thread_local! {
    static LAST: RefCell<(engine_status, CString)> = RefCell::new((engine_status::Ok, CString::default()));
}

/// Why the last call of this thread that failed did; "" where none has. Its status goes to `status`, which may be null.
/// The text is the library's, and stays as it is until the next call of this thread that fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_last_error(status: *mut engine_status) -> *const c_char {
    let last = LAST.try_with(|last| {
        let last = last.borrow();
        (last.0, last.1.as_ptr())
    });
    // A thread that is ending has forgotten.
    let (code, text) = last.unwrap_or((engine_status::Ok, c"".as_ptr()));
    if !status.is_null() {
        // SAFETY: the caller promises that it may be written.
        unsafe { status.write(code) };
    }
    text
}

/// Runs one call of the interface: an error is remembered for this thread, and nothing unwinds out of it.
pub(super) fn call(work: impl FnOnce() -> Result<()>) -> engine_status {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => engine_status::Ok,
        Ok(Err(error)) => failed((&error).into(), &error.to_string()),
        Err(payload) => match payload.downcast::<Error>() {
            Ok(error) => failed((&*error).into(), &error.to_string()),
            Err(payload) => failed(engine_status::Bug, &format!("a bug of the engine: {}", said(&*payload))),
        },
    }
}

/// What a panic says.
fn said(payload: &(dyn Any + Send)) -> &str {
    let owned = payload.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without words")
}

fn failed(status: engine_status, text: &str) -> engine_status {
    let text = CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default();
    // A thread that is ending remembers nothing.
    let _ = LAST.try_with(|last| *last.borrow_mut() = (status, text));
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    fn last() -> (engine_status, String) {
        let mut status = engine_status::Ok;
        // SAFETY: the status may be written, and the text stays until the next failure of this thread.
        let text = unsafe { CStr::from_ptr(engine_last_error(&mut status)) };
        (status, text.to_str().unwrap().into())
    }

    #[test]
    fn a_thread_that_has_not_failed_has_no_error() {
        assert_eq!(last(), (engine_status::Ok, String::new()));
    }

    #[test]
    fn an_error_has_the_exit_code_of_the_binary() {
        let all = [Error::Usage, Error::Data, Error::Checkpoint, Error::Memory, Error::Device, Error::Diverged];
        for error in all.into_iter().chain([Error::Stopped as fn(String) -> Error]) {
            let error = error("a\0b: c".into());
            let code = error.exit_code();
            let status = call(|| Err(error));
            assert_eq!(status as u8, code);
            assert_eq!(last(), (status, "a\u{fffd}b: c".into()));
        }
        assert_eq!(call(|| Ok(())), engine_status::Ok);
        assert_eq!(last().0, engine_status::Stopped, "a success does not forget");
    }

    #[test]
    fn what_is_thrown_does_not_pass() {
        assert_eq!(call(|| Error::Memory("out of memory".into()).throw()), engine_status::Memory);
        assert_eq!(last().1, "out of memory");
        assert_eq!(call(|| panic!("planted {}", 1)), engine_status::Bug);
        assert_eq!(last(), (engine_status::Bug, "a bug of the engine: planted 1".into()));
    }
}
