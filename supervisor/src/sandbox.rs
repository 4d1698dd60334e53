//! What a worker gives up before it meets a tenant.

use std::path::PathBuf;

use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, chdir, getegid, geteuid, setgroups, setresgid, setresuid};
use refunction_snapshot::syscalls;
use seccompiler::BpfProgram;

/// The user and group that workers run as: their own if the supervisor may change
/// to it, else the supervisor's.
pub(crate) fn owner(worker_uid: u32) -> (Uid, Gid) {
    if geteuid().is_root() {
        (Uid::from_raw(worker_uid), Gid::from_raw(worker_uid))
    } else {
        (geteuid(), getegid())
    }
}

/// Everything that can be made ready once, in the template.
pub(crate) struct Sandbox {
    owner: (Uid, Gid),
    directory: PathBuf,
    filter: BpfProgram,
}

/// A step into the sandbox failed; the worker must not serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SandboxError {
    #[error("installing the system call filter: {0}")]
    Install(#[from] seccompiler::Error),
    #[error("{doing}: {errno}")]
    Call {
        doing: &'static str,
        errno: nix::Error,
    },
}

fn call(doing: &'static str) -> impl FnOnce(nix::Error) -> SandboxError {
    move |errno| SandboxError::Call { doing, errno }
}

impl Sandbox {
    pub(crate) fn prepare(worker_uid: u32) -> Self {
        // Lambda's name for it comes second: ours is the more specific wish.
        let root = ["FUNCTION_ROOT", "LAMBDA_TASK_ROOT"]
            .iter()
            .filter_map(std::env::var_os)
            .map(PathBuf::from)
            .find(|path| path.is_dir());
        Self {
            owner: owner(worker_uid),
            directory: root.unwrap_or_else(|| "/".into()),
            filter: syscalls::filter(),
        }
    }

    /// Gives up the supervisor's user, its groups, any way to gain privileges, and
    /// every system call that the filter refuses. There is no way back.
    pub(crate) fn enter(&self) -> Result<(), SandboxError> {
        let (uid, gid) = self.owner;
        // When memory runs out the kernel is to take the tenant, not PID 1. Where
        // /proc is not there the kernel's own choice has to do.
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
        if geteuid().is_root() {
            setgroups(&[]).map_err(call("dropping groups"))?;
            setresgid(gid, gid, gid).map_err(call("changing the group"))?;
            setresuid(uid, uid, uid).map_err(call("changing the user"))?;
            // Changing the user hid the process from its tracer.
            prctl::set_dumpable(true).map_err(call("staying visible to the supervisor"))?;
        }
        umask(Mode::from_bits_truncate(0o022));
        chdir(&self.directory).map_err(call("changing the working directory"))?;
        prctl::set_no_new_privs().map_err(call("giving up new privileges"))?;
        seccompiler::apply_filter(&self.filter)?;
        Ok(())
    }
}
