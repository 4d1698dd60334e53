//! What the driver tells.

use std::time::Duration;

use crate::{
    Call, CallId, Cause, ContainerId, FunctionName, FunctionSettings, NodeSettings, PoolName,
    PoolSettings,
};

/// Something happened.
///
/// An event that fits no more – about a container that is gone, or a call that ended – is
/// passed over: news and decisions cross on their way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Other settings for the node.
    NodeSet(NodeSettings),
    /// A pool is new, or has other settings.
    PoolSet {
        /// Which.
        pool: PoolName,
        /// From now on.
        settings: PoolSettings,
    },
    /// A pool is given up: what waits for it is refused, what runs in it ends first.
    PoolRemoved {
        /// Which.
        pool: PoolName,
    },
    /// A function is new, or has another revision or other settings.
    FunctionSet {
        /// Which.
        function: FunctionName,
        /// From now on.
        settings: FunctionSettings,
    },
    /// A function is gone: what waits for it is refused, what runs ends.
    FunctionRemoved {
        /// Which.
        function: FunctionName,
    },

    /// A call arrived.
    Called(Call),
    /// Nobody waits for its answer any more. A call that runs already still keeps its container
    /// until [`Event::Answered`].
    Withdrawn {
        /// Which.
        call: CallId,
    },

    /// A container that was asked for is there, at its snapshot.
    Created {
        /// Which.
        container: ContainerId,
    },
    /// It could not be made, and nothing is left of it.
    CreationFailed {
        /// Which.
        container: ContainerId,
        /// Why.
        cause: Cause,
    },
    /// A container was found that another life of the driver made. Its number is one from
    /// [`Scheduler::number`](crate::Scheduler::number).
    Adopted {
        /// Its number.
        container: ContainerId,
        /// Of which image.
        pool: PoolName,
        /// What it is accounted for, in bytes.
        memory: u64,
        /// In what state.
        found: Found,
    },
    /// The function is loaded.
    Loaded {
        /// Where.
        container: ContainerId,
    },
    /// The function's code does not load. Its own fault; some of it may have run.
    LoadFailed {
        /// Where.
        container: ContainerId,
        /// Why.
        cause: Cause,
    },
    /// The container does not do what it should. Not the function's fault.
    LoadRefused {
        /// Where.
        container: ContainerId,
        /// Why.
        cause: Cause,
    },
    /// A call ended, and its answer is on its way.
    Answered {
        /// Where it ran.
        container: ContainerId,
        /// Which.
        call: CallId,
        /// How.
        outcome: Outcome,
    },
    /// A container is at its snapshot again.
    Restored {
        /// Which.
        container: ContainerId,
        /// How.
        method: Method,
    },
    /// It could not be put back.
    RestoreFailed {
        /// Which.
        container: ContainerId,
        /// Why.
        cause: Cause,
    },
    /// A container ended by itself. The call that it ran has ended with it: the driver answers
    /// it with the cause, and tells no [`Event::Answered`].
    Ended {
        /// Which.
        container: ContainerId,
        /// Why.
        cause: Cause,
    },
    /// Nothing is left of a container, on [`Action::Remove`](crate::Action::Remove) or because
    /// somebody else removed it. Told only once that is so: the driver tries until it is.
    Removed {
        /// Which.
        container: ContainerId,
    },

    /// The node runs short of memory, whatever the budget says.
    MemoryPressure,
    /// No container can be made for a while, nor do those come that are being made: containerd
    /// does not answer. Calls that wait for nothing else are refused.
    CreationImpossible {
        /// Why.
        cause: Cause,
        /// How long not to try.
        retry_after: Duration,
    },
    /// What creations lacked may be there now, such as an image: those that failed before need
    /// not wait before they are tried again.
    CreationPossible,
    /// Nothing new from here on; what was taken in hand ends.
    Drain,
    /// Time passed: the moment of [`Action::Wake`](crate::Action::Wake) came.
    Tick,
}

/// In what state a container was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Found {
    /// At its snapshot.
    Ready,
    /// It may hold anything: it is put back first.
    Unknown,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With a result.
    Ok,
    /// The function raised, or its request was wrong; it is loaded still.
    Exception,
    /// The function took its worker with it, and the supervisor put another in its place: the
    /// container is at its snapshot.
    Fault {
        /// In which way.
        fault: Fault,
        /// In words.
        cause: Cause,
    },
}

/// In which way a function took its worker with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The deadline passed.
    Timeout,
    /// The process ended.
    Crash,
    /// The kernel killed it for memory.
    OutOfMemory,
    /// It broke the channel, or was not there when asked.
    Protocol,
}

/// How a container came back to its snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// The worker itself was put back.
    Rewind,
    /// The function had tainted its worker; another was forked.
    Refork,
}
