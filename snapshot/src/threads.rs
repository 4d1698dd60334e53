//! The threads of a snapshot beside the main one: a runtime that has threads cannot be
//! forked, so they are part of what a rewind goes back to.
//!
//! A thread of the snapshot is never made again. One that is gone is a reason to
//! refuse; one that is there is sent through the stub for what only it can set (its
//! areas, its alternate stack, its name), and gets its registers back.

use std::fs::File;

use nix::unistd::Pid;

use crate::arch::Registers;
use crate::image::Image;
use crate::kernel_state::ThreadState;
use crate::ptrace::{self, ExtendedState, PtraceError, RseqConfiguration};
use crate::row::{Row, Taint};
use crate::runner::Runner;
use crate::tracer::Tracer;

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

    pub(crate) fn set(&self, tid: Pid) -> Result<(), PtraceError> {
        use crate::sabotage::leaves_out;

        if !leaves_out("registers:general") {
            ptrace::set_registers(tid, &self.general)?;
        }
        if !leaves_out("registers:extended") {
            ptrace::set_extended_state(tid, &self.extended)?;
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
        if ptrace::extended_state(tid)? != self.extended {
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
    pub(crate) rseq: Option<RseqConfiguration>,
    pub(crate) state: ThreadState,
}

impl ReadyThread {
    /// Puts back what the thread itself has to: pages and mappings are as they were.
    pub(crate) fn put_back(
        &self,
        table: &File,
        image: &Image,
        tracer: &mut Tracer,
        bytes: &mut Vec<u8>,
    ) -> Result<(), Taint> {
        let mut runner = Runner {
            tracer,
            pid: self.tid,
            registers: &self.registers.general,
            table,
            image,
            bytes,
        };
        runner.run(&self.state.program)
    }
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
