//! One container, as the scheduler knows it.

use crate::function::FunctionKey;
use crate::{Activity, CallId, Moment, PoolName, Start};

/// A function as it was when it was loaded. Another revision, or the same name given anew, is
/// another generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) function: FunctionKey,
    pub(crate) generation: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Creating,
    Ready,
    Loading(Held),
    Idle {
        held: Held,
        /// When its keep-warm time is over.
        expires: Moment,
    },
    Running {
        held: Held,
        call: CallId,
    },
    /// Put back from this; from something unknown if absent.
    Restoring(Option<Held>),
    Removing,
}

impl State {
    pub(crate) fn activity(self) -> Activity {
        match self {
            Self::Creating => Activity::Creating,
            Self::Ready => Activity::Ready,
            Self::Loading(_) => Activity::Loading,
            Self::Idle { .. } => Activity::Idle,
            Self::Running { .. } => Activity::Running,
            Self::Restoring(_) => Activity::Restoring,
            Self::Removing => Activity::Removing,
        }
    }

    pub(crate) fn held(self) -> Option<Held> {
        match self {
            Self::Loading(held) | Self::Idle { held, .. } | Self::Running { held, .. } => {
                Some(held)
            }
            Self::Restoring(held) => held,
            Self::Creating | Self::Ready | Self::Removing => None,
        }
    }
}

/// How a container came to its snapshot: what the first call in it is told to have waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) start: Start,
    pub(crate) ready: Moment,
}

#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) pool: PoolName,
    pub(crate) memory: u64,
    pub(crate) state: State,
    /// Since when it is in this state.
    pub(crate) since: Moment,
    /// When it last ended a call, or was made.
    pub(crate) used: Moment,
    /// When it was made.
    pub(crate) born: Moment,
    /// Until the first call after its snapshot runs.
    pub(crate) origin: Option<Origin>,
    /// Whether a function was loaded in it, or may have been.
    pub(crate) was_used: bool,
    /// What its function was billed in advance.
    pub(crate) charged: u64,
}
