//! Why a request has no response: the sentence that the client gets.

use std::fmt::Display;
use std::time::Duration;

use nix::sys::signal::Signal;
use refunction_adapter::Exception;
use refunction_protocol::{Failure, FailureKind};
use refunction_snapshot::End;

use crate::template::CHANNEL_BROKE;

pub(crate) fn failure(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure {
        kind,
        message: message.into(),
        error_type: None,
        stack: None,
    }
}

/// The function's own.
pub(crate) fn raised(exception: Exception) -> Failure {
    Failure {
        kind: FailureKind::Exception,
        message: exception.message,
        error_type: Some(exception.error_type),
        stack: (!exception.stack.is_empty()).then_some(exception.stack),
    }
}

pub(crate) fn timed_out(limit: Duration) -> Failure {
    failure(
        FailureKind::Timeout,
        format!(
            "the call took longer than its deadline of {} ms",
            limit.as_millis()
        ),
    )
}

pub(crate) fn not_loaded() -> Failure {
    failure(
        FailureKind::NotLoaded,
        "no function is loaded: send a \"function\" message first",
    )
}

/// A worker sent what it may not.
pub(crate) fn broken_channel<T: Display>(what: T) -> Failure {
    failure(
        FailureKind::Crashed,
        format!("the worker broke its channel: {what}"),
    )
}

/// A worker ended during a call.
pub(crate) fn ended(end: End, memory: &mut MemoryWatch) -> Failure {
    match end {
        End::Killed(signal) if signal == Signal::SIGKILL as i32 => match memory.killed_since() {
            Some(limits) => failure(
                FailureKind::OutOfMemory,
                format!("the function ran out of memory{limits}"),
            ),
            None => failure(FailureKind::Crashed, "the worker was killed by SIGKILL"),
        },
        End::Killed(signal) => failure(
            FailureKind::Crashed,
            format!("the worker was killed by {}", name(signal)),
        ),
        End::Exited(status) if status == i32::from(CHANNEL_BROKE) => failure(
            FailureKind::Crashed,
            "the worker lost its channel to the supervisor: the function closed or broke descriptor 3 or 4",
        ),
        End::Exited(status) => failure(
            FailureKind::Crashed,
            format!("the worker exited with status {status} during the call"),
        ),
    }
}

pub(crate) fn stopped(signal: i32) -> Failure {
    failure(
        FailureKind::Crashed,
        format!("the worker was stopped by {}", name(signal)),
    )
}

fn name(signal: i32) -> String {
    Signal::try_from(signal).map_or_else(
        |_| format!("signal {signal}"),
        |signal| signal.as_str().to_string(),
    )
}

/// The container's own memory cgroup, to tell an out-of-memory kill from another.
/// It is `oom_kill` that counts, not `oom`.
pub(crate) struct MemoryWatch {
    kills: u64,
    /// Workers that there are at a time.
    workers: u64,
}

impl MemoryWatch {
    pub(crate) fn start(workers: usize) -> Self {
        Self {
            kills: kills(),
            workers: workers as u64,
        }
    }

    /// If the kernel killed for memory since the last time: limit and peak, as far
    /// as they can be read. Of several that it killed meanwhile each is told by itself.
    fn killed_since(&mut self) -> Option<String> {
        let kills = kills();
        if kills <= self.kills {
            return None;
        }
        let others = self.workers.saturating_sub(1);
        self.kills = (self.kills + 1).max(kills.saturating_sub(others));
        let said: Vec<String> = [
            ("limit", ["memory.max", "memory/memory.limit_in_bytes"]),
            ("peak", ["memory.peak", "memory/memory.max_usage_in_bytes"]),
        ]
        .iter()
        .filter_map(|(word, files)| Some(format!("{word} {} bytes", number(files)?)))
        .collect();
        Some(if said.is_empty() {
            String::new()
        } else {
            format!(" ({})", said.join(", "))
        })
    }
}

const CGROUP: &str = "/sys/fs/cgroup";

fn kills() -> u64 {
    ["memory.events", "memory/memory.oom_control"]
        .iter()
        .find_map(|file| {
            let text = std::fs::read_to_string(format!("{CGROUP}/{file}")).ok()?;
            let count = text
                .lines()
                .find_map(|line| line.strip_prefix("oom_kill "))?;
            count.trim().parse().ok()
        })
        .unwrap_or(0)
}

fn number(files: &[&str]) -> Option<u64> {
    files.iter().find_map(|file| {
        let text = std::fs::read_to_string(format!("{CGROUP}/{file}")).ok()?;
        text.trim().parse().ok()
    })
}
