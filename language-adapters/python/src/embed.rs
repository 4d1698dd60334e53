//! The C side of CPython that pyo3 does not cover: starting it with a
//! configuration, mending it after a fork, and emptying the C library's buffers.

use std::ffi::{CStr, CString, OsStr, c_char, c_void};
use std::mem::MaybeUninit;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use pyo3::{Python, ffi};

/// Starts the interpreter in this thread, which becomes Python's main thread, and
/// leaves it detached. A second call does nothing.
pub(crate) fn initialize() -> Result<(), String> {
    // SAFETY: may be called at any time.
    if unsafe { ffi::Py_IsInitialized() } != 0 {
        return Ok(());
    }
    ignore_signals_as_python_does();
    preinitialize()?;

    let mut config = MaybeUninit::<ffi::PyConfig>::uninit();
    // SAFETY: writes every field of the structure behind the pointer.
    unsafe { ffi::PyConfig_InitPythonConfig(config.as_mut_ptr()) };
    // SAFETY: the call before initialised it.
    let mut config = unsafe { config.assume_init() };
    let started = configure(&mut config).and_then(|()| {
        // SAFETY: the configuration is valid, and no interpreter runs yet.
        check(unsafe { ffi::Py_InitializeFromConfig(&raw const config) })
    });
    // SAFETY: initialised above, and used no more.
    unsafe { ffi::PyConfig_Clear(&raw mut config) };
    started?;
    // SAFETY: this thread holds the GIL since `Py_InitializeFromConfig`. The state
    // that comes back is found again through the thread by `Python::attach`.
    unsafe { ffi::PyEval_SaveThread() };
    Ok(())
}

/// A broken pipe or a file too long is an exception to Python, not a death. The
/// interpreter would see to that itself if it installed signal handlers.
fn ignore_signals_as_python_does() {
    for signal in [libc::SIGPIPE, libc::SIGXFSZ] {
        // SAFETY: no handler is installed, and the signals exist.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

fn preinitialize() -> Result<(), String> {
    let mut config = MaybeUninit::<ffi::PyPreConfig>::uninit();
    // SAFETY: writes every field of the structure behind the pointer.
    unsafe { ffi::PyPreConfig_InitPythonConfig(config.as_mut_ptr()) };
    // SAFETY: the call before initialised it.
    let mut config = unsafe { config.assume_init() };
    config.parse_argv = 0;
    config.utf8_mode = 1;
    // SAFETY: the configuration is valid and Python is not yet initialised.
    check(unsafe { ffi::Py_PreInitialize(&raw const config) })
}

/// An ordinary Python, `PYTHONPATH` and installed packages included, but for what
/// a process that is forked and rewound cannot have.
fn configure(config: &mut ffi::PyConfig) -> Result<(), String> {
    config.parse_argv = 0;
    config.install_signal_handlers = 0;
    // The image's files are not the function's to write, and its own are rewound.
    config.write_bytecode = 0;
    config.user_site_directory = 0;
    // The current directory is no place to import from: it may hold anything.
    config.safe_path = 1;

    let program = CString::new(program().into_os_string().into_vec())
        .map_err(|_| "the interpreter's path holds a NUL".to_owned())?;
    let field = &raw mut config.program_name;
    // SAFETY: the field belongs to the configuration, the text ends in NUL.
    check(unsafe { ffi::PyConfig_SetBytesString(config, field, program.as_ptr()) })?;

    let mut argv: [*const c_char; 1] = [c"".as_ptr()];
    // SAFETY: one argument is announced and one is there, ending in NUL.
    check(unsafe { ffi::PyConfig_SetBytesArgv(config, 1, argv.as_mut_ptr()) })
}

/// The command that belongs to the library this process runs: `sys.executable`,
/// which `subprocess` and `multiprocessing` start, and from which Python finds
/// its standard library. `PATH` may name another version first.
fn program() -> PathBuf {
    let name = format!("python{}", version());
    let mut symbol = MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: asks about the address of a function, and gives room for the answer.
    let found = unsafe { libc::dladdr(ffi::Py_GetVersion as *const c_void, symbol.as_mut_ptr()) };
    if found == 0 {
        return name.into();
    }
    // SAFETY: `dladdr` succeeded and so filled the structure; the name of the
    // object that holds a symbol is a text of the dynamic linker's.
    let library = unsafe { CStr::from_ptr(symbol.assume_init().dli_fname) };
    Path::new(OsStr::from_bytes(library.to_bytes()))
        .ancestors()
        .map(|directory| directory.join("bin").join(&name))
        .find(|path| path.exists())
        .unwrap_or_else(|| name.into())
}

/// Such as `3.11`; known before the interpreter runs.
fn version() -> String {
    // SAFETY: may be called at any time, and the text is static.
    let version = unsafe { CStr::from_ptr(ffi::Py_GetVersion()) }.to_string_lossy();
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

/// Mends the interpreter in a child that the raw system call made: nobody in the
/// parent prepared the fork, so the child runs both halves of the protocol. That
/// is sound because only the forking thread exists, here as there, and it spares
/// the template, whose every written page is paid for by all later workers.
pub(crate) fn after_fork(_attached: Python<'_>) {
    // SAFETY: this thread is attached and the only one.
    unsafe {
        ffi::PyOS_BeforeFork();
        ffi::PyOS_AfterFork_Child();
    }
}

/// Writes out what C code printed.
pub(crate) fn flush_c_streams() {
    // SAFETY: null means every open stream; each is locked while it is written.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}

fn check(status: ffi::PyStatus) -> Result<(), String> {
    // SAFETY: takes the status by value and reads it.
    if unsafe { ffi::PyStatus_Exception(status) } == 0 {
        return Ok(());
    }
    if status.err_msg.is_null() {
        return Err("Python gave no reason".into());
    }
    // SAFETY: not null, and CPython's messages are static text.
    let message = unsafe { CStr::from_ptr(status.err_msg) };
    Err(message.to_string_lossy().into_owned())
}

/// Requests that Python's own allocator serves, each size from pools of its own.
const SMALLEST: usize = 16;
const LARGEST: usize = 512;

/// A pool is pages of one size's blocks, behind so much that tells of it.
const POOL_HEADER: usize = 48;
const PAGE: usize = 4096;

/// Holes of one size that are not filled any more.
const MOST_HOLES: usize = 1 << 12;

/// Blocks in a row at the beginning of a pool that show that it is a new one.
const NEW: usize = 3;

/// Fills what is free between the blocks of pools that are in use, and never gives it back:
/// what a function makes then lies side by side in new ones.
pub(crate) fn fill_holes(_py: Python<'_>) {
    for size in (SMALLEST..=LARGEST).step_by(SMALLEST) {
        let (mut in_a_row, mut before) = (0, 0);
        for _ in 0..MOST_HOLES {
            // SAFETY: the GIL is held, and nobody uses the block or gives it back.
            let block = unsafe { ffi::PyObject_Malloc(size) }.addr();
            in_a_row = match block {
                0 => return,
                at if at % PAGE == POOL_HEADER => 1,
                at if in_a_row > 0 && at == before + size => in_a_row + 1,
                _ => 0,
            };
            if in_a_row == NEW {
                break;
            }
            before = block;
        }
    }
}
