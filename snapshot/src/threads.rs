//! The threads of a snapshot beside the main one: a runtime that has threads cannot be
//! forked, so they are part of what a rewind goes back to.
//!
//! A thread of the snapshot is never made again. One that is gone is a reason to
//! refuse; one that is there is sent through the stub for what only it can set (its
//! areas, its alternate stack, its name), and gets its registers back.

use std::fs::File;
use std::os::unix::fs::FileExt;

use nix::unistd::Pid;

use crate::arch::Registers;
use crate::deadline::Deadline;
use crate::image::Image;
use crate::kernel_state::{SEATS, ThreadState};
use crate::ptrace::{self, ExtendedState, PtraceError, RseqConfiguration};
use crate::row::{Row, Taint};
use crate::runner::{ALL_BUT_TRAP, PENDING_TRAPS};
use crate::sabotage::leaves_out;
use crate::tracer::{Noted, Tracer};

/// Everything of one thread that ptrace itself can set.
pub(crate) struct ReadyRegisters {
    pub(crate) general: Registers,
    pub(crate) extended: ExtendedState,
    pub(crate) signal_mask: u64,
}

impl ReadyRegisters {
    /// Those of a stopped thread. If it was called out of a system call it will make
    /// it again.
    pub(crate) fn of(tid: Pid) -> Result<Self, PtraceError> {
        Ok(Self {
            general: ptrace::registers(tid)?.calling_again(),
            extended: ptrace::extended_state(tid)?,
            signal_mask: ptrace::signal_mask(tid)?,
        })
    }

    /// What shows that a thread that has `now` did more than sleep since it had these.
    pub(crate) fn moved_since(&self, now: &Self) -> Option<String> {
        let general = now.general.as_if_not_stepped().as_if_still_waiting();
        if !general.is_same(&self.general) {
            return Some(format!("{general:?} instead of {:?}", self.general));
        }
        if let Some(at) = now.extended.differs_from(&self.extended) {
            return Some(format!("extended registers, from byte {at} on"));
        }
        (now.signal_mask != self.signal_mask).then(|| {
            let (now, then) = (now.signal_mask, self.signal_mask);
            format!("it blocks signals {now:#x} instead of {then:#x}")
        })
    }

    pub(crate) fn set(&self, tid: Pid) -> Result<(), PtraceError> {
        if !leaves_out("registers:extended") {
            ptrace::set_extended_state(tid, &self.extended)?;
        }
        self.set_but_extended(tid)
    }

    /// The same of a thread that the stub gave its extended registers.
    pub(crate) fn set_but_extended(&self, tid: Pid) -> Result<(), PtraceError> {
        if !leaves_out("registers:general") {
            ptrace::set_registers(tid, &self.general)?;
        }
        if !leaves_out("signals:mask") {
            ptrace::set_signal_mask(tid, self.signal_mask)?;
        }
        Ok(())
    }

    /// What is otherwise now, and what nobody may have left in the thread's queue.
    pub(crate) fn differences(&self, tid: Pid) -> Result<Vec<Taint>, PtraceError> {
        let mut taints = Vec::new();
        let mut differ = |row, what: &str| {
            taints.push(Taint::new(row, format!("{what} of thread {tid} differ")));
        };
        if !ptrace::registers(tid)?.is_same(&self.general) {
            differ(Row::Registers, "general registers");
        }
        let extended = ptrace::extended_state(tid)?;
        if extended.differs_from(&self.extended).is_some() {
            differ(Row::Registers, "extended registers");
        }
        if ptrace::signal_mask(tid)? != self.signal_mask {
            differ(Row::Signals, "blocked signals");
        }
        let pending = ptrace::pending_signals(tid)?;
        if !pending.is_empty() {
            differ(Row::Signals, &format!("pending signals {pending:?}"));
        }
        Ok(taints)
    }
}

/// A thread at the ready point.
pub(crate) struct ReadyThread {
    pub(crate) tid: Pid,
    pub(crate) registers: ReadyRegisters,
    /// Of the wait that it makes again.
    pub(crate) deadline: Option<Deadline>,
    pub(crate) rseq: Option<RseqConfiguration>,
    pub(crate) state: ThreadState,
}

/// Has each thread that does not sleep put back what only it can, as many at a time as there
/// is room for: pages and mappings are as they were.
pub(crate) fn put_back(
    pid: Pid,
    (threads, noted): (&[ReadyThread], Noted),
    table: &File,
    image: &Image,
    tracer: &mut Tracer,
    bytes: &mut Vec<u8>,
) -> Result<(), Taint> {
    let awake: Vec<&ReadyThread> = threads
        .iter()
        .filter(|thread| !tracer.is_asleep(thread.tid))
        .collect();
    for deadline in awake.iter().filter_map(|thread| thread.deadline.as_ref()) {
        deadline.renew(table).map_err(|error| {
            Taint::new(Row::Threads, format!("renewing the end of a wait: {error}"))
        })?;
    }
    awake
        .chunks(SEATS)
        .try_for_each(|some| put_some_back(pid, (some, noted), table, image, tracer, bytes))
}

fn put_some_back(
    pid: Pid,
    (threads, noted): (&[&ReadyThread], Noted),
    table: &File,
    image: &Image,
    tracer: &mut Tracer,
    bytes: &mut Vec<u8>,
) -> Result<(), Taint> {
    let failed = |error: &dyn std::fmt::Display| {
        Taint::new(Row::Threads, format!("the stub in a thread: {error}"))
    };
    let annex = &image.annex;
    bytes.clear();
    for thread in threads {
        let from = annex.table.start + bytes.len() as u64;
        thread.state.program(noted).encode(0, bytes);
        ptrace::set_signal_mask(thread.tid, ALL_BUT_TRAP).map_err(|error| failed(&error))?;
        ptrace::leave_critical_section(thread.tid).map_err(|error| failed(&error))?;
        let entry = thread.registers.general.entering(annex.code, from);
        ptrace::set_registers(thread.tid, &entry).map_err(|error| failed(&error))?;
    }
    table
        .write_all_at(bytes, 0)
        .map_err(|error| failed(&error))?;
    let mut running: Vec<Pid> = threads.iter().map(|thread| thread.tid).collect();
    // A function can leave the breakpoint's signal pending for a thread, too.
    for _ in 0..=PENDING_TRAPS {
        tracer
            .run_until_traps(pid, &running, "running the stub in threads")
            .map_err(|error| failed(&error))?;
        let mut on_their_way = Vec::new();
        for tid in running {
            let registers = ptrace::registers(tid).map_err(|error| failed(&error))?;
            if !registers.is_behind_breakpoint(annex.code) {
                on_their_way.push(tid);
            }
        }
        running = on_their_way;
        if running.is_empty() {
            break;
        }
    }
    if !running.is_empty() {
        return Err(failed(&"it did not get to its end"));
    }
    let length = bytes.len();
    bytes.fill(0);
    table
        .write_all_at(&bytes[..length], 0)
        .map_err(|error| failed(&error))?;
    let mut from = 0;
    for thread in threads {
        let outcome = ptrace::registers(thread.tid)
            .map_err(|error| failed(&error))?
            .stub_outcome();
        if outcome.failed {
            let at = outcome.operation.saturating_sub(from);
            let (row, what) = thread
                .state
                .program(noted)
                .failure(0, annex, at, outcome.value);
            return Err(Taint::new(row, format!("thread {}: {what}", thread.tid)));
        }
        from += thread.state.program(noted).encoded_bytes();
    }
    Ok(())
}

/// The threads of the snapshot that are not there any more.
pub(crate) fn missing(ready: &[ReadyThread], there: &[Pid]) -> Vec<Taint> {
    ready
        .iter()
        .filter(|thread| !there.contains(&thread.tid))
        .map(|thread| {
            let detail = format!("thread {} of the snapshot is gone", thread.tid);
            Taint::new(Row::Threads, detail)
        })
        .collect()
}
