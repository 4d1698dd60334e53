//! Which container takes which call.
//!
//! Whatever happened, the pools that it touched are *settled*: brought to the state in which no
//! call waits that could be served by something that does nothing. That makes the order of
//! choice one place, and independent of what it was that happened.

use crate::container::{Held, State};
use crate::function::FunctionKey;
use crate::moment::micros;
use crate::pool::Pool;
use crate::{Action, ContainerId, PoolName, Removal, Reuse, Scheduler, Start};

/// What a run is billed in advance where none was observed yet, in microseconds.
const USUAL_RUN: u64 = 1_000;

/// How far a function's bill may lie ahead of its pool's clock: what it took beyond that, when
/// nobody else wanted it or in one long call, is not held against it.
const MOST_DEBT: u64 = 10_000_000;

impl Scheduler {
    /// Brings a pool to rest.
    pub(crate) fn settle(&mut self, name: &PoolName) {
        self.work += 1;
        self.trim(name);
        self.give_room(name);
        self.run_at_hand(name);
        self.load_ready(name);
        self.swap(name);
        self.grow(name);
        self.strand(name);
        self.shrink(name);
        self.look_again(name);
    }

    /// Idle containers that hold what is called run it, or are put back for others whose turn
    /// has come.
    fn run_at_hand(&mut self, name: &PoolName) {
        while let Some((key, pool)) = self
            .pools
            .get(name)
            .and_then(|pool| Some((*pool.at_hand.first()?, pool)))
        {
            let Some(function) = self.functions.get(&key) else {
                return;
            };
            let (Some(oldest), Some(newest)) = (function.idle.first(), function.idle.last()) else {
                return;
            };
            let (oldest, newest) = (oldest.1, newest.1);
            // It took the function in its turn, and is not put back before that was of use:
            // two functions of long runs would only be loaded in place of each other.
            let fresh = self
                .containers
                .get(&newest)
                .is_some_and(|container| container.charged > 0);
            // Others get containers of their own, and none has to make way for them.
            let apart = pool.reuse() == Reuse::Never && !self.is_full(pool);
            if fresh || apart || goes_on(pool, key, function.bill, function.want()) {
                self.run(newest, key);
            } else {
                self.restore(oldest);
            }
        }
    }

    /// Containers at their snapshot go to the functions whose turn it is. The container that
    /// was used last comes first: its memory is at hand, and the others grow old and can go.
    fn load_ready(&mut self, name: &PoolName) {
        while let Some((id, key)) = self.pools.get(name).and_then(|pool| {
            let (_, id) = pool.ready.last()?;
            let (_, _, key) = pool.wanting.first()?;
            Some((*id, *key))
        }) {
            self.load(id, key);
        }
    }

    /// Calls wait: what is idle is put back for them, that first whose keep-warm time is over
    /// first. A restore takes less than a millisecond, and a container a tenth of a second.
    ///
    /// What is not put back makes way, if there is no place for another beside it.
    fn swap(&mut self, name: &PoolName) {
        while let Some(id) = self.pools.get(name).and_then(|pool| {
            let wanted = match pool.reuse() {
                Reuse::Always => pool.unmet > u64::from(pool.status.restoring),
                Reuse::Never => pool.lacking() > pool.status.removing && self.is_full(pool),
            };
            let (_, id) = pool.idle.first().filter(|_| wanted)?;
            Some(*id)
        }) {
            self.restore(id);
        }
    }

    fn load(&mut self, id: ContainerId, key: FunctionKey) {
        let Some(function) = self.functions.get(&key) else {
            return;
        };
        let held = Held {
            function: key,
            generation: function.generation,
        };
        let (name, revision) = (function.name.clone(), function.settings.revision);
        self.charge_run(id, key);
        if let Some(container) = self.containers.get_mut(&id) {
            container.was_used = true;
        }
        self.set_state(id, State::Loading(held));
        self.actions.push(Action::Load {
            container: id,
            function: name,
            revision,
        });
    }

    /// The function's call that waits longest runs in a container that holds it.
    fn run(&mut self, id: ContainerId, key: FunctionKey) {
        let Some((function, call)) = self
            .functions
            .get(&key)
            .and_then(|function| Some((function, *function.queue.values().next()?)))
        else {
            return;
        };
        let held = Held {
            function: key,
            generation: function.generation,
        };
        self.dequeue(call);
        let Some(waiting) = self.calls.get_mut(&call) else {
            return;
        };
        waiting.runs = true;
        let arrived = waiting.arrived;
        self.charge_run(id, key);
        let Some(container) = self.containers.get_mut(&id) else {
            return;
        };
        let start = match container.origin.take() {
            None => Start::Warm,
            Some(origin) if arrived < origin.ready => origin.start,
            Some(_) => Start::Restored,
        };
        self.set_state(id, State::Running { held, call });
        self.actions.push(Action::Run {
            container: id,
            call,
            start,
        });
    }

    /// Puts a container back that holds something, for whoever comes next, or removes it where
    /// nobody is to come next.
    pub(crate) fn restore(&mut self, id: ContainerId) {
        if self.is_spent(id) {
            return self.remove(id, Removal::Spent);
        }
        self.refund(id);
        let Some(container) = self.containers.get(&id) else {
            return;
        };
        let from = container.state.held();
        self.set_state(id, State::Restoring(from));
        self.actions.push(Action::Restore { container: id });
    }

    /// Whether it held a function, and is not to hold another.
    pub(crate) fn is_spent(&self, id: ContainerId) -> bool {
        self.containers.get(&id).is_some_and(|container| {
            let pool = self.pools.get(&container.pool);
            container.was_used && pool.is_some_and(|pool| pool.reuse() == Reuse::Never)
        })
    }

    /// A container holds a function of which no call runs in it.
    pub(crate) fn rest(&mut self, id: ContainerId, held: Held) {
        let keep_warm = self
            .functions
            .get(&held.function)
            .filter(|function| function.holds(held))
            .map(|function| function.settings.keep_warm);
        match keep_warm {
            // Its function is gone, or is another by now.
            None => self.restore(id),
            Some(keep_warm) => {
                let expires = self.now + keep_warm;
                if let Some(container) = self.containers.get_mut(&id) {
                    container.used = self.now;
                }
                self.set_state(id, State::Idle { held, expires });
            }
        }
    }

    /// Its keep-warm time is over.
    pub(crate) fn expire(&mut self, id: ContainerId) {
        let idle = self
            .containers
            .get(&id)
            .is_some_and(|container| matches!(container.state, State::Idle { .. }));
        // Draining, it would only keep the driver from its end.
        if idle && !self.node.draining {
            self.restore(id);
        }
    }

    /// Bills a function a run in advance, so that containers that become free together do not
    /// all go to the one that was first in turn.
    fn charge_run(&mut self, id: ContainerId, key: FunctionKey) {
        let Some(function) = self.functions.get(&key) else {
            return;
        };
        let bill = function.bill;
        let Some(pool) = self.pools.get_mut(&function.settings.pool) else {
            return;
        };
        let first = pool.wanting.first().map_or(u64::MAX, |(bill, ..)| *bill);
        pool.clock = pool.clock.max(bill.min(first));
        let expected = function.runs.get().or(pool.runs.get()).unwrap_or(USUAL_RUN);
        let Some(container) = self.containers.get_mut(&id) else {
            return;
        };
        if container.charged == 0 {
            container.charged = expected.max(1);
            self.charge(key, expected.max(1));
        }
    }

    /// Container time that a function took.
    pub(crate) fn charge(&mut self, key: FunctionKey, micros: u64) {
        let turn = self.next();
        if let Some(function) = self.functions.get_mut(&key) {
            let clock = self
                .pools
                .get(&function.settings.pool)
                .map_or(0, |pool| pool.clock);
            let bill = function.bill.saturating_add(function.weighed(micros));
            function.bill = bill.min(clock.saturating_add(MOST_DEBT));
            function.turn = turn;
        }
        self.show(key);
    }

    /// Takes back what was billed in advance.
    pub(crate) fn refund(&mut self, id: ContainerId) {
        let Some(container) = self.containers.get_mut(&id) else {
            return;
        };
        let charged = std::mem::take(&mut container.charged);
        let Some(held) = container.state.held() else {
            return;
        };
        if let Some(function) = self.functions.get_mut(&held.function)
            && charged > 0
        {
            function.bill = function.bill.saturating_sub(function.weighed(charged));
            self.show(held.function);
        }
    }

    /// How long the container has been doing what it does, in microseconds.
    pub(crate) fn spent(&self, id: ContainerId) -> u64 {
        self.containers
            .get(&id)
            .map_or(0, |container| micros(self.now.since(container.since)))
    }
}

/// Whether a container goes on with the function that it holds, though others wait: while
/// enough is at its snapshot for them, or soon will be, and else for a bounded batch, since a swap for
/// each call would cost more than it is worth.
fn goes_on(pool: &Pool, key: FunctionKey, bill: u64, want: u64) -> bool {
    let s = &pool.status;
    let coming = match pool.reuse() {
        Reuse::Always => s.ready + s.restoring,
        Reuse::Never => s.ready + s.creating + s.removing,
    };
    if pool.unmet - want <= u64::from(coming) {
        return true;
    }
    let other = pool
        .wanting
        .iter()
        .map(|(bill, _, other)| (*bill, *other))
        .find(|(_, other)| *other != key);
    other.is_none_or(|(other, _)| bill <= other.saturating_add(pool.batch()))
}
