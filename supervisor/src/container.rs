//! The engine's side of a container: a template, a worker forked from it, its
//! pipes, and the way back.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use nix::unistd::{Gid, Pid, Uid, geteuid};
use refunction_adapter::channel::REQUEST_FD;
use refunction_adapter::{Exception, Runtime};
use refunction_protocol::{Failure, FailureKind, Method, Phase, Restored, Stream, Taint};
use refunction_snapshot::{Booting, Engine, EngineError, News, Phases, Refused, Row, Template};

use crate::authority::{self, Authority, Place};
use crate::cause;
use crate::logs::Line;
use crate::memory;
use crate::pipes::Pipes;
use crate::private::Grounds;
use crate::sabotage::leaves_out;
use crate::sandbox::{self, ATTRIBUTES};
use crate::settings::{INTERFACE_VARIABLE, MethodChoice, ROOT_VARIABLES, Settings};
use crate::staff::{Candidate, Source, Staff, Standing, Word};
use crate::sweep::{Handover, Scope, Sweep, SweepError, USUAL};
use crate::template::{self, Description};

/// How long a sweep may keep everybody waiting who wants something else.
const SLICE: Duration = Duration::from_millis(100);

/// Restores after which the memory that is held is looked at once more.
const MEMORY_EVERY: u64 = 64;

/// How many workers in reserve are given up before the container is.
const MOST_REFUSED: u32 = 3;

const MIB: u64 = 1024 * 1024;

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

/// One function container.
pub(crate) struct Container {
    settings: Settings,
    owner: (Uid, Gid),
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
    /// The template of the worker there is, when another has taken over since.
    retired: Option<Template>,
    staff: Option<Staff>,
    /// A worker that stands still and has met no tenant, where each is its own template.
    spare: Option<Staff>,
    /// How many of those in a row were not as they should be when they were needed.
    refused_spares: u32,
    /// What the function of the command printed when it was imported.
    printed_at_import: Vec<(Stream, Line)>,
    /// A refork that has the last tenant's files still to remove.
    clearing: Option<Clearing>,
    /// Why another template was started, or has taken over.
    rotation: Option<String>,
}

/// What is known of a restore whose worker is gone and whose files are not yet.
struct Clearing {
    began: Instant,
    since: Instant,
    phases: Phases,
    taints: Vec<Taint>,
    is_restore: bool,
}

impl Clearing {
    /// One that nobody asked for.
    fn of_nobody() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            since: now,
            phases: Phases::default(),
            taints: Vec::new(),
            is_restore: false,
        }
    }

    fn lap(&mut self, name: &'static str) {
        self.phases.add(name, self.since.elapsed());
        self.since = Instant::now();
    }
}

/// Something that boots.
enum Coming {
    Template(Booting),
    Spare(Box<Candidate>),
}

impl Coming {
    fn pid(&self) -> Pid {
        match self {
            Self::Template(booting) => booting.pid(),
            Self::Spare(candidate) => candidate.starting.pid(),
        }
    }

    /// Readable once there is something to hear.
    fn voice(&self) -> BorrowedFd<'_> {
        match self {
            Self::Template(booting) => booting.socket(),
            Self::Spare(candidate) => candidate.pipes.response(),
        }
    }
}

/// Where workers come from, and for how long they have.
struct Serving {
    source: Source,
    runtime: Runtime,
    since: Instant,
    restores: u64,
    /// Bytes of memory that the container held when it had its first worker.
    held: Option<u64>,
}

/// What became of a template to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is the first, and there is a worker now.
    First,
    /// It takes over with the next worker.
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
        let owner = sandbox::owner(settings.worker_uid);
        let mut engine = Engine::new(settings.scan.into())?.verifying(settings.verify);
        if let Authority::Partial(missing) = Authority::own() {
            return Err(ContainerError::Authority(missing));
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
        let handover = (scope == Scope::Container && settings.handler.is_some())
            .then(|| Handover::prepare(USUAL))
            .transpose()?;
        let booting = start(&mut engine, &settings, owner, grounds.as_ref())?;
        Ok(Self {
            handover,
            settings,
            owner,
            engine,
            scope,
            sweep: None,
            grounds,
            place,
            booting: Some(booting),
            template: None,
            retired: None,
            staff: None,
            spare: None,
            refused_spares: 0,
            printed_at_import: Vec::new(),
            clearing: None,
            rotation: None,
        })
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
            Some(Source::Spares(_)) => self.staff.is_some(),
            None => false,
        }
    }

    /// True while files of the last tenant are being removed, and there is no worker.
    pub(crate) fn is_clearing(&self) -> bool {
        self.clearing.is_some()
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

    /// Freezes the template to come. The first has a worker at once; a successor has
    /// to wait until the worker there is can go.
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
        let serving = Serving {
            source: Source::Template(template),
            runtime: description.runtime.ok_or(ContainerError::Nameless)?,
            since: Instant::now(),
            restores: 0,
            held: None,
        };
        match self.template.replace(serving) {
            Some(predecessor) => {
                let predecessor = predecessor.source.into_template();
                if self.retired.is_none() {
                    self.retired = predecessor;
                } else if let Some(predecessor) = predecessor {
                    // The worker is of one that retired before; this one has none.
                    self.engine.discard_template(predecessor)?;
                }
                Ok(Arrival::Successor)
            }
            None => {
                // Otherwise there is a tenant's file left, and a worker comes after it.
                if self.clearing.is_none() {
                    self.fork()?;
                }
                Ok(Arrival::First)
            }
        }
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
        let worker = self
            .engine
            .freeze_in_place(candidate.starting, REQUEST_FD, self.owner)?;
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
        self.template = Some(Serving {
            source: Source::Spares(bytes),
            runtime,
            since: Instant::now(),
            restores: 0,
            held: None,
        });
        self.fork()?;
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
            if let Some(handover) = self.handover.take() {
                handover.give(self.owner)?;
            }
            self.sweep = Some(Sweep::prepare(&self.scope, self.owner)?);
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
        let grounds = self.grounds.as_ref();
        start(&mut self.engine, &self.settings, self.owner, grounds)
    }

    /// Starts another template in the place of one that ended.
    pub(crate) fn reboot(&mut self) -> Result<(), ContainerError> {
        self.dismiss()?;
        let served = self.template.take();
        if let Some(template) = served.and_then(|it| it.source.into_template()) {
            self.engine.discard_template(template)?;
        }
        if self.booting.is_none() {
            self.booting = Some(self.start()?);
        }
        self.clearing.get_or_insert_with(Clearing::of_nobody);
        Ok(())
    }

    /// Starts a successor if the template has served long enough.
    fn rotate_if_due(&mut self) -> Result<(), ContainerError> {
        let Some(serving) = &self.template else {
            return Ok(());
        };
        let settings = &self.settings;
        let (restores, seconds) = (settings.rotate_after(), settings.rotate_seconds());
        let why = if restores > 0 && serving.restores >= restores {
            format!("after {restores} restores")
        } else if seconds > 0 && serving.since.elapsed().as_secs() >= seconds {
            format!("after {seconds} seconds")
        } else if let Some(grown) = self.grown_too_much(serving) {
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
    fn grown_too_much(&self, serving: &Serving) -> Option<u64> {
        let limit = self.settings.rotate_memory_mib;
        if limit == 0 || !serving.restores.is_multiple_of(MEMORY_EVERY) {
            return None;
        }
        let held = memory::held(self.worker_pid()?)?;
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

    /// The runtime, and the bytes of its snapshot.
    pub(crate) fn runtime(&self) -> Option<(&Runtime, u64)> {
        let serving = self.template.as_ref()?;
        Some((&serving.runtime, serving.source.bytes()))
    }

    pub(crate) fn worker_pid(&self) -> Option<Pid> {
        self.staff.as_ref().map(|staff| staff.worker.pid())
    }

    pub(crate) fn pipes(&self) -> Option<&Pipes> {
        self.staff.as_ref().map(|staff| &staff.pipes)
    }

    pub(crate) fn pipes_mut(&mut self) -> Option<&mut Pipes> {
        self.staff.as_mut().map(|staff| &mut staff.pipes)
    }

    /// One piece of news of what is followed, or of an orphan.
    pub(crate) fn poll(&mut self) -> Option<News> {
        self.engine.poll()
    }

    fn fork(&mut self) -> Result<(), ContainerError> {
        let template = match self.template.as_ref().map(|serving| &serving.source) {
            Some(Source::Template(template)) => template,
            Some(Source::Spares(_)) => return self.employ_spare(),
            None => return Err(ContainerError::NoTemplate),
        };
        let (mut pipes, ends) = Pipes::open(self.owner).map_err(|cause| ContainerError::Io {
            doing: "opening a worker's pipes",
            cause,
        })?;
        let worker = self
            .engine
            .fork(template, &ends.as_fds(), self.owner)
            .inspect_err(|_| {
                let mut lines = Vec::new();
                pipes.read_logs(&mut lines);
                for (_, line) in lines {
                    eprintln!("refunction-supervisor: the worker said: {}", line.text);
                }
            })?;
        // Not as long as the memory of a template that retired is still held, too.
        let is_first = self.retired.is_none();
        if let Some(serving) = &mut self.template
            && is_first
            && serving.held.is_none()
            && self.settings.rotate_memory_mib > 0
        {
            serving.held = memory::held(worker.pid());
        }
        self.staff = Some(Staff {
            worker: Standing::Forked(Box::new(worker)),
            pipes,
        });
        Ok(())
    }

    /// Lets the worker in reserve go, and has another come in its place.
    fn employ_spare(&mut self) -> Result<(), ContainerError> {
        let (Some(mut staff), Some(serving)) = (self.spare.take(), &mut self.template) else {
            return Err(ContainerError::NoTemplate);
        };
        let engine = &mut self.engine;
        // It stood still since its snapshot; what others sent it meanwhile goes.
        let employed = staff
            .worker
            .hold(engine)
            .and_then(|holding| staff.rewind(engine, &serving.source, holding));
        if let Err(refused) = employed {
            staff.worker.discard(engine)?;
            return self.wait_for_another_spare(&refused);
        }
        self.refused_spares = 0;
        serving.since = Instant::now();
        serving.restores = 0;
        if self.settings.rotate_memory_mib > 0 {
            serving.held = memory::held(staff.worker.pid());
        }
        self.staff = Some(staff);
        self.start_spare()
    }

    /// A tenant has the user of a worker in reserve, too: it cannot look into it, but it
    /// can change its limits and priorities.
    fn wait_for_another_spare(&mut self, refused: &Refused) -> Result<(), ContainerError> {
        self.refused_spares += 1;
        if self.refused_spares > MOST_REFUSED {
            return Err(ContainerError::Runtime(refused.to_string()));
        }
        eprintln!("refunction-supervisor: the worker in reserve: {refused}");
        self.clearing.get_or_insert_with(Clearing::of_nobody);
        self.start_spare()
    }

    /// Kills the worker, if there is one, with all it started, and its template if
    /// that serves no more.
    pub(crate) fn dismiss(&mut self) -> Result<(), ContainerError> {
        if let Some(staff) = self.staff.take() {
            staff.worker.discard(&mut self.engine)?;
        }
        if let Some(template) = self.retired.take()
            && !leaves_out("template:ends-with-its-worker")
        {
            self.engine.discard_template(template)?;
        }
        Ok(())
    }

    /// Kills the worker and forks another; nothing of it is left. Where its files take
    /// long to remove there is no worker until [`go_on`](Self::go_on) has done it.
    pub(crate) fn refork(&mut self) -> Result<(), ContainerError> {
        self.clear(Clearing::of_nobody()).map(drop)
    }

    /// Brings the worker back, in place if it can be; nothing as long as
    /// [`go_on`](Self::go_on) has files to remove.
    pub(crate) fn restore(&mut self) -> Result<Option<Restored>, ContainerError> {
        let began = Instant::now();
        let is_rotation =
            self.retired.is_some() || (self.rotation.is_some() && self.spare.is_some());
        let always = self.settings.method == MethodChoice::Refork
            && !leaves_out("restore:when-told-to-refork");
        let tried = if is_rotation || always {
            Err(Refused {
                taints: Vec::new(),
                phases: Phases::default(),
            })
        } else {
            self.rewind()
        };
        let refused = match tried {
            Ok(rewound) => {
                let pages = rewound.dirty_pages;
                let restored = report(Method::Rewind, began, &rewound.phases, pages, vec![]);
                self.count_restore()?;
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
            let why = self.rotation.take().unwrap_or_default();
            taints.push(Taint {
                row: "template".into(),
                detail: format!("another template has taken over {why}"),
            });
        }
        self.clear(Clearing {
            began,
            since: Instant::now(),
            phases: refused.phases,
            taints,
            is_restore: true,
        })
    }

    fn clear(&mut self, mut clearing: Clearing) -> Result<Option<Restored>, ContainerError> {
        self.dismiss()?;
        clearing.lap("kill");
        self.clearing = Some(clearing);
        self.go_on()
    }

    /// Removes files for a while; with the last of them there is a worker again, and the
    /// restore that waited for it is done.
    pub(crate) fn go_on(&mut self) -> Result<Option<Restored>, ContainerError> {
        if self.clearing.is_some() && !self.sweep_until(Instant::now() + SLICE)? {
            return Ok(None);
        }
        if self.awaits_spare() {
            self.start_spare()?;
            return Ok(None);
        }
        let Some(mut clearing) = self.clearing.take() else {
            return Ok(None);
        };
        clearing.lap("files");
        if self.template.is_some() {
            // One may have retired meanwhile.
            self.dismiss()?;
            self.fork()?;
            clearing.lap("fork");
        }
        if self.awaits_spare() {
            // The one there was could not be had.
            self.clearing = Some(clearing);
            return Ok(None);
        }
        if !clearing.is_restore {
            return Ok(None);
        }
        let Clearing { began, phases, .. } = clearing;
        let restored = report(Method::Refork, began, &phases, 0, clearing.taints);
        self.count_restore()?;
        Ok(Some(restored))
    }

    /// True if a worker comes as soon as there is one in reserve, and not before.
    pub(crate) fn awaits_spare(&self) -> bool {
        let serving = self.template.as_ref();
        let are_spares = serving.is_some_and(|it| matches!(it.source, Source::Spares(_)));
        self.clearing.is_some() && are_spares && self.spare.is_none()
    }

    /// True if all that a tenant left is gone.
    fn sweep_until(&mut self, moment: Instant) -> Result<bool, ContainerError> {
        match &mut self.sweep {
            Some(sweep) if !leaves_out("files:at-a-refork") => {
                Ok(sweep.run(Some(moment))?.is_complete)
            }
            _ => Ok(true),
        }
    }

    fn count_restore(&mut self) -> Result<(), ContainerError> {
        if let Some(serving) = &mut self.template {
            serving.restores += 1;
        }
        self.rotate_if_due()
    }

    fn rewind(&mut self) -> Result<refunction_snapshot::Rewound, Refused> {
        let refused = |row: Row, detail: String| Refused {
            taints: vec![refunction_snapshot::Taint::new(row, detail)],
            phases: Phases::default(),
        };
        let (Some(serving), Some(staff)) = (&self.template, &mut self.staff) else {
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
            let swept = sweep.run(Some(Instant::now() + SLICE));
            match swept.map_err(|error| refused(Row::Files, error.to_string()))? {
                swept if swept.is_complete => {}
                _ => {
                    let detail = format!("removing them takes more than {} ms", SLICE.as_millis());
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

/// Runs this very program as the template, or in the place of a spare. Its standard
/// output leads nowhere where ours is the control channel; its errors go where ours go.
fn start(
    engine: &mut Engine,
    settings: &Settings,
    owner: (Uid, Gid),
    grounds: Option<&Grounds>,
) -> Result<Coming, ContainerError> {
    let (ours, theirs) = Engine::conversation()?;
    let mut command = Command::new("/proc/self/exe");
    command
        .args(settings.template_arguments())
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null());
    for place in grounds.iter().flat_map(|grounds| grounds.places()) {
        command.arg("--files-in").arg(place);
    }
    if let Some(temporary) = grounds.and_then(Grounds::temporary) {
        command.env("TMPDIR", temporary);
    }
    if let Some(handler) = &settings.handler {
        // Last: a name may begin like an option.
        command.arg("--").arg(handler);
        let root = settings.function_root();
        if !root.is_dir() {
            return Err(ContainerError::NoRoot(root));
        }
        for name in ROOT_VARIABLES {
            command.env(name, &root);
        }
        command.envs(settings.lambda_variables());
        // What a module prints while it is imported, and there is no other tenant.
        if settings.speaks_to_people() {
            command.stdout(Stdio::inherit());
        }
        // Functions expect to be run where their files are.
        command.current_dir(&root);
    }
    // Our own settings are no business of a tenant's.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("REFUNCTION_") && !leaves_out("template:settings") {
            command.env_remove(name);
        }
    }
    if let Some(interface) = settings.interface.and_then(|it| it.to_possible_value()) {
        command.env(INTERFACE_VARIABLE, interface.get_name());
    }
    let io = |doing| move |cause| ContainerError::Io { doing, cause };
    let child = command.spawn().map_err(io("starting the template"))?;
    let pid = Pid::from_raw(child.id().cast_signed());
    if !settings.runtime.is_program() {
        return Ok(Coming::Template(engine.adopt(pid, ours)?));
    }
    let (pipes, ends) = Pipes::open(owner).map_err(io("opening a worker's pipes"))?;
    let starting = engine.adopt_runtime(pid, ours, &ends.as_fds())?;
    Ok(Coming::Spare(Box::new(Candidate::new(starting, pipes))))
}
