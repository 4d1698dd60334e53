//! The engine's side of a container: a template, a worker forked from it, its
//! pipes, and the way back.

use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::unistd::{Gid, Pid, Uid, geteuid, getpid};
use refunction_adapter::Runtime;
use refunction_protocol::{Method, Phase, Restored, Taint};
use refunction_snapshot::{
    Booting, Engine, EngineError, News, Phases, Refused, Row, Template, Worker,
};

use crate::pipes::Pipes;
use crate::sabotage::leaves_out;
use crate::sandbox;
use crate::settings::{MethodChoice, Settings};
use crate::sweep::{Scope, Sweep, SweepError};
use crate::template::Description;

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
    #[error("there is no template")]
    NoTemplate,
}

/// A worker and its pipes.
struct Staff {
    worker: Worker,
    pipes: Pipes,
}

/// One function container.
pub(crate) struct Container {
    settings: Settings,
    owner: (Uid, Gid),
    engine: Engine,
    sweep: Sweep,
    /// A template to come: the first, or one that is to take over.
    booting: Option<Booting>,
    template: Option<Serving>,
    /// The template of the worker there is, when another has taken over since.
    retired: Option<Template>,
    staff: Option<Staff>,
}

/// The template that workers are forked from.
struct Serving {
    template: Template,
    description: Description,
    since: Instant,
    restores: u64,
}

/// What became of a template to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is the first, and there is a worker now.
    First,
    /// It takes over with the next worker.
    Successor,
}

impl Container {
    /// Starts a template; [`freeze`](Self::freeze) it when [`booting`](Self::booting)
    /// is readable.
    pub(crate) fn boot(settings: Settings) -> Result<Self, ContainerError> {
        let owner = sandbox::owner(settings.worker_uid);
        let mut engine = Engine::new(settings.scan.into())?.verifying(settings.verify);
        let booting = start_template(&mut engine, &settings)?;
        let scope = if owner.0 == geteuid() {
            eprintln!(
                "refunction-supervisor: not started as root: workers run as this very user, can signal the supervisor, and the files they make are not removed"
            );
            Scope::None
        } else if getpid().as_raw() == 1 {
            Scope::Container
        } else {
            Scope::Shared
        };
        Ok(Self {
            // While the template does its imports.
            sweep: Sweep::prepare(scope, owner)?,
            settings,
            owner,
            engine,
            booting: Some(booting),
            template: None,
            retired: None,
            staff: None,
        })
    }

    /// True if this is the template to come.
    pub(crate) fn is_booting(&self, template: Pid) -> bool {
        self.booting.as_ref().map(Booting::pid) == Some(template)
    }

    /// True if this is the template that workers are forked from.
    pub(crate) fn is_serving(&self, template: Pid) -> bool {
        self.template
            .as_ref()
            .is_some_and(|serving| serving.template.pid() == template)
    }

    /// Where the template to come is heard from.
    pub(crate) fn booting(&self) -> Option<BorrowedFd<'_>> {
        self.booting.as_ref().map(Booting::socket)
    }

    /// Freezes the template to come. The first has a worker at once; a successor has
    /// to wait until the worker there is can go.
    pub(crate) fn freeze(&mut self) -> Result<Arrival, ContainerError> {
        let booting = self.booting.take().ok_or(ContainerError::NoTemplate)?;
        let template = self.engine.freeze(booting)?;
        let description: Description = serde_json::from_slice(&template.description)?;
        if !description.closes_proc && self.settings.method != MethodChoice::Refork {
            eprintln!(
                "refunction-supervisor: this kernel has no Landlock to close /proc with: every restore is a refork"
            );
            self.settings.method = MethodChoice::Refork;
        }
        let serving = Serving {
            template,
            description,
            since: Instant::now(),
            restores: 0,
        };
        match self.template.replace(serving) {
            Some(predecessor) => {
                if self.retired.is_none() {
                    self.retired = Some(predecessor.template);
                } else {
                    // The worker is of one that retired before; this one has none.
                    self.engine.discard_template(predecessor.template)?;
                }
                Ok(Arrival::Successor)
            }
            None => {
                self.fork()?;
                Ok(Arrival::First)
            }
        }
    }

    /// Starts another template in the place of one that ended.
    pub(crate) fn reboot(&mut self) -> Result<(), ContainerError> {
        self.dismiss()?;
        if let Some(serving) = self.template.take() {
            self.engine.discard_template(serving.template)?;
        }
        if self.booting.is_none() {
            self.booting = Some(start_template(&mut self.engine, &self.settings)?);
        }
        Ok(())
    }

    /// Starts a successor if the template has served long enough.
    fn rotate_if_due(&mut self) -> Result<(), ContainerError> {
        let Some(serving) = &self.template else {
            return Ok(());
        };
        let (restores, seconds) = (self.settings.rotate_after, self.settings.rotate_seconds);
        let is_due = (restores > 0 && serving.restores >= restores)
            || (seconds > 0 && serving.since.elapsed().as_secs() >= seconds);
        if is_due && self.booting.is_none() && !leaves_out("template:rotation") {
            self.booting = Some(start_template(&mut self.engine, &self.settings)?);
        }
        Ok(())
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
        Some((&serving.description.runtime, serving.template.bytes()))
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
        let template = match &self.template {
            Some(serving) => &serving.template,
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
        self.staff = Some(Staff { worker, pipes });
        Ok(())
    }

    /// Kills the worker, if there is one, with all it started, and its template if
    /// that serves no more.
    pub(crate) fn dismiss(&mut self) -> Result<(), ContainerError> {
        if let Some(staff) = self.staff.take() {
            self.engine.discard(staff.worker)?;
        }
        if let Some(template) = self.retired.take()
            && !leaves_out("template:ends-with-its-worker")
        {
            self.engine.discard_template(template)?;
        }
        Ok(())
    }

    /// Kills the worker and forks another; nothing of it is left.
    pub(crate) fn refork(&mut self) -> Result<(), ContainerError> {
        self.refork_timed(&mut Phases::default())
    }

    fn refork_timed(&mut self, phases: &mut Phases) -> Result<(), ContainerError> {
        let mut since = Instant::now();
        let mut lap = |name| {
            phases.add(name, since.elapsed());
            since = Instant::now();
        };
        self.dismiss()?;
        lap("kill");
        if !leaves_out("files:at-a-refork") {
            self.sweep.run()?;
        }
        lap("files");
        self.fork()?;
        lap("fork");
        Ok(())
    }

    /// Brings the worker back, in place if it can be.
    pub(crate) fn restore(&mut self) -> Result<Restored, ContainerError> {
        let began = Instant::now();
        let is_rotation = self.retired.is_some();
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
        let (method, phases, dirty_pages, taints) = match tried {
            Ok(rewound) => (Method::Rewind, rewound.phases, rewound.dirty_pages, vec![]),
            Err(mut refused) => {
                let is_verdict = refused.phases.iter().any(|(name, _)| name == "verify");
                if is_verdict || self.settings.method == MethodChoice::Rewind {
                    eprintln!("refunction-supervisor: {refused}");
                }
                self.refork_timed(&mut refused.phases)?;
                (Method::Refork, refused.phases, 0, refused.taints)
            }
        };
        let mut taints: Vec<Taint> = taints
            .into_iter()
            .map(|taint| Taint {
                row: taint.row.to_string(),
                detail: taint.detail,
            })
            .collect();
        if is_rotation {
            taints.push(Taint {
                row: "template".into(),
                detail: "another template has taken over".into(),
            });
        }
        if let Some(serving) = &mut self.template {
            serving.restores += 1;
        }
        self.rotate_if_due()?;
        Ok(Restored {
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
        })
    }

    fn rewind(&mut self) -> Result<refunction_snapshot::Rewound, Refused> {
        let refused = |row: Row, detail: String| Refused {
            taints: vec![refunction_snapshot::Taint::new(row, detail)],
            phases: Phases::default(),
        };
        let (Some(serving), Some(staff)) = (&self.template, &mut self.staff) else {
            return Err(refused(Row::Worker, "there is none".into()));
        };
        let mut holding = self.engine.hold(&mut staff.worker)?;
        match staff.pipes.drain() {
            Ok(true) => {}
            Ok(false) => {
                return Err(refused(
                    Row::Descriptors,
                    "part of a request is still in the request pipe".into(),
                ));
            }
            Err(error) => return Err(refused(Row::Descriptors, error.to_string())),
        }
        holding.lap("pipes");
        if !leaves_out("files:at-a-rewind") {
            self.sweep
                .run()
                .map_err(|error| refused(Row::Files, error.to_string()))?;
        }
        holding.lap("files");
        self.engine
            .rewind(&serving.template, &mut staff.worker, holding)
    }
}

/// Runs this very program as the template. Its standard output leads nowhere (ours
/// is the control channel), its errors go where ours go.
fn start_template(engine: &mut Engine, settings: &Settings) -> Result<Booting, ContainerError> {
    let (ours, theirs) = Engine::conversation()?;
    let mut command = Command::new("/proc/self/exe");
    command
        .args(settings.template_arguments())
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        // A Ctrl-C in the terminal is for the supervisor to act on.
        .process_group(0);
    // Our own settings are no business of a tenant's.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("REFUNCTION_") && !leaves_out("template:settings") {
            command.env_remove(name);
        }
    }
    let child = command.spawn().map_err(|cause| ContainerError::Io {
        doing: "starting the template",
        cause,
    })?;
    Ok(engine.adopt(Pid::from_raw(child.id().cast_signed()), ours)?)
}
