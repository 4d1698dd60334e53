//! The whole state, and one step of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::container::Container;
use crate::function::{Function, FunctionKey};
use crate::node::Node;
use crate::pool::Pool;
use crate::timers::{Timer, Timers};
use crate::{
    Action, CallId, ContainerId, ContainerStatus, Event, FunctionName, FunctionStatus, Moment,
    NodeSettings, PoolName, PoolStatus,
};

/// The scheduling of one node. See [the crate](crate) for what it decides.
#[derive(Debug)]
pub struct Scheduler {
    pub(crate) now: Moment,
    pub(crate) node: Node,
    pub(crate) pools: BTreeMap<PoolName, Pool>,
    pub(crate) functions: BTreeMap<FunctionKey, Function>,
    pub(crate) names: BTreeMap<FunctionName, FunctionKey>,
    pub(crate) containers: BTreeMap<ContainerId, Container>,
    pub(crate) calls: BTreeMap<CallId, Waiting>,
    pub(crate) timers: Timers,
    /// Pools of which something changed in this step.
    pub(crate) changed: BTreeSet<PoolName>,
    /// Something became free that pools wait for.
    pub(crate) released: bool,
    pub(crate) actions: Vec<Action>,
    /// What the driver was last asked to wake for.
    wake: Option<Moment>,
    last_container: u64,
    last: u64,
    /// Decisions looked at, to show that a step's cost does not grow with the node.
    pub(crate) work: u64,
}

/// A call that has not ended.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) function: FunctionKey,
    pub(crate) arrived: Moment,
    pub(crate) give_up: Moment,
    /// Its place in the function's queue.
    pub(crate) place: u64,
    /// Whether it runs.
    pub(crate) runs: bool,
}

impl Scheduler {
    /// A node without pools, functions and containers.
    #[must_use]
    pub fn new(settings: NodeSettings) -> Self {
        Self {
            now: Moment::ORIGIN,
            node: Node::new(settings),
            pools: BTreeMap::new(),
            functions: BTreeMap::new(),
            names: BTreeMap::new(),
            containers: BTreeMap::new(),
            calls: BTreeMap::new(),
            timers: Timers::default(),
            changed: BTreeSet::new(),
            released: false,
            actions: Vec::new(),
            wake: None,
            last_container: 0,
            last: 0,
            work: 0,
        }
    }

    /// A number for a container that was found: for [`Event::Adopted`], and for nothing else.
    pub fn number(&mut self) -> ContainerId {
        self.last_container += 1;
        ContainerId(self.last_container)
    }

    /// Something happened at `now`: what is to be done?
    ///
    /// Time does not run backwards: an earlier `now` than the last counts as the last.
    pub fn step(&mut self, now: Moment, event: Event) -> Vec<Action> {
        self.now = self.now.max(now);
        if self.wake.is_some_and(|at| at <= self.now) {
            self.wake = None;
        }
        while let Some(timer) = self.timers.due(self.now) {
            self.fire(timer);
        }
        self.handle(event);
        self.settle_all();
        if let Some(at) = self.timers.next()
            && self.wake.is_none_or(|asked| at < asked)
        {
            self.wake = Some(at);
            self.actions.push(Action::Wake { at });
        }
        std::mem::take(&mut self.actions)
    }

    fn settle_all(&mut self) {
        loop {
            if let Some(pool) = self.changed.pop_first() {
                self.settle(&pool);
            } else if std::mem::take(&mut self.released) {
                let hungry: Vec<_> = self.node.hungry.iter().cloned().collect();
                for (_, pool) in hungry {
                    self.settle(&pool);
                }
            } else if let Some(timer) = self.timers.due(self.now) {
                self.fire(timer);
            } else {
                return;
            }
        }
    }

    fn fire(&mut self, timer: Timer) {
        self.work += 1;
        match timer {
            Timer::GiveUp(call) => self.give_up(call),
            Timer::Expire(container) => self.expire(container),
            Timer::Pool(pool) => {
                if let Some(entry) = self.pools.get_mut(&pool) {
                    entry.timer = None;
                    self.changed.insert(pool);
                }
            }
            Timer::Hold => {
                self.node.hold = None;
                self.released = true;
            }
        }
    }

    /// Numbers of which the smaller was given earlier.
    pub(crate) fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Whether that number was given to a container.
    pub(crate) fn numbered(&self, id: ContainerId) -> bool {
        id.0 <= self.last_container
    }

    /// Whether nothing waits, runs, loads, or is being made, put back or removed.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.calls.is_empty()
            && self.pools.values().all(|pool| {
                let s = &pool.status;
                s.creating + s.loading + s.running + s.restoring + s.removing == 0
            })
    }

    /// All containers, in the order of their numbers.
    pub fn containers(&self) -> impl Iterator<Item = ContainerStatus> + '_ {
        self.containers
            .iter()
            .map(|(id, container)| self.status(*id, container))
    }

    /// One container.
    #[must_use]
    pub fn container(&self, id: ContainerId) -> Option<ContainerStatus> {
        let container = self.containers.get(&id)?;
        Some(self.status(id, container))
    }

    fn status(&self, id: ContainerId, container: &Container) -> ContainerStatus {
        let held = container.state.held();
        let function = held.and_then(|held| self.functions.get(&held.function));
        ContainerStatus {
            id,
            pool: container.pool.clone(),
            activity: container.state.activity(),
            function: function.map(|function| function.name.clone()),
            since: container.since,
            memory: container.memory,
        }
    }

    /// Functions of which calls wait.
    pub fn queued(&self) -> impl Iterator<Item = FunctionName> + '_ {
        self.pools
            .values()
            .flat_map(|pool| &pool.queued)
            .filter_map(|key| self.functions.get(key))
            .map(|function| function.name.clone())
    }

    /// A pool's numbers.
    #[must_use]
    pub fn pool(&self, pool: &str) -> Option<PoolStatus> {
        self.pools.get(pool).map(|pool| pool.status)
    }

    /// A function's numbers.
    #[must_use]
    pub fn function(&self, function: &str) -> Option<FunctionStatus> {
        let function = self.functions.get(self.names.get(function)?)?;
        Some(FunctionStatus {
            waiting: function.waiting(),
            running: function.running,
            backing_off: function.backoff.active(self.now),
        })
    }

    /// Whether nothing new is taken.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.node.draining
    }

    /// Calls that wait, of all functions.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.node.waiting
    }

    /// Entries in all maps, to show that they shrink again.
    #[doc(hidden)]
    #[must_use]
    pub fn entries(&self) -> usize {
        let pools: usize = self
            .pools
            .values()
            .map(|pool| 1 + pool.ready.len() + pool.idle.len() + pool.wanting.len())
            .sum();
        let functions: usize = self
            .functions
            .values()
            .map(|function| 1 + function.queue.len() + function.idle.len())
            .sum();
        pools
            + functions
            + self.names.len()
            + self.containers.len()
            + self.calls.len()
            + self.timers.len()
            + self.node.longest.len()
            + self.node.hungry.len()
    }

    /// Decisions looked at so far.
    #[doc(hidden)]
    #[must_use]
    pub fn work(&self) -> u64 {
        self.work
    }
}
