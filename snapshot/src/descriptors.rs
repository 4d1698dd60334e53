//! A worker's descriptors: which numbers are open, and whether each still is what
//! it was.
//!
//! Pipes, devices and files are asked about inside the worker, in the stub's one
//! stop: which inode, which owner; if it is the one it was, its flags are set again. That
//! is done when a noted call may have changed any of it: the numbers are low ones as a
//! rule, and to close one of those is noted. Offsets and times are set always. What has contents of its own (sockets, epoll, event and timer
//! descriptors) is compared by the text of its `fdinfo` (proc_pid_fdinfo(5)), which
//! shows them; a count of events is put back. An epoll set is looked at when the
//! function's own descriptors are closed, and its registrations gone with them.

use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::ops::RangeInclusive;
use std::os::fd::RawFd;
use std::os::unix::fs::FileExt;

use nix::unistd::{Gid, Pid, Uid, setfsgid, setfsuid};

use crate::inside::WIDEST_TABLE;
use crate::open::{self, Info, O_CLOEXEC, Open, direction, read_info};
use crate::pipe;
use crate::process::Process;
use crate::row::{Row, Taint};
use crate::sabotage::leaves_out;
use crate::stub::{Annex, Constants, Program};
use crate::syscalls::NOTED_DESCRIPTORS;
use crate::tracer::Noted;

/// The descriptors at the ready point.
pub(crate) struct Descriptors {
    /// Ascending.
    numbers: Vec<i32>,
    /// Those that are compared by their `fdinfo`.
    by_text: Vec<ByText>,
    /// The `fdinfo` of all, to verify with, if that is to be done.
    infos: Vec<Vec<u8>>,
    /// Sets offsets and times of all others, and empties pipes.
    always: Program,
    /// Compares which ones they are.
    identity: Program,
    /// The same, and their flags, of those whose closing is not noted.
    beyond: Program,
    /// What is set again.
    flags: Vec<Flags>,
    /// Has their table be as large as it was, which a noted call may have changed.
    widening: Program,
    owner: (Uid, Gid),
    /// Releases locks, if any was taken.
    unlocking: Program,
    /// Where in a worker the `struct linger` stands that makes closing a reset.
    reset: u64,
    /// Where there is room for what is read away.
    room: u64,
    // Kept between rewinds so that one allocates nothing.
    open: Vec<i32>,
    text: Vec<u8>,
}

/// A descriptor with contents of its own.
struct ByText {
    number: i32,
    /// Stays open: who may not open it again may still read it.
    info: File,
    expected: Vec<u8>,
    kind: Contents,
}

/// The flags of a descriptor, and of what it leads to.
struct Flags {
    number: i32,
    expected: i64,
}

impl Flags {
    /// Adds what sets them, if they are others.
    ///
    /// # Errors
    /// They cannot be read.
    fn mend(&self, pid: Pid, text: &mut Vec<u8>, program: &mut Program) -> io::Result<()> {
        read_info(pid, self.number, text)?;
        let now = Info::parse(text).ok_or_else(|| io::Error::other("its flags are not there"))?;
        if now.flags == self.expected {
            return Ok(());
        }
        let of_description = self.expected & !O_CLOEXEC;
        // What cannot be set, the direction of a pipe above all, has to be so already.
        for (command, argument, expected) in [
            (libc::F_SETFL, of_description, 0),
            (libc::F_GETFL, 0, of_description),
            (libc::F_SETFD, self.on_exec(), 0),
        ] {
            self.call(command, argument, expected, program);
        }
        Ok(())
    }

    /// Adds a comparison.
    fn compare(&self, program: &mut Program) {
        self.call(libc::F_GETFL, 0, self.expected & !O_CLOEXEC, program);
        self.call(libc::F_GETFD, 0, self.on_exec(), program);
    }

    fn on_exec(&self) -> i64 {
        i64::from(self.expected & O_CLOEXEC != 0)
    }

    fn call(&self, command: libc::c_int, argument: i64, expected: i64, program: &mut Program) {
        let arguments = [self.number as u64, command as u64, argument.cast_unsigned()];
        program.checked_call(Row::Descriptors, libc::SYS_fcntl, &arguments, expected);
    }
}

enum Contents {
    /// Where in a worker its count stands.
    Events(u64),
    Epoll,
    Other,
}

impl ByText {
    fn is_same(&self, text: &mut Vec<u8>) -> io::Result<bool> {
        text.resize(self.expected.len() + 1, 0);
        let mut filled = 0;
        while filled < text.len() {
            match self.info.read_at(&mut text[filled..], filled as u64)? {
                0 => break,
                got => filled += got,
            }
        }
        text.truncate(filled);
        Ok(*text == self.expected)
    }
}

/// How many events an eventfd's `fdinfo` counts, and the text without that.
fn events(text: &[u8]) -> Option<(u64, String)> {
    const NAME: &str = "eventfd-count:";
    let text = std::str::from_utf8(text).ok()?;
    let line = text.lines().find(|line| line.starts_with(NAME))?;
    // A semaphore gives them away one by one.
    if text.lines().any(|line| line == "eventfd-semaphore: 1") {
        return None;
    }
    let count = u64::from_str_radix(line[NAME.len()..].trim(), 16).ok()?;
    Some((count, text.replace(line, "")))
}

impl Descriptors {
    /// Reads what there is, of a process that may have so many; if these are all, what [`asking`](open::asking) asked
    /// of them.
    pub(crate) fn capture(
        process: &Process,
        given: RangeInclusive<RawFd>,
        limit: u64,
        owner: (Uid, Gid),
        annex: &Annex,
        constants: &mut Constants,
    ) -> io::Result<Self> {
        let open = match Open::answered(process, given, annex)? {
            Some(open) => open,
            None => {
                let _as_owner = AsOwner::switch(owner);
                Open::listed(process)?
            }
        };
        let numbers: Vec<RawFd> = open.iter().map(|it| it.number).collect();
        let mut by_text = Vec::new();
        let mut always = Program::default();
        let mut identity = Program::default();
        let mut beyond = Program::default();
        let mut flags = Vec::new();
        let mut unlocking = Program::default();
        // struct flock: type, whence, start, length, pid.
        let mut unlock = [0; size_of::<libc::flock>()];
        unlock[..2].copy_from_slice(&(libc::F_UNLCK as i16).to_ne_bytes());
        let unlock = constants.add(annex, &unlock);
        // struct linger: on, for no time.
        let reset = constants.add(annex, &[1, 0, 0, 0, 0, 0, 0, 0]);
        for it in &open {
            let number = it.number;
            if !it.is_asked_inside() {
                let _as_owner = AsOwner::switch(owner);
                let path = format!("/proc/{}/fdinfo/{number}", process.pid);
                let mut text = Vec::new();
                read_info(process.pid, number, &mut text)?;
                let kind = match events(&text) {
                    Some((count, _)) => {
                        Contents::Events(constants.add(annex, &count.to_ne_bytes()))
                    }
                    None if is_epoll(process.pid, number) => Contents::Epoll,
                    None => Contents::Other,
                };
                by_text.push(ByText {
                    number,
                    info: File::open(path)?,
                    expected: text,
                    kind,
                });
                continue;
            }
            let fd = number as u64;
            let row = Row::Descriptors;
            let stat = annex.scratch.start;
            let mut same = Program::default();
            same.checked_call(row, libc::SYS_fstat, &[fd, stat], 0);
            let mut must_be = |offset: usize, bytes: &[u8]| {
                let expected = constants.add(annex, bytes);
                same.must_equal(row, stat + offset as u64, expected, bytes.len() as u64);
            };
            let target = &it.target;
            must_be(offset_of!(libc::stat, st_dev), &target.device.to_ne_bytes());
            must_be(offset_of!(libc::stat, st_ino), &target.inode.to_ne_bytes());
            must_be(offset_of!(libc::stat, st_mode), &target.mode.to_ne_bytes());
            must_be(offset_of!(libc::stat, st_uid), &target.uid.to_ne_bytes());
            must_be(offset_of!(libc::stat, st_gid), &target.gid.to_ne_bytes());
            identity.append(&same);
            let its_flags = Flags {
                number,
                expected: it.flags,
            };
            if !is_noted(number) {
                beyond.append(&same);
                its_flags.compare(&mut beyond);
            }
            flags.push(its_flags);
            if it.is(libc::S_IFREG) {
                always.checked_call(
                    row,
                    libc::SYS_lseek,
                    &[fd, it.position.cast_unsigned(), libc::SEEK_SET as u64],
                    it.position,
                );
            }
            // A lock is released whether there is one or not.
            unlocking.call(row, libc::SYS_flock, &[fd, libc::LOCK_UN as u64]);
            for command in [libc::F_SETLK, libc::F_OFD_SETLK] {
                unlocking.call(row, libc::SYS_fcntl, &[fd, command as u64, unlock]);
            }
            if it.is(libc::S_IFIFO) && direction(it.flags) != libc::O_WRONLY {
                let unread = pipe::contents(process.pid, number, owner)?;
                let writer = open::writer_of(&open, target.inode);
                if unread.is_empty() && it.flags & i64::from(libc::O_NONBLOCK) != 0 {
                    pipe::empty(number, annex, &mut always);
                }
                pipe::refill(&unread, (number, writer), annex, constants, &mut always)?;
            }
            if it.is(libc::S_IFIFO) {
                // When it was last written to, or was said to be: now. The pipe may
                // be somebody else's, which is as good.
                always.call(row, libc::SYS_utimensat, &[fd, 0, 0, 0]);
            }
        }
        Ok(Self {
            numbers,
            by_text,
            infos: Vec::new(),
            always,
            identity,
            beyond,
            flags,
            widening: widening(limit),
            owner,
            unlocking,
            reset,
            room: annex.scratch.start,
            open: Vec::new(),
            text: Vec::new(),
        })
    }

    /// Takes note of what [`differences`](Self::differences) compares with.
    pub(crate) fn keep_infos(&mut self, process: &Process) -> io::Result<()> {
        let _as_owner = AsOwner::switch(self.owner);
        for number in &self.numbers {
            let mut text = Vec::new();
            read_info(process.pid, *number, &mut text)?;
            self.infos.push(text);
        }
        Ok(())
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
        noted: Noted,
        program: &mut Program,
    ) -> Result<u32, Taint> {
        let failed = |doing: &str, error: io::Error| {
            Taint::new(Row::Descriptors, format!("{doing}: {error}"))
        };
        let mut closed = 0;
        let mut seen = self.numbers.len();
        // With none of its own closed, as many as there were are the same.
        let are_as_many = !noted.descriptors && process.count_descriptors() == Some(seen);
        if !are_as_many {
            seen = 0;
            process
                .read_descriptors(&mut self.open)
                .map_err(|error| failed("listing", error))?;
        }
        for number in self.open.iter().filter(|_| !are_as_many) {
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
        if seen != self.numbers.len() {
            return Err(Taint::new(
                Row::Descriptors,
                "the function closed one that is not its own",
            ));
        }
        if noted.descriptors {
            program.append(&self.identity);
            let _as_owner = AsOwner::switch(self.owner);
            for flags in &self.flags {
                flags
                    .mend(process.pid, &mut self.text, program)
                    .map_err(|error| failed("reading flags", error))?;
            }
            // Whatever had the highest number was closed above.
            program.append(&self.widening);
        } else {
            program.append(&self.beyond);
        }
        program.append(&self.always);
        if noted.locks {
            program.append(&self.unlocking);
        }
        if leaves_out("descriptors:fdinfo") {
            return Ok(closed);
        }
        for it in &self.by_text {
            let is_same = it
                .is_same(&mut self.text)
                .map_err(|error| failed("reading fdinfo", error))?;
            match it.kind {
                _ if is_same => {}
                Contents::Epoll => {}
                Contents::Events(count) => {
                    recount(it, &self.text, (self.room, count), program)
                        .ok_or_else(|| it.is_another())?;
                }
                Contents::Other => return Err(it.is_another()),
            }
        }
        Ok(closed)
    }

    /// Looks at what changes by the closing of others, after that was done.
    ///
    /// # Errors
    /// A set is not the one that it was.
    pub(crate) fn check_epoll(&mut self) -> Result<(), Taint> {
        for it in &self.by_text {
            if !matches!(it.kind, Contents::Epoll) || leaves_out("descriptors:fdinfo") {
                continue;
            }
            let is_same = it
                .is_same(&mut self.text)
                .map_err(|error| Taint::new(Row::Descriptors, error.to_string()))?;
            if !is_same {
                return Err(it.is_another());
            }
        }
        Ok(())
    }
}

impl ByText {
    fn is_another(&self) -> Taint {
        let number = self.number;
        Taint::new(
            Row::Descriptors,
            format!("descriptor {number} is not what it was"),
        )
    }
}

/// Adds what makes a counter of events count what it did; nothing if it is another one.
fn recount(
    it: &ByText,
    text: &[u8],
    (room, count_at): (u64, u64),
    program: &mut Program,
) -> Option<()> {
    const BYTES: u64 = size_of::<u64>() as u64;
    let (expected, others) = events(&it.expected)?;
    let (count, others_now) = events(text)?;
    if others != others_now {
        return None;
    }
    let fd = it.number as u64;
    let row = Row::Descriptors;
    if count > 0 {
        program.checked_call(row, libc::SYS_read, &[fd, room, BYTES], BYTES.cast_signed());
    }
    if expected > 0 {
        let arguments = [fd, count_at, BYTES];
        program.checked_call(row, libc::SYS_write, &arguments, BYTES.cast_signed());
    }
    Some(())
}

/// What makes the table of descriptors as large as it can become with this limit of their number,
/// as `inside::widen_descriptor_table` does in a newborn.
pub(crate) fn widening(limit: u64) -> Program {
    let mut program = Program::default();
    let highest = limit.min(WIDEST_TABLE).saturating_sub(1);
    let row = Row::Descriptors;
    if !leaves_out("descriptors:table-size") {
        program.checked_call(row, libc::SYS_dup2, &[0, highest], highest.cast_signed());
        program.checked_call(row, libc::SYS_close, &[highest], 0);
    }
    program
}

/// Whether its closing would be noted.
fn is_noted(number: i32) -> bool {
    u32::try_from(number).is_ok_and(|number| number < NOTED_DESCRIPTORS)
}

fn is_epoll(pid: Pid, number: i32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/fd/{number}"))
        .is_ok_and(|target| target.as_os_str() == "anon_inode:[eventpoll]")
}

/// Looks as the worker's user: the kernel shows descriptors to who could trace the
/// process, and without `CAP_SYS_PTRACE` that is its own user. Only the filesystem
/// ids change, which give nobody a right over this process.
pub(crate) struct AsOwner(Uid, Gid);

impl AsOwner {
    pub(crate) fn switch((uid, gid): (Uid, Gid)) -> Self {
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
