//! The template and its workers: what the supervisor's are, without its settings.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{IntoRawFd, OwnedFd};

use nix::sys::signal::SigSet;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, chdir, setgroups, setresgid, setresuid};
use refunction_adapter::channel::REQUEST_FD;
use refunction_adapter::{Adapter, serve};
use refunction_python::Python;
use refunction_snapshot::{inside, syscalls};

use crate::{Failure, function};

/// Starts this part.
pub const FLAG: &str = "--as-template";

/// User and group of the workers.
pub const ID: u32 = 64_998;

pub(crate) fn play() -> Result<(), Failure> {
    // SIGCHLD is blocked where this was started from.
    SigSet::empty().thread_set_mask()?;
    let template = inside::Template::adopt()?;
    let mut python = match boot() {
        Ok(python) => python,
        Err(error) => {
            template.fail(&error.to_string());
            return Err(error);
        }
    };
    let mut descriptors = template.serve(&[])?.descriptors;
    let channel = descriptors.split_off(REQUEST_FD as usize);
    // The standard streams are the runtime's for good.
    descriptors
        .into_iter()
        .map(IntoRawFd::into_raw_fd)
        .for_each(drop);
    let [requests, responses] =
        <[OwnedFd; 2]>::try_from(channel).map_err(|_| "the host gave no channel")?;

    setgroups(&[])?;
    setresgid(Gid::from_raw(ID), Gid::from_raw(ID), Gid::from_raw(ID))?;
    setresuid(Uid::from_raw(ID), Uid::from_raw(ID), Uid::from_raw(ID))?;
    // Changing the user hid the process from its tracer.
    nix::sys::prctl::set_dumpable(true)?;
    umask(Mode::from_bits_truncate(0o022));
    chdir("/")?;
    python.after_fork();
    let mut requests = FromReadyPoint {
        requests: requests.into(),
        is_there: false,
    };
    Ok(serve(
        &mut python,
        &mut requests,
        &mut File::from(responses),
    )?)
}

/// The runtime, and what the template gives up for all that it forks. Landlock is
/// left out: no call of the function's meets it.
fn boot() -> Result<Python, Failure> {
    let python = function::python()?;
    std::fs::write("/proc/self/oom_score_adj", "1000")?;
    nix::sys::prctl::set_no_new_privs()?;
    seccompiler::apply_filter(&syscalls::filter())?;
    Ok(python)
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
