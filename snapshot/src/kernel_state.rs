//! What the kernel keeps for a process beside its memory and descriptors.
//!
//! What can be put back is, and what cannot (a lowered hard limit, a changed affinity) is
//! compared, and a difference refuses the rewind. Both happen inside the worker, in the
//! stub's one stop. What each thread sets when it begins is put back always. The rest few
//! functions change: it is looked after when a noted call or a signal may have changed it.

use std::io;
use std::ops::Range;

use nix::unistd::Pid;

use crate::process::Process;
use crate::ptrace::RseqConfiguration;
use crate::row::{Row, Taint};
use crate::sabotage::leaves_out;
use crate::stub::{Annex, Constants, Program, SCRATCH_RESULTS};
use crate::tracer::Noted;

/// `struct kernel_sigaction`: handler, flags, restorer, mask.
const SIGACTION_BYTES: u64 = 32;
const STACK_T_BYTES: u64 = 24;
const RLIMIT_BYTES: u64 = 16;
/// Limits on time. Where one is over, the kernel sends a signal and raises it by a second
/// (`posix_cpu_timers_work`), with no call of the process's.
const RISING: [libc::__rlimit_resource_t; 2] = [libc::RLIMIT_CPU, libc::RLIMIT_RTTIME];
const RLIMITS: u64 = 16;
const SCHED_ATTR_BYTES: u64 = 56;
const AFFINITY_BYTES: u64 = 128;
const COMM_BYTES: u64 = 16;
const CWD_BYTES: u64 = 4096;

/// The mask that is set where it is read, which cannot be done without setting one: the
/// usual one.
const UMASK: u64 = 0o022;

const RSEQ_FLAG_UNREGISTER: u64 = 1;

// Where each result goes, from the start of the scratch area.
const SIGACTIONS: u64 = 0;
const ALTSTACK: u64 = SIGACTIONS + 65 * SIGACTION_BYTES;
const LIMITS: u64 = ALTSTACK + STACK_T_BYTES;
const SCHED_ATTR: u64 = LIMITS + RLIMITS * RLIMIT_BYTES;
const AFFINITY: u64 = SCHED_ATTR + SCHED_ATTR_BYTES;
const COMM: u64 = AFFINITY + AFFINITY_BYTES;
/// Results that come back as numbers, 8 bytes each.
const NUMBERS: u64 = COMM + COMM_BYTES;
/// Room that none of it uses.
const ROOM: u64 = NUMBERS + 10 * 8;
const CWD: u64 = 4096;
const END: u64 = CWD + CWD_BYTES;

const _: () = assert!(ROOM <= CWD);
const _: () = assert!(END <= crate::stub::SCRATCH_RESULTS);

// Which number is which.
const BREAK: u64 = 0;
const SESSION: u64 = 1;
const GROUP: u64 = 2;
const IO_PRIORITY: u64 = 3;
const AFFINITY_LENGTH: u64 = 4;
const CWD_LENGTH: u64 = 5;
const ROBUST_HEAD: u64 = 6;
const ROBUST_LENGTH: u64 = 7;
const TID_ADDRESS: u64 = 8;
const OLD_UMASK: u64 = 9;

/// What one thread needs of the scratch area while it is put back.
const SEAT_BYTES: u64 = 256;
/// How many threads are put back at the same time.
pub(crate) const SEATS: usize = (SCRATCH_RESULTS / SEAT_BYTES) as usize;

const _: () = assert!(SCHED_ATTR_BYTES + AFFINITY_BYTES <= SEAT_BYTES);

/// Each interval timer (setitimer(2)) and what it sends.
const INTERVAL_TIMERS: [(libc::c_int, libc::c_int); 3] = [
    (libc::ITIMER_REAL, libc::SIGALRM),
    (libc::ITIMER_VIRTUAL, libc::SIGVTALRM),
    (libc::ITIMER_PROF, libc::SIGPROF),
];

/// The number by which a thread calls itself.
const SELF: u64 = 0;

/// Linux's `IOPRIO_WHO_PROCESS`.
const IOPRIO_WHO_PROCESS: u64 = 1;

/// Signals whose disposition can be set.
pub(crate) fn signals() -> impl Iterator<Item = u64> {
    (1..=64).filter(|signal| ![libc::SIGKILL as u64, libc::SIGSTOP as u64].contains(signal))
}

/// Something that [`capturing`] reads.
struct Reading {
    row: Row,
    what: &'static str,
    from: u64,
    length: u64,
}

impl Reading {
    const fn new(row: Row, what: &'static str, from: u64, length: u64) -> Self {
        Self {
            row,
            what,
            from,
            length,
        }
    }

    const fn number(row: Row, what: &'static str, index: u64) -> Self {
        Self::new(row, what, NUMBERS + index * 8, 8)
    }

    fn compare(&self, now: &Captured, then: &Captured, taints: &mut Vec<Taint>) {
        let (now, then) = (
            now.piece(self.from, self.length),
            then.piece(self.from, self.length),
        );
        if now != then {
            let detail = format!("{}: {now:?} instead of {then:?}", self.what);
            taints.push(Taint::new(self.row, detail));
        }
    }
}

/// What is each thread's own.
const THREAD_READINGS: &[Reading] = &[
    Reading::new(Row::Signals, "alternate stack", ALTSTACK, STACK_T_BYTES),
    Reading::new(Row::Scheduling, "policy", SCHED_ATTR, SCHED_ATTR_BYTES),
    Reading::new(Row::Scheduling, "affinity", AFFINITY, AFFINITY_BYTES),
    Reading::new(Row::Attributes, "name", COMM, COMM_BYTES),
    Reading::number(Row::Scheduling, "I/O priority", IO_PRIORITY),
    Reading::number(Row::ThreadAreas, "robust list", ROBUST_HEAD),
    Reading::number(Row::ThreadAreas, "tid address", TID_ADDRESS),
];

/// What all threads share, beside the dispositions of signals.
const PROCESS_READINGS: &[Reading] = &[
    Reading::new(Row::Limits, "limits", LIMITS, RLIMITS * RLIMIT_BYTES),
    Reading::new(Row::Attributes, "working directory", CWD, CWD_BYTES),
    Reading::number(Row::Break, "break", BREAK),
    Reading::number(Row::Attributes, "session", SESSION),
    Reading::number(Row::Attributes, "process group", GROUP),
    Reading::number(Row::Attributes, "umask", OLD_UMASK),
];

/// The calls that read the state, into the scratch area.
pub(crate) fn capturing(annex: &Annex) -> Program {
    let at = |offset: u64| annex.scratch.start + offset;
    let number = |index: u64| at(NUMBERS + index * 8);
    let mut program = Program::default();
    for signal in signals() {
        let to = at(SIGACTIONS + signal * SIGACTION_BYTES);
        program.checked_call(Row::Signals, libc::SYS_rt_sigaction, &[signal, 0, to, 8], 0);
    }
    program.checked_call(Row::Signals, libc::SYS_sigaltstack, &[0, at(ALTSTACK)], 0);
    reading_limits(&mut program, annex);
    reading_scheduling(&mut program, SELF, at(SCHED_ATTR));
    program.stored_call(
        Row::Scheduling,
        libc::SYS_sched_getaffinity,
        &[0, AFFINITY_BYTES, at(AFFINITY)],
        number(AFFINITY_LENGTH),
    );
    program.stored_call(
        Row::Scheduling,
        libc::SYS_ioprio_get,
        &[IOPRIO_WHO_PROCESS, 0],
        number(IO_PRIORITY),
    );
    program.checked_call(
        Row::Attributes,
        libc::SYS_prctl,
        &[libc::PR_GET_NAME as u64, at(COMM)],
        0,
    );
    program.stored_call(
        Row::Attributes,
        libc::SYS_getcwd,
        &[at(CWD), CWD_BYTES],
        number(CWD_LENGTH),
    );
    program.stored_call(
        Row::Attributes,
        libc::SYS_umask,
        &[UMASK],
        number(OLD_UMASK),
    );
    program.stored_call(Row::Attributes, libc::SYS_getsid, &[0], number(SESSION));
    program.stored_call(Row::Attributes, libc::SYS_getpgid, &[0], number(GROUP));
    program.stored_call(Row::Break, libc::SYS_brk, &[0], number(BREAK));
    program.checked_call(
        Row::ThreadAreas,
        libc::SYS_get_robust_list,
        &[0, number(ROBUST_HEAD), number(ROBUST_LENGTH)],
        0,
    );
    program.checked_call(
        Row::ThreadAreas,
        libc::SYS_prctl,
        &[libc::PR_GET_TID_ADDRESS as u64, number(TID_ADDRESS)],
        0,
    );
    program
}

/// Where in the scratch area [`capturing`] leaves room for other answers.
pub(crate) fn room_beside(annex: &Annex) -> Range<u64> {
    annex.scratch.start + ROOM..annex.scratch.start + CWD
}

fn reading_limits(program: &mut Program, annex: &Annex) {
    for resource in 0..RLIMITS {
        let to = annex.scratch.start + LIMITS + resource * RLIMIT_BYTES;
        program.checked_call(Row::Limits, libc::SYS_prlimit64, &[0, resource, 0, to], 0);
    }
}

fn reading_scheduling(program: &mut Program, of: u64, to: u64) {
    program.checked_call(
        Row::Scheduling,
        libc::SYS_sched_getattr,
        &[of, to, SCHED_ATTR_BYTES, 0],
        0,
    );
}

/// What [`capturing`] left in the scratch area.
struct Captured(Vec<u8>);

impl Captured {
    fn read(process: &Process, annex: &Annex) -> io::Result<Self> {
        let mut scratch = vec![0; END as usize];
        process.read_memory(annex.scratch.start, &mut scratch)?;
        Ok(Self(scratch))
    }

    fn piece(&self, offset: u64, length: u64) -> &[u8] {
        &self.0[offset as usize..(offset + length) as usize]
    }

    fn number(&self, index: u64) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.piece(NUMBERS + index * 8, 8));
        u64::from_ne_bytes(bytes)
    }

    /// Adds the comparison of what `read` reads to `at`.
    fn must_stay(
        &self,
        checks: &mut Program,
        (annex, constants): (&Annex, &mut Constants),
        row: Row,
        (offset, length): (u64, u64),
        (at, read): (u64, impl FnOnce(&mut Program, u64)),
    ) {
        let expected = constants.add(annex, self.piece(offset, length));
        read(checks, at);
        checks.must_equal(row, at, expected, length);
    }
}

/// The state at the ready point, as the work that brings it back.
pub(crate) struct KernelState {
    /// First of all, if a timer was armed.
    disarming: Program,
    /// Before pages are copied: comparisons, which need the scratch area, of scheduling,
    /// session and process group.
    standing: Program,
    /// The same, of limits.
    limits: Program,
    /// True if there is one that the kernel raises with each signal that tells of it.
    limits_rise: bool,
    /// After mappings are as they were, before pages are copied.
    pub(crate) before_pages: Program,
    /// After pages are copied.
    pub(crate) after_pages: Program,
    /// Then, too: the name, the directory and so on.
    attributes: Program,
    /// Where the dispositions stand, from that of signal 0 on.
    actions: u64,
    /// The break; tried before mappings are mended, checked after.
    pub(crate) program_break: u64,
    ignoring: u64,
    /// All that [`capturing`] read.
    captured: Captured,
}

/// What of it is each thread's own, of one beside the main thread.
pub(crate) struct ThreadState {
    /// Puts back, in one stop, what every thread sets.
    areas: Program,
    /// Compares the rest before that, and puts it back as well.
    whole: Program,
    /// Compares what others can change of it while it sleeps; for the main thread.
    pub(crate) from_outside: Program,
    captured: Captured,
}

fn unregistering(rseq: RseqConfiguration, program: &mut Program) {
    program.checked_call(
        Row::ThreadAreas,
        libc::SYS_rseq,
        &[
            rseq.pointer,
            u64::from(rseq.size),
            RSEQ_FLAG_UNREGISTER,
            u64::from(rseq.signature),
        ],
        0,
    );
}

fn registering(rseq: RseqConfiguration, program: &mut Program) {
    program.checked_call(
        Row::ThreadAreas,
        libc::SYS_rseq,
        &[
            rseq.pointer,
            u64::from(rseq.size),
            u64::from(rseq.flags),
            u64::from(rseq.signature),
        ],
        0,
    );
}

/// Comparisons of what is a thread's own and cannot be put back. Another thread can make
/// them, too.
fn thread_checks(
    captured: &Captured,
    of: u64,
    (annex, constants): (&Annex, &mut Constants),
    room: u64,
    checks: &mut Program,
) -> io::Result<()> {
    let affinity_length = captured.number(AFFINITY_LENGTH);
    if affinity_length > AFFINITY_BYTES {
        return Err(io::Error::other("the worker's affinity cannot be read"));
    }
    captured.must_stay(
        checks,
        (annex, constants),
        Row::Scheduling,
        (SCHED_ATTR, SCHED_ATTR_BYTES),
        (room, |program, at| reading_scheduling(program, of, at)),
    );
    captured.must_stay(
        checks,
        (annex, constants),
        Row::Scheduling,
        (AFFINITY, affinity_length),
        (room + SCHED_ATTR_BYTES, |program, at| {
            program.checked_call(
                Row::Scheduling,
                libc::SYS_sched_getaffinity,
                &[of, AFFINITY_BYTES, at],
                affinity_length.cast_signed(),
            );
        }),
    );
    checks.checked_call(
        Row::Scheduling,
        libc::SYS_ioprio_get,
        &[IOPRIO_WHO_PROCESS, of],
        captured.number(IO_PRIORITY).cast_signed(),
    );
    Ok(())
}

/// What is a thread's own and is put back always.
fn thread_areas(
    captured: &Captured,
    tid: Pid,
    annex: &Annex,
    constants: &mut Constants,
    program: &mut Program,
) {
    let altstack = constants.add(annex, captured.piece(ALTSTACK, STACK_T_BYTES));
    program.checked_call(Row::Signals, libc::SYS_sigaltstack, &[altstack, 0], 0);
    let robust = [captured.number(ROBUST_HEAD), captured.number(ROBUST_LENGTH)];
    program.checked_call(Row::ThreadAreas, libc::SYS_set_robust_list, &robust, 0);
    program.checked_call(
        Row::ThreadAreas,
        libc::SYS_set_tid_address,
        &[captured.number(TID_ADDRESS)],
        i64::from(tid.as_raw()),
    );
}

/// What is a thread's own and few set.
fn thread_attributes(
    captured: &Captured,
    annex: &Annex,
    constants: &mut Constants,
    program: &mut Program,
) {
    let comm = constants.add(annex, captured.piece(COMM, COMM_BYTES));
    for (option, argument) in [
        (libc::PR_SET_NAME, comm),
        (libc::PR_SET_PDEATHSIG, 0),
        (libc::PR_SET_TIMERSLACK, 0),
    ] {
        set_attribute(program, option, argument);
    }
}

fn set_attribute(program: &mut Program, option: libc::c_int, argument: u64) {
    program.checked_call(
        Row::Attributes,
        libc::SYS_prctl,
        &[option as u64, argument, 0, 0, 0],
        0,
    );
}

impl ThreadState {
    /// Reads what [`capturing`] left in the scratch area when this thread ran it. Those
    /// that are put back at the same time have seats of their own in it.
    pub(crate) fn read(
        process: &Process,
        (tid, seat): (Pid, usize),
        annex: &Annex,
        constants: &mut Constants,
        rseq: Option<RseqConfiguration>,
    ) -> io::Result<Self> {
        let captured = Captured::read(process, annex)?;
        let mut whole = Program::default();
        let room = annex.scratch.start + seat as u64 * SEAT_BYTES;
        thread_checks(&captured, SELF, (annex, &mut *constants), room, &mut whole)?;
        let mut from_outside = Program::default();
        let number = i64::from(tid.as_raw()).cast_unsigned();
        let main_room = annex.scratch.start + SCHED_ATTR;
        thread_checks(
            &captured,
            number,
            (annex, &mut *constants),
            main_room,
            &mut from_outside,
        )?;
        let mut areas = Program::default();
        if let Some(rseq) = rseq {
            // Pages are as they were by now: what the kernel has in mind is not what
            // stands there, until it is registered afresh.
            unregistering(rseq, &mut areas);
            registering(rseq, &mut areas);
        }
        thread_areas(&captured, tid, annex, constants, &mut areas);
        whole.append(&areas);
        thread_attributes(&captured, annex, constants, &mut whole);
        // The main thread did that when it was done; this one comes later.
        whole.zero(Row::Pages, room, SEAT_BYTES);
        Ok(Self {
            areas,
            whole,
            from_outside,
            captured,
        })
    }

    /// What brings the thread back.
    pub(crate) fn program(&self, noted: Noted) -> &Program {
        if noted.standing || noted.attributes {
            &self.whole
        } else {
            &self.areas
        }
    }

    /// What reads otherwise than at the ready point, after [`capturing`] ran again.
    pub(crate) fn differences(&self, process: &Process, annex: &Annex) -> io::Result<Vec<Taint>> {
        let now = Captured::read(process, annex)?;
        let mut taints = Vec::new();
        for reading in THREAD_READINGS {
            reading.compare(&now, &self.captured, &mut taints);
        }
        Ok(taints)
    }
}

impl KernelState {
    /// Reads what [`capturing`] left in the scratch area.
    pub(crate) fn read(
        process: &Process,
        annex: &Annex,
        constants: &mut Constants,
        rseq: Option<RseqConfiguration>,
    ) -> io::Result<Self> {
        let captured = Captured::read(process, annex)?;
        let cwd_length = captured.number(CWD_LENGTH);
        if cwd_length > CWD_BYTES {
            return Err(io::Error::other(
                "the worker's working directory cannot be read",
            ));
        }

        let mut limits = Program::default();
        captured.must_stay(
            &mut limits,
            (annex, constants),
            Row::Limits,
            (LIMITS, RLIMITS * RLIMIT_BYTES),
            (annex.scratch.start + LIMITS, |program, _| {
                reading_limits(program, annex);
            }),
        );
        let limits_rise = RISING.iter().any(|resource| {
            let soft = captured.piece(LIMITS + u64::from(*resource) * RLIMIT_BYTES, 8);
            soft != libc::RLIM_INFINITY.to_ne_bytes()
        });
        let mut standing = Program::default();
        let room = annex.scratch.start + SCHED_ATTR;
        thread_checks(
            &captured,
            SELF,
            (annex, &mut *constants),
            room,
            &mut standing,
        )?;
        for (call, index) in [(libc::SYS_getsid, SESSION), (libc::SYS_getpgid, GROUP)] {
            let expected = captured.number(index).cast_signed();
            standing.checked_call(Row::Attributes, call, &[0], expected);
        }

        let mut before_pages = Program::default();
        let mut after = Program::default();
        if let Some(rseq) = rseq {
            // Its words are the kernel's, which may keep what it wrote there in
            // mind: away while the page is copied, registered afresh afterwards.
            unregistering(rseq, &mut before_pages);
            registering(rseq, &mut after);
        }
        let mut actions = 0;
        for signal in 0..=64 {
            let action = captured.piece(SIGACTIONS + signal * SIGACTION_BYTES, SIGACTION_BYTES);
            let at = constants.add(annex, action);
            if signal == 0 {
                actions = at;
            }
        }
        let mut ignore = [0; SIGACTION_BYTES as usize];
        ignore[..8].copy_from_slice(&libc::SIG_IGN.to_ne_bytes());
        let ignoring = constants.add(annex, &ignore);
        let no_timer = constants.add(annex, &[0; 32]);
        let mut disarming = Program::default();
        for (timer, _) in INTERVAL_TIMERS {
            disarming.checked_call(
                Row::Timers,
                libc::SYS_setitimer,
                &[timer as u64, no_timer, 0],
                0,
            );
        }
        thread_areas(&captured, process.pid, annex, constants, &mut after);
        let mut attributes = Program::default();
        thread_attributes(&captured, annex, constants, &mut attributes);
        attributes.call(
            Row::Attributes,
            libc::SYS_umask,
            &[captured.number(OLD_UMASK)],
        );
        let cwd = constants.add(annex, captured.piece(CWD, cwd_length));
        attributes.checked_call(Row::Attributes, libc::SYS_chdir, &[cwd], 0);
        set_attribute(&mut attributes, libc::PR_SET_CHILD_SUBREAPER, 0);
        set_attribute(&mut attributes, libc::PR_SET_DUMPABLE, 1);
        Ok(Self {
            disarming,
            standing,
            limits,
            limits_rise,
            before_pages,
            after_pages: after,
            attributes,
            actions,
            program_break: captured.number(BREAK),
            ignoring,
            captured,
        })
    }

    /// How many descriptors it may have.
    pub(crate) fn descriptor_limit(&self) -> u64 {
        let at = LIMITS + u64::from(libc::RLIMIT_NOFILE) * RLIMIT_BYTES;
        let mut soft = [0; 8];
        soft.copy_from_slice(self.captured.piece(at, 8));
        u64::from_ne_bytes(soft)
    }

    /// Sets the mask that [`capturing`] read, if that has set another.
    pub(crate) fn masking(&self) -> Option<Program> {
        let mask = self.captured.number(OLD_UMASK);
        (mask != UMASK).then(|| {
            let mut program = Program::default();
            program.call(Row::Attributes, libc::SYS_umask, &[mask]);
            program
        })
    }

    /// What reads otherwise than at the ready point, after [`capturing`] ran again.
    pub(crate) fn differences(&self, process: &Process, annex: &Annex) -> io::Result<Vec<Taint>> {
        let now = Captured::read(process, annex)?;
        let mut taints = Vec::new();
        for signal in signals() {
            let reading = Reading {
                row: Row::Signals,
                what: "disposition of a signal",
                from: SIGACTIONS + signal * SIGACTION_BYTES,
                length: SIGACTION_BYTES,
            };
            reading.compare(&now, &self.captured, &mut taints);
        }
        for reading in THREAD_READINGS.iter().chain(PROCESS_READINGS) {
            reading.compare(&now, &self.captured, &mut taints);
        }
        Ok(taints)
    }

    /// Disarms the interval timers, if any was armed, then drops pending signals, and in
    /// that case those of the timers: they fire until they are disarmed. A signal that is
    /// ignored is not kept (sigaction(2)). Which dispositions are no more what they were,
    /// by then, a bit each as in `noted`.
    pub(crate) fn drop_pending(&self, pending: &[i32], noted: Noted, program: &mut Program) -> u64 {
        if noted.timers {
            program.append(&self.disarming);
        }
        let mut dispositions = noted.dispositions();
        if leaves_out("signals:pending") {
            return dispositions;
        }
        let of_timers = INTERVAL_TIMERS.iter().filter(|_| noted.timers);
        for signal in pending.iter().chain(of_timers.map(|(_, signal)| signal)) {
            program.checked_call(
                Row::Signals,
                libc::SYS_rt_sigaction,
                &[*signal as u64, self.ignoring, 0, 8],
                0,
            );
            dispositions |= 1 << (signal - 1);
        }
        dispositions
    }

    /// Compares limits, if any was set, or may have been raised by the kernel.
    pub(crate) fn check_limits(&self, noted: Noted, program: &mut Program) {
        if noted.limits || (self.limits_rise && !leaves_out("limits:rising")) {
            program.append(&self.limits);
        }
    }

    /// Compares scheduling, session and process group, if any was set.
    pub(crate) fn check_standing(&self, noted: Noted, program: &mut Program) {
        if noted.standing {
            program.append(&self.standing);
        }
    }

    /// Puts the name, the directory and so on back, if any was set.
    pub(crate) fn put_attributes_back(&self, noted: Noted, program: &mut Program) {
        if noted.attributes {
            program.append(&self.attributes);
        }
    }

    /// Puts these dispositions back.
    pub(crate) fn put_dispositions_back(&self, which: u64, program: &mut Program) {
        for signal in signals().filter(|signal| which & (1 << (signal - 1)) != 0) {
            let action = self.actions + signal * SIGACTION_BYTES;
            program.checked_call(
                Row::Signals,
                libc::SYS_rt_sigaction,
                &[signal, action, 0, 8],
                0,
            );
        }
    }
}
