//! What PID 1 owes its container: signals are taken and passed on, orphans are
//! reaped (the engine's wait does that).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use signal_hook::consts::{SIGCHLD, SIGINT, SIGKILL, SIGSTOP, SIGTERM};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

/// Signals that mean the process itself is at fault, or its terminal.
const SYNCHRONOUS: &[Signal] = &[
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGABRT,
    Signal::SIGTRAP,
    Signal::SIGSYS,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

/// What a signal asks of the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// End, work in flight first; the second time, at once.
    Drain(i32),
    /// Pass it on to the function.
    Forward(i32),
}

fn asked(signal: i32) -> Asked {
    match signal {
        SIGTERM | SIGINT => Asked::Drain(signal),
        other => Asked::Forward(other),
    }
}

/// Everything that reaches this process as a signal.
pub(crate) struct Signals {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
    children: SignalFd,
}

impl Signals {
    /// Takes every signal that can be taken. SIGCHLD is blocked already: the engine
    /// waits for it in its own way.
    pub(crate) fn take() -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        let taken = Signal::iterator()
            .filter(|signal| !SYNCHRONOUS.contains(signal))
            // A closed pipe is an error of the write, not a signal's business.
            .filter(|signal| *signal != Signal::SIGPIPE)
            .map(|signal| signal as i32)
            .filter(|signal| ![SIGCHLD, SIGKILL, SIGSTOP].contains(signal));
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, taken)?;
        let mut child = SigSet::empty();
        child.add(Signal::SIGCHLD);
        let children =
            SignalFd::with_flags(&child, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { delivery, children })
    }

    /// Readable when a signal came.
    pub(crate) fn arrivals(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }

    /// Readable when something happened to a child.
    pub(crate) fn children(&self) -> BorrowedFd<'_> {
        self.children.as_fd()
    }

    /// What came since the last time.
    pub(crate) fn pending(&mut self) -> Vec<Asked> {
        self.delivery.pending().map(asked).collect()
    }

    /// Forgets the SIGCHLDs that came; whoever calls this looks at every child.
    pub(crate) fn clear_children(&self) {
        while matches!(self.children.read_signal(), Ok(Some(_))) {}
    }
}

/// Passes a signal on.
pub(crate) fn forward(signal: i32, to: Pid) {
    if let Ok(signal) = Signal::try_from(signal) {
        // Gone meanwhile: nobody to forward to.
        let _ = kill(to, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn term_and_int_drain_and_the_rest_is_passed_on() {
        assert_eq!(asked(SIGTERM), Asked::Drain(SIGTERM));
        assert_eq!(asked(SIGINT), Asked::Drain(SIGINT));
        assert_eq!(asked(Signal::SIGHUP as i32), Asked::Forward(1));
    }
}
