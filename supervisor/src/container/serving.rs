//! The template that workers come from, for how long it does, and what takes over.

use std::time::Instant;

use refunction_adapter::Runtime;
use refunction_snapshot::{Refused, Template};

use super::{Clearing, Container, ContainerError, SlotId};
use crate::memory;
use crate::sabotage::leaves_out;
use crate::staff::Source;

/// Restores after which the memory that is held is looked at once more.
const MEMORY_EVERY: u64 = 64;

/// How many workers in reserve are given up before the container is.
const MOST_REFUSED: u32 = 3;

const MIB: u64 = 1024 * 1024;

/// Where workers come from, and for how long they have.
pub(super) struct Serving {
    pub(super) source: Source,
    pub(super) runtime: Runtime,
    /// Its number among all of the container's.
    pub(super) generation: u64,
    /// Why it took over.
    pub(super) because: Option<String>,
    since: Instant,
    pub(super) restores: u64,
    /// Bytes of memory that the container held when it had its first worker.
    pub(super) held: Option<u64>,
}

impl Serving {
    pub(super) fn of(source: Source, runtime: Runtime, because: Option<String>) -> Self {
        Self {
            source,
            runtime,
            generation: 0,
            because,
            since: Instant::now(),
            restores: 0,
            held: None,
        }
    }
}

/// A template that another has taken over from, and that still has workers.
pub(super) struct Retired {
    pub(super) template: Template,
    pub(super) generation: u64,
}

impl Container {
    /// Has workers come from this from now on; true if there was another before it.
    pub(super) fn take_over(&mut self, mut serving: Serving) -> Result<bool, ContainerError> {
        serving.generation = self.next_generation();
        let Some(predecessor) = self.template.replace(serving) else {
            return Ok(false);
        };
        self.retire_layers()?;
        if let Some(template) = predecessor.source.into_template() {
            self.retired.push(Retired {
                template,
                generation: predecessor.generation,
            });
        }
        self.retire_reserves();
        // One that retires may have no worker at all.
        self.end_retired()?;
        Ok(true)
    }

    /// True if the worker of this slot is of a template that retired.
    pub(crate) fn is_outdated(&self, slot: SlotId) -> bool {
        let staff = self.slots[slot].staff.as_ref();
        let of = staff.and_then(|staff| staff.worker.generation());
        of.is_some_and(|generation| self.template_of(generation).is_none())
    }

    /// The template of this generation, if workers are forked from it.
    pub(super) fn template_of(&self, generation: u64) -> Option<&Template> {
        let serving = self.template.as_ref()?;
        if serving.generation == generation {
            return serving.source.template();
        }
        self.layers.template(generation)
    }

    /// A number that no template had.
    pub(super) fn next_generation(&mut self) -> u64 {
        self.generations += 1;
        self.generations
    }

    /// Kills templates that retired and have no workers any more.
    pub(super) fn end_retired(&mut self) -> Result<(), ContainerError> {
        if self.retired.is_empty() || leaves_out("template:ends-with-its-worker") {
            return Ok(());
        }
        let staff = self.slots.iter().filter_map(|slot| slot.staff.as_ref());
        let needed: Vec<u64> = staff
            .filter_map(|staff| staff.worker.generation())
            .collect();
        let retired = std::mem::take(&mut self.retired);
        for retired in retired {
            if needed.contains(&retired.generation) {
                self.retired.push(retired);
            } else {
                self.engine.discard_template(retired.template)?;
            }
        }
        Ok(())
    }

    pub(super) fn count_restore(&mut self, slot: SlotId) -> Result<(), ContainerError> {
        if let Some(serving) = &mut self.template {
            serving.restores += 1;
        }
        self.rotate_if_due(slot)
    }

    /// Starts a successor if the template has served long enough.
    fn rotate_if_due(&mut self, slot: SlotId) -> Result<(), ContainerError> {
        let Some(serving) = &self.template else {
            return Ok(());
        };
        let settings = &self.settings;
        let (restores, seconds) = (settings.rotate_after(), settings.rotate_seconds());
        let why = if restores > 0 && serving.restores >= restores {
            format!("after {restores} restores")
        } else if seconds > 0 && serving.since.elapsed().as_secs() >= seconds {
            format!("after {seconds} seconds")
        } else if let Some(grown) = self.grown_too_much(serving, slot) {
            format!("after its workers' memory had grown by {grown} MiB")
        } else {
            return Ok(());
        };
        if leaves_out("template:rotation") {
            return Ok(());
        }
        if let Source::Spares(_) = serving.source {
            // There is one, or it is on its way.
            self.rotation = Some(why);
        } else if self.booting.is_none() {
            self.booting = Some(self.start()?);
            self.rotation = Some(why);
        }
        Ok(())
    }

    /// MiB by which memory has grown under this template, if it was looked at and they
    /// are too many.
    fn grown_too_much(&self, serving: &Serving, slot: SlotId) -> Option<u64> {
        let limit = self.settings.rotate_memory_mib;
        if limit == 0 || !serving.restores.is_multiple_of(MEMORY_EVERY) {
            return None;
        }
        let held = memory::held(self.worker_pid(slot)?)?;
        let grown = held.saturating_sub(serving.held?) / MIB;
        (grown >= limit).then_some(grown)
    }

    /// Puts off the rotation that failed until it is due once more.
    pub(crate) fn stay(&mut self) {
        if let Some(serving) = &mut self.template {
            serving.since = Instant::now();
            serving.restores = 0;
        }
    }

    /// Lets the worker in reserve go, and has another come in its place.
    pub(super) fn employ_spare(&mut self, slot: SlotId) -> Result<(), ContainerError> {
        let (Some(mut staff), Some(serving)) = (self.spare.take(), &mut self.template) else {
            return Err(ContainerError::NoTemplate);
        };
        let engine = &mut self.engine;
        // It stood still since its snapshot; what others sent it meanwhile goes.
        let employed = staff
            .worker
            .hold(engine)
            .and_then(|holding| staff.rewind(engine, None, holding));
        if let Err(refused) = employed {
            staff.worker.discard(engine)?;
            return self.wait_for_another_spare(slot, &refused);
        }
        self.refused_spares = 0;
        serving.since = Instant::now();
        serving.restores = 0;
        if self.settings.rotate_memory_mib > 0 {
            serving.held = memory::held(staff.worker.pid());
        }
        self.slots[slot].staff = Some(staff);
        self.start_spare()
    }

    /// A tenant has the user of a worker in reserve, too: it cannot look into it, but it
    /// can change its limits and priorities.
    fn wait_for_another_spare(
        &mut self,
        slot: SlotId,
        refused: &Refused,
    ) -> Result<(), ContainerError> {
        self.refused_spares += 1;
        if self.refused_spares > MOST_REFUSED {
            return Err(ContainerError::Runtime(refused.to_string()));
        }
        eprintln!("refunction-supervisor: the worker in reserve: {refused}");
        let clearing = &mut self.slots[slot].clearing;
        clearing.get_or_insert_with(Clearing::of_nobody);
        self.start_spare()
    }

    /// True if the slot's worker comes as soon as there is one in reserve, and not before.
    pub(crate) fn awaits_spare(&self, slot: SlotId) -> bool {
        let serving = self.template.as_ref();
        let are_spares = serving.is_some_and(|it| matches!(it.source, Source::Spares(_)));
        self.slots[slot].clearing.is_some() && are_spares && self.spare.is_none()
    }
}
