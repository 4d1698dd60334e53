//! What waits in a pipe that a worker reads from.
//!
//! What comes from outside was emptied outside before a rewind. But a runtime has pipes
//! that lead from itself to itself: libuv passes signals through one, and another, with
//! one byte in it, is its lock.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};

use nix::fcntl::{OFlag, SpliceFFlags, open, tee};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Pid, Uid, pipe};

use crate::descriptors::AsOwner;
use crate::process::unread_bytes;
use crate::row::Row;
use crate::stub::{Annex, Constants, Program, SCRATCH_RESULTS};

/// More than that at a ready point is no runtime's affair with itself.
const MOST: usize = 256;

/// What nobody has read yet from the pipe behind this descriptor of a process.
pub(crate) fn contents(pid: Pid, number: i32, owner: (Uid, Gid)) -> io::Result<Vec<u8>> {
    let path = |pid: &dyn std::fmt::Display, number: i32| format!("/proc/{pid}/fd/{number}");
    // To look there one must be its owner, and to open it whoever made it.
    let place = {
        let _as_owner = AsOwner::switch(owner);
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        open(path(&pid, number).as_str(), flags, Mode::empty())?
    };
    // A description of its own: the process's may block.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let reader = open(
        path(&"self", place.as_raw_fd()).as_str(),
        flags,
        Mode::empty(),
    )?;
    let unread = unread_bytes(reader.as_fd())?;
    if unread > MOST {
        return Err(io::Error::other(format!(
            "{unread} bytes wait in the pipe of descriptor {number}"
        )));
    }
    let mut bytes = vec![0; unread];
    if unread > 0 {
        let (copies, into) = pipe()?;
        tee(&reader, &into, unread, SpliceFFlags::SPLICE_F_NONBLOCK)?;
        File::from(copies).read_exact(&mut bytes)?;
    }
    Ok(bytes)
}

/// Adds the reading away of what a function left in a pipe that does not block.
pub(crate) fn empty(reader: i32, annex: &Annex, program: &mut Program) {
    let arguments = [reader as u64, annex.scratch.start, SCRATCH_RESULTS];
    program.call(Row::Descriptors, libc::SYS_read, &arguments);
}

/// Adds what has the pipe hold `contents` again: as many bytes must be in it as there
/// were, which are then other ones for all that is known.
pub(crate) fn refill(
    contents: &[u8],
    (reader, writer): (i32, Option<i32>),
    annex: &Annex,
    constants: &mut Constants,
    program: &mut Program,
) -> io::Result<()> {
    const COUNT_BYTES: u64 = size_of::<u64>() as u64;
    let row = Row::Descriptors;
    let fd = reader as u64;
    let room = annex.scratch.start;
    let length = contents.len() as u64;
    program.zero(row, room, COUNT_BYTES);
    program.checked_call(row, libc::SYS_ioctl, &[fd, libc::FIONREAD, room], 0);
    let expected = constants.add(annex, &length.to_ne_bytes());
    program.must_equal(row, room, expected, COUNT_BYTES);
    if contents.is_empty() {
        return Ok(());
    }
    let Some(writer) = writer else {
        return Err(io::Error::other(format!(
            "what waits in the pipe of descriptor {reader} came from outside"
        )));
    };
    let bytes = constants.add(annex, contents);
    for (call, fd, at) in [
        (libc::SYS_read, fd, room),
        (libc::SYS_write, writer as u64, bytes),
    ] {
        program.checked_call(row, call, &[fd, at, length], length.cast_signed());
    }
    Ok(())
}
