//! What rquickjs leaves to its C side.

use std::ffi::CStr;

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
