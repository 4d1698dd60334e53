//! What restores are measured against, and what only this crate may do for it: a plain fork,
//! and a plain copy of pages within one process. For the benchmarks; nobody else is to use it.

use std::fs::{self, File};
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// Forks a process of one thread.
#[derive(Debug)]
pub struct Forker(());

impl Forker {
    /// For this process.
    ///
    /// # Errors
    /// It has other threads, whose locks a child would find held for ever; or it cannot be
    /// seen how many there are.
    pub fn of_this_process() -> io::Result<Self> {
        match fs::read_dir("/proc/self/task")?.count() {
            1 => Ok(Self(())),
            threads => Err(io::Error::other(format!(
                "a process with {threads} threads cannot be forked"
            ))),
        }
    }

    /// Does `work` in a child, and reaps it; whether it was done.
    ///
    /// # Errors
    /// fork(2), or waitpid(2).
    pub fn does(&self, work: impl FnOnce() -> bool) -> nix::Result<bool> {
        // SAFETY: this process had one thread when `self` was made, and whoever forks has it:
        // the child finds no lock held by a thread that it does not have.
        match unsafe { fork() }? {
            ForkResult::Child => {
                let status = i32::from(!work());
                // Without exit handlers, as Python's own `os._exit` after a fork: the
                // interpreter is the parent's to take down.
                // SAFETY: ends the process; nothing is used afterwards.
                unsafe { nix::libc::_exit(status) }
            }
            ForkResult::Parent { child } => {
                Ok(matches!(waitpid(child, None)?, WaitStatus::Exited(_, 0)))
            }
        }
    }
}

/// Two mappings of one file: what is shared, and a private one that was written to, as a
/// worker's pages are.
#[derive(Debug)]
pub struct PageCopy {
    from: &'static [u8],
    to: &'static mut [u8],
    runs: Vec<Range<usize>>,
}

impl PageCopy {
    /// Of these parts of a memfd of so many bytes, the rest being a hole. It is mapped until the
    /// process ends.
    ///
    /// # Errors
    /// memfd_create(2), write(2) or mmap(2).
    pub fn of(length: NonZeroUsize, runs: Vec<Range<usize>>) -> io::Result<Self> {
        let file = File::from(memfd_create(c"yardstick", MFdFlags::MFD_CLOEXEC)?);
        file.set_len(length.get() as u64)?;
        for run in &runs {
            file.write_all_at(&vec![0x5a; run.len()], run.start as u64)?;
        }
        let map = |protection, flags| {
            // SAFETY: a new mapping, which takes nothing else's place.
            unsafe { mmap(None, length, protection, flags, &file, 0) }
        };
        let from = map(ProtFlags::PROT_READ, MapFlags::MAP_SHARED)?;
        let to = map(
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            MapFlags::MAP_PRIVATE,
        )?;
        // SAFETY: both are of that length and are never unmapped; nobody else has the file, which
        // is written to no more, or the second.
        let (from, to) = unsafe {
            (
                std::slice::from_raw_parts(from.as_ptr().cast(), length.get()),
                std::slice::from_raw_parts_mut(to.as_ptr().cast(), length.get()),
            )
        };
        let mut copy = Self { from, to, runs };
        // Pages that were written before are there.
        copy.copy();
        Ok(copy)
    }

    /// Copies all parts, with memcpy(3).
    pub fn copy(&mut self) {
        for run in &self.runs {
            self.to[run.clone()].copy_from_slice(&self.from[run.clone()]);
        }
        std::hint::black_box(&mut *self.to);
    }
}
