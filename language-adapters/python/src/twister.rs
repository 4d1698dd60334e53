//! A fresh state for a generator of numpy's that is a Mersenne Twister, as the one behind
//! `numpy.random`'s own functions is. numpy's way, `seed`, has a dozen array operations look at
//! the seed: they take longer than the rest of a load, and write to eighty pages.

use std::ffi::c_void;

use pyo3::ffi::{PyCapsule_GetPointer, PyCapsule_IsValid};
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};

const WORDS: usize = 624;

/// numpy's `mt19937_state` (`numpy/random/src/mt19937/mt19937.h`).
#[repr(C)]
struct State {
    key: [u32; WORDS],
    position: i32,
}

/// The beginning of numpy's `bitgen_t`, which is public (`numpy/random/bitgen.h`).
#[repr(C)]
struct Generator {
    state: *mut State,
}

/// A callable that gives this generator another state, of the kernel's making; to be called with
/// its lock. Nothing if its memory is not what numpy's header says, by what numpy itself reads
/// from it.
#[pyfunction]
pub(crate) fn twister<'py>(
    generator: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyCFunction>>> {
    const NAME: &std::ffi::CStr = c"BitGenerator";
    let py = generator.py();
    let capsule = generator.getattr("capsule")?;
    // SAFETY: asks of an object that is alive, and for a pointer that is there as long as the
    // generator is, which the callable keeps.
    let found = unsafe {
        match PyCapsule_IsValid(capsule.as_ptr(), NAME.as_ptr()) {
            0 => return Ok(None),
            _ => PyCapsule_GetPointer(capsule.as_ptr(), NAME.as_ptr()).cast::<Generator>(),
        }
    };
    // SAFETY: the capsule of that name leads to a `bitgen_t`, and that of an MT19937 to its state.
    let state = unsafe { (*found).state };
    if !is_read_as_written(generator, state)? {
        return Ok(None);
    }
    let (state, kept) = (state as usize, generator.clone().unbind());
    let reseed = move |_: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
        let _ = &kept;
        refresh(state as *mut State)
    };
    PyCFunction::new_closure(py, None, None, reseed).map(Some)
}

/// A position behind the last word has the next draw mix all words first.
fn refresh(state: *mut State) -> PyResult<()> {
    let mut key = [0u32; WORDS];
    let bytes = size_of_val(&key);
    let mut filled = 0;
    while filled < bytes {
        // SAFETY: writes within the words.
        let got = unsafe {
            let to = key.as_mut_ptr().cast::<u8>().add(filled);
            libc::getrandom(to.cast::<c_void>(), bytes - filled, 0)
        };
        match usize::try_from(got) {
            Ok(got) => filled += got,
            // A signal interrupted it, or the kernel has no such call.
            Err(_) if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => {
            }
            Err(_) => return Err(std::io::Error::last_os_error().into()),
        }
    }
    // SAFETY: the generator's memory, found and tried when it was made. Whoever calls has the
    // generator's lock, under which alone others draw.
    unsafe {
        (*state).key = key;
        (*state).position = WORDS as i32;
    }
    Ok(())
}

/// True if numpy reads another state after one was written there, and that one.
fn is_read_as_written(generator: &Bound<'_, PyAny>, state: *mut State) -> PyResult<bool> {
    let read = || -> PyResult<(Vec<u32>, i32)> {
        let read = generator.getattr("state")?.get_item("state")?;
        let key = read.get_item("key")?.call_method0("tolist")?.extract()?;
        Ok((key, read.get_item("pos")?.extract()?))
    };
    // SAFETY: as in `refresh`; nothing is written where this is not what numpy reads.
    let written = || unsafe { ((*state).key.to_vec(), (*state).position) };
    if read()? != written() {
        return Ok(false);
    }
    refresh(state)?;
    Ok(read()? == written())
}
