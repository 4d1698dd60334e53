//! Calls that wait, and how they end without having run.

use crate::function::FunctionKey;
use crate::hint;
use crate::scheduler::Waiting;
use crate::timers::Timer;
use crate::{Action, Busy, Call, CallId, Cause, PoolName, Refusal, Scheduler};

impl Scheduler {
    /// A call arrived: it is refused at once, or waits, if only until the end of this step.
    pub(crate) fn call(&mut self, call: Call) {
        if self.calls.contains_key(&call.id) {
            return;
        }
        match self.admit(&call) {
            Err(refusal) => self.actions.push(Action::Refuse {
                call: call.id,
                refusal,
            }),
            Ok(function) => self.enqueue(function, &call),
        }
    }

    fn admit(&mut self, call: &Call) -> Result<FunctionKey, Refusal> {
        if self.node.draining {
            return Err(Refusal::Draining);
        }
        let key = *self.names.get(&call.function).ok_or(Refusal::Unknown)?;
        let function = self.functions.get(&key).ok_or(Refusal::Unknown)?;
        if let Some((until, cause)) = function.backoff.active(self.now) {
            return Err(Refusal::BackingOff {
                cause,
                retry_after: until.since(self.now),
            });
        }
        let name = function.settings.pool.clone();
        if self.no_pool(&name) {
            return Err(no_pool(&name));
        }
        if call.deadline <= self.now {
            return Err(self.waited(key));
        }
        let unserved = function.unserved();
        // What runs at once needs no place in a queue.
        let at_once = !function.idle.is_empty() && function.running < function.at_once();
        let node = &self.node.settings;
        if !at_once && unserved >= u64::from(node.queue_per_function.max(1)) {
            return Err(self.busy(key, Busy::FunctionQueue));
        }
        if !at_once && self.node.unserved >= u64::from(node.queue.max(1)) {
            self.make_place(key, unserved)?;
        }
        Ok(key)
    }

    /// Whether nobody said that there may be containers of it.
    pub(crate) fn no_pool(&self, name: &PoolName) -> bool {
        self.pools.get(name).is_none_or(|pool| {
            pool.settings
                .as_ref()
                .is_none_or(|settings| settings.maximum == 0)
        })
    }

    /// The node's queue is full: whoever has most calls in it gives up the last of them, unless
    /// that is the function that wants one more.
    fn make_place(&mut self, key: FunctionKey, unserved: u64) -> Result<(), Refusal> {
        let longest = self.node.longest.last().copied();
        let last = longest
            .filter(|(longest, _)| *longest > unserved + 1)
            .and_then(|(_, other)| {
                let call = *self.functions.get(&other)?.queue.last_key_value()?.1;
                Some((other, call))
            });
        let Some((other, call)) = last else {
            return Err(self.busy(key, Busy::NodeQueue));
        };
        let refusal = self.busy(other, Busy::NodeQueue);
        self.refuse(call, refusal);
        Ok(())
    }

    fn enqueue(&mut self, key: FunctionKey, call: &Call) {
        let place = self.next();
        let give_up = call
            .deadline
            .min(self.now + self.node.settings.longest_wait);
        let Some(function) = self.functions.get_mut(&key) else {
            return;
        };
        if function.queue.is_empty() {
            let clock = self
                .pools
                .get(&function.settings.pool)
                .map_or(0, |pool| pool.clock);
            function.bill = function.bill.max(clock);
            function.turn = place;
        }
        function.queue.insert(place, call.id);
        self.timers.add(give_up, Timer::GiveUp(call.id));
        self.calls.insert(
            call.id,
            Waiting {
                function: key,
                arrived: self.now,
                give_up,
                place,
                runs: false,
            },
        );
        self.show(key);
    }

    /// Takes a waiting call out of its queue.
    pub(crate) fn dequeue(&mut self, id: CallId) -> bool {
        let Some(call) = self.calls.get(&id).filter(|call| !call.runs) else {
            return false;
        };
        let (key, place) = (call.function, call.place);
        self.timers.remove(call.give_up, Timer::GiveUp(id));
        if let Some(function) = self.functions.get_mut(&key) {
            function.queue.remove(&place);
        }
        self.show(key);
        true
    }

    /// A waiting call will not run.
    pub(crate) fn refuse(&mut self, id: CallId, refusal: Refusal) {
        self.work += 1;
        if self.dequeue(id) {
            self.calls.remove(&id);
            self.actions.push(Action::Refuse { call: id, refusal });
        }
    }

    /// No waiting call of a function will run.
    pub(crate) fn refuse_function(&mut self, key: FunctionKey, refusal: &Refusal) {
        while let Some(id) = self
            .functions
            .get(&key)
            .and_then(|function| function.queue.values().next().copied())
        {
            self.refuse(id, refusal.clone());
        }
    }

    /// No waiting call of a pool will run.
    pub(crate) fn refuse_pool(&mut self, name: &PoolName, refusal: &Refusal) {
        while let Some(key) = self
            .pools
            .get(name)
            .and_then(|pool| pool.queued.first().copied())
        {
            self.refuse_function(key, refusal);
        }
    }

    /// The caller went away.
    pub(crate) fn withdraw(&mut self, id: CallId) {
        if self.dequeue(id) {
            self.calls.remove(&id);
        }
    }

    /// A call waited as long as it could.
    pub(crate) fn give_up(&mut self, id: CallId) {
        let Some(key) = self.calls.get(&id).map(|call| call.function) else {
            return;
        };
        let refusal = self.waited(key);
        self.refuse(id, refusal);
    }

    fn waited(&self, key: FunctionKey) -> Refusal {
        let busy = self.functions.get(&key).map_or(Busy::Waited, |function| {
            let pool = self.pools.get(&function.settings.pool);
            if function.running >= function.at_once() {
                Busy::AtOnce
            } else if pool.is_some_and(|pool| pool.alive() == 0 && pool.needs_room()) {
                Busy::Room
            } else {
                Busy::Waited
            }
        });
        self.busy(key, busy)
    }

    fn busy(&self, key: FunctionKey, busy: Busy) -> Refusal {
        let retry_after = self
            .functions
            .get(&key)
            .and_then(|function| {
                let pool = self.pools.get(&function.settings.pool)?;
                Some(hint::wait(pool, pool.status.waiting + 1).max(hint::own(
                    function.runs.get(),
                    function.waiting() + 1,
                    function.at_once(),
                )))
            })
            .unwrap_or_default();
        Refusal::Busy { busy, retry_after }
    }
}

/// Why a function of a pool that is not there does not run.
pub(crate) fn no_pool(name: &PoolName) -> Refusal {
    let cause: Cause = format!("there is no pool {name}").into();
    Refusal::NoContainer {
        cause,
        retry_after: std::time::Duration::from_secs(1),
    }
}
