//! A worker's descriptors: which numbers are open, and whether each still is what
//! it was.
//!
//! Pipes, devices and files are asked about inside the worker, in the stub's one
//! stop: which inode, which owner; if it is the one it was, its flags and offset are
//! set again. What has contents of its own (sockets, epoll, event and timer
//! descriptors) is compared by the text of its `fdinfo` (proc_pid_fdinfo(5)), which
//! shows them.

use std::fs::File;
use std::io::{self, Read};
use std::mem::offset_of;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use nix::unistd::{Gid, Pid, Uid, setfsgid, setfsuid};

use crate::process::Process;
use crate::row::{Row, Taint};
use crate::sabotage::leaves_out;
use crate::stub::{Annex, Constants, Program};

/// The descriptors at the ready point.
pub(crate) struct Descriptors {
    /// Ascending.
    numbers: Vec<i32>,
    /// Those that are compared by their `fdinfo`.
    by_text: Vec<(i32, Vec<u8>)>,
    /// The `fdinfo` of all, to verify with.
    infos: Vec<Vec<u8>>,
    /// The comparison of all others, and what is set again.
    checks: Program,
    /// Where in a worker the `struct linger` stands that makes closing a reset.
    reset: u64,
    // Kept between rewinds so that one allocates nothing.
    open: Vec<i32>,
    text: Vec<u8>,
}

/// `F_GETSIG` (`asm-generic/fcntl.h`).
const F_GETSIG: u64 = 11;

/// Shown among a description's flags, and is the descriptor's.
const O_CLOEXEC: i64 = libc::O_CLOEXEC as i64;

impl Descriptors {
    pub(crate) fn capture(
        process: &Process,
        owner: (Uid, Gid),
        annex: &Annex,
        constants: &mut Constants,
    ) -> io::Result<Self> {
        let mut numbers = Vec::new();
        process.read_descriptors(&mut numbers)?;
        numbers.sort_unstable();
        let mut by_text = Vec::new();
        let mut infos = Vec::new();
        let mut checks = Program::default();
        // struct flock: type, whence, start, length, pid.
        let mut unlock = [0; size_of::<libc::flock>()];
        unlock[..2].copy_from_slice(&(libc::F_UNLCK as i16).to_ne_bytes());
        let unlock = constants.add(annex, &unlock);
        // struct linger: on, for no time.
        let reset = constants.add(annex, &[1, 0, 0, 0, 0, 0, 0, 0]);
        let _as_owner = AsOwner::switch(owner);
        for number in &numbers {
            let target = std::fs::metadata(format!("/proc/{}/fd/{number}", process.pid))?;
            let kind = target.file_type();
            let mut text = Vec::new();
            read_info(process.pid, *number, &mut text)?;
            infos.push(text.clone());
            if !(kind.is_fifo() || kind.is_char_device() || kind.is_file()) {
                by_text.push((*number, text));
                continue;
            }
            let info = Info::parse(&text).ok_or_else(|| {
                io::Error::other(format!("the fdinfo of descriptor {number} cannot be read"))
            })?;
            let fd = *number as u64;
            let row = Row::Descriptors;
            let stat = annex.scratch.start;
            checks.checked_call(row, libc::SYS_fstat, &[fd, stat], 0);
            let mut must_be = |offset: usize, bytes: &[u8]| {
                let expected = constants.add(annex, bytes);
                checks.must_equal(row, stat + offset as u64, expected, bytes.len() as u64);
            };
            must_be(offset_of!(libc::stat, st_dev), &target.dev().to_ne_bytes());
            must_be(offset_of!(libc::stat, st_ino), &target.ino().to_ne_bytes());
            must_be(
                offset_of!(libc::stat, st_mode),
                &target.mode().to_ne_bytes(),
            );
            must_be(offset_of!(libc::stat, st_uid), &target.uid().to_ne_bytes());
            must_be(offset_of!(libc::stat, st_gid), &target.gid().to_ne_bytes());
            for command in [libc::F_GETOWN as u64, F_GETSIG] {
                checks.checked_call(row, libc::SYS_fcntl, &[fd, command, 0], 0);
            }
            // Known now to be what it was, it is set as it was.
            let close_on_exec = info.flags & O_CLOEXEC != 0;
            for (command, flags) in [
                (libc::F_SETFL, (info.flags & !O_CLOEXEC).cast_unsigned()),
                (libc::F_SETFD, u64::from(close_on_exec)),
            ] {
                checks.checked_call(row, libc::SYS_fcntl, &[fd, command as u64, flags], 0);
            }
            if kind.is_file() {
                checks.checked_call(
                    row,
                    libc::SYS_lseek,
                    &[fd, info.position.cast_unsigned(), libc::SEEK_SET as u64],
                    info.position,
                );
            }
            // A lock is released whether there is one or not.
            checks.call(row, libc::SYS_flock, &[fd, libc::LOCK_UN as u64]);
            for command in [libc::F_SETLK, libc::F_OFD_SETLK] {
                checks.call(row, libc::SYS_fcntl, &[fd, command as u64, unlock]);
            }
            if kind.is_fifo() {
                // When it was last written to, or was said to be: now. The pipe may
                // be somebody else's, which is as good.
                checks.call(row, libc::SYS_utimensat, &[fd, 0, 0, 0]);
            }
        }
        Ok(Self {
            numbers,
            by_text,
            infos,
            checks,
            reset,
            open: Vec::new(),
            text: Vec::new(),
        })
    }

    /// What is otherwise than at the ready point.
    pub(crate) fn differences(
        &self,
        process: &Process,
        owner: (Uid, Gid),
    ) -> io::Result<Vec<Taint>> {
        let mut taints = Vec::new();
        let mut open = Vec::new();
        process.read_descriptors(&mut open)?;
        open.sort_unstable();
        if open != self.numbers {
            let what = format!("{open:?} are open instead of {:?}", self.numbers);
            taints.push(Taint::new(Row::Descriptors, what));
            return Ok(taints);
        }
        let _as_owner = AsOwner::switch(owner);
        for (number, expected) in self.numbers.iter().zip(&self.infos) {
            let mut text = Vec::new();
            read_info(process.pid, *number, &mut text)?;
            if text != *expected {
                let text = String::from_utf8_lossy(&text);
                taints.push(Taint::new(
                    Row::Descriptors,
                    format!("descriptor {number} shows {text:?}"),
                ));
            }
        }
        Ok(taints)
    }

    /// Adds the closing of what the function opened, and the comparison of what was
    /// there before; how many are closed.
    ///
    /// # Errors
    /// A descriptor of the ready point is gone or is another one.
    pub(crate) fn mend(
        &mut self,
        process: &Process,
        owner: (Uid, Gid),
        program: &mut Program,
    ) -> Result<u32, Taint> {
        let failed = |doing: &str, error: io::Error| {
            Taint::new(Row::Descriptors, format!("{doing}: {error}"))
        };
        process
            .read_descriptors(&mut self.open)
            .map_err(|error| failed("listing", error))?;
        let mut closed = 0;
        let mut seen = 0;
        for number in &self.open {
            if self.numbers.binary_search(number).is_ok() {
                seen += 1;
            } else {
                closed += 1;
                let fd = *number as u64;
                // A connection is cut off with all that is still to be sent
                // (socket(7), SO_LINGER): its peer and its port are free at once, and
                // closing it never waits. What is no socket refuses this.
                let linger = [
                    fd,
                    libc::SOL_SOCKET as u64,
                    libc::SO_LINGER as u64,
                    self.reset,
                    size_of::<libc::linger>() as u64,
                ];
                program.call(Row::Descriptors, libc::SYS_setsockopt, &linger);
                program.call(Row::Descriptors, libc::SYS_close, &[fd]);
            }
        }
        if seen != self.numbers.len() && !leaves_out("descriptors:gone") {
            return Err(Taint::new(
                Row::Descriptors,
                "the function closed one that is not its own",
            ));
        }
        program.append(&self.checks);
        if !self.by_text.is_empty() && !leaves_out("descriptors:fdinfo") {
            let _as_owner = AsOwner::switch(owner);
            for (number, expected) in &self.by_text {
                read_info(process.pid, *number, &mut self.text)
                    .map_err(|error| failed("reading fdinfo", error))?;
                if self.text != *expected {
                    return Err(Taint::new(
                        Row::Descriptors,
                        format!("descriptor {number} is not what it was"),
                    ));
                }
            }
        }
        Ok(closed)
    }
}

/// The two lines of `fdinfo` that the stub's calls answer too.
pub(crate) struct Info {
    pub(crate) position: i64,
    /// With `O_CLOEXEC`, which is the descriptor's, among those of the description.
    pub(crate) flags: i64,
}

impl Info {
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        Some(Self {
            position: field("pos:")?.parse().ok()?,
            flags: i64::from_str_radix(field("flags:")?, 8).ok()?,
        })
    }
}

fn read_info(pid: Pid, number: i32, text: &mut Vec<u8>) -> io::Result<()> {
    text.clear();
    File::open(format!("/proc/{pid}/fdinfo/{number}"))?.read_to_end(text)?;
    Ok(())
}

/// Looks as the worker's user: the kernel shows descriptors to who could trace the
/// process, and without `CAP_SYS_PTRACE` that is its own user. Only the filesystem
/// ids change, which give nobody a right over this process.
struct AsOwner(Uid, Gid);

impl AsOwner {
    fn switch((uid, gid): (Uid, Gid)) -> Self {
        let gid = setfsgid(gid);
        Self(setfsuid(uid), gid)
    }
}

impl Drop for AsOwner {
    fn drop(&mut self) {
        setfsuid(self.0);
        setfsgid(self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fdinfo_gives_offset_and_octal_flags() {
        let info = Info::parse(b"pos:\t42\nflags:\t02104002\nmnt_id:\t9\nino:\t1\n").unwrap();
        assert_eq!((info.position, info.flags), (42, 0o2_104_002));
        assert!(Info::parse(b"pos:\tx\n").is_none());
    }
}
