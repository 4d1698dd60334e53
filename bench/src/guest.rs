//! The measured workers, and the template of those that are forked: what the
//! supervisor's are, without its settings.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{IntoRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::SigSet;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, chdir, setgroups, setresgid, setresuid};
use refunction_adapter::channel::REQUEST_FD;
use refunction_adapter::{Adapter, BootError, serve};
use refunction_snapshot::inside::{self, Born, Launch};
use refunction_snapshot::syscalls;

use crate::Failure;
use crate::runtime::{Origin, Runtime};

/// Starts this part.
pub const FLAG: &str = "--as-template";

/// If set, the workers have no filter.
pub const NO_FILTER_VARIABLE: &str = "REFUNCTION_BENCH_NO_FILTER";

/// User and group of the workers.
pub const ID: u32 = 64_998;

pub(crate) fn play(runtime: Runtime) -> Result<(), Failure> {
    // SIGCHLD is blocked where this was started from.
    SigSet::empty().thread_set_mask()?;
    match runtime.origin() {
        Origin::Template(boot) => template(boot),
        Origin::Program(program) => launch(program),
    }
}

fn template(boot: fn() -> Result<Box<dyn Adapter>, BootError>) -> Result<(), Failure> {
    let template = inside::Template::adopt()?;
    let booted = boot().map_err(Into::into).and_then(|adapter| {
        give_up_rights()?;
        settle_down()?;
        Ok(adapter)
    });
    let mut adapter = match booted {
        Ok(adapter) => adapter,
        Err(error) => {
            let error: Failure = error;
            template.fail(&error.to_string());
            return Err(error);
        }
    };
    let Born::Worker(newborn) = template.serve(&[])? else {
        return Err("nobody asked it for a layer".into());
    };
    let mut descriptors = newborn.descriptors;
    let channel = descriptors.split_off(REQUEST_FD as usize);
    // The standard streams are the runtime's for good.
    descriptors
        .into_iter()
        .map(IntoRawFd::into_raw_fd)
        .for_each(drop);
    let [requests, responses] =
        <[OwnedFd; 2]>::try_from(channel).map_err(|_| "the host gave no channel")?;

    become_somebody()?;
    // Changing the user hid the process from its tracer.
    nix::sys::prctl::set_dumpable(true)?;
    adapter.after_fork();
    let mut requests = FromReadyPoint {
        requests: requests.into(),
        is_there: false,
    };
    Ok(serve(
        adapter.as_mut(),
        &mut requests,
        &mut File::from(responses),
    )?)
}

/// Comes back only with what went wrong.
fn launch(program: fn(&[String], Option<&str>) -> io::Result<Command>) -> Result<(), Failure> {
    let launch = Launch::adopt()?;
    // The engine gives it its user.
    if let Err(error) = give_up_rights().and_then(|()| settle_down()) {
        launch.fail(&error.to_string());
        return Err(error);
    }
    launch.announce(&[])?;
    Err(program(&crate::libraries(), None)?.exec().into())
}

/// What the supervisor has its workers give up. Landlock is left out: no call of the
/// function's meets it.
fn give_up_rights() -> Result<(), Failure> {
    std::fs::write("/proc/self/oom_score_adj", "1000")?;
    nix::sys::prctl::set_no_new_privs()?;
    if std::env::var_os(NO_FILTER_VARIABLE).is_none() {
        seccompiler::apply_filter(&syscalls::filter())?;
    }
    Ok(())
}

fn become_somebody() -> Result<(), Failure> {
    setgroups(&[])?;
    setresgid(Gid::from_raw(ID), Gid::from_raw(ID), Gid::from_raw(ID))?;
    setresuid(Uid::from_raw(ID), Uid::from_raw(ID), Uid::from_raw(ID))?;
    Ok(())
}

fn settle_down() -> Result<(), Failure> {
    umask(Mode::from_bits_truncate(0o022));
    chdir("/")?;
    Ok(())
}

/// The request pipe, with the ready point in front of its first read.
struct FromReadyPoint {
    requests: File,
    is_there: bool,
}

impl Read for FromReadyPoint {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.is_there {
            self.is_there = true;
            inside::ready_point();
        }
        self.requests.read(buffer)
    }
}
