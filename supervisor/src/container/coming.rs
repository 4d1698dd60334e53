//! What boots: a template that is to serve, or a runtime that is to be a spare.

use std::os::fd::BorrowedFd;
use std::process::{Command, Stdio};

use clap::ValueEnum;
use nix::unistd::{Gid, Pid, Uid};
use refunction_snapshot::{Booting, Engine};

use super::ContainerError;
use crate::pipes::Pipes;
use crate::private::Grounds;
use crate::sabotage::leaves_out;
use crate::settings::{INTERFACE_VARIABLE, ROOT_VARIABLES, Settings};
use crate::staff::Candidate;

/// Something that boots.
pub(super) enum Coming {
    Template(Booting),
    Spare(Box<Candidate>),
}

impl Coming {
    pub(super) fn pid(&self) -> Pid {
        match self {
            Self::Template(booting) => booting.pid(),
            Self::Spare(candidate) => candidate.starting.pid(),
        }
    }

    /// Readable once there is something to hear.
    pub(super) fn voice(&self) -> BorrowedFd<'_> {
        match self {
            Self::Template(booting) => booting.socket(),
            Self::Spare(candidate) => candidate.pipes.response(),
        }
    }
}

/// Runs this very program as the template, or in the place of a spare. Its standard
/// output leads nowhere where ours is the control channel; its errors go where ours go.
pub(super) fn start(
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
