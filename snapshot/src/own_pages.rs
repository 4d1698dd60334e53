//! How many pages are a process's own, as the kernel counts them.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::process::Process;
use crate::span::PAGE;

/// Where the kernel says it of one process.
pub(crate) struct Counts {
    /// proc_pid_statm(5): resident pages, and those of them that are files' or shared.
    statm: File,
    /// proc_pid_status(5): the same, and what is in swap. It takes eight times as long.
    status: File,
}

impl Counts {
    pub(crate) fn open(of: &Path) -> io::Result<Self> {
        Ok(Self {
            statm: File::open(of.join("statm"))?,
            status: File::open(of.join("status"))?,
        })
    }

    fn by_statm(&self) -> Option<u64> {
        let mut text = [0; 128];
        let length = self.statm.read_at(&mut text, 0).ok()?;
        let mut words = std::str::from_utf8(&text[..length])
            .ok()?
            .split(' ')
            .skip(1);
        let mut next = || words.next()?.parse::<u64>().ok();
        let (resident, shared) = (next()?, next()?);
        resident.checked_sub(shared)
    }

    fn by_status(&self) -> Option<u64> {
        let mut text = [0; 4096];
        let length = self.status.read_at(&mut text, 0).ok()?;
        let kibibytes = |name: &str| {
            let after = find(&text[..length], name.as_bytes())?;
            let digits = text[after..length].trim_ascii_start();
            let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
            std::str::from_utf8(&digits[..end])
                .ok()?
                .parse::<u64>()
                .ok()
        };
        (kibibytes("\nVmSwap:")? == 0).then_some(())?;
        Some(kibibytes("\nRssAnon:")? * 1024 / PAGE)
    }
}

/// Where in the text the first of these ends.
fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    // SAFETY: reads within the two slices.
    let found = unsafe {
        libc::memmem(
            text.as_ptr().cast(),
            text.len(),
            what.as_ptr().cast(),
            what.len(),
        )
    };
    (!found.is_null()).then(|| found as usize - text.as_ptr() as usize + what.len())
}

/// Whether anything can be in swap at all.
struct Swaps(File);

impl Swaps {
    /// True if there is none, and was none since this was asked before. One that is being
    /// turned off is listed until nothing is in it any more (`mm/swapfile.c`); one that came
    /// and went is an event.
    fn are_none(&self) -> bool {
        const HEADER_LINES: usize = 1;
        let mut text = [0; 512];
        let listed = self.0.read_at(&mut text, 0);
        let lines = |length: usize| text[..length].iter().filter(|it| **it == b'\n').count();
        let mut event = [PollFd::new(self.0.as_fd(), PollFlags::POLLPRI)];
        let polled = poll(&mut event, PollTimeout::ZERO);
        listed.is_ok_and(|length| lines(length) <= HEADER_LINES) && polled == Ok(0)
    }
}

/// Counts the pages that are a process's own. Made only where the kernel counts exactly.
pub(crate) struct PageCounter {
    swaps: Option<Swaps>,
}

impl PageCounter {
    /// Nothing if the kernel says what it last added up, some dozens of pages ago: before
    /// 6.16, each processor keeps a count of its own. Found out with pages of this process,
    /// one after the other.
    pub(crate) fn new() -> Option<Self> {
        let counter = Self {
            swaps: File::open("/proc/swaps").ok().map(Swaps),
        };
        let counts = Counts::open(Path::new("/proc/self")).ok()?;
        counter.is_exact(&counts).then_some(counter)
    }

    /// None of them are in swap, or there is no answer.
    pub(crate) fn count(&self, process: &Process) -> Option<u64> {
        self.count_of(&process.counts)
    }

    fn count_of(&self, counts: &Counts) -> Option<u64> {
        let by_statm = counts.by_statm();
        // Afterwards: what was in swap then is noticed now.
        match &self.swaps {
            Some(swaps) if swaps.are_none() => by_statm,
            _ => counts.by_status(),
        }
    }

    fn is_exact(&self, counts: &Counts) -> bool {
        const PAGES: usize = 16;
        let length = PAGES * PAGE as usize;
        // SAFETY: new memory, which is unmapped below.
        let room = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if room == libc::MAP_FAILED {
            return false;
        }
        // SAFETY: as above. A huge page would be counted at once.
        unsafe { libc::madvise(room, length, libc::MADV_NOHUGEPAGE) };
        let both = || Some((self.count_of(counts)?, counts.by_status()?));
        // Has what the counting itself needs be there.
        let _ = both();
        let mut counted = both();
        let is_exact = (0..PAGES).all(|page| {
            // SAFETY: within the mapping.
            unsafe {
                room.cast::<u8>()
                    .add(page * PAGE as usize)
                    .write_volatile(1)
            };
            let before = counted;
            counted = both();
            counted.is_some() && counted == before.map(|(one, other)| (one + 1, other + 1))
        });
        // SAFETY: nobody else knows of it.
        unsafe { libc::munmap(room, length) };
        is_exact
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_where_they_end() {
        assert_eq!(find(b"a\nVmSwap:\t0 kB", b"\nVmSwap:"), Some(9));
        assert_eq!(find(b"VmSwap:", b"\nVmSwap:"), None);
    }

    #[test]
    fn both_counts_are_the_same() {
        let counts = Counts::open(Path::new("/proc/self")).expect("of this process");
        // Other tests' threads have pages come and go.
        let same = (0..1000).any(|_| {
            let (one, other) = (counts.by_statm(), counts.by_status());
            one.is_some() && one == other
        });
        assert!(same, "{:?}, {:?}", counts.by_statm(), counts.by_status());
    }
}
