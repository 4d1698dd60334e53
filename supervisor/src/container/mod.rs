//! The engine's side of a container: a template, the workers forked from it, their
//! pipes, and the way back.

mod coming;
mod layers;
mod reserve;
mod restore;
mod serving;
mod slot;
mod users;

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use nix::unistd::{Gid, Pid, Uid, geteuid};
use refunction_adapter::channel::REQUEST_FD;
use refunction_adapter::{Exception, Runtime};
use refunction_protocol::{Failure, FailureKind, Stream};
use refunction_snapshot::{Booting, Engine, EngineError, News};

use crate::authority::{self, Authority, Place};
use crate::cause;
use crate::logs::Line;
use crate::memory;
use crate::pipes::Pipes;
use crate::private::Grounds;
use crate::sabotage::leaves_out;
use crate::sandbox::{self, ATTRIBUTES};
use crate::settings::{MethodChoice, Settings};
use crate::staff::{Candidate, Source, Staff, Standing, Word};
use crate::sweep::{Handover, Scope, Sweep, SweepError, USUAL, Workers, closed_on_the_way};
use crate::template::{self, Description};

use coming::{Coming, start};
use layers::Layers;
use reserve::{Leaving, Reserve};
use serving::{Retired, Serving};
use slot::{Clearing, Slot};
use users::Users;

pub(crate) use layers::{Footing, MOST_LAYERS};
pub(crate) use slot::SlotId;

/// Something that leaves the container without a worker.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContainerError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("{doing}: {cause}")]
    Io {
        doing: &'static str,
        cause: std::io::Error,
    },
    #[error("emptying the writable directories: {0}")]
    Sweep(#[from] SweepError),
    #[error("the template described itself in no known way: {0}")]
    Description(#[from] serde_json::Error),
    #[error("the directory of the function's files, {}, is not there", .0.display())]
    NoRoot(PathBuf),
    #[error(
        "the function's folder {} is closed to the user of workers, {user}, who cannot enter {}: open that to others (chmod o+x), take the function where everybody may go, or start this as another user than root, whom workers are then",
        folder.display(), closed.display()
    )]
    Closed {
        folder: PathBuf,
        closed: PathBuf,
        user: Uid,
    },
    #[error(
        "root without {0} can give workers no user of their own, and they would have its other capabilities: add {needed}, or drop all, or start it as another user",
        needed = authority::needed()
    )]
    Authority(String),
    #[error(
        "told that all files are a container's own, and among the processes of the host: what others make would be removed"
    )]
    NoContainer,
    #[error("there is no template")]
    NoTemplate,
    #[error("the template did not say which runtime it is")]
    Nameless,
    #[error("the runtime did not start: {0}")]
    Runtime(String),
    #[error(
        "{0} is to be a worker's user, and is another's already: choose others by --worker-uid"
    )]
    Taken(Uid),
    #[error("the runtime did not start: {}", .0.told())]
    Raised(Exception),
    #[error("{handler} cannot be imported: {}", exception.told())]
    Import {
        handler: String,
        exception: Exception,
    },
}

impl ContainerError {
    /// A template that did not come about, with what its function raised if that was why.
    fn of_template(error: EngineError, settings: &Settings) -> Self {
        if let (EngineError::Template(words), Some(handler)) = (&error, &settings.handler)
            && let Some(exception) = template::raised(words)
        {
            let handler = handler.clone();
            return Self::Import { handler, exception };
        }
        Self::Engine(error)
    }

    /// The same, as a call's failure is told.
    pub(crate) fn as_failure(&self) -> Failure {
        match self {
            Self::Raised(exception) | Self::Import { exception, .. } => {
                cause::raised(exception.clone())
            }
            other => cause::failure(FailureKind::Crashed, other.to_string()),
        }
    }
}

/// What is imported before workers have their user could be what none of them can read again.
fn check_way(owner: (Uid, Gid), folder: PathBuf) -> Result<(), ContainerError> {
    let closed = closed_on_the_way(owner, &folder).map_err(|errno| ContainerError::Io {
        doing: "looking who may enter the function's folder",
        cause: errno.into(),
    })?;
    let user = owner.0;
    match closed {
        Some(closed) => Err(ContainerError::Closed {
            folder,
            closed,
            user,
        }),
        None => Ok(()),
    }
}

/// One function container.
pub(crate) struct Container {
    settings: Settings,
    engine: Engine,
    scope: Scope,
    /// None before the first template is frozen: it may make files until then.
    sweep: Option<Sweep>,
    /// Of what the function of the command makes while it is imported for the first time.
    handover: Option<Handover>,
    /// Where workers make files that have the supervisor's user.
    grounds: Option<Grounds>,
    place: Place,
    /// A template to come: the first, or one that is to take over. Or a spare.
    booting: Option<Coming>,
    template: Option<Serving>,
    /// Templates of workers that there are, which others have taken over from since.
    retired: Vec<Retired>,
    /// One for each worker at a time; never none.
    slots: Vec<Slot>,
    users: Users,
    /// A worker that stands still and has met no tenant, where each is its own template.
    spare: Option<Staff>,
    /// How many of those in a row were not as they should be when they were needed.
    refused_spares: u32,
    /// Workers that stand by where workers are forked, by the generations of their templates.
    reserves: BTreeMap<u64, Reserve>,
    /// Workers that others took over from, and that are still to end.
    leaving: Vec<Leaving>,
    /// A refork came before a worker stood by for it.
    is_late: bool,
    layers: Layers,
    /// How many templates there were.
    generations: u64,
    /// What the function of the command printed when it was imported.
    printed_at_import: Vec<(Stream, Line)>,
    /// Why another template was started, or a spare is to take over.
    rotation: Option<String>,
}

/// What became of a template to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is the first, and there are workers now.
    First,
    /// It takes over with the next worker of each slot.
    Successor,
    /// It takes the place of the worker there is when that has to go.
    Spare,
    /// It has not said all of it.
    NotYet,
}

impl Container {
    /// Starts a template; [`freeze`](Self::freeze) it when [`booting`](Self::booting)
    /// is readable.
    pub(crate) fn boot(settings: Settings) -> Result<Self, ContainerError> {
        let slots: Vec<Slot> = (0..settings.workers())
            .map(|slot| Slot::of(sandbox::owner(settings.worker_uid, slot)))
            .collect();
        let mut settings = settings;
        let users = settings.users();
        let are_several = slots.len() > 1 || settings.spare && !settings.runtime.is_program();
        if are_several
            && matches!(Authority::own(), Authority::Full)
            && !leaves_out("beside:users-of-somebody-else")
            && let Some(user) = users::taken(users.clone())
        {
            if slots.len() > 1 {
                return Err(ContainerError::Taken(user));
            }
            if user != slots[0].owner.0 {
                eprintln!(
                    "refunction-supervisor: no worker stands by: {user}, whose it could be, is another's user; choose others by --worker-uid"
                );
                settings.spare = false;
            }
        }
        let users = Users::new(users, slots.len());
        let owner = slots[0].owner;
        let mut engine = Engine::new(settings.scan.into())?.verifying(settings.verify);
        if let Authority::Partial(missing) = Authority::own() {
            return Err(ContainerError::Authority(missing.clone()));
        }
        let place = Place::own(settings.own_container).ok_or(ContainerError::NoContainer)?;
        let has_our_user = owner.0 == geteuid();
        let (scope, grounds) = match place {
            Place::Container if has_our_user => {
                let usual = Grounds::usual();
                (Scope::Own(usual.places().to_owned()), Some(usual))
            }
            Place::Container => (Scope::Container, None),
            Place::BesideOthers | Place::Host if has_our_user => {
                let private = Grounds::private().map_err(|cause| ContainerError::Io {
                    doing: "making a directory for workers of the supervisor's own user",
                    cause,
                })?;
                (Scope::Private(private.places().to_owned()), Some(private))
            }
            Place::BesideOthers | Place::Host => (Scope::Shared, None),
        };
        if settings.handler.is_some() && !has_our_user {
            check_way(owner, settings.function_root())?;
        }
        let handover = (scope == Scope::Container && settings.handler.is_some())
            .then(|| Handover::prepare(USUAL))
            .transpose()?;
        let booting = start(&mut engine, &settings, owner, grounds.as_ref())?;
        Ok(Self {
            handover,
            settings,
            engine,
            scope,
            sweep: None,
            grounds,
            place,
            booting: Some(booting),
            template: None,
            retired: Vec::new(),
            slots,
            users,
            spare: None,
            refused_spares: 0,
            reserves: BTreeMap::new(),
            leaving: Vec::new(),
            is_late: false,
            layers: Layers::default(),
            generations: 0,
            printed_at_import: Vec::new(),
            rotation: None,
        })
    }

    /// All slots.
    pub(crate) fn slots(&self) -> std::ops::Range<SlotId> {
        0..self.slots.len()
    }

    /// The slot of this worker, if it is one that serves.
    pub(crate) fn slot_of(&self, worker: Pid) -> Option<SlotId> {
        self.slots
            .iter()
            .position(|slot| slot.pid() == Some(worker))
    }

    /// True if this is the template to come.
    pub(crate) fn is_booting(&self, template: Pid) -> bool {
        self.booting.as_ref().map(Coming::pid) == Some(template)
    }

    /// True if this is the worker in reserve.
    pub(crate) fn is_spare(&self, worker: Pid) -> bool {
        self.spare.as_ref().map(|staff| staff.worker.pid()) == Some(worker)
    }

    /// True if this is the template that workers are forked from.
    pub(crate) fn is_serving(&self, template: Pid) -> bool {
        let serving = self.template.as_ref();
        serving.and_then(|serving| Some(serving.source.template()?.pid())) == Some(template)
    }

    /// True if there can be a worker though the one to come does not.
    pub(crate) fn can_do_without(&self) -> bool {
        match self.template.as_ref().map(|serving| &serving.source) {
            Some(Source::Template(_)) => true,
            Some(Source::Spares(_)) => self.slots.iter().any(|slot| slot.staff.is_some()),
            None => false,
        }
    }

    /// True while files of this slot's last tenant are being removed, and it has no worker.
    pub(crate) fn is_clearing(&self, slot: SlotId) -> bool {
        self.slots[slot].clearing.is_some()
    }

    /// Where the template to come is heard from.
    pub(crate) fn booting(&self) -> Option<BorrowedFd<'_>> {
        self.booting.as_ref().map(Coming::voice)
    }

    /// What a runtime prints on its way to being ready.
    pub(crate) fn boot_output(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let candidate = match &self.booting {
            Some(Coming::Spare(candidate)) => Some(candidate),
            _ => None,
        };
        candidate.into_iter().flat_map(|it| it.pipes.logs())
    }

    /// What the function of the command printed when it was imported, where that was not
    /// to the container's own output.
    pub(crate) fn take_printed(&mut self) -> Vec<(Stream, Line)> {
        std::mem::take(&mut self.printed_at_import)
    }

    /// Reads that.
    pub(crate) fn listen(&mut self) {
        if let Some(Coming::Spare(candidate)) = &mut self.booting {
            candidate.listen();
        }
    }

    /// Freezes the template to come. The first has its workers at once; a successor has
    /// to wait until those there are can go.
    pub(crate) fn freeze(&mut self) -> Result<Arrival, ContainerError> {
        match self.booting.take() {
            Some(Coming::Template(booting)) => self.freeze_template(booting),
            Some(Coming::Spare(candidate)) => self.freeze_spare(candidate),
            None => Err(ContainerError::NoTemplate),
        }
    }

    fn freeze_template(&mut self, booting: Booting) -> Result<Arrival, ContainerError> {
        let template = self.engine.freeze(booting);
        let template =
            template.map_err(|error| ContainerError::of_template(error, &self.settings))?;
        let description: Description = serde_json::from_slice(&template.description)?;
        self.take_description(&description)?;
        let runtime = description.runtime.ok_or(ContainerError::Nameless)?;
        let serving = Serving::of(Source::Template(template), runtime, self.rotation.take());
        if self.take_over(serving)? {
            return Ok(Arrival::Successor);
        }
        for slot in self.slots() {
            // Otherwise there is a tenant's file left, and a worker comes after it.
            if self.slots[slot].clearing.is_none() {
                self.fork(slot)?;
            }
        }
        Ok(Arrival::First)
    }

    fn freeze_spare(&mut self, mut candidate: Box<Candidate>) -> Result<Arrival, ContainerError> {
        let runtime = match candidate.hear() {
            Word::NotYet => {
                self.booting = Some(Coming::Spare(candidate));
                return Ok(Arrival::NotYet);
            }
            Word::Failed(reason) => {
                self.engine.discard_starting(candidate.starting)?;
                return Err(ContainerError::Runtime(reason));
            }
            Word::Raised(exception) => {
                self.engine.discard_starting(candidate.starting)?;
                return Err(ContainerError::Raised(exception));
            }
            Word::Ended => {
                let reason = self.engine.last_words(candidate.starting)?;
                return Err(ContainerError::Runtime(reason));
            }
            Word::Ready(runtime) => runtime,
        };
        let printed = candidate.take_printed();
        // Without a function of its owner's it is the runtime that printed it.
        if self.settings.handler.is_some() {
            self.printed_at_import.extend(printed);
        }
        let owner = self.slots[0].owner;
        let worker = self
            .engine
            .freeze_in_place(candidate.starting, REQUEST_FD, owner)?;
        let description: Description = serde_json::from_slice(&worker.description)?;
        self.take_description(&description)?;
        let bytes = worker.bytes();
        self.spare = Some(Staff {
            worker: Standing::InPlace(Box::new(worker)),
            pipes: candidate.pipes,
        });
        if self.template.is_some() {
            return Ok(Arrival::Spare);
        }
        self.template = Some(Serving::of(Source::Spares(bytes), runtime, None));
        for slot in self.slots() {
            self.fork(slot)?;
        }
        Ok(Arrival::First)
    }

    fn take_description(&mut self, description: &Description) -> Result<(), ContainerError> {
        if !description.closes_proc && self.settings.method != MethodChoice::Refork {
            eprintln!(
                "refunction-supervisor: this kernel has no Landlock to close /proc with: every restore is a refork"
            );
            self.settings.method = MethodChoice::Refork;
        }
        if self.sweep.is_none() {
            let lost = self.lost(description);
            if !lost.is_empty() {
                eprintln!("refunction-supervisor: {}", lost.join("; "));
            }
            let owner = self.slots[0].owner;
            let workers = if self.slots.len() > 1 {
                Workers::Beside(self.settings.users())
            } else if self.keeps_reserve() {
                Workers::Alone(self.settings.users())
            } else {
                Workers::of(owner.0)
            };
            if let Some(handover) = self.handover.take() {
                match workers {
                    Workers::Beside(_) => handover.show()?,
                    Workers::Alone(_) => handover.give(owner)?,
                }
            }
            self.sweep = Some(Sweep::prepare(&self.scope, owner, workers)?);
            self.take_installed(description);
        }
        Ok(())
    }

    /// What this container does without that others have, for the person who restricted it.
    fn lost(&self, description: &Description) -> Vec<String> {
        let mut lost = Vec::new();
        if let (Some(grounds), Authority::None(why)) = (&self.grounds, Authority::own()) {
            let is_put_back = matches!(self.scope, Scope::Own(_));
            let open: Vec<&str> = description
                .leaves_open
                .iter()
                .map(String::as_str)
                .filter(|what| !(is_put_back && *what == ATTRIBUTES))
                .collect();
            lost.push(format!(
                "{why}: workers run as this very user, {}, and can {}",
                grounds.words(),
                open.join(", ")
            ));
        }
        if self.place == Place::BesideOthers && self.scope == Scope::Shared {
            lost.push(format!(
                "not PID 1 of its container: of files only those are removed that workers own in {}; REFUNCTION_OWN_CONTAINER=1 has all removed that were not there at boot",
                USUAL.join(", ")
            ));
        }
        lost
    }

    /// The worker in reserve is gone: another is to come.
    pub(crate) fn lose_spare(&mut self) -> Result<(), ContainerError> {
        if let Some(spare) = self.spare.take() {
            spare.worker.discard(&mut self.engine)?;
        }
        self.start_spare()
    }

    /// Has a spare on its way, where there are any and none is.
    fn start_spare(&mut self) -> Result<(), ContainerError> {
        let is_wanted =
            self.settings.runtime.is_program() && self.spare.is_none() && self.booting.is_none();
        if is_wanted {
            self.booting = Some(self.start()?);
        }
        Ok(())
    }

    fn start(&mut self) -> Result<Coming, ContainerError> {
        let (owner, grounds) = (self.slots[0].owner, self.grounds.as_ref());
        start(&mut self.engine, &self.settings, owner, grounds)
    }

    /// Starts another template in the place of one that ended.
    pub(crate) fn reboot(&mut self) -> Result<(), ContainerError> {
        self.dismiss_all()?;
        self.retire_layers()?;
        self.end_retired()?;
        let served = self.template.take();
        if let Some(template) = served.and_then(|it| it.source.into_template()) {
            self.engine.discard_template(template)?;
        }
        if self.booting.is_none() {
            self.booting = Some(self.start()?);
        }
        for slot in &mut self.slots {
            slot.clearing.get_or_insert_with(Clearing::of_nobody);
        }
        Ok(())
    }

    /// The runtime, and the bytes of its snapshot.
    pub(crate) fn runtime(&self) -> Option<(&Runtime, u64)> {
        let serving = self.template.as_ref()?;
        Some((&serving.runtime, serving.source.bytes()))
    }

    /// The worker of this slot.
    pub(crate) fn worker_pid(&self, slot: SlotId) -> Option<Pid> {
        self.slots[slot].pid()
    }

    /// The worker of any slot: the first that there is.
    pub(crate) fn any_worker_pid(&self) -> Option<Pid> {
        self.slots.iter().find_map(Slot::pid)
    }

    pub(crate) fn pipes(&self, slot: SlotId) -> Option<&Pipes> {
        self.slots[slot].staff.as_ref().map(|staff| &staff.pipes)
    }

    pub(crate) fn pipes_mut(&mut self, slot: SlotId) -> Option<&mut Pipes> {
        let staff = self.slots[slot].staff.as_mut();
        staff.map(|staff| &mut staff.pipes)
    }

    /// One piece of news of what is followed, or of an orphan.
    pub(crate) fn poll(&mut self) -> Option<News> {
        self.engine.poll()
    }

    /// To be called before waiting for news.
    pub(crate) fn remind(&mut self) {
        self.engine.remind();
    }

    fn fork(&mut self, slot: SlotId) -> Result<(), ContainerError> {
        let serving = self.template.as_ref();
        if serving.is_some_and(|it| matches!(it.source, Source::Spares(_))) {
            return self.employ_spare(slot);
        }
        if self.call_up(slot) {
            return Ok(());
        }
        let generation = self
            .generation_for(slot)
            .ok_or(ContainerError::NoTemplate)?;
        let staff = self.fork_from(generation, self.slots[slot].owner)?;
        // Not as long as the memory of a template that retired is still held, too.
        let is_alone = self.retired.is_empty();
        if let Some(serving) = &mut self.template
            && is_alone
            && serving.held.is_none()
            && self.settings.rotate_memory_mib > 0
        {
            serving.held = memory::held(staff.worker.pid());
        }
        self.slots[slot].staff = Some(staff);
        Ok(())
    }

    fn fork_from(&mut self, generation: u64, owner: (Uid, Gid)) -> Result<Staff, ContainerError> {
        self.bury()?;
        let serving = self.template.as_ref().ok_or(ContainerError::NoTemplate)?;
        let template = match &serving.source {
            Source::Template(template) if serving.generation == generation => Some(template),
            _ => self.layers.template(generation),
        };
        let template = template.ok_or(ContainerError::NoTemplate)?;
        let (mut pipes, ends) = Pipes::open(owner).map_err(|cause| ContainerError::Io {
            doing: "opening a worker's pipes",
            cause,
        })?;
        let worker = self
            .engine
            .fork(template, &ends.as_fds(), owner)
            .inspect_err(|_| {
                let mut lines = Vec::new();
                pipes.read_logs(&mut lines);
                for (_, line) in lines {
                    eprintln!("refunction-supervisor: the worker said: {}", line.text);
                }
            })?;
        Ok(Staff {
            worker: Standing::Forked(Box::new(worker), generation),
            pipes,
        })
    }

    /// Kills the worker of a slot, if there is one, with all it started, and its template
    /// if that serves no more.
    fn dismiss(&mut self, slot: SlotId) -> Result<(), ContainerError> {
        self.note_what_is_open(slot);
        if let Some(staff) = self.slots[slot].staff.take() {
            staff.worker.discard(&mut self.engine)?;
        }
        self.end_retired()
    }

    /// Kills every worker.
    pub(crate) fn dismiss_all(&mut self) -> Result<(), ContainerError> {
        self.slots().try_for_each(|slot| self.dismiss(slot))?;
        self.dismiss_reserves()
    }
}
