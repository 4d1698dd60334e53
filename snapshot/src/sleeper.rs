//! Threads of a snapshot that wait, and need not be put back because they never moved.
//!
//! A runtime has threads that mostly wait for work. To stop, check and restore each of
//! them takes longer than everything that a small function does. So a thread that waits
//! in futex(2) at the snapshot is let go by a single step into that call: it stops again
//! on the way out of it, before it executes anything (ptrace(2), `PTRACE_SINGLESTEP`).
//! As long as that stop has not come and the kernel says that the thread sleeps, it is
//! where it was: its registers, its areas and its mask are what it alone can change.
//!
//! What others can do to it meanwhile is looked after otherwise: its scheduling is read
//! and compared from the main thread; signals that it holds back are dropped for the
//! whole process, where any was sent to a thread, which is noted; and calls that have it
//! wait for another address are recorded (`FUTEX_REQUEUE` and the like, the table of
//! system calls).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::unistd::Pid;

use crate::threads::ReadyRegisters;

/// A thread that may be left asleep.
pub(crate) struct Sleeper {
    /// Open to everybody as long as it is open, unlike what says in which call it is.
    stat: File,
    /// It was let go so that it stops before it executes anything.
    pub(crate) is_armed: bool,
}

impl Sleeper {
    /// A thread of the process that waits with these registers, if it is one.
    pub(crate) fn of(
        process: Pid,
        tid: Pid,
        registers: &ReadyRegisters,
    ) -> io::Result<Option<Self>> {
        // Bits above are which clock, and whose futex.
        const OPERATION: u64 = 0x7f;
        // The step's stop is a signal: where that is blocked, the kernel no longer does so,
        // and forgets its handler.
        const TRAP: u64 = 1 << (libc::SIGTRAP - 1);
        let (number, arguments) = registers.general.call_to_make();
        let waits = [libc::FUTEX_WAIT, libc::FUTEX_WAIT_BITSET]
            .contains(&((arguments[1] & OPERATION) as i32));
        if number != libc::SYS_futex || !waits || registers.signal_mask & TRAP != 0 {
            return Ok(None);
        }
        Ok(Some(Self {
            stat: File::open(format!("/proc/{process}/task/{tid}/stat"))?,
            is_armed: false,
        }))
    }

    /// True if it has not moved: it would have stopped, and it is about to do neither.
    pub(crate) fn is_asleep(&self) -> bool {
        self.is_armed && self.state() == Some(b'S')
    }

    /// proc_pid_stat(5), the third field; the second may contain anything.
    fn state(&self) -> Option<u8> {
        let mut line = [0; 512];
        let length = self.stat.read_at(&mut line, 0).ok()?;
        let line = &line[..length];
        let name_ends = line.iter().rposition(|byte| *byte == b')')?;
        line.get(name_ends + 2).copied()
    }
}
