//! What a worker gives up before it meets a tenant.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    AccessFlags, Gid, Uid, access, chdir, getegid, geteuid, setgroups, setresgid, setresuid,
};
use refunction_snapshot::syscalls;
use rustix::thread::{CapabilitySet, capabilities, clear_ambient_capability_set, set_capabilities};

use crate::authority::Authority;
use crate::sabotage::leaves_out;
use crate::settings::Settings;

/// The user and group that the workers of a slot run as: their own if the supervisor may
/// change to it, else the supervisor's. All slots have one group.
pub(crate) fn owner(worker_uid: u32, slot: usize) -> (Uid, Gid) {
    match Authority::own() {
        Authority::Full => {
            let slot = u32::try_from(slot).unwrap_or(u32::MAX);
            let uid = worker_uid.saturating_add(slot);
            (Uid::from_raw(uid), Gid::from_raw(worker_uid))
        }
        Authority::None(_) | Authority::Partial(_) => (geteuid(), getegid()),
    }
}

/// What is left for each worker to give up; the rest its template gave up for all.
pub(crate) struct Sandbox {
    /// Requests are run beside others.
    is_concurrent: bool,
    /// True if no file of /proc can be written to from inside. What can be changed
    /// there outlives a rewind: a process's memory past all protection, its
    /// coredump filter, its out-of-memory score, its login id.
    pub(crate) closes_proc: bool,
    /// What workers that run as the supervisor's own user can do to what is outside.
    pub(crate) leaves_open: Vec<String>,
}

/// A step into the sandbox failed; the worker must not serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SandboxError {
    #[error("installing the system call filter: {0}")]
    Install(#[from] seccompiler::Error),
    #[error("closing /proc to writing: {0}")]
    Landlock(#[from] RulesetError),
    #[error(
        "workers would have the supervisor's user, and this kernel has no Landlock: nothing would keep tenants from leaving files to each other; start it as root"
    )]
    Unconfined,
    #[error(
        "this kernel has no Landlock: a tenant could write to the memory of the worker that comes after its own"
    )]
    NoLandlock,
    #[error("giving up capabilities: {0}")]
    Capabilities(std::io::Error),
    #[error("listing the root directory: {0}")]
    Root(#[from] std::io::Error),
    #[error("{doing}: {errno}")]
    Call {
        doing: &'static str,
        errno: nix::Error,
    },
}

fn call(doing: &'static str) -> impl FnOnce(nix::Error) -> SandboxError {
    move |errno| SandboxError::Call { doing, errno }
}

/// The usual soft limit of an interactive system. A table of descriptors that is larger
/// has to be wiped, and can be told from a smaller one.
const DESCRIPTORS: u64 = 1024;

/// What a runtime may raise that to.
const MOST_DESCRIPTORS: u64 = 4096;

/// What whoever started the supervisor may do stays there. A user that is not root keeps its
/// capabilities across an exec where they are ambient (capabilities(7)), and no change of the
/// user takes them away where there is none; inheritable ones are kept by any worker.
fn give_up_capabilities(has_our_user: bool) -> std::io::Result<()> {
    clear_ambient_capability_set()?;
    let mut sets = capabilities(None)?;
    sets.inheritable = CapabilitySet::empty();
    if has_our_user {
        sets.permitted = CapabilitySet::empty();
        sets.effective = CapabilitySet::empty();
    }
    Ok(set_capabilities(None, sets)?)
}

fn limit_descriptors() -> nix::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, soft.min(DESCRIPTORS), hard)
}

const IN_DIRECTORY: &str = "changing the working directory";

/// What every fork has from its template: each of these calls is noted of a worker.
fn set_up(directory: &Path, is_concurrent: bool) -> Result<(), SandboxError> {
    if !leaves_out("sandbox:umask") {
        let is_closed = is_concurrent && !leaves_out("beside:umask");
        let closed = if is_closed { 0o077 } else { 0o022 };
        umask(Mode::from_bits_truncate(closed));
    }
    if leaves_out("sandbox:directory") {
        return Ok(());
    }
    chdir(directory).map_err(call(IN_DIRECTORY))
}

impl Sandbox {
    /// Gives up, in the template and so for all that it forks, any way to gain
    /// privileges, writing to /proc, and every system call that the filter refuses.
    /// There is no way back. Workers that run as the supervisor's own user make files in
    /// these places only.
    pub(crate) fn close(settings: &Settings) -> Result<Self, SandboxError> {
        let places = &settings.files_in;
        let is_concurrent = settings.is_concurrent();
        let has_our_user = owner(settings.worker_uid, 0).0 == geteuid();
        // When memory runs out the kernel is to take the tenant, not PID 1. Where
        // /proc is not there the kernel's own choice has to do.
        if !leaves_out("sandbox:out-of-memory-score") {
            let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
        }
        give_up_capabilities(has_our_user).map_err(SandboxError::Capabilities)?;
        let closes_proc = if has_our_user {
            confine(places)?;
            true
        } else {
            leaves_out("sandbox:proc") || close_proc()?
        };
        if !leaves_out("sandbox:filter") {
            let filter = if is_concurrent && !leaves_out("beside:filter") {
                syscalls::filter_among_others()
            } else {
                syscalls::filter()
            };
            // Sets no_new_privs as well.
            seccompiler::apply_filter(&filter)?;
        }
        limit_descriptors().map_err(call("limiting the number of descriptors"))?;
        // Lambda's name for it comes second: ours is the more specific wish.
        let root = ["FUNCTION_ROOT", "LAMBDA_TASK_ROOT"]
            .iter()
            .filter_map(std::env::var_os)
            .map(PathBuf::from)
            .find(|path| path.is_dir());
        set_up(&root.unwrap_or_else(|| "/".into()), is_concurrent)?;
        Ok(Self {
            is_concurrent,
            closes_proc,
            leaves_open: if has_our_user {
                leaves_open()
            } else {
                Vec::new()
            },
        })
    }

    /// Gives up, in a worker, the supervisor's user and its groups for these.
    pub(crate) fn enter(&self, (uid, gid): (Uid, Gid)) -> Result<(), SandboxError> {
        if self.is_concurrent
            && !leaves_out("beside:sockets")
            && let Ok(ruleset) = sockets_inside()
        {
            // A domain of its own: names that are no files are told to no other worker.
            ruleset.create()?.restrict_self()?;
        }
        if uid != geteuid() {
            if !leaves_out("sandbox:groups") {
                setgroups(&[]).map_err(call("dropping groups"))?;
            }
            if !leaves_out("sandbox:group") {
                setresgid(gid, gid, gid).map_err(call("changing the group"))?;
            }
            if !leaves_out("sandbox:user") {
                setresuid(uid, uid, uid).map_err(call("changing the user"))?;
            }
            if !leaves_out("sandbox:visible") {
                // Changing the user hid the process from its tracer.
                prctl::set_dumpable(true).map_err(call("staying visible to the supervisor"))?;
            }
        } else if let Ok(ruleset) = signals_inside() {
            // A domain of its own, which the supervisor and the template are outside of.
            ruleset.create()?.restrict_self()?;
        }
        // It is there already, wherever the supervisor may go.
        access(".", AccessFlags::X_OK).map_err(call(IN_DIRECTORY))
    }

    /// Prepares a program that is to become a worker. It stays the supervisor's user as
    /// long as it boots, and out of every tenant's reach: the engine gives it its own.
    pub(crate) fn enter_before_exec(&self) -> Result<(), SandboxError> {
        if !self.closes_proc {
            return Err(SandboxError::NoLandlock);
        }
        // What comes after it boots beside it, and will have its user.
        if let Ok(ruleset) = signals_inside() {
            ruleset.create()?.restrict_self()?;
        }
        // Runtimes raise the one limit to the other.
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(call("reading limits"))?;
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard.min(MOST_DESCRIPTORS))
            .map_err(call("limiting the number of descriptors"))
    }
}

/// Keeps the right to write to files everywhere but in /proc (landlock(7)); false if
/// the kernel has no Landlock. It knows no exceptions, so what is granted is
/// everything that stands beside /proc.
fn close_proc() -> Result<bool, SandboxError> {
    let required = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::WriteFile);
    let Ok(ruleset) = required else {
        return Ok(false);
    };
    // Moving files between directories is refused unless it is granted; a kernel
    // that cannot grant it makes programs copy instead.
    let mut ruleset = ruleset
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::Refer)?
        .create()?;
    let rights = AccessFs::WriteFile | AccessFs::Refer;
    for entry in std::fs::read_dir("/")? {
        let path = entry?.path();
        if path == Path::new("/proc") || !path.is_dir() {
            continue;
        }
        if let Ok(directory) = PathFd::new(&path) {
            ruleset = ruleset.add_rule(PathBeneath::new(directory, rights))?;
        }
    }
    Ok(ruleset.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

/// Devices that programs write to and that keep nothing.
const HARMLESS: &[&str] = &[
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];

/// Keeps the right to make, write and remove files in these directories only.
fn confine(places: &[PathBuf]) -> Result<(), SandboxError> {
    let required = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_write(ABI::V1));
    let Ok(ruleset) = required else {
        return Err(SandboxError::Unconfined);
    };
    let rights = AccessFs::from_write(ABI::V3);
    let mut ruleset = ruleset
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(rights)?
        .create()?;
    for place in places {
        let directory = PathFd::new(place).map_err(std::io::Error::other)?;
        ruleset = ruleset.add_rule(PathBeneath::new(directory, rights))?;
    }
    for device in HARMLESS {
        if let Ok(device) = PathFd::new(device) {
            let rights = AccessFs::WriteFile | AccessFs::Truncate;
            ruleset = ruleset.add_rule(PathBeneath::new(device, rights))?;
        }
    }
    match ruleset.restrict_self()?.ruleset {
        RulesetStatus::NotEnforced => Err(SandboxError::Unconfined),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
    }
}

/// What no Landlock keeps from them; where the files are a container's own it is put back.
pub(crate) const ATTRIBUTES: &str = "change rights, times and attributes of its files";

/// What no Landlock, or not this kernel's, keeps from workers of the supervisor's user.
fn leaves_open() -> Vec<String> {
    let can_truncate = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Truncate)
        .is_err();
    let can_signal = signals_inside().is_err();
    [
        (true, "read this user's files and connect to its sockets"),
        (true, ATTRIBUTES),
        (can_truncate, "truncate its files"),
        (
            can_signal,
            "signal its processes, the supervisor among them",
        ),
    ]
    .into_iter()
    .filter(|(is_open, _)| *is_open)
    .map(|(_, what)| what.to_owned())
    .collect()
}

/// Connections to no socket of an abstract name outside, and signals to nobody there
/// (Landlock's sixth interface); an error if the kernel cannot.
fn sockets_inside() -> Result<Ruleset, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .scope(Scope::AbstractUnixSocket | Scope::Signal)
}

/// Signals to nobody outside (Landlock's sixth interface); an error if the kernel cannot.
fn signals_inside() -> Result<Ruleset, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .scope(Scope::Signal)
}
