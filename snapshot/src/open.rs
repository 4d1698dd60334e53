//! What a process has open, each descriptor by itself.

use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::ops::RangeInclusive;
use std::os::fd::RawFd;
use std::os::unix::fs::FileExt;

use nix::sys::stat::stat;
use nix::unistd::Pid;

use crate::kernel_state::room_beside;
use crate::process::Process;
use crate::row::Row;
use crate::stub::{Annex, Program};

/// An open descriptor.
pub(crate) struct Open {
    pub(crate) number: RawFd,
    pub(crate) target: Target,
    /// 0 where there is no such thing.
    pub(crate) position: i64,
    /// With `O_CLOEXEC`, which is the descriptor's, among those of the description.
    pub(crate) flags: i64,
}

/// What a descriptor leads to (stat(2)).
pub(crate) struct Target {
    pub(crate) device: libc::dev_t,
    pub(crate) inode: libc::ino_t,
    pub(crate) mode: libc::mode_t,
    pub(crate) uid: libc::uid_t,
    pub(crate) gid: libc::gid_t,
}

// An answer: a `struct stat`, and four results of calls.
const RESULTS: usize = size_of::<libc::stat>();
const FSTAT: usize = RESULTS;
const GETFL: usize = RESULTS + 8;
const GETFD: usize = RESULTS + 16;
const LSEEK: usize = RESULTS + 24;
const ANSWER_BYTES: usize = RESULTS + 32;

/// Adds what asks of these descriptors inside the process, which spares looking into /proc for
/// each of them; of so many of them as there is room for.
pub(crate) fn asking(given: RangeInclusive<RawFd>, annex: &Annex, program: &mut Program) {
    let row = Row::Descriptors;
    for (number, at) in given.zip(rooms(annex)) {
        let fd = number as u64;
        let result = |offset: usize| at + offset as u64;
        program.stored_call(row, libc::SYS_fstat, &[fd, at], result(FSTAT));
        for (command, offset) in [(libc::F_GETFL, GETFL), (libc::F_GETFD, GETFD)] {
            program.stored_call(row, libc::SYS_fcntl, &[fd, command as u64], result(offset));
        }
        let arguments = [fd, 0, libc::SEEK_CUR as u64];
        program.stored_call(row, libc::SYS_lseek, &arguments, result(LSEEK));
    }
}

/// Where the answers stand.
fn rooms(annex: &Annex) -> impl Iterator<Item = u64> {
    let room = room_beside(annex);
    let last = room.end - ANSWER_BYTES as u64;
    (room.start..=last).step_by(ANSWER_BYTES)
}

impl Open {
    /// What [`asking`] found out. Nothing if those are not all descriptors that are open, or
    /// there was no room for all.
    ///
    /// # Errors
    /// The process's memory cannot be read.
    pub(crate) fn answered(
        process: &Process,
        given: RangeInclusive<RawFd>,
        annex: &Annex,
    ) -> io::Result<Option<Vec<Self>>> {
        let many = given.clone().count();
        if process.count_descriptors() != Some(many) || many > rooms(annex).count() {
            return Ok(None);
        }
        let mut answers = vec![0; many * ANSWER_BYTES];
        process.read_memory(room_beside(annex).start, &mut answers)?;
        let answers = answers.chunks_exact(ANSWER_BYTES);
        Ok(given
            .zip(answers)
            .map(|(number, it)| Self::read(number, it))
            .collect())
    }

    fn read(number: RawFd, answer: &[u8]) -> Option<Self> {
        let half = |at: usize| Some(u32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?));
        let word = |at: usize| Some(u64::from_ne_bytes(answer.get(at..at + 8)?.try_into().ok()?));
        let on_exec = match word(GETFD)? as libc::c_int & libc::FD_CLOEXEC {
            0 => 0,
            _ => O_CLOEXEC,
        };
        (word(FSTAT)? == 0).then_some(Self {
            number,
            target: Target {
                device: word(offset_of!(libc::stat, st_dev))?,
                inode: word(offset_of!(libc::stat, st_ino))?,
                mode: half(offset_of!(libc::stat, st_mode))?,
                uid: half(offset_of!(libc::stat, st_uid))?,
                gid: half(offset_of!(libc::stat, st_gid))?,
            },
            position: word(LSEEK)?.cast_signed().max(0),
            flags: word(GETFL)?.cast_signed() | on_exec,
        })
    }

    /// All that are open, ascending, by /proc: the kernel goes through all numbers that a
    /// process may have to list some.
    ///
    /// # Errors
    /// One cannot be looked at.
    pub(crate) fn listed(process: &Process) -> io::Result<Vec<Self>> {
        let mut numbers = Vec::new();
        process.read_descriptors(&mut numbers)?;
        numbers.sort_unstable();
        let mut text = Vec::new();
        numbers
            .into_iter()
            .map(|number| {
                let target = stat(format!("/proc/{}/fd/{number}", process.pid).as_str())?;
                read_info(process.pid, number, &mut text)?;
                let info = Info::parse(&text).ok_or_else(|| {
                    io::Error::other(format!("the fdinfo of descriptor {number} cannot be read"))
                })?;
                Ok(Self {
                    number,
                    target: Target {
                        device: target.st_dev,
                        inode: target.st_ino,
                        mode: target.st_mode,
                        uid: target.st_uid,
                        gid: target.st_gid,
                    },
                    position: info.position,
                    flags: info.flags,
                })
            })
            .collect()
    }

    pub(crate) fn is(&self, kind: libc::mode_t) -> bool {
        self.target.mode & libc::S_IFMT == kind
    }

    /// Pipes, devices and files: which one it is, is asked inside the worker.
    pub(crate) fn is_asked_inside(&self) -> bool {
        [libc::S_IFIFO, libc::S_IFCHR, libc::S_IFREG]
            .into_iter()
            .any(|kind| self.is(kind))
    }
}

/// Where a process can write to the pipe of this inode.
pub(crate) fn writer_of(open: &[Open], inode: libc::ino_t) -> Option<RawFd> {
    open.iter()
        .filter(|it| it.is(libc::S_IFIFO) && it.target.inode == inode)
        .find(|it| direction(it.flags) != libc::O_RDONLY)
        .map(|it| it.number)
}

pub(crate) fn direction(flags: i64) -> libc::c_int {
    flags as libc::c_int & libc::O_ACCMODE
}

/// Shown among a description's flags, and is the descriptor's.
pub(crate) const O_CLOEXEC: i64 = libc::O_CLOEXEC as i64;

/// The two lines of `fdinfo` (proc_pid_fdinfo(5)) that calls answer too.
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

pub(crate) fn read_info(pid: Pid, number: i32, text: &mut Vec<u8>) -> io::Result<()> {
    const AT_ONCE: usize = 512;
    text.clear();
    let info = File::open(format!("/proc/{pid}/fdinfo/{number}"))?;
    loop {
        let filled = text.len();
        text.resize(filled + AT_ONCE, 0);
        let got = info.read_at(&mut text[filled..], filled as u64)?;
        text.truncate(filled + got);
        if got == 0 {
            return Ok(());
        }
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
