//! What rquickjs leaves to its C side, and the C library's time zone.

use std::ffi::{CStr, OsStr};

use rquickjs::{TypedArray, qjs};

/// QuickJS's own version, such as `0.16.2`.
pub(crate) fn version() -> String {
    // SAFETY: may be called at any time, and the text is static and ends in NUL.
    let version = unsafe { CStr::from_ptr(qjs::JS_GetVersion()) };
    version.to_string_lossy().into_owned()
}

/// What an array holds now.
pub(crate) fn bytes(array: &TypedArray<'_, u8>) -> Vec<u8> {
    // SAFETY: they are copied before any JavaScript runs.
    let bytes = unsafe { array.as_bytes() };
    bytes.unwrap_or_default().to_vec()
}

unsafe extern "C" {
    safe fn tzset();
}

/// Has the C library, and so `Date`, tell the time as in this zone; the container's if
/// none is given.
pub(crate) fn set_time_zone(zone: Option<&OsStr>) {
    // SAFETY: a worker has one thread, so nobody reads the environment meanwhile.
    unsafe {
        match zone {
            Some(zone) => std::env::set_var("TZ", zone),
            None => std::env::remove_var("TZ"),
        }
    }
    tzset();
}
