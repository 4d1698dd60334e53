//! Which containers come and go.

use std::time::Duration;

use crate::container::{Container, State};
use crate::moment::micros;
use crate::pool::{Lack, Pool};
use crate::queue::no_pool;
use crate::timers::Timer;
use crate::{Action, Cause, ContainerId, Moment, PoolName, Refusal, Removal, Reuse, Scheduler};

/// How long nothing is created after the node ran short of memory.
const PRESSURE: Duration = Duration::from_secs(5);

/// How long a pool without any container waits for others that have work for all of theirs.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why no container is made now.
enum Blocked {
    /// The daemon ends.
    Draining,
    /// The pool has all that it may have.
    Maximum,
    /// One alone is more than the node may have.
    Never(Cause),
    /// It failed before, or cannot work anywhere on the node.
    Until(Moment, Cause),
    /// As many are being made as may.
    Turn,
    /// Memory or number.
    Room,
}

impl Blocked {
    /// What it waits for, if it is to be told when that is there.
    fn lack(&self) -> Option<Lack> {
        match self {
            Self::Turn => Some(Lack::Turn),
            Self::Room => Some(Lack::Room),
            Self::Until(..) => Some(Lack::Time),
            Self::Draining | Self::Maximum | Self::Never(_) => None,
        }
    }
}

impl Scheduler {
    /// Makes containers for calls that would wait too long, and up to the minimum.
    pub(crate) fn grow(&mut self, name: &PoolName) {
        let Some(pool) = self.pools.get_mut(name) else {
            return;
        };
        let place = pool.hungry.take().map(|(place, _)| place);
        if let Some(place) = place {
            self.node.hungry.remove(&(place, name.clone()));
        }
        let now = self.now;
        let since = |holds: bool, since: Option<Moment>| holds.then(|| since.unwrap_or(now));
        pool.short = since(pool.demand() > 0, pool.short);
        pool.starving = since(pool.demand() > 0 && pool.alive() == 0, pool.starving);
        pool.bare = since(pool.bareness() > 0, pool.bare);
        let mut made = false;
        let mut lack = None;
        while self
            .pools
            .get(name)
            .is_some_and(|pool| pool.lacks(self.now))
        {
            self.work += 1;
            match self.may_create(name, place.filter(|_| !made)) {
                Ok(memory) => {
                    self.create(name, memory);
                    made = true;
                }
                Err(blocked) => {
                    lack = blocked.lack();
                    if lack == Some(Lack::Room) {
                        // Calls may take room from others; a minimum may not.
                        if self
                            .pools
                            .get(name)
                            .is_some_and(|pool| pool.calls_lack(self.now))
                        {
                            self.make_room(name);
                        } else {
                            lack = Some(Lack::Spare);
                        }
                    }
                    self.despair(name, blocked);
                    break;
                }
            }
        }
        if let Some(lack) = lack {
            let place = place.filter(|_| !made).unwrap_or_else(|| self.next());
            if let Some(pool) = self.pools.get_mut(name) {
                pool.hungry = Some((place, lack));
                self.node.hungry.insert((place, name.clone()));
            }
        }
        // Whoever stood behind it may move up.
        self.released |= place.is_some() && (made || lack.is_none());
    }

    /// With no container, and none to come, calls need not wait for one.
    fn despair(&mut self, name: &PoolName, blocked: Blocked) {
        let Some(pool) = self.pools.get(name) else {
            return;
        };
        if pool.reuse() == Reuse::Never && matches!(blocked, Blocked::Draining) {
            return self.refuse_without_own(name);
        }
        if pool.alive() > 0 {
            return;
        }
        let refusal = match blocked {
            Blocked::Draining => Refusal::Draining,
            Blocked::Until(until, cause) => Refusal::NoContainer {
                cause,
                retry_after: until.since(self.now),
            },
            Blocked::Never(cause) => Refusal::NoContainer {
                cause,
                retry_after: Duration::from_secs(60),
            },
            Blocked::Maximum | Blocked::Turn | Blocked::Room => return,
        };
        self.refuse_pool(name, &refusal);
    }

    /// None is made any more, and what others hold is of no use: functions that have no container
    /// will get none.
    fn refuse_without_own(&mut self, name: &PoolName) {
        let pool = self.pools.get(name);
        let none = pool.into_iter().flat_map(|pool| &pool.wanting);
        let none: Vec<_> = none
            .map(|(.., key)| *key)
            .filter(|key| {
                let function = self.functions.get(key);
                function.is_some_and(|it| it.running == 0 && it.loading == 0 && it.idle.is_empty())
            })
            .collect();
        for key in none {
            self.refuse_function(key, &Refusal::Draining);
        }
    }

    /// With no container but those that are being created, which do not come now, calls need
    /// not wait for one.
    pub(crate) fn strand(&mut self, name: &PoolName) {
        let (Some(pool), Some((until, cause))) = (self.pools.get(name), &self.node.stuck) else {
            return;
        };
        if *until <= self.now || pool.status.creating == 0 || pool.alive() > pool.status.creating {
            return;
        }
        let refusal = Refusal::NoContainer {
            cause: cause.clone(),
            retry_after: until.since(self.now),
        };
        self.refuse_pool(name, &refusal);
    }

    /// Whether a pool that stands at this place among the hungry, or behind all of them, may
    /// create a container now, of how many bytes.
    fn may_create(&self, name: &PoolName, place: Option<u64>) -> Result<u64, Blocked> {
        let Some((pool, settings)) = self
            .pools
            .get(name)
            .and_then(|pool| Some((pool, pool.settings.as_ref()?)))
        else {
            return Err(Blocked::Maximum);
        };
        if self.node.draining {
            return Err(Blocked::Draining);
        }
        let node = &self.node.settings;
        if settings.memory > node.memory || node.containers == 0 {
            return Err(Blocked::Never(
                "one container is more than the node may have".into(),
            ));
        }
        for backoff in [&pool.creation, &pool.health] {
            if let Some((until, cause)) = backoff.active(self.now) {
                return Err(Blocked::Until(until, cause));
            }
        }
        if let Some((until, cause)) = &self.node.hold {
            return Err(Blocked::Until(*until, cause.clone()));
        }
        if pool.total() >= settings.maximum {
            return Err(Blocked::Maximum);
        }
        if !self.leaves_minimums(name) {
            return Err(if pool.alive() == 0 {
                Blocked::Never("what other pools have as their minimum leaves no room".into())
            } else {
                Blocked::Maximum
            });
        }
        if !self.node.fits(1, settings.memory) || self.is_greedy(name) {
            return Err(Blocked::Room);
        }
        let ahead = self.node.hungry.iter().filter(|(other, pool)| {
            place.is_none_or(|place| *other < place)
                && self
                    .pools
                    .get(pool)
                    .is_some_and(|pool| matches!(pool.hungry, Some((_, Lack::Turn))))
        });
        let ahead = u32::try_from(ahead.count()).unwrap_or(u32::MAX);
        if self.node.creating.saturating_add(ahead) >= node.creations.max(1) {
            return Err(Blocked::Turn);
        }
        Ok(settings.memory)
    }

    /// Whether another container leaves the room that other pools need for their minimum.
    fn leaves_minimums(&self, name: &PoolName) -> bool {
        !self.node.minimums_fit
            || self.minimums_fit_with(|other, pool| {
                if other == name {
                    pool.minimum().max(pool.alive().saturating_add(1))
                } else {
                    pool.minimum()
                }
            })
    }

    fn minimums_fit_with(&self, count: impl Fn(&PoolName, &Pool) -> u32) -> bool {
        let (mut containers, mut bytes) = (0_u64, 0_u64);
        for (name, pool) in &self.pools {
            let count = u64::from(count(name, pool));
            let memory = pool.settings.as_ref().map_or(0, |it| it.memory);
            containers += count;
            bytes = bytes.saturating_add(memory.saturating_mul(count));
        }
        containers <= u64::from(self.node.settings.containers) && bytes <= self.node.settings.memory
    }

    /// Settings changed. Minimums that do not fit the node together protect nothing.
    pub(crate) fn weigh_minimums(&mut self) {
        self.node.minimums_fit = self.minimums_fit_with(|_, pool| pool.minimum());
    }

    /// Containers of a pool that no other takes from it.
    fn protected(&self, pool: &Pool) -> u32 {
        if self.node.minimums_fit {
            pool.minimum()
        } else {
            0
        }
    }

    /// Whether a pool would take room for which another waits that has fewer containers, or has
    /// waited for its first too long. Else one of small containers would take what is freed for
    /// one of a large one bit by bit.
    fn is_greedy(&self, name: &PoolName) -> bool {
        let Some(own) = self.pools.get(name) else {
            return false;
        };
        // Its minimum was left for it.
        if own.alive() < self.protected(own) {
            return false;
        }
        let idle = !own.calls_lack(self.now);
        let starved = own.is_starved(self.now);
        self.node.hungry.iter().any(|(_, other)| {
            other != name
                && self.pools.get(other).is_some_and(|pool| {
                    pool.needs_room()
                        && (idle
                            || pool.alive() < own.alive()
                            || (pool.is_starved(self.now) && !starved))
                })
        })
    }

    fn create(&mut self, name: &PoolName, memory: u64) {
        let id = self.number();
        self.enter(
            id,
            Container {
                pool: name.clone(),
                memory,
                state: State::Creating,
                since: self.now,
                used: self.now,
                born: self.now,
                origin: None,
                was_used: false,
                charged: 0,
            },
        );
        self.actions.push(Action::Create {
            container: id,
            pool: name.clone(),
        });
    }

    pub(crate) fn remove(&mut self, id: ContainerId, why: Removal) {
        self.refund(id);
        self.set_state(id, State::Removing);
        self.actions.push(Action::Remove { container: id, why });
    }

    /// Removes what other pools have beyond their minimum and do not use, the longest unused
    /// first, until there is, or will be, room for what this one lacks.
    fn make_room(&mut self, name: &PoolName) {
        let Some((memory, lacking)) = self.pools.get(name).and_then(|pool| {
            let settings = pool.settings.as_ref()?;
            let may = settings.maximum.saturating_sub(pool.alive());
            Some((settings.memory, pool.lacking().min(may)))
        }) else {
            return;
        };
        let count = lacking.clamp(1, self.node.settings.creations.max(1));
        while !self.node.will_fit(count, memory) {
            let Some(victim) = self.victim(Some(name)) else {
                return;
            };
            self.remove(victim, Removal::Room);
        }
    }

    /// The container that was used longest ago, of those that do nothing in pools that have
    /// more than their minimum.
    fn victim(&mut self, except: Option<&PoolName>) -> Option<ContainerId> {
        self.work += self.pools.len() as u64;
        self.pools
            .iter()
            .filter(|(name, pool)| {
                Some(*name) != except && pool.unmet == 0 && pool.alive() > self.protected(pool)
            })
            .filter_map(|(_, pool)| {
                let id = pool.least_used()?;
                Some((self.containers.get(&id)?.used, id))
            })
            .min()
            .map(|(_, id)| id)
    }

    /// Gives up containers for pools that have less, in the order in which they lacked them.
    ///
    /// It counts containers: whoever would be left with fewer than the other then has keeps
    /// its own, so that none goes to and fro. A pool without any is the exception: it waits a
    /// second, and then gets one whatever the others have; who has but one had it for as long.
    pub(crate) fn give_room(&mut self, name: &PoolName) {
        if !self.node.hungry.iter().any(|(_, other)| other != name) {
            return;
        }
        let hungry: Vec<_> = self
            .node
            .hungry
            .iter()
            .map(|(_, pool)| pool.clone())
            .collect();
        for other in hungry {
            self.work += 1;
            let (Some(own), Some(pool)) = (self.pools.get(name), self.pools.get(&other)) else {
                continue;
            };
            let Some(settings) = &pool.settings else {
                continue;
            };
            if &other == name
                || !pool.needs_room()
                || self.node.will_fit(1, settings.memory)
                || own.alive() <= self.protected(own)
            {
                continue;
            }
            let Some(id) = own.least_used() else {
                return;
            };
            let had = self.containers.get(&id).is_some_and(|container| {
                own.alive() > 1 || self.now.since(container.born) >= PATIENCE
            });
            if own.unmet == 0
                || own.alive() > pool.alive() + 1
                || (pool.is_starved(self.now) && had)
            {
                self.remove(id, Removal::Room);
            }
        }
    }

    /// Removes what is more than the settings allow, as it becomes free.
    pub(crate) fn trim(&mut self, name: &PoolName) {
        if self.no_pool(name) && self.pools.get(name).is_some_and(|p| p.settings.is_some()) {
            self.refuse_pool(name, &no_pool(name));
        }
        while let Some(id) = self.pools.get(name).and_then(|pool| {
            if pool.alive() > pool.maximum() || !self.node.will_fit(0, 0) {
                pool.least_used()
            } else {
                None
            }
        }) {
            self.remove(id, Removal::Surplus);
        }
    }

    /// Removes what stood at its snapshot unused for long.
    pub(crate) fn shrink(&mut self, name: &PoolName) {
        while let Some(id) = self.pools.get(name).and_then(|pool| {
            let (at, id) = pool.shrinks()?;
            (at <= self.now && !self.node.draining).then_some(id)
        }) {
            self.remove(id, Removal::Unused);
        }
    }

    /// The node runs short: the container that was used longest ago goes, and none comes for a
    /// while.
    pub(crate) fn relieve(&mut self) {
        if let Some(id) = self.victim(None) {
            self.remove(id, Removal::Pressure);
        }
        self.hold(PRESSURE, "the node runs short of memory".into());
    }

    /// Nothing is created for so long.
    pub(crate) fn hold(&mut self, duration: Duration, cause: Cause) {
        let until = self.now + duration;
        match &self.node.hold {
            Some((before, _)) if *before >= until => return,
            Some((before, _)) => self.timers.remove(*before, Timer::Hold),
            None => {}
        }
        self.timers.add(until, Timer::Hold);
        self.node.hold = Some((until, cause));
        self.released = true;
    }

    /// Removes what stands at its snapshot, but held a function before: the settings changed.
    pub(crate) fn remove_used(&mut self, name: &PoolName) {
        let ready = self.pools.get(name).into_iter().flat_map(|it| &it.ready);
        let used: Vec<_> = ready
            .map(|(_, id)| *id)
            .filter(|id| self.containers.get(id).is_some_and(|it| it.was_used))
            .collect();
        for id in used {
            self.remove(id, Removal::Spent);
        }
    }

    /// Whether there is no place for another container of the pool as long as none goes.
    pub(crate) fn is_full(&self, pool: &Pool) -> bool {
        let memory = pool.settings.as_ref().map_or(0, |it| it.memory);
        pool.total() >= pool.maximum() || !self.node.fits(1, memory)
    }

    /// Sees to it that the pool is settled again when time alone changes what is right.
    pub(crate) fn look_again(&mut self, name: &PoolName) {
        let Some(pool) = self.pools.get_mut(name) else {
            return;
        };
        let lacks = pool.demand() > 0 || pool.alive() < pool.minimum();
        let mut next = None;
        let mut at = |moment: Moment| {
            if moment > self.now && next.is_none_or(|next| moment < next) {
                next = Some(moment);
            }
        };
        if let Some((moment, _)) = pool.shrinks() {
            at(moment);
        }
        pool.impatient().for_each(&mut at);
        for backoff in [&pool.creation, &pool.health] {
            if let Some((until, _)) = backoff.active(self.now).filter(|_| lacks) {
                at(until);
            }
        }
        if pool.timer != next {
            if let Some(before) = pool.timer {
                self.timers.remove(before, Timer::Pool(name.clone()));
            }
            if let Some(next) = next {
                self.timers.add(next, Timer::Pool(name.clone()));
            }
            pool.timer = next;
        }
        if pool.is_gone() {
            if let Some(at) = pool.timer {
                self.timers.remove(at, Timer::Pool(name.clone()));
            }
            if let Some((place, _)) = pool.hungry {
                self.node.hungry.remove(&(place, name.clone()));
            }
            self.pools.remove(name);
            self.weigh_minimums();
        }
    }
}

impl Pool {
    /// Calls that no container will serve soon: none is being put back for them.
    pub(crate) fn demand(&self) -> u64 {
        self.unmet.saturating_sub(u64::from(self.status.restoring))
    }

    /// Whether another container should be made: for the minimum, as a spare, or for calls.
    fn lacks(&self, now: Moment) -> bool {
        self.alive() < self.minimum() || self.lacks_spare(now) || self.calls_lack(now)
    }

    /// Whether calls do.
    fn calls_lack(&self, now: Moment) -> bool {
        self.lacking() > 0 && self.is_worth_it(now)
    }

    /// Containers that do nothing, or soon will, fewer than it is to spare.
    fn bareness(&self) -> u32 {
        let s = &self.status;
        if s.running + s.loading == 0 {
            return 0;
        }
        let spare = self.settings.as_ref().map_or(0, |settings| settings.spare);
        let idle = match self.reuse() {
            Reuse::Always => s.idle,
            Reuse::Never => 0,
        };
        let free = s.ready + idle + s.restoring + s.creating;
        spare.min(self.maximum()).saturating_sub(free)
    }

    fn lacks_spare(&self, now: Moment) -> bool {
        self.bareness() > 0 && self.lasts(self.bare, now)
    }

    /// Whether that has been so for as long as the pool bears.
    fn lasts(&self, since: Option<Moment>, now: Moment) -> bool {
        let (Some(settings), Some(since)) = (&self.settings, since) else {
            return false;
        };
        now.since(since) >= settings.grow_after
    }

    /// How many containers the calls that wait could use.
    pub(crate) fn lacking(&self) -> u32 {
        let demand = self
            .demand()
            .saturating_sub(u64::from(self.status.creating));
        u32::try_from(demand).unwrap_or(u32::MAX)
    }

    /// Whether the calls that wait would do so for longer than the pool may let them.
    fn is_worth_it(&self, now: Moment) -> bool {
        if self.reuse() == Reuse::Never {
            return true;
        }
        let patience = self
            .settings
            .as_ref()
            .map_or(0, |settings| micros(settings.grow_after));
        let (Some(run), 1..) = (self.runs.get(), self.alive()) else {
            return true;
        };
        let expected = run.saturating_mul(self.unmet) / u64::from(self.alive());
        expected >= patience || (self.status.creating == 0 && self.lasts(self.short, now))
    }

    /// When a queue that is too short to grow for, and the want of a spare, have lasted too
    /// long.
    fn impatient(&self) -> impl Iterator<Item = Moment> {
        let after = self.settings.as_ref().map(|settings| settings.grow_after);
        let short = self.short.filter(|_| self.status.creating == 0);
        short
            .into_iter()
            .chain(self.bare)
            .filter_map(move |since| Some(since + after?))
    }

    /// Which container goes next for want of use, and when.
    fn shrinks(&self) -> Option<(Moment, ContainerId)> {
        let settings = self.settings.as_ref()?;
        let s = &self.status;
        let needed = s.running + s.loading > 0 && s.ready + s.idle <= settings.spare;
        if self.alive() <= self.minimum() || needed {
            return None;
        }
        let (used, id) = self.ready.first()?;
        Some((*used + settings.shrink_after, *id))
    }

    /// Whether calls have waited for its first container too long.
    fn is_starved(&self, now: Moment) -> bool {
        self.starving
            .is_some_and(|since| now.since(since) >= PATIENCE)
    }

    /// Whether it was removed, and nothing is left of it.
    fn is_gone(&self) -> bool {
        self.removed && self.total() == 0
    }
}
