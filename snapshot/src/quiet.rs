//! What is done to a template's memory before it is frozen, so that its workers write to few
//! pages of it: each is copied at the first write, and again at every rewind.

use std::io::{self, BufRead, BufReader};

use crate::span::PAGE;

/// The largest blocks that are asked for to fill holes; the C library maps larger ones.
const LARGEST: usize = 64 * 1024;

/// What the C library keeps lists of by exact size: requests up to this, in steps.
const LARGEST_OF_LISTS: usize = 1032;
const STEP: usize = 16;

/// Holes that are not filled any more: it is about pages, and not about each of them.
const MOST: usize = 1 << 20;

/// Fills what was given back between the blocks of the C library's heap, and never gives it
/// back: what a worker allocates then lies side by side behind all of them, on as few pages
/// as it takes, and not on every page of the heap.
#[cfg(target_env = "gnu")]
pub(crate) fn fill_holes() {
    // SAFETY: both only tell something (sbrk(2), mallinfo(3)); there is one thread.
    let (end, kept) = unsafe { (libc::sbrk(0).addr(), libc::mallinfo2().keepcost) };
    let top = end.saturating_sub(kept);
    let halves = std::iter::successors(Some(LARGEST), |size| Some(size / 2));
    let large = halves.take_while(|size| *size > LARGEST_OF_LISTS);
    let small = (STEP + 8..=LARGEST_OF_LISTS).rev().step_by(STEP);
    let mut left = MOST;
    for size in large.chain(small) {
        while left > 0 {
            left -= 1;
            // SAFETY: nobody uses the block, or gives it back.
            let block = unsafe { libc::malloc(size) };
            if block.is_null() || block.addr() >= top {
                break;
            }
        }
    }
}

/// The heap is another one.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn fill_holes() {}

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
