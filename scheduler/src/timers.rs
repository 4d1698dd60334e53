//! What is to happen when.

use std::collections::BTreeSet;

use crate::{CallId, ContainerId, Moment, PoolName};

/// What a moment is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A call has waited long enough.
    GiveUp(CallId),
    /// A container has held its function long enough.
    Expire(ContainerId),
    /// A pool has something to look at: a container to shrink by, a queue that lasts, the end
    /// of a backing off.
    Pool(PoolName),
    /// Creations are possible again.
    Hold,
}

/// All of them, in order.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    set: BTreeSet<(Moment, Timer)>,
}

impl Timers {
    pub(crate) fn add(&mut self, at: Moment, timer: Timer) {
        self.set.insert((at, timer));
    }

    pub(crate) fn remove(&mut self, at: Moment, timer: Timer) {
        self.set.remove(&(at, timer));
    }

    pub(crate) fn next(&self) -> Option<Moment> {
        self.set.first().map(|(at, _)| *at)
    }

    pub(crate) fn due(&mut self, now: Moment) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.set.pop_first().map(|(_, timer)| timer)
    }

    pub(crate) fn len(&self) -> usize {
        self.set.len()
    }
}
