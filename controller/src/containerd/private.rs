//! A containerd of refunctiond's own, for hosts on which none runs: its root,
//! state and socket are its own, and it ends with the daemon.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

/// How long containerd may take to answer; it takes some 20 ms.
const BOOT: Duration = Duration::from_secs(20);

/// How long it may take to end.
const STOP: Duration = Duration::from_secs(10);

/// How long it is left alone when it could not be started again, at first and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(10)];

/// How often one is looked for that is not this process's child.
const LOOK: Duration = Duration::from_millis(50);

/// Why there is no private containerd.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// The binary is not there.
    #[error("containerd is not installed: {0}; install the package `containerd`")]
    NotInstalled(io::Error),
    /// A file or directory of its own could not be made.
    #[error("preparing {}", path.display())]
    Prepare {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ended, or did not answer, at its start.
    #[error("the private containerd {what}; its last words: {words}")]
    NotServing {
        /// What it did instead.
        what: String,
        /// The end of its log.
        words: String,
    },
}

/// A running containerd that is ours to stop, and that is started again if it dies.
#[derive(Debug)]
pub struct Private {
    address: PathBuf,
    stop: oneshot::Sender<()>,
    keeper: JoinHandle<()>,
}

/// Where it has its things.
#[derive(Debug)]
struct Home {
    root: PathBuf,
    state: PathBuf,
    address: PathBuf,
}

#[derive(Debug)]
enum Process {
    Started(Child),
    /// Left behind by a daemon that was killed; taken over.
    Adopted(Pid),
}

impl Private {
    /// Starts containerd, or takes over the one a killed daemon left.
    ///
    /// # Errors
    /// It is not installed, or does not serve.
    pub async fn start(root: &Path, state: &Path) -> Result<Self, PrivateError> {
        let home = Home {
            root: root.join("containerd"),
            state: state.join("containerd"),
            address: Self::address_below(state),
        };
        for path in [&home.root, &home.state] {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(|source| prepare(path, source))?;
        }
        let process = home.begin().await?;
        let address = home.address.clone();
        let (stop, stopping) = oneshot::channel();
        let keeper = tokio::spawn(home.keep(process, stopping));
        Ok(Self {
            address,
            stop,
            keeper,
        })
    }

    /// Where its socket is, below a state directory.
    pub(crate) fn address_below(state: &Path) -> PathBuf {
        state.join("containerd/containerd.sock")
    }

    /// Its socket.
    #[must_use]
    pub fn address(&self) -> &Path {
        &self.address
    }

    /// Ends it: asked first, killed after ten seconds.
    pub async fn stop(self) {
        // It is gone if it panicked, and then there is nobody to tell.
        let _ = self.stop.send(());
        let _ = self.keeper.await;
    }
}

impl Home {
    async fn begin(&self) -> Result<Process, PrivateError> {
        let Self {
            root,
            state,
            address,
        } = self;
        if let Ok(stream) = UnixStream::connect(address).await
            && let Ok(peer) = stream.peer_cred()
            && let Some(pid) = peer.pid()
        {
            info!(pid, "taking over the private containerd of an earlier run");
            return Ok(Process::Adopted(Pid::from_raw(pid)));
        }
        let configuration = root.join("config.toml");
        std::fs::write(&configuration, toml(root, state, address))
            .map_err(|source| prepare(&configuration, source))?;
        let log = root.join("containerd.log");
        let output = std::fs::File::create(&log).map_err(|source| prepare(&log, source))?;
        let errors = output.try_clone().map_err(|source| prepare(&log, source))?;
        let mut child = Command::new("containerd")
            .arg("--config")
            .arg(&configuration)
            // The daemon's own: systemd would take this one's words for its.
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            // A Ctrl-C at the terminal is for the daemon, which stops it in order.
            .process_group(0)
            .spawn()
            .map_err(PrivateError::NotInstalled)?;
        let end = Instant::now() + BOOT;
        loop {
            if UnixStream::connect(address).await.is_ok() {
                break;
            }
            if let Ok(Some(status)) = child.try_wait() {
                return Err(not_serving(format!("ended at its start ({status})"), &log));
            }
            if Instant::now() > end {
                let _ = child.kill().await;
                let what = format!("did not answer within {} s", BOOT.as_secs());
                return Err(not_serving(what, &log));
            }
            // containerd announces its readiness to systemd only; nothing to wait on.
            sleep(Duration::from_millis(5)).await;
        }
        info!(address = %address.display(), "started a private containerd");
        Ok(Process::Started(child))
    }

    /// Starts it again whenever it ends by itself: nobody else would, and no container could
    /// be made any more. Those that there are go on meanwhile.
    async fn keep(self, mut process: Process, mut stopping: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                how = process.ended() => warn!(how, "the private containerd ended; starting it again"),
                _ = &mut stopping => return process.stop().await,
            }
            let [mut pause, most] = PAUSES;
            process = loop {
                match self.begin().await {
                    Ok(process) => break process,
                    Err(error) => warn!(%error, "trying again"),
                }
                tokio::select! {
                    () = sleep(pause) => {}
                    _ = &mut stopping => return,
                }
                pause = (pause * 2).min(most);
            };
        }
    }
}

impl Process {
    /// Waits for its end, and says how it was.
    async fn ended(&mut self) -> String {
        match self {
            Self::Started(child) => match child.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            },
            Self::Adopted(pid) => {
                gone(*pid).await;
                "nobody knows how".into()
            }
        }
    }

    async fn stop(self) {
        match self {
            Self::Started(mut child) => {
                if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
                }
                if timeout(STOP, child.wait()).await.is_err() {
                    warn!("the private containerd did not end in time; killing it");
                    let _ = child.kill().await;
                }
            }
            Self::Adopted(pid) => {
                // A killed one, too, is waited for: its socket takes connections until it is
                // gone, and whoever connected would wait for its answer.
                for signal in [Signal::SIGTERM, Signal::SIGKILL] {
                    let _ = kill(pid, signal);
                    if timeout(STOP, gone(pid)).await.is_ok() {
                        return;
                    }
                    warn!(%pid, %signal, "the private containerd did not end in time");
                }
            }
        }
    }
}

/// Waits for the end of one that is not a child of this process, so that nobody tells.
async fn gone(pid: Pid) {
    while is_alive(pid) {
        sleep(LOOK).await;
    }
}

/// A dead process that nobody has reaped yet still takes signals, so those do not
/// tell; its state does.
fn is_alive(pid: Pid) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        // The name before the state may have anything in it, brackets too.
        !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .trim_start()
            .starts_with(['Z', 'X'])
    })
}

fn prepare(path: &Path, source: io::Error) -> PrivateError {
    PrivateError::Prepare {
        path: path.to_owned(),
        source,
    }
}

fn not_serving(what: String, log: &Path) -> PrivateError {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let last: Vec<_> = text.lines().rev().take(3).collect();
    PrivateError::NotServing {
        what,
        words: last.into_iter().rev().collect::<Vec<_>>().join(" | "),
    }
}

/// Version 2 is read by containerd 1.6, 1.7 and 2.x alike. The disabled plug-ins
/// serve kubelet, which a private containerd never does.
fn toml(root: &Path, state: &Path, address: &Path) -> String {
    let quote = |path: &Path| serde_json::Value::from(path.to_string_lossy()).to_string();
    format!(
        r#"version = 2
root = {root_data}
state = {state_data}
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]

[grpc]
  address = {address}

[ttrpc]
  address = {ttrpc}

[plugins."io.containerd.internal.v1.opt"]
  path = {opt}
"#,
        root_data = quote(&root.join("data")),
        state_data = quote(&state.join("run")),
        address = quote(address),
        ttrpc = quote(&state.join("containerd.ttrpc.sock")),
        opt = quote(&root.join("opt")),
    )
}
