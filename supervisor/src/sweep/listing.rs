//! What is in a directory that is open.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{RawDir, SeekFrom, seek};

/// Room for so many entries' worth of names at once.
const ROOM: usize = 4096;

/// Where a listing has its entries.
pub(super) struct Room([MaybeUninit<u8>; ROOM]);

impl Room {
    pub(super) const fn new() -> Self {
        Self([MaybeUninit::uninit(); ROOM])
    }
}

/// Its entries, from the first one on. There can be one listing of an open directory at a time.
pub(super) fn list<'a>(
    directory: &'a impl AsFd,
    room: &'a mut Room,
) -> io::Result<RawDir<'a, BorrowedFd<'a>>> {
    let directory = directory.as_fd();
    seek(directory, SeekFrom::Start(0))?;
    Ok(RawDir::new(directory, &mut room.0))
}

pub(super) fn is_dot(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}
