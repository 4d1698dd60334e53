//! One function, as the scheduler knows it.

use std::collections::{BTreeMap, BTreeSet};

use crate::average::Average;
use crate::backoff::{Backoff, FUNCTION, Taints};
use crate::container::Held;
use crate::{CallId, ContainerId, FunctionName, FunctionSettings, Moment, PoolName};

/// A function, never given twice: a name that is deployed, removed and deployed again is two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FunctionKey(pub(crate) u64);

#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: FunctionName,
    pub(crate) settings: FunctionSettings,
    /// Counts revisions and moves between pools.
    pub(crate) generation: u64,
    /// Waiting calls in the order of their arrival.
    pub(crate) queue: BTreeMap<u64, CallId>,
    /// Containers that take this generation of it.
    pub(crate) loading: u64,
    /// Calls that run, of any generation.
    pub(crate) running: u32,
    /// Idle containers that hold this generation, by when they were used last.
    pub(crate) idle: BTreeSet<(Moment, ContainerId)>,
    /// The container time that it was given, in microseconds by weight, on its pool's clock.
    pub(crate) bill: u64,
    /// When it began to want a container, among functions with equal bills.
    pub(crate) turn: u64,
    pub(crate) runs: Average,
    pub(crate) backoff: Backoff,
    pub(crate) taints: Taints,
    /// What of it the indexes show.
    pub(crate) shown: Shown,
}

/// What of a function is entered in its pool and in the node: what has to be taken out there
/// before something else is entered.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) pool: PoolName,
    pub(crate) waiting: u64,
    /// Containers that it could use beyond those that hold or take it.
    pub(crate) want: u64,
    /// Waiting calls for which no container is loading.
    pub(crate) unserved: u64,
    pub(crate) bill: u64,
    pub(crate) turn: u64,
    /// A call of it could run at once: an idle container holds it.
    pub(crate) at_hand: bool,
}

impl Function {
    pub(crate) fn new(name: FunctionName, settings: FunctionSettings) -> Self {
        let shown = Shown {
            pool: settings.pool.clone(),
            waiting: 0,
            want: 0,
            unserved: 0,
            bill: 0,
            turn: 0,
            at_hand: false,
        };
        Self {
            name,
            settings,
            generation: 0,
            queue: BTreeMap::new(),
            loading: 0,
            running: 0,
            idle: BTreeSet::new(),
            bill: 0,
            turn: 0,
            runs: Average::default(),
            backoff: Backoff::new(&FUNCTION),
            taints: Taints::default(),
            shown,
        }
    }

    pub(crate) fn holds(&self, held: Held) -> bool {
        held.generation == self.generation
    }

    pub(crate) fn waiting(&self) -> u64 {
        self.queue.len() as u64
    }

    /// Calls that may run at once. One while it has to show that it works again.
    pub(crate) fn at_once(&self) -> u32 {
        if self.backoff.on_trial() {
            return 1;
        }
        self.settings.at_once.map_or(u32::MAX, |most| most.max(1))
    }

    /// Containers that waiting calls could use beyond those that load for them.
    pub(crate) fn want(&self) -> u64 {
        let may = u64::from(self.at_once().saturating_sub(self.running));
        self.waiting().min(may).saturating_sub(self.loading)
    }

    /// Whether a call of it could run at once in a container that holds it already.
    pub(crate) fn at_hand(&self) -> bool {
        !self.queue.is_empty() && !self.idle.is_empty() && self.running < self.at_once()
    }

    pub(crate) fn unserved(&self) -> u64 {
        self.waiting().saturating_sub(self.loading)
    }

    /// Container time as it counts for this function.
    pub(crate) fn weighed(&self, micros: u64) -> u64 {
        micros / u64::from(self.settings.weight.max(1))
    }
}
