//! Layers: templates with libraries imported, forked from the first template or from one
//! another. A function whose libraries are in one gets a worker of it, and imports nothing.
//!
//! A layer is grown when it is asked for, while no tenant's code runs and nothing is there
//! that a tenant left, by a fork of the template that imports what is missing. It holds what
//! was asked for and nothing else: the modules of others' libraries are not in the way of a
//! function that did not ask for them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use refunction_protocol::{Function, LIBRARIES_VARIABLE, Layer as Told, Loaded};
use refunction_snapshot::{Booting, EngineError, Template};

use super::serving::Retired;
use super::{Container, ContainerError, SlotId};
use crate::staff::Source;
use crate::template::Description;

/// How long the libraries of a layer may take to be imported.
const LONGEST: Duration = Duration::from_secs(30);

/// Layers of one template, at most.
pub(crate) const MOST_LAYERS: usize = 8;

/// Libraries of one layer, at most.
const MOST_LIBRARIES: usize = 16;

/// Sets of libraries that are remembered for having been asked for, or refused.
const MOST_REMEMBERED: usize = 256;

/// How often a set of libraries has to come that nobody declared, only imports, before a
/// layer is grown for it.
const TIMES_SEEN: u64 = 2;

const MIB: u64 = 1024 * 1024;

type Libraries = BTreeSet<String>;

struct Layer {
    template: Template,
    libraries: Libraries,
    generation: u64,
    /// Functions that were loaded into workers of it.
    functions: u64,
    /// When that was last, counted in functions of all layers.
    used: u64,
}

struct Growing {
    booting: Booting,
    libraries: Libraries,
    until: Instant,
}

/// All of a container's.
#[derive(Default)]
pub(super) struct Layers {
    layers: Vec<Layer>,
    growing: Option<Growing>,
    /// What the image has.
    installed: BTreeSet<String>,
    /// How often these were imported by functions that did not declare them.
    seen: BTreeMap<Libraries, u64>,
    /// Why there is none of these.
    refused: BTreeMap<Libraries, String>,
    loads: u64,
    /// What is to be said of the function loaded last.
    told: Loaded,
}

/// Whether a function can be loaded now.
pub(crate) enum Footing {
    /// Into the worker that there is.
    Ready,
    /// Once the layer is there that grows.
    Grows,
}

impl Layers {
    pub(super) fn generations(&self) -> impl Iterator<Item = u64> {
        self.layers.iter().map(|layer| layer.generation)
    }

    pub(super) fn template(&self, generation: u64) -> Option<&Template> {
        let mut layers = self.layers.iter();
        let layer = layers.find(|it| it.generation == generation)?;
        Some(&layer.template)
    }

    fn with(&self, libraries: &Libraries) -> Option<&Layer> {
        self.layers.iter().find(|it| it.libraries == *libraries)
    }

    /// The one with most of these libraries and no others.
    fn within(&self, libraries: &Libraries) -> Option<&Layer> {
        let within = |it: &&Layer| it.libraries.is_subset(libraries);
        let largest = |it: &&Layer| it.libraries.len();
        self.layers.iter().filter(within).max_by_key(largest)
    }

    fn bytes(&self) -> u64 {
        self.layers.iter().map(|it| it.template.held()).sum()
    }

    fn refuse(&mut self, libraries: Libraries, reason: String) {
        if self.refused.len() >= MOST_REMEMBERED {
            self.refused.clear();
        }
        self.refused.insert(libraries, reason);
    }
}

/// What a function wants to find imported.
struct Wanted {
    libraries: Libraries,
    is_declared: bool,
    /// Declared, and not there.
    missing: Libraries,
}

impl Container {
    /// True if functions come one after another, and their libraries can be imported before.
    fn has_layers(&self) -> bool {
        let settings = &self.settings;
        settings.layers_mib() > 0 && settings.handler.is_none() && self.slots.len() == 1
    }

    /// Takes note of what the image has.
    pub(super) fn take_installed(&mut self, description: &Description) {
        self.layers.installed = description.installed.iter().cloned().collect();
    }

    fn wanted(&self, function: &Function) -> Wanted {
        let declared = function.libraries.clone().or_else(|| {
            let named = function.env.get(LIBRARIES_VARIABLE)?;
            Some(named.split(',').map(|it| it.trim().to_owned()).collect())
        });
        let is_declared = declared.is_some();
        let names = declared.unwrap_or_else(|| {
            // What comes in an archive is not looked into.
            match function.binary {
                true => Vec::new(),
                false => self.settings.runtime.imports(&function.code),
            }
        });
        let preloaded = self.settings.libraries();
        let names = names
            .into_iter()
            .filter(|it| !it.is_empty() && !preloaded.contains(it));
        let (libraries, others): (Libraries, Libraries) =
            names.partition(|it| self.layers.installed.contains(it));
        // What a source imports beside them is the standard library, or its own affair.
        let missing = if is_declared {
            others
        } else {
            Libraries::new()
        };
        Wanted {
            libraries,
            is_declared,
            missing,
        }
    }

    /// Sees to it that the slot's worker, which no tenant used, is one for this function.
    pub(crate) fn prepare(
        &mut self,
        slot: SlotId,
        function: &Function,
    ) -> Result<Footing, ContainerError> {
        self.layers.told = Loaded::default();
        if !self.has_layers() {
            return Ok(Footing::Ready);
        }
        let wanted = self.wanted(function);
        let missing: Vec<&str> = wanted.missing.iter().map(String::as_str).collect();
        self.layers.told.no_layer =
            (!missing.is_empty()).then(|| format!("the image has no {}", missing.join(", ")));
        if wanted.libraries.is_empty() {
            self.move_to(slot, None)?;
            return Ok(Footing::Ready);
        }
        if self.layers.with(&wanted.libraries).is_none() {
            match self.grow_or_not(&wanted)? {
                None => return Ok(Footing::Grows),
                Some(reason) => self.layers.told.no_layer = Some(reason),
            }
        }
        self.layers.loads += 1;
        let loads = self.layers.loads;
        let found = self.layers.within(&wanted.libraries);
        let generation = found.map(|it| it.generation);
        self.move_to(slot, generation)?;
        let mut layers = self.layers.layers.iter_mut();
        if let Some(layer) = layers.find(|it| Some(it.generation) == generation) {
            layer.functions += 1;
            layer.used = loads;
            self.layers.told.layer = layer.libraries.iter().cloned().collect();
        }
        Ok(Footing::Ready)
    }

    /// Nothing if a layer grows now, or why none does.
    fn grow_or_not(&mut self, wanted: &Wanted) -> Result<Option<String>, ContainerError> {
        let libraries = &wanted.libraries;
        if let Some(reason) = self.layers.refused.get(libraries) {
            return Ok(Some(reason.clone()));
        }
        if libraries.len() > MOST_LIBRARIES {
            let most = format!("they are more than the {MOST_LIBRARIES} that a layer may have");
            return Ok(Some(most));
        }
        if !wanted.is_declared {
            if self.layers.seen.len() >= MOST_REMEMBERED {
                self.layers.seen.clear();
            }
            let seen = self.layers.seen.entry(libraries.clone()).or_default();
            *seen += 1;
            if *seen < TIMES_SEEN {
                return Ok(Some("they came for the first time".into()));
            }
        }
        if self.booting.is_some() {
            return Ok(Some("another template is about to take over".into()));
        }
        match self.grow(libraries.clone()) {
            Ok(()) => Ok(None),
            Err(error) => {
                let reason = error.to_string();
                self.layers.refuse(libraries.clone(), reason.clone());
                Ok(Some(reason))
            }
        }
    }

    fn grow(&mut self, libraries: Libraries) -> Result<(), ContainerError> {
        self.bury()?;
        let parent = self.layers.within(&libraries);
        let known = parent.map(|it| it.libraries.clone()).unwrap_or_default();
        let missing: Vec<&String> = libraries.difference(&known).collect();
        let asked = serde_json::to_vec(&missing)?;
        let base = self.template.as_ref().and_then(|it| it.source.template());
        let template = parent.map(|it| &it.template).or(base);
        let template = template.ok_or(ContainerError::NoTemplate)?;
        let booting = self.engine.grow(template, &asked)?;
        self.layers.growing = Some(Growing {
            booting,
            libraries,
            until: Instant::now() + LONGEST,
        });
        Ok(())
    }

    /// Where the layer that grows is heard from.
    pub(crate) fn growing(&self) -> Option<BorrowedFd<'_>> {
        self.layers.growing.as_ref().map(|it| it.booting.socket())
    }

    /// Until when it may.
    pub(crate) fn grows_until(&self) -> Option<Instant> {
        self.layers.growing.as_ref().map(|it| it.until)
    }

    /// True if this is the process that is to become a layer.
    pub(crate) fn is_growing(&self, template: Pid) -> bool {
        self.layers.growing.as_ref().map(|it| it.booting.pid()) == Some(template)
    }

    /// Takes up a layer that is ready, or hears why it will not be.
    pub(crate) fn finish_growth(&mut self) -> Result<(), ContainerError> {
        let Some(growing) = self.layers.growing.take() else {
            return Ok(());
        };
        let libraries = growing.libraries;
        let template = match self.engine.freeze(growing.booting) {
            Ok(template) => template,
            Err(error) => {
                let reason = match error {
                    EngineError::Template(reason) => reason,
                    other => other.to_string(),
                };
                self.tell_refused(&libraries, &reason);
                self.layers.refuse(libraries, reason);
                return Ok(());
            }
        };
        self.make_room(template.held())?;
        let (bytes, budget) = (template.held(), self.settings.layers_mib() * MIB);
        if self.layers.bytes() + bytes > budget || self.layers.layers.len() >= MOST_LAYERS {
            let reason = format!(
                "it takes {} MiB, and layers may take {} in all",
                bytes.div_ceil(MIB),
                budget / MIB
            );
            self.engine.discard_template(template)?;
            self.tell_refused(&libraries, &reason);
            self.layers.refuse(libraries, reason);
            return Ok(());
        }
        let generation = self.next_generation();
        self.layers.layers.push(Layer {
            template,
            libraries,
            generation,
            functions: 0,
            used: self.layers.loads,
        });
        Ok(())
    }

    /// Gives up a layer that takes too long.
    pub(crate) fn give_up_growth(&mut self) -> Result<(), ContainerError> {
        let Some(growing) = self.layers.growing.take() else {
            return Ok(());
        };
        self.engine.discard_booting(growing.booting)?;
        let reason = format!("importing takes longer than {} s", LONGEST.as_secs());
        self.tell_refused(&growing.libraries, &reason);
        self.layers.refuse(growing.libraries, reason);
        Ok(())
    }

    fn tell_refused(&self, libraries: &Libraries, reason: &str) {
        let names: Vec<&str> = libraries.iter().map(String::as_str).collect();
        let names = names.join(", ");
        eprintln!("refunction-supervisor: no layer with {names}: {reason}");
    }

    /// Has layers go, those that were not used for longest first, until there is room for
    /// one more of this size.
    fn make_room(&mut self, bytes: u64) -> Result<(), ContainerError> {
        let budget = self.settings.layers_mib() * MIB;
        while self.layers.layers.len() >= MOST_LAYERS || self.layers.bytes() + bytes > budget {
            let layers = self.layers.layers.iter().enumerate();
            let Some((oldest, _)) = layers.min_by_key(|(_, it)| it.used) else {
                break;
            };
            let layer = self.layers.layers.remove(oldest);
            self.retire_layer(layer);
        }
        self.retire_reserves();
        self.end_retired()
    }

    fn retire_layer(&mut self, layer: Layer) {
        self.retired.push(Retired {
            template: layer.template,
            generation: layer.generation,
        });
    }

    /// Has all layers go: the template that they were grown from does.
    pub(super) fn retire_layers(&mut self) -> Result<(), ContainerError> {
        if let Some(growing) = self.layers.growing.take() {
            self.engine.discard_booting(growing.booting)?;
        }
        for layer in std::mem::take(&mut self.layers.layers) {
            self.retire_layer(layer);
        }
        self.layers.refused.clear();
        Ok(())
    }

    /// A layer's template ended: workers of it are of one that retired.
    pub(crate) fn lose_layer(&mut self, template: Pid) -> Result<(), ContainerError> {
        let mut layers = self.layers.layers.iter();
        if let Some(lost) = layers.position(|it| it.template.pid() == template) {
            let layer = self.layers.layers.remove(lost);
            self.retire_layer(layer);
            self.retire_reserves();
            self.end_retired()?;
        }
        Ok(())
    }

    /// Has a worker of this layer, or of the first template, in the slot. The one there is
    /// was not used.
    fn move_to(&mut self, slot: SlotId, layer: Option<u64>) -> Result<(), ContainerError> {
        self.slots[slot].layer = layer;
        let is_it = |source: &Source| matches!(source, Source::Template(_));
        let is_forked = self.template.as_ref().is_some_and(|it| is_it(&it.source));
        let staff = self.slots[slot].staff.as_ref();
        let generation = staff.and_then(|staff| staff.worker.generation());
        if !is_forked || generation == self.generation_for(slot) {
            return Ok(());
        }
        self.stand_down(slot);
        self.end_retired()?;
        self.fork(slot)
    }

    /// Where the function was loaded that was prepared for last.
    pub(crate) fn told(&self) -> Loaded {
        self.layers.told.clone()
    }

    /// All layers, as a peer is told.
    pub(crate) fn layers(&self) -> Vec<Told> {
        let layers = self.layers.layers.iter();
        layers
            .map(|layer| Told {
                libraries: layer.libraries.iter().cloned().collect(),
                bytes: layer.template.held(),
                functions: layer.functions,
            })
            .collect()
    }
}
