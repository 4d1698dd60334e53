//! The rows of the state table (docs/restore.md), and why a worker may not be
//! rewound.

use std::fmt;

/// One kind of state that a process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Row {
    /// General and extended registers.
    Registers,
    /// Contents of private pages.
    Pages,
    /// The list of mappings.
    Mappings,
    /// The program break.
    Break,
    /// Open descriptors.
    Descriptors,
    /// Dispositions, masks, alternate stack, pending signals.
    Signals,
    /// Interval and POSIX timers.
    Timers,
    /// rseq, robust list, clear-tid address.
    ThreadAreas,
    /// Threads beside the main one.
    Threads,
    /// Processes that the worker started.
    Children,
    /// Running another program.
    Exec,
    /// Working directory, umask, name and other attributes of a process.
    Attributes,
    /// Resource limits.
    Limits,
    /// Nice value, policy, affinity, I/O priority.
    Scheduling,
    /// Uid, capabilities, keyrings, seccomp, namespaces.
    Credentials,
    /// Memory locks and advice that no mapping list shows.
    MemoryAdvice,
    /// Files in writable directories.
    Files,
    /// The worker itself: it ended, stopped or cannot be reached.
    Worker,
    /// A system call that the table does not know.
    Unknown,
}

impl Row {
    /// The row's name in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registers => "registers",
            Self::Pages => "pages",
            Self::Mappings => "mappings",
            Self::Break => "break",
            Self::Descriptors => "descriptors",
            Self::Signals => "signals",
            Self::Timers => "timers",
            Self::ThreadAreas => "thread_areas",
            Self::Threads => "threads",
            Self::Children => "children",
            Self::Exec => "exec",
            Self::Attributes => "attributes",
            Self::Limits => "limits",
            Self::Scheduling => "scheduling",
            Self::Credentials => "credentials",
            Self::MemoryAdvice => "memory_advice",
            Self::Files => "files",
            Self::Worker => "worker",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A reason why a worker may not be rewound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{row}: {detail}")]
pub struct Taint {
    /// The state that cannot be put back.
    pub row: Row,
    /// What was seen.
    pub detail: String,
}

impl Taint {
    /// A reason in words.
    pub fn new(row: Row, detail: impl Into<String>) -> Self {
        Self {
            row,
            detail: detail.into(),
        }
    }
}
