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
                self.is_swept(slot);
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
        self.dismiss(slot)?;
        clearing.lap("kill");
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
        self.is_swept(slot);
        if self.template.is_some() {
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

    /// True if the slot's worker is to meet no tenant yet: what the last one left may be in
    /// a directory that another slot's tenant opened, and that goes with that one's restore.
    pub(crate) fn waits_for_others(&self, slot: SlotId) -> bool {
        !self.slots[slot].waits_for.is_empty()
    }

    /// What is recorded of a worker is forgotten with its restore.
    pub(super) fn note_what_is_open(&mut self, slot: SlotId) {
        self.slots[slot].has_opened = self.has_opened(slot);
    }

    fn has_opened(&self, slot: SlotId) -> bool {
        let slot = &self.slots[slot];
        slot.has_opened || slot.pid().is_some_and(|pid| self.engine.has_opened(pid))
    }

    /// All is gone that the slot's last tenant owned, and what is in there.
    fn is_swept(&mut self, slot: SlotId) {
        if self.slots.len() == 1 {
            return;
        }
        self.slots[slot].has_opened = false;
        for other in &mut self.slots {
            other.waits_for.retain(|it| *it != slot);
        }
        self.slots[slot].waits_for = self
            .slots()
            .filter(|other| *other != slot && self.has_opened(*other))
            .collect();
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
        let until = Instant::now() + self.slice();
        match &mut self.sweep {
            Some(sweep) if !leaves_out("files:at-a-refork") => {
                Ok(sweep.run(slot, Some(until))?.is_complete)
            }
            _ => Ok(true),
        }
    }

    fn rewind(&mut self, slot: SlotId) -> Result<Rewound, Refused> {
        let refused = |row: Row, detail: String| Refused {
            taints: vec![refunction_snapshot::Taint::new(row, detail)],
            phases: Phases::default(),
        };
        let slice = self.slice();
        let (Some(serving), Some(staff)) = (&self.template, &mut self.slots[slot].staff) else {
            return Err(refused(Row::Worker, "there is none".into()));
        };
        let mut holding = staff.worker.hold(&mut self.engine)?;
        staff
            .pipes
            .drain()
            .map_err(|error| refused(Row::Descriptors, error.to_string()))?;
        holding.lap("pipes");
        if let Some(sweep) = &mut self.sweep
            && !leaves_out("files:at-a-rewind")
        {
            let swept = sweep.run(slot, Some(Instant::now() + slice));
            match swept.map_err(|error| refused(Row::Files, error.to_string()))? {
                swept if swept.is_complete => {}
                _ => {
                    let detail = format!("removing them takes more than {} ms", slice.as_millis());
                    return Err(refused(Row::Files, detail));
                }
            }
        }
        holding.lap("files");
        staff.rewind(&mut self.engine, &serving.source, holding)
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
