//! One pool, as the scheduler knows it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::average::Average;
use crate::backoff::{Backoff, CREATION, HEALTH};
use crate::function::FunctionKey;
use crate::{Activity, ContainerId, Moment, PoolSettings, PoolStatus, Reuse};

/// What a swap costs where none was observed yet: a restore of 0.3 ms and a load of 1 ms; where
/// nothing is put back, a creation of 120 ms and a load.
const USUAL_RESTORE: Duration = Duration::from_micros(300);
const USUAL_LOAD: Duration = Duration::from_millis(1);
pub(crate) const USUAL_CREATION: Duration = Duration::from_millis(120);

/// What keeps a pool from creating.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    /// As many containers are being made as may.
    Turn,
    /// Memory or number, for calls.
    Room,
    /// Memory or number, for its minimum alone: what others leave.
    Spare,
    /// It, or the node, is not to try for a while.
    Time,
}

#[derive(Debug)]
pub(crate) struct Pool {
    /// Absent as long as containers of it were adopted, but nobody said how many there may be.
    pub(crate) settings: Option<PoolSettings>,
    /// Whether it was given up; it is kept until its last container is gone.
    pub(crate) removed: bool,
    pub(crate) status: PoolStatus,
    /// Containers at their snapshot, by when they were used last.
    pub(crate) ready: BTreeSet<(Moment, ContainerId)>,
    /// Containers that hold a function, by when its keep-warm time is over.
    pub(crate) idle: BTreeSet<(Moment, ContainerId)>,
    /// Functions that could use a container: bill, turn.
    pub(crate) wanting: BTreeSet<(u64, u64, FunctionKey)>,
    /// Functions of which calls wait.
    pub(crate) queued: BTreeSet<FunctionKey>,
    /// Functions of which a call could run at once in an idle container.
    pub(crate) at_hand: BTreeSet<FunctionKey>,
    /// Containers that they could use together.
    pub(crate) unmet: u64,
    /// The bill from which a function starts that did not wait: what the last one paid that was
    /// served in its turn.
    pub(crate) clock: u64,
    pub(crate) runs: Average,
    pub(crate) loads: Average,
    pub(crate) restores: Average,
    pub(crate) creations: Average,
    pub(crate) creation: Backoff,
    pub(crate) health: Backoff,
    /// Since when calls want more containers than there are.
    pub(crate) short: Option<Moment>,
    /// Since when calls wait for its first container.
    pub(crate) starving: Option<Moment>,
    /// Since when fewer containers are free than it is to spare.
    pub(crate) bare: Option<Moment>,
    /// Its place among the pools that would create, and what it waits for.
    pub(crate) hungry: Option<(u64, Lack)>,
    /// When it asked to be looked at.
    pub(crate) timer: Option<Moment>,
}

impl Pool {
    pub(crate) fn new() -> Self {
        Self {
            settings: None,
            removed: false,
            status: PoolStatus::default(),
            ready: BTreeSet::new(),
            idle: BTreeSet::new(),
            wanting: BTreeSet::new(),
            queued: BTreeSet::new(),
            at_hand: BTreeSet::new(),
            unmet: 0,
            clock: 0,
            runs: Average::default(),
            loads: Average::default(),
            restores: Average::default(),
            creations: Average::default(),
            creation: Backoff::new(&CREATION),
            health: Backoff::new(&HEALTH),
            short: None,
            starving: None,
            bare: None,
            hungry: None,
            timer: None,
        }
    }

    /// Containers that live or will.
    pub(crate) fn alive(&self) -> u32 {
        self.total() - self.status.removing
    }

    pub(crate) fn needs_room(&self) -> bool {
        matches!(self.hungry, Some((_, Lack::Room)))
    }

    pub(crate) fn total(&self) -> u32 {
        let s = &self.status;
        s.creating + s.ready + s.loading + s.idle + s.running + s.restoring + s.removing
    }

    pub(crate) fn count(&mut self, activity: Activity) -> &mut u32 {
        match activity {
            Activity::Creating => &mut self.status.creating,
            Activity::Ready => &mut self.status.ready,
            Activity::Loading => &mut self.status.loading,
            Activity::Idle => &mut self.status.idle,
            Activity::Running => &mut self.status.running,
            Activity::Restoring => &mut self.status.restoring,
            Activity::Removing => &mut self.status.removing,
        }
    }

    pub(crate) fn maximum(&self) -> u32 {
        self.settings
            .as_ref()
            .map_or(u32::MAX, |settings| settings.maximum)
    }

    pub(crate) fn minimum(&self) -> u32 {
        self.settings
            .as_ref()
            .map_or(0, |settings| settings.minimum.min(settings.maximum))
    }

    pub(crate) fn reuse(&self) -> Reuse {
        let settings = self.settings.as_ref();
        settings.map_or(Reuse::Always, |settings| settings.reuse)
    }

    /// Microseconds of container time that one function may have beyond the others' turn before
    /// its container is put back for them, or makes way for one of theirs: so much that swaps
    /// take at most a ninth of it.
    pub(crate) fn batch(&self) -> u64 {
        let (swap, most) = match self.reuse() {
            Reuse::Always => (self.restores.or(USUAL_RESTORE), 200_000),
            Reuse::Never => (self.creations.or(USUAL_CREATION), 2_000_000),
        };
        let swap = swap.saturating_add(self.loads.or(USUAL_LOAD));
        swap.saturating_mul(8).clamp(1_000, most)
    }

    /// The container that was used longest ago, of those that do nothing: at its snapshot if
    /// there is one, else the one whose keep-warm time is over first.
    pub(crate) fn least_used(&self) -> Option<ContainerId> {
        self.ready
            .first()
            .or_else(|| self.idle.first())
            .map(|(_, id)| *id)
    }
}
