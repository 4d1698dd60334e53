//! Workers that stand by where workers are forked: a refork takes one of them, and what is
//! left to be done, the end of the old worker and the fork of the next that stands by, is
//! done while nobody waits.
//!
//! A worker that stands by is as far as any that no function was loaded into: forked, of a
//! user of its own, and about to read its first request. It executes nothing until then. Its
//! user is no other worker's, so that no tenant can signal it, change its limits or priorities,
//! or look into it; what is random is seeded when a function is loaded into it.

use nix::unistd::Uid;

use super::{Container, ContainerError, SlotId};
use crate::authority::Authority;
use crate::staff::{Source, Staff, Standing};

/// A worker that stands by.
pub(super) struct Reserve {
    pub(super) staff: Staff,
    pub(super) user: Uid,
}

/// A worker that another has taken over from.
pub(super) struct Leaving {
    staff: Staff,
    is_killed: bool,
}

impl Container {
    /// True if workers can stand by. Where the function of the command has the container for
    /// itself all its workers have one user, whose files it may have brought.
    pub(super) fn keeps_reserve(&self) -> bool {
        let settings = &self.settings;
        settings.spare
            && !settings.runtime.is_program()
            && (settings.handler.is_none() || self.slots.len() > 1)
            && matches!(Authority::own(), Authority::Full)
    }

    /// Workers that stand by.
    pub(crate) fn reserves(&self) -> usize {
        self.reserves.len() + usize::from(self.spare.is_some())
    }

    /// The templates that workers are forked from, by their generations.
    fn generations(&self) -> impl Iterator<Item = u64> {
        let serving = self.template.as_ref();
        let serving = serving.filter(|it| matches!(it.source, Source::Template(_)));
        let base = serving.map(|it| it.generation);
        base.into_iter().chain(self.layers.generations())
    }

    /// The template that the slot's next worker comes from.
    pub(super) fn generation_for(&self, slot: SlotId) -> Option<u64> {
        let of_layer = self.slots[slot].layer;
        let serving = self.template.as_ref()?.generation;
        let is_there = |layer: &u64| self.layers.generations().any(|it| it == *layer);
        Some(of_layer.filter(is_there).unwrap_or(serving))
    }

    /// Has the slot's worker go, if there is one. It is killed and waited for at once, unless
    /// another stands by and it can do nothing any more: then that is left for later, and this
    /// is false.
    pub(super) fn part(&mut self, slot: SlotId) -> Result<bool, ContainerError> {
        self.note_what_is_open(slot);
        let stands_by = self
            .generation_for(slot)
            .is_some_and(|generation| self.reserves.contains_key(&generation));
        let mut is_killed = true;
        if let Some(mut staff) = self.slots[slot].staff.take() {
            is_killed = !(stands_by && is_still(&mut self.engine, &mut staff));
            if !is_killed {
                self.leaving.push(Leaving {
                    staff,
                    is_killed: false,
                });
            } else {
                self.slots[slot].is_swept = false;
                staff.worker.discard(&mut self.engine)?;
            }
        }
        self.end_retired()?;
        Ok(is_killed)
    }

    /// Gives the slot a worker that stands by, if one does.
    pub(super) fn call_up(&mut self, slot: SlotId) -> bool {
        let Some(generation) = self.generation_for(slot) else {
            return false;
        };
        let Some(reserve) = self.reserves.remove(&generation) else {
            self.is_late |= self.keeps_reserve();
            return false;
        };
        let beside = self.open_beside(slot);
        let slot = &mut self.slots[slot];
        let before = std::mem::replace(&mut slot.owner.0, reserve.user);
        slot.staff = Some(reserve.staff);
        // Not before its last worker is gone: nobody is forked until then.
        self.users.let_go(before, beside);
        true
    }

    /// Has a worker that no tenant used stand by, if none does; else it goes.
    pub(super) fn stand_down(&mut self, slot: SlotId) -> Result<(), ContainerError> {
        let Some(staff) = self.slots[slot].staff.take() else {
            return Ok(());
        };
        let user = self.slots[slot].owner.0;
        let generation = staff.worker.generation();
        let is_wanted = |it: &u64| {
            let is_there = self.generations().any(|there| there == *it);
            is_there && !self.reserves.contains_key(it) && self.keeps_reserve()
        };
        match generation.filter(is_wanted) {
            Some(generation) => {
                // Another is found for the slot first.
                if let Some(other) = self.users.take() {
                    self.slots[slot].owner.0 = other;
                    self.reserves.insert(generation, Reserve { staff, user });
                    return Ok(());
                }
                staff.worker.discard(&mut self.engine)?;
            }
            None => staff.worker.discard(&mut self.engine)?,
        }
        Ok(())
    }

    /// Something is to be done that nobody waits for.
    pub(crate) fn has_chores(&self) -> bool {
        !self.leaving.is_empty() || self.lacks_reserve()
    }

    fn lacks_reserve(&self) -> bool {
        self.keeps_reserve()
            && self.users.are_any_free()
            && self
                .generations()
                .any(|it| !self.reserves.contains_key(&it))
    }

    /// True if a refork came before its worker stood by: there was no quiet moment for that.
    pub(crate) fn is_late(&self) -> bool {
        self.is_late
    }

    /// Has workers end that others took over from. What they were asked was answered.
    pub(crate) fn see_off(&mut self) {
        for leaving in self.leaving.iter_mut().filter(|it| !it.is_killed) {
            leaving.is_killed = true;
            if let Standing::Forked(worker, _) = &leaving.staff.worker {
                self.engine.kill(worker);
            }
        }
    }

    /// Does what nobody waits for. `is_quiet` if there was a moment for it.
    pub(crate) fn do_chores(&mut self, is_quiet: bool) -> Result<(), ContainerError> {
        self.is_late &= !is_quiet;
        self.bury()?;
        if !self.keeps_reserve() {
            return Ok(());
        }
        let lacking: Vec<u64> = self
            .generations()
            .filter(|it| !self.reserves.contains_key(it))
            .collect();
        let group = self.slots[0].owner.1;
        for generation in lacking {
            let Some(user) = self.users.take() else {
                break;
            };
            match self.fork_from(generation, (user, group)) {
                Ok(staff) => drop(self.reserves.insert(generation, Reserve { staff, user })),
                // Whoever needs one will try again, and say more.
                Err(error) => {
                    self.users.let_go(user, Vec::new());
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Waits for the ends of those that others took over from: to be called before anybody
    /// is forked, who could get their numbers and users.
    pub(super) fn bury(&mut self) -> Result<(), ContainerError> {
        self.see_off();
        for leaving in std::mem::take(&mut self.leaving) {
            leaving.staff.worker.discard(&mut self.engine)?;
        }
        Ok(())
    }

    /// Has those go that stand by for templates that workers are no longer forked from.
    pub(super) fn retire_reserves(&mut self) {
        let there: Vec<u64> = self.generations().collect();
        let reserves = std::mem::take(&mut self.reserves);
        for (generation, reserve) in reserves {
            if there.contains(&generation) {
                self.reserves.insert(generation, reserve);
            } else {
                self.users.let_go(reserve.user, Vec::new());
                self.leaving.push(Leaving {
                    staff: reserve.staff,
                    is_killed: false,
                });
            }
        }
    }

    /// True if this is a worker that stands by, which it does no more then.
    pub(crate) fn lose_reserve(&mut self, worker: nix::unistd::Pid) -> bool {
        let is_it = |reserve: &Reserve| reserve.staff.worker.pid() == worker;
        let found = self.reserves.iter().find(|(_, reserve)| is_it(reserve));
        let Some(generation) = found.map(|(generation, _)| *generation) else {
            return false;
        };
        if let Some(reserve) = self.reserves.remove(&generation) {
            self.users.let_go(reserve.user, Vec::new());
            self.leaving.push(Leaving {
                staff: reserve.staff,
                is_killed: false,
            });
        }
        true
    }

    /// Kills all that stand by.
    pub(super) fn dismiss_reserves(&mut self) -> Result<(), ContainerError> {
        for (_, reserve) in std::mem::take(&mut self.reserves) {
            self.users.let_go(reserve.user, Vec::new());
            reserve.staff.worker.discard(&mut self.engine)?;
        }
        self.bury()
    }
}

/// True if nothing of this worker executes anything any more.
fn is_still(engine: &mut refunction_snapshot::Engine, staff: &mut Staff) -> bool {
    let Standing::Forked(worker, _) = &mut staff.worker else {
        return false;
    };
    // One that a signal stopped is held as well, but not to be rewound.
    engine.is_still(worker) || engine.hold(worker).is_ok() || engine.is_still(worker)
}
