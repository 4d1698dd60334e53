//! What is done to a template's memory before it is frozen, so that its workers write to few
//! pages of it, each of which is copied at the first write, and again at every rewind; and so
//! that they need not map more, which every rewind would have to undo.

use std::io::{self, BufRead, BufReader};

use crate::span::PAGE;

/// What a worker's heap can grow by before it has to ask the kernel for more.
const ROOM: usize = 2 << 20;

/// Stack that may be in use below the frame that asks.
const IN_USE: u64 = 2 * PAGE;

/// Gives back what calls that are over left on the stack of the main thread, which is the
/// only one: each worker would have a copy of it.
///
/// # Errors
/// The mapping list cannot be read.
pub(crate) fn forget_dead_frames() -> io::Result<()> {
    let here = 0u8;
    let here = (&raw const here).addr() as u64;
    let maps = BufReader::new(std::fs::File::open("/proc/self/maps")?);
    for line in maps.lines() {
        let line = line?;
        let ends = line
            .split_once(' ')
            .and_then(|(range, _)| range.split_once('-'));
        let Some((start, end)) = ends else { continue };
        let address = |text| u64::from_str_radix(text, 16).unwrap_or_default();
        let (start, end) = (address(start), address(end));
        if !(start..end).contains(&here) {
            continue;
        }
        let dead = (here - IN_USE) / PAGE * PAGE;
        if dead > start {
            // SAFETY: between the end of this stack and two pages below this frame there is
            // nothing that anybody will look at before writing it.
            let given = unsafe {
                libc::madvise(
                    start as *mut _,
                    (dead - start) as usize,
                    libc::MADV_DONTNEED,
                )
            };
            if given != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        break;
    }
    Ok(())
}

/// Has the heap end with room that nothing uses. An allocation for which there is none has
/// brk(2) called, and a free of as much has it called again: either changes the list of
/// mappings, and a rewind that finds it changed takes several times as long.
///
/// An allocation that was mapped by itself has glibc take those of its size from the heap from
/// then on, once it is freed, and keep twice as much at the heap's end (mallopt(3),
/// `M_MMAP_THRESHOLD`); without the variables that have it do otherwise.
pub(crate) fn make_room() {
    for bytes in [ROOM, ROOM - ROOM / 16] {
        // SAFETY: frees what it allocated, and nobody else has seen.
        unsafe { libc::free(std::hint::black_box(libc::malloc(bytes))) };
    }
}
