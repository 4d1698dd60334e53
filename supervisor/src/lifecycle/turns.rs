//! Whose turn it is: which worker has the next call, and when one that had a call is put
//! back, so that no call waits for what could come later.

use std::time::{Duration, Instant};

use refunction_protocol::Command;

use super::duty::{Awaited, Duty};
use super::{Client, Fatal, Supervisor};
use crate::container::SlotId;
use crate::settings::Isolation;

/// How long a restore waits for a call that could come before it, as long as a worker is
/// there that could have it: a client that has its answer sends the next about then.
const AFTER_YOU: Duration = Duration::from_micros(300);

/// How long what nobody waits for waits for an answer that is still to be written. Who does not
/// read for longer has nothing left to be quick for.
const AFTER_AN_ANSWER: Duration = Duration::from_millis(10);

impl Supervisor {
    /// True if each call gets the function as it was loaded first.
    pub(super) fn restores_each(&self) -> bool {
        self.settings.isolation() == Isolation::Request
    }

    /// Calls that workers have.
    pub(super) fn calls_in_hand(&self) -> usize {
        self.duties.iter().filter(|duty| duty.has_call()).count()
    }

    /// True if no other call may begin.
    pub(super) fn are_enough_in_hand(&self) -> bool {
        self.calls_in_hand() >= self.settings.concurrency()
    }

    /// Gives calls to workers, and puts workers back.
    pub(super) fn take_turns(&mut self) -> Result<(), Fatal> {
        let waiting = self.queue.len();
        self.next_commands()?;
        let has_begun = self.queue.len() < waiting;
        self.restore_one_if_due(has_begun)?;
        // It may be the one that somebody waits for.
        self.next_commands()?;
        self.replace_outdated()?;
        self.prime()?;
        self.do_chores()
    }

    /// Does what nobody should wait for, once nobody asked for anything for a while; or when
    /// there was no such moment, while a function is loaded, which takes as long.
    fn do_chores(&mut self) -> Result<(), Fatal> {
        let is_wanted = self.draining.is_none() && self.container.has_chores();
        if !is_wanted || self.touched.elapsed() < self.until_chores() {
            return Ok(());
        }
        // What was asked of them is answered.
        self.container.see_off();
        let is_quiet = self.touched.elapsed() >= AFTER_YOU && self.container.growing().is_none();
        let is_loading = |duty: &Duty| {
            let in_flight = duty.in_flight.as_ref();
            in_flight.is_some_and(|it| matches!(it.awaited, Awaited::Load { .. }))
        };
        if is_quiet || self.container.is_late() && self.duties.iter().any(is_loading) {
            self.container.do_chores(is_quiet)?;
        }
        Ok(())
    }

    /// When there is time for what nobody waits for.
    pub(super) fn next_chores(&self) -> Option<Instant> {
        let is_wanted = self.container.has_chores() && self.container.growing().is_none();
        is_wanted.then(|| self.touched + self.until_chores().max(AFTER_YOU))
    }

    /// How long nothing is to be done that nobody waits for: to have a process end and to fork
    /// another takes longer than an answer that waits for its turn to be written.
    fn until_chores(&self) -> Duration {
        match self.peers.iter().any(|(_, peer)| peer.wants_writing()) {
            true => AFTER_AN_ANSWER,
            false => Duration::ZERO,
        }
    }

    /// Has workers of a template that retired go while nobody asks for them, so that it can
    /// go, too.
    fn replace_outdated(&mut self) -> Result<(), Fatal> {
        if !self.restores_each() || !self.queue.is_empty() || self.draining.is_some() {
            return Ok(());
        }
        for slot in self.container.slots() {
            if self.is_at_hand(slot) && self.container.is_outdated(slot) {
                self.restore(slot)?;
            }
        }
        Ok(())
    }

    /// The slot whose worker has the next command, if one can.
    pub(super) fn slot_for_next(&self) -> Option<SlotId> {
        let next = self.queue.front()?;
        let is_loading = |duty: &Duty| {
            let load = duty.in_flight.as_ref();
            load.is_some_and(|it| {
                matches!(it.awaited, Awaited::Load { then: None }) && it.client != Client::Nobody
            })
        };
        // What comes behind a function is for that function.
        if self.are_enough_in_hand() || self.duties.iter().any(is_loading) {
            return None;
        }
        let is_function = matches!(next.command, Command::Function(_));
        if self.container.growing().is_some() {
            // It is grown for the function that is next, and nothing else runs meanwhile.
            return None;
        }
        if is_function && self.duties.iter().any(Duty::has_call) {
            return None;
        }
        self.container
            .slots()
            .filter(|slot| self.is_at_hand(*slot))
            // Of those that are ready the one that ran last: its memory is at hand.
            .max_by_key(|slot| (self.duties[*slot].is_loaded, self.duties[*slot].restored))
    }

    /// True if the slot's worker could be asked for something.
    pub(super) fn is_at_hand(&self, slot: SlotId) -> bool {
        self.duties[slot].is_free() && self.container.worker_pid(slot).is_some()
    }

    /// When a restore that waits for others' calls waits no more.
    pub(super) fn next_turn(&self) -> Option<Instant> {
        let due = self.duties.iter().filter_map(|duty| duty.restore_due);
        Some(due.min()? + AFTER_YOU)
    }

    /// Puts back what one call left, where each gets the function as it was loaded first.
    fn restore_one_if_due(&mut self, has_begun: bool) -> Result<(), Fatal> {
        for slot in self.container.slots() {
            // One that has files to remove, or a spare to wait for, says later how long it took.
            if self.duties[slot].restore_due.is_none() && !self.container.is_clearing(slot) {
                self.report(slot, None);
            }
        }
        let Some(slot) = self.slot_due() else {
            return Ok(());
        };
        let is_time = has_begun || self.is_no_worker_left() || self.is_full_or_late(slot);
        if is_time && self.container.worker_pid(slot).is_some() {
            self.restore(slot)?;
        }
        Ok(())
    }

    /// The slot whose restore has been due for longest.
    fn slot_due(&self) -> Option<SlotId> {
        let due = |slot: &SlotId| self.duties[*slot].restore_due;
        self.container
            .slots()
            .filter(|slot| due(slot).is_some())
            .min_by_key(due)
    }

    /// True if the next call would have to wait for this restore.
    fn is_no_worker_left(&self) -> bool {
        let mut slots = self.container.slots();
        !slots.any(|slot| self.is_at_hand(slot) && self.duties[slot].is_loaded)
    }

    /// True if no other call could begin now, or none came.
    fn is_full_or_late(&self, slot: SlotId) -> bool {
        let is_late = |since: Instant| since.elapsed() >= AFTER_YOU;
        self.are_enough_in_hand() || self.duties[slot].restore_due.is_some_and(is_late)
    }
}
