//! Users for workers that run beside one another: each has one of its own, and one that may
//! have left something in a place of another's is not used again before that is gone.

use std::fs;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

use nix::unistd::{Uid, User};

use super::slot::SlotId;
use crate::sabotage::leaves_out;

/// Who of them is whose.
pub(super) struct Users {
    free: Vec<Uid>,
    /// Who may have left something, and the slots whose restores take that away.
    held_back: Vec<(Uid, Vec<SlotId>)>,
}

impl Users {
    /// Of all these users those that no slot begins with.
    pub(super) fn new(all: Range<u32>, slots: usize) -> Self {
        let free = all.skip(slots).map(Uid::from_raw).collect();
        Self {
            free,
            held_back: Vec::new(),
        }
    }

    /// All is gone that the tenant of this slot owned.
    pub(super) fn is_swept(&mut self, slot: SlotId) {
        for (user, by) in std::mem::take(&mut self.held_back) {
            let by: Vec<SlotId> = by.into_iter().filter(|it| *it != slot).collect();
            if by.is_empty() {
                self.free.push(user);
            } else {
                self.held_back.push((user, by));
            }
        }
    }

    /// Holds a user back until these slots are swept, and gives another.
    pub(super) fn exchange(&mut self, user: Uid, by: Vec<SlotId>) -> Option<Uid> {
        let other = self.free.pop()?;
        if leaves_out("beside:user-held-back") {
            self.free.push(user);
        } else {
            self.held_back.push((user, by));
        }
        Some(other)
    }

    /// One who is nobody's.
    pub(super) fn take(&mut self) -> Option<Uid> {
        self.free.pop()
    }

    /// Gives one back whose files are gone; not before these slots are swept, if it may have
    /// left something with their tenants.
    pub(super) fn let_go(&mut self, user: Uid, by: Vec<SlotId>) {
        if by.is_empty() {
            self.free.push(user);
        } else {
            self.held_back.push((user, by));
        }
    }

    pub(super) fn are_any_free(&self) -> bool {
        !self.free.is_empty()
    }
}

/// The first of these users whom somebody else has: who has a name, or a process.
pub(super) fn taken(users: Range<u32>) -> Option<Uid> {
    let has_name = |user: &u32| {
        // What cannot be asked for has no name.
        User::from_uid(Uid::from_raw(*user)).is_ok_and(|user| user.is_some())
    };
    let of_processes = || {
        let entries = fs::read_dir("/proc").ok()?;
        let owners = entries.flatten().filter_map(|entry| {
            let is_process = entry.file_name().as_encoded_bytes()[0].is_ascii_digit();
            is_process.then(|| entry.metadata().ok().map(|it| it.uid()))?
        });
        owners.into_iter().find(|owner| users.contains(owner))
    };
    let first = users.clone().find(has_name).or_else(of_processes);
    first.map(Uid::from_raw)
}
