//! What a restore did and how long each part took.

use std::time::{Duration, Instant};

use crate::row::Taint;

/// The timed parts of a restore, in the order they ended.
#[derive(Debug, Clone, Default)]
pub struct Phases(Vec<(&'static str, Duration)>);

impl Phases {
    /// Each part's name and duration.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Duration)> + '_ {
        self.0.iter().copied()
    }

    /// The whole.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.0.iter().map(|(_, duration)| *duration).sum()
    }

    /// Adds a part.
    pub fn add(&mut self, name: &'static str, duration: Duration) {
        self.0.push((name, duration));
    }
}

/// A clock that names what ended.
pub(crate) struct Stopwatch {
    since: Instant,
    pub(crate) phases: Phases,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self {
            since: Instant::now(),
            phases: Phases(Vec::with_capacity(12)),
        }
    }

    pub(crate) fn lap(&mut self, name: &'static str) {
        let now = Instant::now();
        self.phases.add(name, now - self.since);
        self.since = now;
    }
}

/// What a restore had the worker's main thread do: the same for the same worker and
/// function, whatever the machine does beside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Times that it was let go and stopped again.
    pub stops: u64,
    /// Operations, system calls among them.
    pub operations: u64,
    /// System calls.
    pub calls: u64,
    /// Bytes copied or compared.
    pub bytes: u64,
}

/// A worker was put back.
#[derive(Debug, Clone)]
pub struct Rewound {
    /// Where the time went.
    pub phases: Phases,
    /// Pages that were private and are as in the snapshot again.
    pub dirty_pages: u64,
    /// Threads that were made to exit.
    pub threads_ended: u32,
    /// Processes that were killed.
    pub processes_ended: u32,
    /// Mappings that were removed, remade or reprotected.
    pub mappings_mended: u32,
    /// Descriptors that were closed.
    pub descriptors_closed: u32,
    /// What that took inside the worker.
    pub work: Work,
}

/// A worker cannot be put back; it must be killed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the worker cannot be rewound: {}", .taints.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct Refused {
    /// Every reason that was seen.
    pub taints: Vec<Taint>,
    /// Where the time went until then.
    pub phases: Phases,
}
