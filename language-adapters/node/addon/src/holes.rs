//! Holes in the heap of the C library. What a worker allocates would fall into them, and so on
//! almost every page of it; filled, it lies side by side behind all that is there.

/// The largest blocks that are asked for; the C library maps larger ones.
const LARGEST: usize = 64 * 1024;

/// What it keeps lists of by exact size: requests up to this, in steps.
const LARGEST_OF_LISTS: usize = 1032;
const STEP: usize = 16;

/// Holes that are not filled any more: it is about pages, and not about each of them.
const MOST: usize = 1 << 20;

/// Fills what was given back between the blocks of the calling thread's heap, and never gives
/// it back.
#[cfg(target_env = "gnu")]
pub(crate) fn fill() {
    // SAFETY: both only tell something (sbrk(2), mallinfo(3)).
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
    // Some room behind them is there already when it is asked for.
    // SAFETY: the block is nobody else's, and nothing was given if there is none.
    unsafe { libc::free(libc::malloc(LARGEST)) };
}

/// The heap is another one.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn fill() {}
