//! What mlua and the standard library leave to whoever knows that there is one thread.

use std::ffi::OsStr;

use mlua::{Lua, LuaOptions, StdLib};

/// A state with all of Lua's libraries, `debug` too: a function may break its own process,
/// and what it does there ends at the restore.
pub(crate) fn state() -> Lua {
    // Without this mlua replaces `pcall`, and coroutines could not yield across it. A panic
    // of this crate's would be a defect, and a failure of the call like any other.
    let options = LuaOptions::new().catch_rust_panics(true);
    // SAFETY: what the libraries can do to the process no Rust code relies on being undone.
    unsafe { Lua::unsafe_new_with(StdLib::ALL, options) }
}

/// Writes out what is in the buffers of all of C's streams, those that Lua prints to.
pub(crate) fn flush() {
    // SAFETY: a null pointer means all streams, and no other thread holds one.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}

/// Sets a variable where `os.getenv` and programs that a function starts find it, or
/// removes it.
pub(crate) fn set_variable(name: &OsStr, value: Option<&OsStr>) {
    // SAFETY: no other thread exists that could read the environment meanwhile.
    unsafe {
        match value {
            Some(value) => std::env::set_var(name, value),
            None => std::env::remove_var(name),
        }
    }
}
