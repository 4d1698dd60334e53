//! Keeping what is looked up in step with what is.
//!
//! Every set in a pool, a function or the node follows from the states of containers and the
//! queues of functions. Those change here alone.

use crate::container::{Container, State};
use crate::function::{FunctionKey, Shown};
use crate::timers::Timer;
use crate::{ContainerId, Moment, Scheduler};

/// Never.
const NEVER: Moment = Moment::from_micros(u64::MAX);

impl Scheduler {
    /// A container is known from now on.
    pub(crate) fn enter(&mut self, id: ContainerId, container: Container) {
        self.node.containers += 1;
        self.node.memory += container.memory;
        self.containers.insert(id, container);
        self.index(id);
    }

    /// A container is gone.
    pub(crate) fn forget(&mut self, id: ContainerId) {
        self.unindex(id);
        if let Some(container) = self.containers.remove(&id) {
            self.node.containers -= 1;
            self.node.memory -= container.memory;
            self.released = true;
        }
    }

    /// A container does something else.
    pub(crate) fn set_state(&mut self, id: ContainerId, state: State) {
        self.unindex(id);
        if let Some(container) = self.containers.get_mut(&id) {
            if matches!(container.state, State::Creating) {
                self.released = true;
            }
            container.state = state;
            container.since = self.now;
        }
        self.index(id);
    }

    fn index(&mut self, id: ContainerId) {
        self.work += 1;
        let Some(container) = self.containers.get(&id) else {
            return;
        };
        let Some(pool) = self.pools.get_mut(&container.pool) else {
            return;
        };
        let state = container.state;
        *pool.count(state.activity()) += 1;
        let mut function = state
            .held()
            .and_then(|held| Some((held, self.functions.get_mut(&held.function)?)));
        match state {
            State::Creating => self.node.creating += 1,
            State::Ready => {
                pool.ready.insert((container.used, id));
            }
            State::Loading(_) => {
                if let Some((held, function)) = &mut function
                    && function.holds(*held)
                {
                    function.loading += 1;
                }
            }
            State::Idle { expires, .. } => {
                pool.idle.insert((expires, id));
                if expires != NEVER {
                    self.timers.add(expires, Timer::Expire(id));
                }
                if let Some((held, function)) = &mut function
                    && function.holds(*held)
                {
                    function.idle.insert((container.used, id));
                }
            }
            State::Running { .. } => {
                if let Some((_, function)) = &mut function {
                    function.running += 1;
                }
            }
            State::Restoring(_) => {}
            State::Removing => {
                self.node.removing += 1;
                self.node.removing_memory += container.memory;
            }
        }
        self.changed.insert(container.pool.clone());
        if let Some(held) = state.held() {
            self.show(held.function);
        }
    }

    fn unindex(&mut self, id: ContainerId) {
        let Some(container) = self.containers.get(&id) else {
            return;
        };
        let Some(pool) = self.pools.get_mut(&container.pool) else {
            return;
        };
        let state = container.state;
        *pool.count(state.activity()) -= 1;
        let mut function = state
            .held()
            .and_then(|held| Some((held, self.functions.get_mut(&held.function)?)));
        match state {
            State::Creating => self.node.creating -= 1,
            State::Ready => {
                pool.ready.remove(&(container.used, id));
            }
            State::Loading(_) => {
                if let Some((held, function)) = &mut function
                    && function.holds(*held)
                {
                    function.loading -= 1;
                }
            }
            State::Idle { expires, .. } => {
                pool.idle.remove(&(expires, id));
                self.timers.remove(expires, Timer::Expire(id));
                if let Some((held, function)) = &mut function
                    && function.holds(*held)
                {
                    function.idle.remove(&(container.used, id));
                }
            }
            State::Running { .. } => {
                if let Some((_, function)) = &mut function {
                    function.running -= 1;
                }
            }
            State::Restoring(_) => {}
            State::Removing => {
                self.node.removing -= 1;
                self.node.removing_memory -= container.memory;
            }
        }
        self.changed.insert(container.pool.clone());
        if let Some(held) = state.held() {
            self.show(held.function);
        }
    }

    /// Enters anew what its pool and the node are to know of a function.
    pub(crate) fn show(&mut self, key: FunctionKey) {
        self.work += 1;
        let Some(function) = self.functions.get_mut(&key) else {
            return;
        };
        let shown = Shown {
            pool: function.settings.pool.clone(),
            waiting: function.waiting(),
            want: function.want(),
            unserved: function.unserved(),
            bill: function.bill,
            turn: function.turn,
            at_hand: function.at_hand(),
        };
        let before = std::mem::replace(&mut function.shown, shown.clone());
        self.take_out(key, &before);
        if let Some(pool) = self.pools.get_mut(&shown.pool) {
            pool.unmet += shown.want;
            pool.status.waiting += shown.waiting;
            if shown.want > 0 {
                pool.wanting.insert((shown.bill, shown.turn, key));
            }
            if shown.waiting > 0 {
                pool.queued.insert(key);
            }
            if shown.at_hand {
                pool.at_hand.insert(key);
            }
            self.changed.insert(shown.pool);
        }
        self.node.waiting += shown.waiting;
        self.node.unserved += shown.unserved;
        if shown.unserved > 0 {
            self.node.longest.insert((shown.unserved, key));
        }
    }

    /// Takes out what was entered of a function.
    pub(crate) fn take_out(&mut self, key: FunctionKey, shown: &Shown) {
        if let Some(pool) = self.pools.get_mut(&shown.pool) {
            pool.unmet -= shown.want;
            pool.status.waiting -= shown.waiting;
            pool.wanting.remove(&(shown.bill, shown.turn, key));
            pool.queued.remove(&key);
            pool.at_hand.remove(&key);
            self.changed.insert(shown.pool.clone());
        }
        self.node.waiting -= shown.waiting;
        self.node.unserved -= shown.unserved;
        self.node.longest.remove(&(shown.unserved, key));
    }
}
