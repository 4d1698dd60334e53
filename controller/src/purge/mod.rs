//! Taking everything away that refunction made on this host: containers, root filesystems,
//! images and leases in its containerd's namespace, a containerd of its own, attachments to
//! networks, processes, mounts, control groups, sockets, files. Each step takes "it is not
//! there" for done, so that what was broken off can be done again.

mod containerd;
mod files;
mod processes;
mod tally;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};

use crate::config::Config;
use crate::containerd::private::Private;
use crate::containerd::{Containerd, ContainerdError};
use crate::daemon::{DaemonError, absolute};
use crate::gateway::Place;
use crate::lock::{self, Lock};
use crate::network::Network;
use crate::registry::Registry;
use crate::store::{Store, StoreError};
use tally::Tally;

/// How long a daemon may take to end: its calls, its containers and its containerd do.
const END: Duration = Duration::from_secs(60);

/// How it is to be done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Only say what would be removed.
    pub dry_run: bool,
    /// End a daemon that runs, first.
    pub end_daemon: bool,
}

/// Why something is left.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// Nobody else may.
    #[error("what refunction made belongs to root; --purge must be run as root")]
    NotRoot,
    /// It would make anew what is removed.
    #[error("a refunctiond is running on {}{}: stop it, or add --end-daemon", state.display(), said(*pid))]
    Running {
        /// Its state directory.
        state: PathBuf,
        /// Its process, if it says so.
        pid: Option<i32>,
    },
    /// It was asked to end and did not.
    #[error("the refunctiond on {} did not end within {} s", state.display(), END.as_secs())]
    WillNotEnd {
        /// Its state directory.
        state: PathBuf,
    },
    /// A file or directory.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// There are no threads to run on.
    #[error("starting threads: {0}")]
    Threads(#[from] io::Error),
    /// Another one, with another state directory, has the same root directory.
    #[error(transparent)]
    Store(StoreError),
    /// The directory cannot be locked.
    #[error("locking {}: {source}", path.display())]
    Lock {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Each was named.
    #[error("{0} of refunction's things are left, and named above; trying again continues")]
    Left(u32),
}

fn said(pid: Option<i32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

/// Removes everything, and says what on standard output.
///
/// # Errors
/// See [`PurgeError`]. What can be removed is removed all the same.
pub async fn run(config: Config, options: Options) -> Result<(), PurgeError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(PurgeError::NotRoot);
    }
    let state = absolute(&config.state_dir)?;
    let root = absolute(&config.root_dir)?;
    let mut tally = Tally::new(options.dry_run);
    let lock_file = state.join(lock::FILE);
    // Else it is made here, and nobody's news.
    let is_locked_before = lock_file.exists();
    let lock = if options.dry_run {
        if lock::is_held(&state) {
            let running = PurgeError::Running { pid: None, state };
            eprintln!("refunctiond: {running}");
            return look(&config, &config.state_dir, &root, tally).await;
        }
        None
    } else {
        take_lock(&state, options.end_daemon).await?
    };
    if !options.dry_run && Store::is_at(&root) {
        match Store::open(&root).await {
            Ok(store) => store.close().await,
            Err(error @ StoreError::InUse { .. }) => return Err(PurgeError::Store(error)),
            // It goes, whatever is wrong with it.
            Err(_) => {}
        }
    }
    remove(&config, [&state, &root], &mut tally).await;
    if let Some(lock) = lock {
        // Last, so that no daemon began meanwhile.
        let removing = async { files::remove_file(&lock_file) };
        if is_locked_before {
            tally.remove(lock_file.display(), removing).await;
        } else if let Err(error) = removing.await {
            tally.leave(format_args!("{}: {error}", lock_file.display()));
        }
        drop(lock);
    }
    files::directory_if_empty(&mut tally, &state).await;
    files::directory_if_empty(&mut tally, &root).await;
    finish(&tally)
}

/// Beside a daemon that runs, only what containerd has can be told: the rest is in use.
async fn look(
    config: &Config,
    state: &Path,
    root: &Path,
    mut tally: Tally,
) -> Result<(), PurgeError> {
    remove(config, [&absolute(state)?, root], &mut tally).await;
    finish(&tally)
}

fn finish(tally: &Tally) -> Result<(), PurgeError> {
    tally.close();
    match tally.left() {
        0 => Ok(()),
        left => Err(PurgeError::Left(left)),
    }
}

/// None if there is no directory, and so no daemon.
async fn take_lock(state: &Path, end_daemon: bool) -> Result<Option<Lock>, PurgeError> {
    if !state.is_dir() {
        return Ok(None);
    }
    let failed = |source| PurgeError::Lock {
        path: state.join(lock::FILE),
        source,
    };
    // A daemon that was killed takes a moment to be gone.
    if let Some(lock) = Lock::take(state, Duration::from_secs(1))
        .await
        .map_err(failed)?
    {
        return Ok(Some(lock));
    }
    let state = state.to_owned();
    let pid = lock::holder(&state);
    let Some(daemon) = pid.filter(|_| end_daemon) else {
        let pid = pid.map(nix::unistd::Pid::as_raw);
        return Err(PurgeError::Running { state, pid });
    };
    match kill(daemon, Signal::SIGTERM) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => return Err(failed(error.into())),
    }
    let lock = Lock::take(&state, END).await.map_err(failed)?;
    lock.map(Some).ok_or(PurgeError::WillNotEnd { state })
}

async fn remove(config: &Config, [state, root]: [&Path; 2], tally: &mut Tally) {
    let has_private = root.join("containerd").exists() || state.join("containerd").exists();
    if has_private {
        private(config, [state, root], tally).await;
    }
    if !config.containerd.private {
        let address = &config.containerd.address;
        match Containerd::connect(address, &config.containerd.namespace).await {
            Ok(containerd) => {
                let registry = registry(config, [state, root], containerd, false);
                containerd::everything(&registry, tally).await;
                containerd::pods(&registry, state, tally).await;
            }
            // Where a private one was used there may never have been another.
            Err(error) if has_private => tally.spare(format_args!("out what {error}")),
            Err(error) => tally.leave(format_args!("what a containerd has: {error}")),
        }
    }
    let network = Network::new(config.network.clone(), root, state);
    for unique in network.noted() {
        let what = format!("the attachment of {unique} to its network");
        tally.remove(what, network.detach(&unique)).await;
    }
    files::mounts(tally, [state, root]).await;
    let mut sockets = vec![config.socket.as_path()];
    sockets.extend(config.cri.socket.as_deref());
    for place in &config.gateway.listen {
        if let Place::Socket(path) = place {
            sockets.push(path);
        }
    }
    for socket in sockets {
        files::socket(tally, socket).await;
    }
    // Where a containerd that could not be asked has containers, these say which.
    let is_sure = tally.left() == 0;
    if is_sure || tally.is_dry {
        for path in [
            state.join("containers"),
            state.join("cri"),
            state.join("containerd"),
            root.join("network"),
            root.join("containerd"),
        ] {
            files::directory(tally, &path).await;
        }
    }
    for path in Store::files(root) {
        if path.exists() {
            tally
                .remove(path.display(), async { files::remove_file(&path) })
                .await;
        }
    }
    files::control_groups(tally).await;
}

fn registry(
    config: &Config,
    [state, root]: [&Path; 2],
    containerd: Containerd,
    is_private: bool,
) -> Registry {
    let network = Network::new(config.network.clone(), root, state);
    Registry::new(containerd, state, is_private, network)
}

/// A containerd of refunction's own, which may not run any more: it is started once more, as
/// nobody else can take its containers apart as completely.
async fn private(config: &Config, [state, root]: [&Path; 2], tally: &mut Tally) {
    let namespace = &config.containerd.namespace;
    let address = Private::address_below(state);
    if tally.is_dry {
        match Containerd::connect(&address, namespace).await {
            Ok(containerd) => {
                let registry = registry(config, [state, root], containerd, true);
                containerd::everything(&registry, tally).await;
            }
            Err(ContainerdError::Unreachable { .. }) if address.exists() || root.exists() => {
                tally
                    .remove(
                        format_args!(
                            "all containers and images of the containerd at {}, which does not run",
                            address.display()
                        ),
                        async { Ok::<_, io::Error>(()) },
                    )
                    .await;
            }
            Err(_) => {}
        }
        return;
    }
    // One that hangs is ended, and another started.
    for attempt in 0..2 {
        let private = match Private::start(root, state).await {
            Ok(private) => private,
            Err(error) => {
                eprintln!("refunctiond: {error}; its processes are ended without it");
                break;
            }
        };
        let connected = Containerd::connect(private.address(), namespace).await;
        let is_there = connected.is_ok();
        match connected {
            Ok(containerd) => {
                let registry = registry(config, [state, root], containerd, true);
                containerd::everything(&registry, tally).await;
            }
            Err(error) => eprintln!("refunctiond: {error}"),
        }
        private.stop().await;
        if is_there || attempt > 0 {
            break;
        }
    }
    processes::of_private(tally, &address).await;
}
