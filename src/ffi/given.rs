//! What a caller hands over, checked as far as a pointer can be. Messages call it by the names of the header.

use crate::base::{Error, Result};
use std::ffi::{CStr, c_char};
use std::fmt::Display;

pub fn refused(name: impl Display, what: impl Display) -> Error {
    Error::Usage(format!("{name}: {what}"))
}

/// Refuses a pointer that is null or not a multiple of its type's alignment.
fn check<T>(name: &str, pointer: *const T) -> Result<()> {
    if pointer.is_null() {
        return Err(refused(name, "is null; give a valid pointer"));
    }
    if !pointer.is_aligned() {
        return Err(refused(name, format_args!("is no multiple of {}; give an aligned pointer", align_of::<T>())));
    }
    Ok(())
}

/// # Safety
/// `pointer` is null, or a handle that is open as long as `'a`.
pub unsafe fn handle<'a, T>(name: &str, pointer: *const T) -> Result<&'a T> {
    check(name, pointer)?;
    // SAFETY: the caller promises that it is open.
    Ok(unsafe { &*pointer })
}

/// Gives a new handle to the caller.
///
/// # Safety
/// `pointer` is null or valid for a write.
pub unsafe fn open<T>(name: &str, pointer: *mut *mut T, make: impl FnOnce() -> Result<T>) -> Result<()> {
    check(name, pointer)?;
    // SAFETY: the caller promises that it may be written.
    unsafe { pointer.write(std::ptr::null_mut()) };
    let made = Box::into_raw(Box::new(make()?));
    // SAFETY: as above.
    unsafe { pointer.write(made) };
    Ok(())
}

/// Takes a handle back; null is none.
///
/// # Safety
/// `pointer` is null, or a handle that [`open`] gave, is closed once and is used by nobody.
pub unsafe fn close<T>(pointer: *mut T) {
    if !pointer.is_null() {
        // SAFETY: the caller promises that it is the only one that holds the box.
        drop(unsafe { Box::from_raw(pointer) });
    }
}

/// The arguments of a call, whose first field is their size in bytes as the caller was compiled.
///
/// # Safety
/// `pointer` is null, or begins with a `size_t`, and holds a `T` where that is the size of one.
pub unsafe fn arguments<'a, T>(name: &str, pointer: *const T) -> Result<&'a T> {
    check_size(name, pointer)?;
    // SAFETY: it says that it is a `T`.
    Ok(unsafe { &*pointer })
}

/// As [`arguments`], for what a call fills in.
///
/// # Safety
/// As for [`arguments`], and nobody else looks at it meanwhile.
pub unsafe fn arguments_mut<'a, T>(name: &str, pointer: *mut T) -> Result<&'a mut T> {
    check_size(name, pointer)?;
    // SAFETY: as above, and it is this call's alone.
    Ok(unsafe { &mut *pointer })
}

fn check_size<T>(name: &str, pointer: *const T) -> Result<()> {
    check(name, pointer)?;
    // SAFETY: the caller promises a `size_t` at least.
    let (size, wanted) = (unsafe { pointer.cast::<usize>().read() }, size_of::<T>());
    if size != wanted {
        let what = format_args!("is {size}, and {wanted} in this library; set it to sizeof({name}) of its own header");
        return Err(refused(format_args!("{name}.size"), what));
    }
    Ok(())
}

/// A text; `None` for null.
///
/// # Safety
/// `pointer` is null, or a text that ends with 0 and stays as it is as long as `'a`.
pub unsafe fn text<'a>(name: &str, pointer: *const c_char) -> Result<Option<&'a str>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller promises a text.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map(Some).map_err(|_| refused(name, format_args!("{text:?} is no UTF-8; give UTF-8")))
}

/// `count` values.
///
/// # Safety
/// `pointer` is null, or points at so many values that stay as they are as long as `'a`.
pub unsafe fn values<'a, T>(name: &str, pointer: *const T, count: usize) -> Result<&'a [T]> {
    check(name, pointer)?;
    if count.checked_mul(size_of::<T>()).is_none_or(|bytes| bytes > isize::MAX as usize) {
        return Err(refused(name, format_args!("{count} values are more than there are addresses; give fewer")));
    }
    // SAFETY: the caller promises so many values.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// Memory of the caller for an answer. It may be what the question lies in, which has been read when the answer is written.
pub struct Room<T> {
    pointer: *mut T,
    count: usize,
}

impl<T: Copy> Room<T> {
    /// Room for `count` values, which a call wants to be `wanted`.
    ///
    /// # Safety
    /// `pointer` is null, or valid for writes of `count` values as long as the room is there.
    pub unsafe fn new(name: &str, pointer: *mut T, count: usize, wanted: usize) -> Result<Room<T>> {
        check(name, pointer)?;
        if count != wanted {
            let what = format_args!("has room for {count} values, the answer has {wanted}; give room for as many");
            return Err(refused(name, what));
        }
        Ok(Room { pointer, count })
    }

    pub fn fill(self, values: &[T]) {
        assert_eq!(values.len(), self.count, "room for {} values", self.count);
        // SAFETY: there is room for so many, and they are the library's own.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), self.pointer, self.count) };
    }
}
