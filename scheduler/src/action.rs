//! What the driver is to do.

use std::fmt;
use std::time::Duration;

use crate::{CallId, Cause, ContainerId, FunctionName, Moment, PoolName};

/// Something to do. Each is begun at once, in the order given, and its end told as an
/// [`Event`](crate::Event); none waits for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make a container. Ends with `Created` or `CreationFailed`.
    Create {
        /// The number under which it is spoken of.
        container: ContainerId,
        /// Of which image.
        pool: PoolName,
    },
    /// Load a function. Ends with `Loaded`, `LoadFailed` or `LoadRefused`.
    Load {
        /// Where.
        container: ContainerId,
        /// Which.
        function: FunctionName,
        /// Which revision of it.
        revision: u64,
    },
    /// Run a call of what the container holds. Ends with `Answered`.
    Run {
        /// Where.
        container: ContainerId,
        /// Which.
        call: CallId,
        /// What was done before it could run.
        start: Start,
    },
    /// Put the container back to its snapshot. Ends with `Restored` or `RestoreFailed`.
    Restore {
        /// Which.
        container: ContainerId,
    },
    /// Remove the container, or what is left of it. Ends with `Removed`.
    Remove {
        /// Which.
        container: ContainerId,
        /// Why, for the log.
        why: Removal,
    },
    /// The call will not run: say so to whoever made it. Nothing ends it again.
    Refuse {
        /// Which.
        call: CallId,
        /// Why.
        refusal: Refusal,
    },
    /// Send `Tick` at that time, or as soon after as may be. Takes the place of the one before.
    Wake {
        /// When.
        at: Moment,
    },
}

/// What was done before the function could run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Start {
    /// Nothing: the container held the function already.
    Warm,
    /// A container at its snapshot took the function.
    Restored,
    /// The call waited for a container that held another function to be put back.
    Swapped,
    /// The call waited for a container to be made.
    Created,
}

/// Why a container goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Removal {
    /// It ended by itself; this clears away what is left.
    Ended,
    /// It held a function, and its pool has no second one take its place.
    Spent,
    /// It failed at a restore or a load: it is replaced, not trusted.
    Failed,
    /// Unused for long, and its pool has more than its minimum.
    Unused,
    /// Another pool needs the room more.
    Room,
    /// The settings allow fewer than there are, or its pool is gone.
    Surplus,
    /// The node runs short of memory.
    Pressure,
}

/// Why a call does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such function.
    Unknown,
    /// There is too little of something now.
    Busy {
        /// Of what.
        busy: Busy,
        /// When trying again may help, from what was observed.
        retry_after: Duration,
    },
    /// The function failed so often that it is left alone for a while.
    BackingOff {
        /// How it failed the last time.
        cause: Cause,
        /// How long still.
        retry_after: Duration,
    },
    /// Its code does not load.
    NotLoaded {
        /// Why.
        cause: Cause,
    },
    /// Its pool has no container, and none can be made.
    NoContainer {
        /// Why.
        cause: Cause,
        /// When the next is tried.
        retry_after: Duration,
    },
    /// Nothing new is taken.
    Draining,
}

/// What there is too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Busy {
    /// Place among the waiting calls of this function.
    FunctionQueue,
    /// Place among the waiting calls of the node.
    NodeQueue,
    /// Time: it waited as long as it could.
    Waited,
    /// Calls of this function that may run at once: it waited as long as it could.
    AtOnce,
    /// Memory, or number, for a container of its pool: it waited as long as it could.
    Room,
}

impl fmt::Display for Busy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::FunctionQueue => "too many calls of this function wait",
            Self::NodeQueue => "too many calls wait on this node",
            Self::Waited => "no container became free in time",
            Self::AtOnce => "as many calls of this function run as may",
            Self::Room => "there is no room for a container of this image",
        })
    }
}
