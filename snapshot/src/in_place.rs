//! Workers that are not forked: a runtime with threads becomes one where it stands.
//!
//! Such a process is a program of its own, started by [`Launch`](crate::inside::Launch). When it says
//! (to its supervisor) that it is ready, every thread of it is stopped, looked at, and
//! let go again until all of them wait in calls that can simply be made again. Then its
//! memory is frozen like a template's, and it is its own only worker, still stopped: the
//! first [`Engine::rewind_in_place`] lets it go. One that cannot be put back has no
//! successor but another such program.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Pid, Uid, geteuid};

use crate::birth::{Candidate, create_table};
use crate::descriptors;
use crate::engine::{Engine, EngineError, Holding, io_error};
use crate::image::{Image, StoppedCalls, reopen_to_read};
use crate::inside::TABLE_NUMBER;
use crate::maps::{self, Backing};
use crate::message::{self, FAILED, MAX_DESCRIPTORS, MAX_MESSAGE, PLACE, READY};
use crate::process::Process;
use crate::ptrace;
use crate::report::{Refused, Rewound};
use crate::row::{Row, Taint};
use crate::runner::{ALL_BUT_TRAP, Runner};
use crate::sibling::Sibling;
use crate::sleeper::Sleeper;
use crate::stub::Program;
use crate::threads::ReadyRegisters;
use crate::tracer::{TraceError, Tracer};
use crate::worker::Worker;

/// How long the threads of a runtime that says that it is ready may go on.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two looks: what a thread does before it waits is announced to nobody.
const PAUSE: Duration = Duration::from_millis(1);

/// Calls that can be made again as if they had never been made: they wait, and change
/// nothing before there is something to change.
const WAITS: &[i64] = &[
    libc::SYS_read,
    libc::SYS_futex,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_select,
    libc::SYS_pselect6,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_rt_sigtimedwait,
];

/// A runtime that is on its way to become a worker.
pub struct Starting {
    pid: Pid,
    socket: OwnedFd,
    image: File,
    image_number: RawFd,
    table: File,
}

impl Starting {
    /// The process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }
}

/// A worker that is its own template.
pub struct InPlace {
    worker: Worker,
    image: Image,
    /// What its launcher said of it.
    pub description: Vec<u8>,
}

impl InPlace {
    /// The worker, to [hold](Engine::hold) it.
    pub fn worker(&mut self) -> &mut Worker {
        &mut self.worker
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.worker.pid()
    }

    /// Bytes of memory in the image.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.image.bytes()
    }

    /// Threads of the snapshot, the main one among them.
    #[must_use]
    pub fn threads(&self) -> usize {
        1 + self.worker.ready.threads.len()
    }
}

impl Engine {
    /// Attaches to a child that was started with the other end of `socket` (see
    /// [`conversation`](Self::conversation)) and is to [launch](crate::inside::Launch) a
    /// runtime, which gets these descriptors from 0 on.
    ///
    /// # Errors
    /// It cannot be traced, or is gone.
    pub fn adopt_runtime(
        &mut self,
        pid: Pid,
        socket: OwnedFd,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Starting, EngineError> {
        let failed = |error: &dyn std::fmt::Display| EngineError::Template(error.to_string());
        if descriptors.len() > MAX_DESCRIPTORS {
            return Err(failed(&"that are more descriptors than a worker may have"));
        }
        self.tracer
            .adopt_runtime(pid)
            .map_err(|error| failed(&error))?;
        let image = Image::create().map_err(io_error("creating the image"))?;
        let for_worker = reopen_to_read(&image).map_err(io_error("opening the image"))?;
        let (table, table_for_worker) =
            create_table().map_err(io_error("creating a worker's table"))?;
        let mut numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        numbers.extend([for_worker.as_raw_fd(), table_for_worker.as_raw_fd()]);
        message::send(socket.as_fd(), &[&[PLACE]], &numbers)
            .map_err(io_error("handing descriptors to the launcher"))?;
        Ok(Starting {
            pid,
            socket,
            image,
            image_number: descriptors.len() as RawFd,
            table,
        })
    }

    /// Takes the snapshot of a runtime that says that it is ready, and is about to wait
    /// in one of its threads for something to read from `reads_from`. It becomes `owner`'s,
    /// if it may, and stays stopped.
    ///
    /// # Errors
    /// It ended, or did not come to rest, or cannot be frozen. It is killed.
    pub fn freeze_in_place(
        &mut self,
        starting: Starting,
        reads_from: RawFd,
        owner: (Uid, Gid),
    ) -> Result<InPlace, EngineError> {
        let pid = starting.pid;
        self.try_freeze_in_place(starting, reads_from, owner)
            .inspect_err(|_| {
                // The error at hand says more than that it would not die either.
                let _ = self.tracer.discard(pid);
            })
    }

    fn try_freeze_in_place(
        &mut self,
        starting: Starting,
        reads_from: RawFd,
        owner: (Uid, Gid),
    ) -> Result<InPlace, EngineError> {
        let Starting {
            pid,
            socket,
            image,
            image_number,
            table,
        } = starting;
        let failed = |error: TraceError| EngineError::Freeze(error.to_string());
        let refused = |taint: Taint| EngineError::Freeze(taint.to_string());
        let description = hear(&socket)?;
        let threads = self.come_to_rest(pid, reads_from)?;
        if let Some(signal) = self.tracer.take_evidence(pid).boot_signals.first() {
            // Somebody else's: a runtime sends itself none. What it did about it would be
            // in every tenant's process.
            let what = format!("it was sent signal {signal} before it was ready");
            return Err(EngineError::Freeze(what));
        }
        let process = Process::open(pid).map_err(io_error("opening the runtime's /proc files"))?;
        let main = ReadyRegisters::of(pid).map_err(|error| failed(error.into()))?;
        ptrace::set_signal_mask(pid, ALL_BUT_TRAP).map_err(|error| failed(error.into()))?;
        let calls = StoppedCalls::before_call(&mut self.tracer, pid, main.general);
        let image = Image::freeze(image, &process, &mut self.scanner, calls, image_number)?;
        StoppedCalls::before_call(&mut self.tracer, pid, main.general)
            .map_table(&image.annex, TABLE_NUMBER)?;
        for tid in threads.iter().chain([&pid]) {
            let registers = ReadyRegisters::of(*tid).map_err(|error| failed(error.into()))?;
            let mut program = settling(&process, owner, *tid == pid)?;
            if *tid == pid {
                forget_files(&process, &image, &mut program)?;
            }
            Runner {
                tracer: &mut self.tracer,
                pid: *tid,
                registers: &registers.general,
                table: &table,
                image: &image,
                bytes: &mut Vec::new(),
            }
            .run(&program)
            .map_err(refused)?;
            registers.set(*tid).map_err(|error| failed(error.into()))?;
        }
        main.set(pid).map_err(|error| failed(error.into()))?;
        let candidate = Candidate {
            process,
            owner,
            table,
            image_number,
            threads,
        };
        let mut worker = Worker::at_ready_point(
            candidate,
            &image,
            &Sibling::default(),
            &mut self.tracer,
            &mut self.scanner,
        )?;
        self.prepare_to_verify(&mut worker)?;
        let mut sleepers = Vec::new();
        for thread in &worker.ready.threads {
            let sleeper = Sleeper::of(pid, thread.tid, &thread.registers)
                .map_err(io_error("opening what the kernel says of a thread"))?;
            sleepers.extend(sleeper.map(|it| (thread.tid, it)));
        }
        self.tracer.is_snapshotted(pid, sleepers);
        self.tracer.take_evidence(pid);
        // It is stopped, and stays so.
        self.tracer.hold(pid).map_err(refused)?;
        Ok(InPlace {
            worker,
            image,
            description,
        })
    }

    /// Stops a runtime where all its threads wait; those beside the main one.
    fn come_to_rest(&mut self, pid: Pid, reads_from: RawFd) -> Result<Vec<Pid>, EngineError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let held = self
                .tracer
                .hold(pid)
                .map_err(|taint| EngineError::Freeze(taint.to_string()))?;
            let busy = busy_thread(pid, &held.threads, reads_from)
                .map_err(|error| EngineError::Freeze(error.to_string()))?;
            let Some(busy) = busy else {
                return Ok(held.threads);
            };
            if Instant::now() >= deadline {
                return Err(EngineError::Freeze(format!("it does not rest: {busy}")));
            }
            let_go_on(&mut self.tracer, pid, &held.threads)
                .map_err(|error| EngineError::Freeze(error.to_string()))?;
            std::thread::sleep(PAUSE);
        }
    }

    /// Brings a held worker back to its ready point, and lets it go.
    ///
    /// # Errors
    /// It is not as it was, and must be [discarded](Self::discard_in_place).
    pub fn rewind_in_place(
        &mut self,
        in_place: &mut InPlace,
        holding: Holding,
    ) -> Result<Rewound, Refused> {
        let InPlace { worker, image, .. } = in_place;
        self.put_back(image, worker, holding)
    }

    /// Kills a worker and all that it started, and reaps it.
    ///
    /// # Errors
    /// As [`discard`](Self::discard).
    pub fn discard_in_place(&mut self, in_place: InPlace) -> Result<(), EngineError> {
        self.discard(in_place.worker)
    }

    /// Kills a runtime that was to become a worker.
    ///
    /// # Errors
    /// As [`discard`](Self::discard).
    pub fn discard_starting(&mut self, starting: Starting) -> Result<(), EngineError> {
        self.tracer
            .discard(starting.pid)
            .map_err(|error| EngineError::Template(error.to_string()))
    }

    /// Kills a runtime that is about to end, and tells what its launcher said of that.
    ///
    /// # Errors
    /// As [`discard`](Self::discard).
    pub fn last_words(&mut self, starting: Starting) -> Result<String, EngineError> {
        self.tracer
            .discard(starting.pid)
            .map_err(|error| EngineError::Template(error.to_string()))?;
        Ok(match hear(&starting.socket) {
            Err(EngineError::Template(reason)) => reason,
            _ => "it ended before it was ready".into(),
        })
    }
}

/// Lets a runtime go on that was stopped too early. Left to the kernel, a timed wait
/// would go on as `restart_syscall`, which cannot be made again once it is over.
fn let_go_on(tracer: &mut Tracer, pid: Pid, others: &[Pid]) -> Result<(), TraceError> {
    for tid in others.iter().chain([&pid]) {
        let registers = ptrace::registers(*tid)?;
        if registers
            .interrupted_call()
            .is_some_and(|number| WAITS.contains(&number))
        {
            ptrace::set_registers(*tid, &registers.calling_again())?;
        }
    }
    tracer.release(pid)
}

/// What the launcher said before it became the runtime.
fn hear(socket: &OwnedFd) -> Result<Vec<u8>, EngineError> {
    let mut message = vec![0; MAX_MESSAGE];
    let (length, _) = message::receive(socket.as_fd(), &mut message)
        .map_err(io_error("hearing from the launcher"))?;
    let failed = |reason: String| Err(EngineError::Template(reason));
    let description = match &message[..length] {
        [] => return failed("it ended".into()),
        [FAILED, reason @ ..] => return failed(String::from_utf8_lossy(reason).into_owned()),
        [READY, description @ ..] => description.to_vec(),
        _ => return failed("it sent no known message".into()),
    };
    // What it says after that is why it is still there.
    match message::receive(socket.as_fd(), &mut message) {
        Ok((0, _)) => Ok(description),
        Ok((length, _)) => failed(String::from_utf8_lossy(&message[1..length]).into_owned()),
        Err(error) => Err(io_error("hearing from the launcher")(error)),
    }
}

/// A thread that does not wait, and what it does instead.
fn busy_thread(
    pid: Pid,
    others: &[Pid],
    reads_from: RawFd,
) -> Result<Option<String>, ptrace::PtraceError> {
    let mut does_read = false;
    for tid in others.iter().chain([&pid]) {
        let registers = ptrace::registers(*tid)?;
        let call = registers.interrupted_call();
        let (_, arguments) = registers.system_call();
        does_read |=
            call == Some(libc::SYS_read) && arguments[0] == i64::from(reads_from).cast_unsigned();
        if !call.is_some_and(|number| WAITS.contains(&number)) {
            return Ok(Some(match call {
                Some(number) => format!("thread {tid} is in system call {number}"),
                None => format!("thread {tid} runs"),
            }));
        }
    }
    Ok((!does_read).then(|| "no thread waits for a request".into()))
}

/// Adds the dropping of what booting read of programs and libraries. Every rewind walks
/// the pages that are there, and most of these are never looked at again.
fn forget_files(
    process: &Process,
    image: &Image,
    program: &mut Program,
) -> Result<(), EngineError> {
    let mut text = Vec::new();
    process
        .read_maps(&mut text)
        .map_err(io_error("reading the runtime's mappings"))?;
    let mappings = maps::parse(&text).map_err(|error| EngineError::Freeze(error.to_string()))?;
    for mapping in &mappings {
        // Where a page was the process's own, the whole mapping is the image's by now.
        let is_a_files = matches!(mapping.backing, Backing::File { .. })
            && image.offset_of(mapping.span.start).is_none();
        if is_a_files && !mapping.shared && !mapping.is_writable() {
            let arguments = [
                mapping.span.start,
                mapping.span.len(),
                libc::MADV_DONTNEED as u64,
            ];
            program.checked_call(Row::Pages, libc::SYS_madvise, &arguments, 0);
        }
    }
    Ok(())
}

/// What a thread of a runtime gives up for good before it meets a tenant.
fn settling(
    process: &Process,
    (uid, gid): (Uid, Gid),
    is_main: bool,
) -> Result<Program, EngineError> {
    let mut program = Program::default();
    let row = Row::Credentials;
    // Where it cannot be another's there is nothing to give up, and root may not even say so.
    if uid != geteuid() {
        let (uid, gid) = (u64::from(uid.as_raw()), u64::from(gid.as_raw()));
        program.checked_call(row, libc::SYS_setgroups, &[0, 0], 0);
        program.checked_call(row, libc::SYS_setresgid, &[gid, gid, gid], 0);
        program.checked_call(row, libc::SYS_setresuid, &[uid, uid, uid], 0);
        // Changing the user hid the process from its tracer.
        let visible = [libc::PR_SET_DUMPABLE as u64, 1, 0, 0, 0];
        program.checked_call(row, libc::SYS_prctl, &visible, 0);
    }
    if is_main {
        let limit = process
            .descriptor_limit()
            .map_err(io_error("reading the limit of descriptors"))?;
        program.append(&descriptors::widening(limit));
    }
    Ok(program)
}
