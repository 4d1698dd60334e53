//! What a call of a named function is, and what can become of it.

use std::time::Duration;

use opentelemetry::trace::SpanContext;
use refunction_protocol::Failure;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use crate::channel::Parts;

/// One call.
#[derive(Debug)]
pub struct Call {
    /// The function's name.
    pub function: String,
    /// The id under which its log lines are kept; unique among the calls under way.
    pub id: String,
    /// One JSON value.
    pub payload: Box<RawValue>,
    /// Milliseconds that the caller waits at most, the queue included; the function's own
    /// limit if absent.
    pub deadline_ms: Option<u64>,
    /// The caller's span, if it has one.
    pub parent: Option<SpanContext>,
    /// Where an answer in pieces goes, if not joined.
    pub pieces: Option<Pieces>,
}

/// Who takes an answer piece by piece.
#[derive(Debug)]
pub struct Pieces {
    /// Told once the function is asked.
    pub asked: oneshot::Sender<Asked>,
    /// What it answers, if that is in pieces.
    pub parts: Parts,
}

/// Where a call came to run.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The container.
    pub container: String,
    /// What was done before.
    pub start: Start,
    /// From the call's arrival to now.
    pub waited: Duration,
}

/// What was done before the function could run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Nothing: a container held the function already.
    Warm,
    /// An idle container at its snapshot took the function.
    Restored,
    /// A container that held another function was put back first.
    Swapped,
    /// A container was made.
    Created,
}

impl Start {
    /// The word in headers, metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Restored => "restored",
            Self::Swapped => "swapped",
            Self::Created => "created",
        }
    }
}

/// A call that reached the function.
#[derive(Debug)]
pub struct Answer {
    /// What the function returned, or how it failed.
    pub outcome: Result<Box<RawValue>, Failure>,
    /// Where it ran, and what that took.
    pub asked: Asked,
    /// From there to the answer.
    pub ran: Duration,
}

/// A call that reached no function.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Nobody deployed it.
    #[error("there is no function {0:?}")]
    Unknown(String),
    /// Every container is taken, and the queue is full; or the wait was too long.
    #[error("busy: {reason}; try again in {} ms", retry_after.as_millis())]
    Busy {
        /// What there is too little of.
        reason: String,
        /// When trying again may help.
        retry_after: Duration,
    },
    /// It failed so often that it is left alone for a while.
    #[error("the function {function:?} is not tried for another {} ms: {cause}", retry_after.as_millis())]
    BackingOff {
        /// Which.
        function: String,
        /// How it failed the last time.
        cause: String,
        /// How long it is left alone.
        retry_after: Duration,
    },
    /// Its code does not load.
    #[error("the function {function:?} does not load: {}", failure.message)]
    NotLoaded {
        /// Which.
        function: String,
        /// The tenant's own failure.
        failure: Failure,
    },
    /// There is no container, and none can be made.
    #[error("no container for {image}: {cause}")]
    NoContainer {
        /// Of which image.
        image: String,
        /// Why.
        cause: String,
    },
    /// The daemon ends.
    #[error("refunctiond is ending")]
    Ending,
}
