//! What a noted call is about.

/// The part of a process's state that a call may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Note {
    /// What a signal does, whose number is the first argument.
    Disposition,
    /// A resource limit.
    Limits,
    /// An interval timer.
    Timers,
    /// Signals that wait for one thread.
    ThreadSignals,
    /// A process comes about whose dispositions are the caller's.
    SharedDispositions,
    /// A lock on what a descriptor leads to.
    Locks,
    /// How a thread is scheduled, of whatever process; a session or process group.
    Standing,
    /// The name, the directory, the mask of new files, and what prctl(2) sets.
    Attributes,
    /// What a descriptor below [`NOTED_DESCRIPTORS`](super::NOTED_DESCRIPTORS) leads to,
    /// the flags of any, or who may use a file.
    Descriptors,
}

impl Note {
    const ALL: [Self; 9] = [
        Self::Disposition,
        Self::Limits,
        Self::Timers,
        Self::ThreadSignals,
        Self::SharedDispositions,
        Self::Locks,
        Self::Standing,
        Self::Attributes,
        Self::Descriptors,
    ];

    /// What the filter says of it to the tracer (seccomp(2), `SECCOMP_RET_DATA`); a call
    /// that is recorded says 0.
    pub(super) fn message(self) -> u16 {
        match self {
            Self::Disposition => 1,
            Self::Limits => 2,
            Self::Timers => 3,
            Self::ThreadSignals => 4,
            Self::SharedDispositions => 5,
            Self::Locks => 6,
            Self::Standing => 7,
            Self::Attributes => 8,
            Self::Descriptors => 9,
        }
    }

    /// What the filter said.
    pub(crate) fn of(message: u64) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|note| u64::from(note.message()) == message)
    }
}
