//! A place for one worker: whose user it has, who is there, and what is still to be
//! cleared away before the next one comes.

use std::time::Instant;

use nix::unistd::{Gid, Pid, Uid};
use refunction_protocol::Taint;
use refunction_snapshot::Phases;

use crate::staff::Staff;

/// Which of a container's slots.
pub(crate) type SlotId = usize;

/// What one worker after another has.
pub(super) struct Slot {
    /// The user of its worker, or of the next: where there are several slots, no other's.
    pub(super) owner: (Uid, Gid),
    pub(super) staff: Option<Staff>,
    /// A refork that has the last tenant's files still to remove.
    pub(super) clearing: Option<Clearing>,
    /// The last tenant may have let others write to what it owns, which is still there.
    pub(super) has_opened: bool,
    /// All that the last tenant left is gone, and it has been held since.
    pub(super) is_swept: bool,
    /// The layer that its worker is of, or the next; if none, or one that is not there any
    /// more, it is of the first template.
    pub(super) layer: Option<u64>,
}

impl Slot {
    pub(super) fn of(owner: (Uid, Gid)) -> Self {
        Self {
            owner,
            staff: None,
            clearing: None,
            has_opened: false,
            is_swept: false,
            layer: None,
        }
    }

    pub(super) fn pid(&self) -> Option<Pid> {
        self.staff.as_ref().map(|staff| staff.worker.pid())
    }
}

/// What is known of a restore whose worker is gone and whose files are not yet.
pub(super) struct Clearing {
    pub(super) began: Instant,
    since: Instant,
    pub(super) phases: Phases,
    pub(super) taints: Vec<Taint>,
    pub(super) is_restore: bool,
}

impl Clearing {
    /// One that is a restore, and what is known of it until now.
    pub(super) fn of_restore(began: Instant, phases: Phases, taints: Vec<Taint>) -> Self {
        Self {
            began,
            since: Instant::now(),
            phases,
            taints,
            is_restore: true,
        }
    }

    /// One that nobody asked for.
    pub(super) fn of_nobody() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            since: now,
            phases: Phases::default(),
            taints: Vec::new(),
            is_restore: false,
        }
    }

    pub(super) fn lap(&mut self, name: &'static str) {
        self.phases.add(name, self.since.elapsed());
        self.since = Instant::now();
    }
}
