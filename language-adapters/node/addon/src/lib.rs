//! What JavaScript cannot do. It has OpenSSL in Node.js take fresh randomness after a restore:
//! its generators are memory, a rewind puts them back, and nothing in JavaScript reseeds them.
//! And it fills the holes of the C library's heap before the snapshot.
//!
//! An add-on by Node-API (version 1 of it, <https://nodejs.org/api/n-api.html>): the
//! symbols declared here are those of the process that loads it.

mod holes;

use core::ffi::{c_char, c_int, c_void};
use core::ptr;

/// `napi_env`, `napi_value` and `napi_callback_info`: what Node.js hands out.
type Handle = *mut c_void;
type Callback = unsafe extern "C" fn(env: Handle, info: Handle) -> Handle;

const OK: c_int = 0;

unsafe extern "C" {
    /// RAND_poll(3ssl): reseeds the process's generator from the operating system, and
    /// with it, at their next use, those of all threads.
    fn RAND_poll() -> c_int;

    fn napi_create_function(
        env: Handle,
        name: *const c_char,
        length: usize,
        callback: Callback,
        data: *mut c_void,
        result: *mut Handle,
    ) -> c_int;
    fn napi_set_named_property(
        env: Handle,
        object: Handle,
        name: *const c_char,
        value: Handle,
    ) -> c_int;
    fn napi_get_boolean(env: Handle, value: bool, result: *mut Handle) -> c_int;
}

/// `reseed()`: true if it did.
unsafe extern "C" fn reseed(env: Handle, _info: Handle) -> Handle {
    let mut result = ptr::null_mut();
    // SAFETY: RAND_poll may be called at any time from any thread; `env` is the one that
    // this call came with, and the result lives until it returns.
    unsafe {
        if napi_get_boolean(env, RAND_poll() == 1, &raw mut result) != OK {
            return ptr::null_mut();
        }
    }
    result
}

/// `fillHoles()`.
unsafe extern "C" fn fill_holes(_env: Handle, _info: Handle) -> Handle {
    holes::fill();
    ptr::null_mut()
}

/// Called once by Node.js when the add-on is loaded; gives it both.
///
/// # Safety
/// As Node-API has it: `env` and `exports` are of the current call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn napi_register_module_v1(env: Handle, exports: Handle) -> Handle {
    let functions: [(_, Callback); 2] = [(c"reseed", reseed), (c"fillHoles", fill_holes)];
    for (name, callback) in functions {
        let mut function = ptr::null_mut();
        // SAFETY: both handles are of the current call, and the name is as long as it says.
        unsafe {
            let made = napi_create_function(
                env,
                name.as_ptr(),
                name.count_bytes(),
                callback,
                ptr::null_mut(),
                &raw mut function,
            );
            if made == OK {
                napi_set_named_property(env, exports, name.as_ptr(), function);
            }
        }
    }
    exports
}
