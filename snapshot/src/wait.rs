//! What wait(2) says of traced threads, as words.

use std::io;
use std::time::{Duration, Instant};

use libc::c_int;
use nix::unistd::Pid;

/// One thing that happened to a thread or a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It ended by itself.
    Exited(c_int),
    /// A signal ended it.
    Killed(c_int),
    /// It is about to take this signal.
    Signal(c_int),
    /// It made a thread or a process, whose id is the event's message.
    Created,
    /// It runs another program now.
    Executed,
    /// It is at a system call that its filter records.
    Recorded,
    /// It stopped because it was asked to, or is newly attached.
    Interrupted,
    /// A stop signal stopped its whole process.
    GroupStop(c_int),
    /// It went on; nothing to do.
    Other,
}

impl Change {
    fn from_status(status: c_int) -> Self {
        if libc::WIFEXITED(status) {
            return Self::Exited(libc::WEXITSTATUS(status));
        }
        if libc::WIFSIGNALED(status) {
            return Self::Killed(libc::WTERMSIG(status));
        }
        if !libc::WIFSTOPPED(status) {
            return Self::Other;
        }
        let signal = libc::WSTOPSIG(status);
        match status >> 16 {
            0 => Self::Signal(signal),
            libc::PTRACE_EVENT_CLONE | libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK => {
                Self::Created
            }
            libc::PTRACE_EVENT_EXEC => Self::Executed,
            libc::PTRACE_EVENT_SECCOMP => Self::Recorded,
            libc::PTRACE_EVENT_STOP if signal == libc::SIGTRAP => Self::Interrupted,
            libc::PTRACE_EVENT_STOP => Self::GroupStop(signal),
            _ => Self::Other,
        }
    }
}

/// The next change of any child or tracee, if there is one already.
pub(crate) fn poll() -> Option<(Pid, Change)> {
    loop {
        let mut status = 0;
        // SAFETY: writes one int.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
        if pid > 0 {
            return Some((Pid::from_raw(pid), Change::from_status(status)));
        }
        if pid == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return None;
        }
    }
}

/// The next change, waiting for it until `deadline`.
///
/// Rests on SIGCHLD being blocked in every thread of this process (see
/// [`block_sigchld`]): a change that came before the wait began has then left its
/// signal pending, and none is missed.
pub(crate) fn next(deadline: Instant) -> Option<(Pid, Change)> {
    loop {
        if let Some(change) = poll() {
            return Some(change);
        }
        let left = deadline.checked_duration_since(Instant::now())?;
        sleep_until_sigchld(left);
    }
}

fn sleep_until_sigchld(at_most: Duration) {
    let set = sigchld();
    let timeout = libc::timespec {
        tv_sec: at_most.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: at_most.subsec_nanos().into(),
    };
    // SAFETY: reads the two structs; no siginfo is asked for.
    unsafe { libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const timeout) };
}

/// Leaves a SIGCHLD pending: there may be more changes than were asked for.
pub(crate) fn come_back() {
    // SAFETY: sends a signal to this very thread, where it is blocked.
    unsafe { libc::raise(libc::SIGCHLD) };
}

/// Blocks SIGCHLD in the calling thread and those it will start.
///
/// # Errors
/// pthread_sigmask(3) failed.
pub fn block_sigchld() -> io::Result<()> {
    let set = sigchld();
    // SAFETY: reads the set; no old one is asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn sigchld() -> libc::sigset_t {
    // SAFETY: sigemptyset initialises the set before sigaddset reads it.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        set
    }
}
