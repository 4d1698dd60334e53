//! The way back: a worker is rewound, or killed and another forked.

use std::time::{Duration, Instant};

use refunction_protocol::{Method, Phase, Restored, Taint};
use refunction_snapshot::{Phases, Refused, Rewound, Row};

use super::{Clearing, Container, ContainerError, SlotId};
use crate::sabotage::leaves_out;
use crate::settings::MethodChoice;

/// How long a sweep may keep everybody waiting who wants something else.
const SLICE: Duration = Duration::from_millis(100);

/// The same where others' calls are in hand meanwhile.
const SLICE_AMONG_OTHERS: Duration = Duration::from_millis(5);

impl Container {
    /// Kills the slot's worker and forks another; nothing of it is left. Where its files
    /// take long to remove there is no worker until [`go_on`](Self::go_on) has done it.
    pub(crate) fn refork(&mut self, slot: SlotId) -> Result<(), ContainerError> {
        self.clear(slot, Clearing::of_nobody()).map(drop)
    }

    /// Brings the slot's worker back, in place if it can be; nothing as long as
    /// [`go_on`](Self::go_on) has files to remove.
    pub(crate) fn restore(&mut self, slot: SlotId) -> Result<Option<Restored>, ContainerError> {
        let began = Instant::now();
        self.note_what_is_open(slot);
        self.slots[slot].is_swept = false;
        let is_outdated = self.is_outdated(slot);
        let is_rotation = is_outdated || (self.rotation.is_some() && self.spare.is_some());
        let always = self.settings.method == MethodChoice::Refork
            && !leaves_out("restore:when-told-to-refork");
        let tried = if is_rotation || always {
            Err(Refused {
                taints: Vec::new(),
                phases: Phases::default(),
            })
        } else {
            self.rewind(slot)
        };
        let refused = match tried {
            Ok(rewound) => {
                let pages = rewound.dirty_pages;
                let restored = report(Method::Rewind, began, &rewound.phases, pages, vec![]);
                self.slots[slot].has_opened = false;
                self.users.is_swept(slot);
                self.count_restore(slot)?;
                return Ok(Some(restored));
            }
            Err(refused) => refused,
        };
        let is_verdict = refused.phases.iter().any(|(name, _)| name == "verify");
        if is_verdict || self.settings.method == MethodChoice::Rewind {
            eprintln!("refunction-supervisor: {refused}");
        }
        let mut taints: Vec<Taint> = refused
            .taints
            .into_iter()
            .map(|taint| Taint {
                row: taint.row.to_string(),
                detail: taint.detail,
            })
            .collect();
        if is_rotation {
            let why = if is_outdated {
                let serving = self.template.as_ref();
                serving.and_then(|serving| serving.because.clone())
            } else {
                self.rotation.take()
            };
            taints.push(Taint {
                row: "template".into(),
                detail: format!(
                    "another template has taken over {}",
                    why.unwrap_or_default()
                ),
            });
        }
        self.clear(slot, Clearing::of_restore(began, refused.phases, taints))
    }

    fn clear(
        &mut self,
        slot: SlotId,
        mut clearing: Clearing,
    ) -> Result<Option<Restored>, ContainerError> {
        let is_killed = self.part(slot)?;
        clearing.lap(if is_killed { "kill" } else { "stop" });
        self.slots[slot].clearing = Some(clearing);
        self.go_on(slot)
    }

    /// Removes files for a while; with the last of them the slot has a worker again, and
    /// the restore that waited for it is done.
    pub(crate) fn go_on(&mut self, slot: SlotId) -> Result<Option<Restored>, ContainerError> {
        if self.slots[slot].clearing.is_some() && !self.sweep_for_a_while(slot)? {
            return Ok(None);
        }
        if self.awaits_spare(slot) {
            self.start_spare()?;
            return Ok(None);
        }
        let Some(mut clearing) = self.slots[slot].clearing.take() else {
            return Ok(None);
        };
        clearing.lap("files");
        if self.call_up(slot) {
            self.slots[slot].has_opened = false;
            self.users.is_swept(slot);
            clearing.lap("spare");
        } else if !self.choose_user(slot) {
            // As soon as what others opened is gone.
            self.slots[slot].clearing = Some(clearing);
            return Ok(None);
        } else if self.template.is_some() {
            self.fork(slot)?;
            clearing.lap("fork");
        }
        if self.awaits_spare(slot) {
            // The one there was could not be had.
            self.slots[slot].clearing = Some(clearing);
            return Ok(None);
        }
        if !clearing.is_restore {
            return Ok(None);
        }
        let Clearing { began, phases, .. } = clearing;
        let restored = report(Method::Refork, began, &phases, 0, clearing.taints);
        self.count_restore(slot)?;
        Ok(Some(restored))
    }

    /// What is recorded of a worker is forgotten with its restore.
    pub(super) fn note_what_is_open(&mut self, slot: SlotId) {
        self.slots[slot].has_opened = self.has_opened(slot);
    }

    fn has_opened(&self, slot: SlotId) -> bool {
        let slot = &self.slots[slot];
        slot.has_opened || slot.pid().is_some_and(|pid| self.engine.has_opened(pid))
    }

    /// Other slots whose tenants let others write to what they have.
    pub(super) fn open_beside(&self, slot: SlotId) -> Vec<SlotId> {
        let others = self.slots().filter(|other| *other != slot);
        others.filter(|other| self.has_opened(*other)).collect()
    }

    /// All is gone that the slot's last tenant owned, and what others left in there. What it
    /// left with others is not: where there may be any, the next has another user. False if
    /// there is none to be had.
    fn choose_user(&mut self, slot: SlotId) -> bool {
        self.slots[slot].has_opened = false;
        self.users.is_swept(slot);
        let beside = self.open_beside(slot);
        if beside.is_empty() || leaves_out("beside:another-user") {
            return true;
        }
        let Some(user) = self.users.exchange(self.slots[slot].owner.0, beside) else {
            return false;
        };
        self.slots[slot].owner.0 = user;
        true
    }

    /// True if the slot has its next worker when there is a user for it, and not before.
    pub(crate) fn awaits_user(&self, slot: SlotId) -> bool {
        let has_none = self.slots[slot].pid().is_none() && !self.users.are_any_free();
        has_none && !self.open_beside(slot).is_empty()
    }

    fn slice(&self) -> Duration {
        if self.slots.len() > 1 {
            SLICE_AMONG_OTHERS
        } else {
            SLICE
        }
    }

    /// True if all that the slot's tenant left is gone.
    fn sweep_for_a_while(&mut self, slot: SlotId) -> Result<bool, ContainerError> {
        if std::mem::take(&mut self.slots[slot].is_swept) {
            return Ok(true);
        }
        let until = Instant::now() + self.slice();
        let owner = self.slots[slot].owner.0;
        match &mut self.sweep {
            Some(sweep) if !leaves_out("files:at-a-refork") => {
                Ok(sweep.run(owner, Some(until))?.is_complete)
            }
            _ => Ok(true),
        }
    }

    fn rewind(&mut self, slot: SlotId) -> Result<Rewound, Refused> {
        let slice = self.slice();
        let owner = self.slots[slot].owner.0;
        let gone = || refused(Row::Worker, "there is none".into());
        let staff = self.slots[slot].staff.as_mut().ok_or_else(gone)?;
        let mut holding = staff.worker.hold(&mut self.engine)?;
        // From here on it does nothing any more.
        if !self.open_beside(slot).is_empty() && !leaves_out("beside:no-rewind") {
            let detail = "a request beside this one let others write to what it has, where this one may have left something: the next has another user";
            return Err(refused(Row::Files, detail.into()));
        }
        let slot = &mut self.slots[slot];
        let (Some(serving), Some(staff)) = (&self.template, &mut slot.staff) else {
            return Err(gone());
        };
        staff
            .pipes
            .drain()
            .map_err(|error| refused(Row::Descriptors, error.to_string()))?;
        holding.lap("pipes");
        if let Some(sweep) = &mut self.sweep
            && !leaves_out("files:at-a-rewind")
        {
            let swept = sweep.run(owner, Some(Instant::now() + slice));
            match swept.map_err(|error| refused(Row::Files, error.to_string()))? {
                swept if swept.is_complete => {}
                _ => {
                    let detail = format!("removing them takes more than {} ms", slice.as_millis());
                    return Err(refused(Row::Files, detail));
                }
            }
        }
        slot.is_swept = true;
        holding.lap("files");
        let template = match staff.worker.generation() {
            Some(generation) if generation != serving.generation => {
                self.layers.template(generation)
            }
            _ => serving.source.template(),
        };
        staff.rewind(&mut self.engine, template, holding)
    }
}

fn refused(row: Row, detail: String) -> Refused {
    Refused {
        taints: vec![refunction_snapshot::Taint::new(row, detail)],
        phases: Phases::default(),
    }
}

fn report(
    method: Method,
    began: Instant,
    phases: &Phases,
    dirty_pages: u64,
    taints: Vec<Taint>,
) -> Restored {
    Restored {
        method,
        total_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        phases: phases
            .iter()
            .map(|(name, duration)| Phase {
                name: name.to_string(),
                ns: u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX),
            })
            .collect(),
        dirty_pages,
        taints,
    }
}
