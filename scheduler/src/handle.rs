//! What each event changes. What follows from it is decided when pools are settled.

use crate::backoff::{Backoff, CREATION};
use crate::container::{Container, Held, Origin, State};
use crate::function::{Function, FunctionKey};
use crate::pool::Pool;
use crate::queue::no_pool;
use crate::{
    CallId, Cause, ContainerId, Event, Found, FunctionName, FunctionSettings, Method, Outcome,
    PoolName, PoolSettings, Refusal, Removal, Reuse, Scheduler, Start,
};

impl Scheduler {
    pub(crate) fn handle(&mut self, event: Event) {
        match event {
            Event::NodeSet(settings) => {
                self.node.settings = settings;
                self.weigh_minimums();
                self.changed.extend(self.pools.keys().cloned());
            }
            Event::PoolSet { pool, settings } => self.set_pool(pool, settings, false),
            Event::PoolRemoved { pool } => {
                if self.pools.contains_key(&pool) {
                    let nothing = PoolSettings {
                        minimum: 0,
                        maximum: 0,
                        ..PoolSettings::default()
                    };
                    self.set_pool(pool, nothing, true);
                }
            }
            Event::FunctionSet { function, settings } => self.set_function(function, settings),
            Event::FunctionRemoved { function } => self.remove_function(&function),
            Event::Called(call) => self.call(call),
            Event::Withdrawn { call } => self.withdraw(call),
            Event::Created { container } => self.created(container),
            Event::CreationFailed { container, cause } => self.creation_failed(container, &cause),
            Event::Adopted {
                container,
                pool,
                memory,
                found,
            } => self.adopt(container, pool, memory, found),
            Event::Loaded { container } => self.loaded(container),
            Event::LoadFailed { container, cause } => self.load_failed(container, cause),
            Event::LoadRefused { container, cause } => {
                if let Some(State::Loading(_)) = self.state(container) {
                    self.fail(container, &cause);
                }
            }
            Event::Answered {
                container,
                call,
                outcome,
            } => self.answered(container, call, &outcome),
            Event::Restored { container, method } => self.restored(container, method),
            Event::RestoreFailed { container, cause } => {
                if let Some(State::Restoring(_)) = self.state(container) {
                    self.fail(container, &cause);
                }
            }
            Event::Ended { container, cause } => self.ended(container, &cause),
            Event::Removed { container } => self.removed(container),
            Event::MemoryPressure => self.relieve(),
            Event::CreationImpossible { cause, retry_after } => {
                self.node.stuck = Some((self.now + retry_after, cause.clone()));
                self.hold(retry_after, cause);
                self.changed.extend(self.pools.keys().cloned());
            }
            Event::CreationPossible => {
                for pool in self.pools.values_mut() {
                    pool.creation = Backoff::new(&CREATION);
                }
                self.changed.extend(self.pools.keys().cloned());
            }
            Event::Drain => {
                self.node.draining = true;
                self.changed.extend(self.pools.keys().cloned());
            }
            Event::Tick => {}
        }
    }

    fn state(&self, id: ContainerId) -> Option<State> {
        self.containers.get(&id).map(|container| container.state)
    }

    fn set_pool(&mut self, name: PoolName, settings: PoolSettings, removed: bool) {
        let pool = self.pools.entry(name.clone()).or_insert_with(Pool::new);
        let is_for_one = settings.reuse == Reuse::Never;
        pool.settings = Some(settings);
        pool.removed = removed;
        self.weigh_minimums();
        if is_for_one {
            self.remove_used(&name);
        }
        // Others may have what it no longer may.
        self.released = true;
        self.changed.insert(name);
    }

    fn set_function(&mut self, name: FunctionName, settings: FunctionSettings) {
        let Some(&key) = self.names.get(&name) else {
            let key = FunctionKey(self.next());
            self.names.insert(name.clone(), key);
            self.functions.insert(key, Function::new(name, settings));
            return;
        };
        let Some(function) = self.functions.get(&key) else {
            return;
        };
        let idle: Vec<_> = function.idle.iter().map(|(_, id)| *id).collect();
        let before = &function.settings;
        let other = before.revision != settings.revision || before.pool != settings.pool;
        let moved = before.pool != settings.pool;
        if other {
            for id in idle.iter().copied() {
                self.restore(id);
            }
        }
        let clock = self.pools.get(&settings.pool).map_or(0, |pool| pool.clock);
        let nowhere = self.no_pool(&settings.pool);
        let pool = settings.pool.clone();
        if nowhere {
            self.refuse_function(key, &no_pool(&pool));
        }
        let Some(function) = self.functions.get_mut(&key) else {
            return;
        };
        function.settings = settings;
        if moved {
            function.bill = clock;
        }
        if other {
            let fresh = Function::new(name, function.settings.clone());
            function.generation += 1;
            function.loading = 0;
            function.backoff = fresh.backoff;
            function.taints = fresh.taints;
        } else {
            // It may be kept warm for another time.
            self.keep_differently(&idle);
        }
        self.show(key);
    }

    fn keep_differently(&mut self, idle: &[ContainerId]) {
        for id in idle {
            let Some(container) = self.containers.get(id) else {
                continue;
            };
            if let State::Idle { held, .. } = container.state
                && let Some(function) = self.functions.get(&held.function)
            {
                let expires = container.used + function.settings.keep_warm;
                self.set_state(*id, State::Idle { held, expires });
            }
        }
    }

    fn remove_function(&mut self, name: &FunctionName) {
        let Some(key) = self.names.remove(name) else {
            return;
        };
        self.refuse_function(key, &Refusal::Unknown);
        let idle: Vec<_> = self
            .functions
            .get(&key)
            .map(|function| function.idle.iter().map(|(_, id)| *id).collect())
            .unwrap_or_default();
        for id in idle {
            self.restore(id);
        }
        if let Some(function) = self.functions.remove(&key) {
            self.take_out(key, &function.shown);
        }
    }

    fn created(&mut self, id: ContainerId) {
        if let Some(State::Creating) = self.state(id) {
            self.node.stuck = None;
            let spent = self.spent(id);
            self.of_pool(id, |pool| pool.creations.add(spent));
            if let Some(container) = self.containers.get_mut(&id) {
                (container.born, container.used) = (self.now, self.now);
            }
            self.at_snapshot(id, Start::Created);
        }
    }

    fn creation_failed(&mut self, id: ContainerId, cause: &Cause) {
        if let Some(State::Creating) = self.state(id) {
            self.blame_creation(id, cause);
            self.forget(id);
        }
    }

    fn blame_creation(&mut self, id: ContainerId, cause: &Cause) {
        let now = self.now;
        let begun = self.containers.get(&id).map_or(now, |it| it.since);
        self.of_pool(id, |pool| pool.creation.strike(now, begun, cause));
    }

    fn adopt(&mut self, id: ContainerId, pool: PoolName, memory: u64, found: Found) {
        if !self.numbered(id) || self.containers.contains_key(&id) {
            return;
        }
        self.pools.entry(pool.clone()).or_insert_with(Pool::new);
        let state = match found {
            Found::Ready => State::Ready,
            Found::Unknown => State::Restoring(None),
        };
        self.enter(
            id,
            Container {
                pool,
                memory,
                state,
                since: self.now,
                used: self.now,
                born: self.now,
                origin: Some(Origin {
                    start: Start::Restored,
                    ready: self.now,
                }),
                was_used: found == Found::Unknown,
                charged: 0,
            },
        );
        if found == Found::Unknown {
            self.restore(id);
        }
    }

    fn loaded(&mut self, id: ContainerId) {
        let Some(State::Loading(held)) = self.state(id) else {
            return;
        };
        let spent = self.spent(id);
        self.of_pool(id, |pool| {
            pool.loads.add(spent);
            pool.creation.heal();
            pool.health.heal();
        });
        self.charge(held.function, spent);
        self.rest(id, held);
        // With nobody waiting any more, its next call finds it warm.
        if self
            .functions
            .get(&held.function)
            .is_none_or(|function| function.queue.is_empty())
            && let Some(container) = self.containers.get_mut(&id)
        {
            container.origin = None;
        }
    }

    fn load_failed(&mut self, id: ContainerId, cause: Cause) {
        let Some(State::Loading(held)) = self.state(id) else {
            return;
        };
        if self
            .functions
            .get(&held.function)
            .is_some_and(|function| function.holds(held))
        {
            let refusal = Refusal::NotLoaded {
                cause: cause.clone(),
            };
            self.refuse_function(held.function, &refusal);
            self.strike(held.function, id, &cause);
        }
        // Some of its code may have run.
        self.restore(id);
    }

    fn answered(&mut self, id: ContainerId, call: CallId, outcome: &Outcome) {
        let Some(State::Running { held, call: runs }) = self.state(id) else {
            return;
        };
        if runs != call {
            return;
        }
        let spent = self.spent(id);
        self.settle_bill(id, held, spent);
        self.of_pool(id, |pool| {
            pool.runs.add(spent);
            pool.creation.heal();
            pool.health.heal();
        });
        match outcome {
            Outcome::Ok | Outcome::Exception => {
                if let Some(function) = self.functions.get_mut(&held.function) {
                    function.runs.add(spent);
                    function.backoff.heal();
                }
                self.calls.remove(&call);
                self.rest(id, held);
            }
            Outcome::Fault { cause, .. } => {
                if let Some(function) = self.functions.get_mut(&held.function) {
                    function.runs.add(spent);
                }
                self.calls.remove(&call);
                self.strike(held.function, id, cause);
                if let Some(container) = self.containers.get_mut(&id) {
                    container.used = self.now;
                }
                self.at_snapshot(id, Start::Restored);
            }
        }
    }

    /// Replaces what was billed for a run in advance by what it took.
    fn settle_bill(&mut self, id: ContainerId, held: Held, spent: u64) {
        self.refund(id);
        self.charge(held.function, spent);
    }

    fn restored(&mut self, id: ContainerId, method: Method) {
        let Some(State::Restoring(from)) = self.state(id) else {
            return;
        };
        let spent = self.spent(id);
        self.of_pool(id, |pool| pool.restores.add(spent));
        if let Some(held) = from {
            self.charge(held.function, spent);
            if method == Method::Refork {
                self.tainted(held.function, spent);
            }
        }
        let start = if from.is_some() {
            Start::Swapped
        } else {
            Start::Restored
        };
        self.at_snapshot(id, start);
    }

    fn at_snapshot(&mut self, id: ContainerId, start: Start) {
        if self.is_spent(id) {
            return self.remove(id, Removal::Spent);
        }
        if let Some(container) = self.containers.get_mut(&id) {
            container.origin = Some(Origin {
                start,
                ready: self.now,
            });
        }
        self.set_state(id, State::Ready);
    }

    /// A container that does not do what it should is replaced.
    fn fail(&mut self, id: ContainerId, cause: &Cause) {
        self.blame_container(id, cause);
        self.remove(id, Removal::Failed);
    }

    fn blame_container(&mut self, id: ContainerId, cause: &Cause) {
        let now = self.now;
        let begun = self.containers.get(&id).map_or(now, |it| it.since);
        self.of_pool(id, |pool| pool.health.strike(now, begun, cause));
    }

    fn ended(&mut self, id: ContainerId, cause: &Cause) {
        match self.state(id) {
            None | Some(State::Removing) => return,
            Some(State::Creating) => self.blame_creation(id, cause),
            Some(State::Running { .. }) => self.lost_call(id, cause),
            Some(_) => self.blame_container(id, cause),
        }
        self.remove(id, Removal::Ended);
    }

    /// A call ended with its container: that is the function's doing until it is shown to
    /// happen to others too.
    fn lost_call(&mut self, id: ContainerId, cause: &Cause) {
        if let Some(State::Running { held, call }) = self.state(id) {
            let spent = self.spent(id);
            self.settle_bill(id, held, spent);
            self.calls.remove(&call);
            self.strike(held.function, id, cause);
        }
    }

    fn removed(&mut self, id: ContainerId) {
        if let Some(State::Running { call, .. }) = self.state(id) {
            self.calls.remove(&call);
        }
        self.refund(id);
        self.forget(id);
    }

    /// A function failed by its own doing.
    fn strike(&mut self, key: FunctionKey, id: ContainerId, cause: &Cause) {
        let now = self.now;
        let begun = self.containers.get(&id).map_or(now, |it| it.since);
        if let Some(function) = self.functions.get_mut(&key) {
            function.backoff.strike(now, begun, cause);
        }
        self.back_off(key);
    }

    /// A function's worker could not be rewound.
    fn tainted(&mut self, key: FunctionKey, spent: u64) {
        let now = self.now;
        if let Some(function) = self.functions.get_mut(&key)
            && function.taints.add(now, spent)
        {
            let cause = "its workers cannot be put back, and forking others takes too long".into();
            function.backoff.strike_out(now, &cause);
            self.back_off(key);
        }
    }

    /// What waits for a function that is left alone is told so.
    fn back_off(&mut self, key: FunctionKey) {
        let active = self
            .functions
            .get(&key)
            .and_then(|function| function.backoff.active(self.now));
        if let Some((until, cause)) = active {
            let retry_after = until.since(self.now);
            self.refuse_function(key, &Refusal::BackingOff { cause, retry_after });
        }
    }

    fn of_pool(&mut self, id: ContainerId, change: impl FnOnce(&mut Pool)) {
        if let Some(container) = self.containers.get(&id)
            && let Some(pool) = self.pools.get_mut(&container.pool)
        {
            change(pool);
        }
    }
}
