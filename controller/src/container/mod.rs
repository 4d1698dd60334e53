//! One function container: its parts on the host, the connection to its
//! supervisor, and what is known about it.

mod create;
mod ended;
pub(crate) mod remove;
mod seccomp;
pub mod spec;
pub(crate) mod stray;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use refunction_protocol::{
    Command, Failure, FailureKind, Function, Report, Restored, Started, State, Status,
};
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use crate::channel::{Channel, ChannelError, Outcome, Parts, connect, failure};
use crate::host::Cgroups;
use crate::logs::LogRing;
use crate::output::Output;
use crate::watch::DirectoryWatch;

pub use create::{CreateError, Recipe, create};
pub(crate) use create::{MIN_MEMORY_BYTES, MIN_PIDS};
pub use ended::{Ended, Exit};

/// What the kernel's killing for memory looks like from outside.
const KILLED: Exit = Exit::Code(128 + 9);

/// How long news of a container's end may take after its connection ended.
const NEWS: Duration = Duration::from_secs(2);

/// How much later than its deadline a request's answer may come. The supervisor
/// keeps deadlines; this is for a supervisor that does not answer any more.
const GRACE: Duration = Duration::from_secs(10);

/// The labels on a container's record, by which a restarted daemon knows it.
pub(crate) mod label {
    /// On an image's record, and no other: `ctr run` gives a container all labels of its image.
    pub(crate) const IMPORTED: &str = "refunction/imported";
    pub(crate) const MANAGED: &str = "refunction/managed";
    pub(crate) const DIRECTORY: &str = "refunction/directory";
    pub(crate) const MEMORY: &str = "refunction/memory-bytes";
    pub(crate) const CGROUP: &str = "refunction/cgroup";
    pub(crate) const PIDS: &str = "refunction/pids";
    pub(crate) const POOL: &str = "refunction/pool";
}

/// Why a container cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// It is dead.
    #[error("the container {id} has ended: {cause}; `funk rm {id}` removes it")]
    Ended {
        /// Which.
        id: String,
        /// Why.
        cause: String,
    },
    /// It lives, but there is no connection to its supervisor.
    #[error("the container {id} cannot be reached: {cause}")]
    Unreachable {
        /// Which.
        id: String,
        /// Why.
        cause: String,
    },
    /// The question could not be asked.
    #[error(transparent)]
    Channel(ChannelError),
}

/// Whose a container of kubelet's is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The container's name in the pod.
    pub container: String,
}

impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.name, self.container)
    }
}

/// A function container.
#[derive(Debug)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// The whole name of its image.
    pub image: String,
    /// Bytes it may hold.
    pub memory_bytes: u64,
    /// Processes and threads it may have.
    pub pids: u32,
    /// Milliseconds since the Unix epoch.
    pub created_unix_ms: i64,
    /// The pool that it was made for; None if somebody asked for this one container.
    pub pool: Option<String>,
    /// The pod that kubelet made it for, and will remove it with; none of a container
    /// that a daemon like this one made.
    pub pod: Option<Pod>,
    /// What it printed.
    pub logs: Arc<LogRing>,
    /// Microseconds that its creation took; 0 if an earlier daemon created it.
    pub create_us: AtomicU64,
    /// Held while it is created or removed.
    pub(crate) lifecycle: tokio::sync::Mutex<()>,
    directory: PathBuf,
    pub(crate) cgroup: String,
    cgroups: Cgroups,
    output: Output,
    link: watch::Sender<Link>,
    /// What its supervisor said at first; it stays known after the end.
    started: OnceLock<Arc<Started>>,
    pid: AtomicU64,
    loaded: AtomicBool,
    restoring: AtomicBool,
    out_of_memory: AtomicBool,
    tasks: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

/// Whether the supervisor can be spoken to.
#[derive(Debug, Clone)]
enum Link {
    Starting,
    Connected(Arc<Channel>),
    Lost,
    Ended(Arc<Ended>),
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Being made, or its runtime is booting.
    Starting,
    /// At its snapshot.
    Ready,
    /// A function is loaded.
    Loaded,
    /// Requests are in flight.
    Running,
    /// Being put back.
    Restoring,
    /// Alive, but not connected.
    Unreachable,
    /// Dead.
    Ended,
}

/// What is known about a container at one moment.
#[derive(Debug)]
pub struct View {
    /// Where in its life it is.
    pub condition: Condition,
    /// What its supervisor said at first.
    pub started: Option<Arc<Started>>,
    /// A function is loaded.
    pub loaded: bool,
    /// Requests without an answer.
    pub in_flight: usize,
    /// Why it ended.
    pub ended: Option<String>,
    /// Its init, as the host counts; 0 before it runs.
    pub pid: u32,
}

/// What is known of a container from its record.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) id: String,
    pub(crate) image: String,
    pub(crate) memory_bytes: u64,
    pub(crate) pids: u32,
    pub(crate) created_unix_ms: i64,
    pub(crate) pool: Option<String>,
    pub(crate) directory: PathBuf,
    pub(crate) cgroup: String,
    pub(crate) pod: Option<Pod>,
}

impl Container {
    pub(crate) fn new(identity: Identity, cgroups: Cgroups) -> Arc<Self> {
        let logs = Arc::new(LogRing::default());
        let output = Output::new(&identity.directory.join("output"), Arc::clone(&logs));
        Arc::new(Self {
            id: identity.id,
            image: identity.image,
            memory_bytes: identity.memory_bytes,
            pids: identity.pids,
            created_unix_ms: identity.created_unix_ms,
            pool: identity.pool,
            pod: identity.pod,
            logs,
            create_us: AtomicU64::new(0),
            lifecycle: tokio::sync::Mutex::new(()),
            directory: identity.directory,
            cgroup: identity.cgroup,
            cgroups,
            output,
            link: watch::Sender::new(Link::Starting),
            started: OnceLock::new(),
            pid: AtomicU64::new(0),
            loaded: AtomicBool::new(false),
            restoring: AtomicBool::new(false),
            out_of_memory: AtomicBool::new(false),
            tasks: Mutex::default(),
        })
    }

    /// Where the control socket is, on the host.
    fn control(&self) -> PathBuf {
        self.directory.join("control")
    }

    /// What no other container of this host is called, of whichever daemon.
    pub(crate) fn unique(&self) -> &str {
        self.cgroup.rsplit('/').next().unwrap_or(&self.id)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Begins to read its output and to hold a connection to its supervisor.
    pub(crate) fn attend(self: &Arc<Self>) {
        // What a container of kubelet's prints, kubelet has.
        let output = self.pod.is_none().then(|| {
            let this = Arc::clone(self);
            tokio::spawn(async move { this.output.follow().await })
        });
        let connection = tokio::spawn({
            let this = Arc::clone(self);
            async move { this.stay_connected().await }
        });
        self.tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(output.into_iter().chain([connection]));
    }

    /// Ends its creation, if it is still being created: its creator then takes it
    /// apart.
    pub(crate) fn abandon(&self) {
        self.link.send_if_modified(|link| {
            let starting = matches!(link, Link::Starting);
            if starting {
                *link = Link::Ended(Arc::new(Ended::removed()));
            }
            starting
        });
    }

    /// Lets go of everything in this process.
    pub(crate) fn forget(&self) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        for task in tasks.drain(..) {
            task.abort();
        }
        drop(tasks);
        // The channel would otherwise live as long as this value is looked at.
        self.link.send_modify(|link| {
            if !matches!(link, Link::Ended(_)) {
                *link = Link::Ended(Arc::new(Ended::removed()));
            }
        });
        self.logs.close();
    }

    async fn stay_connected(&self) {
        let mut is_told = false;
        loop {
            let dialled = self.dial().await;
            let channel = dialled.and_then(|it| Channel::over(it, Arc::clone(&self.logs)));
            let channel = match channel {
                Ok(channel) => Arc::new(channel),
                Err(error) => {
                    if !std::mem::replace(&mut is_told, true) {
                        warn!(container = self.id, %error, "cannot reach the supervisor");
                    }
                    // Something that is no socket stays so; a lack of descriptors passes.
                    let is_final = error.kind() == std::io::ErrorKind::InvalidData;
                    if is_final || self.ended().is_some() {
                        return;
                    }
                    sleep(Duration::from_millis(200)).await;
                    continue;
                }
            };
            is_told = false;
            if let Ok(started) = channel.started().await {
                debug!(container = self.id, "connected");
                // An adopted one may hold a function already.
                self.refresh(&channel).await;
                let _ = self.started.set(Arc::new(started));
                self.connected(Link::Connected(Arc::clone(&channel)));
                channel.closed().await;
                self.connected(Link::Lost);
            }
            if self.ended().is_some() {
                return;
            }
            // The container's end is the usual cause, and its news come at once; a
            // supervisor that merely hung up is dialled again, not in a hot loop.
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// An end is final: nothing replaces it.
    fn connected(&self, new: Link) {
        self.link.send_if_modified(|link| {
            let alive = !matches!(link, Link::Ended(_));
            if alive {
                *link = new;
            }
            alive
        });
    }

    /// Waits for the socket, and connects to it.
    async fn dial(&self) -> std::io::Result<tokio::net::UnixStream> {
        let control = self.control();
        // Before the first look: what appears in between is not missed.
        let mut watch = DirectoryWatch::arrivals(&control)?;
        loop {
            match connect(&control).await {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    watch.changed().await?;
                }
                // Bound and not yet listening, or of an earlier life: nothing tells
                // when that changes.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    sleep(Duration::from_millis(5)).await;
                }
                other => return other,
            }
        }
    }

    /// Asks whether a function is loaded.
    async fn refresh(&self, channel: &Channel) {
        if let Ok(Report::Status(status)) = channel.command(&Command::Status).await {
            let loaded = matches!(status.state, State::Loaded | State::Running);
            self.loaded.store(loaded, Ordering::Relaxed);
        }
    }

    pub(crate) fn runs_as(&self, pid: u32) {
        self.pid.store(u64::from(pid), Ordering::Relaxed);
    }

    /// The kernel killed one of its processes for memory.
    pub(crate) fn ran_out_of_memory(&self) {
        self.out_of_memory.store(true, Ordering::Relaxed);
    }

    /// Its init ended. Whoever waits for an answer learns why there is none.
    pub(crate) fn has_ended(&self, status: Exit) {
        if self.ended().is_some() {
            return;
        }
        self.output.finish();
        let memory = self.cgroups.memory_deaths(&self.cgroup);
        let ended = Ended {
            status,
            out_of_memory: status == KILLED
                && (self.out_of_memory.load(Ordering::Relaxed)
                    || memory.is_some_and(|memory| memory.kills > 0)),
            peak_bytes: memory.and_then(|memory| memory.peak_bytes),
            limit_bytes: self.memory_bytes,
            last_words: self.logs.last_words(5),
        };
        self.loaded.store(false, Ordering::Relaxed);
        self.link.send_replace(Link::Ended(Arc::new(ended)));
    }

    /// Why it ended, if it did.
    #[must_use]
    pub fn ended(&self) -> Option<Arc<Ended>> {
        match &*self.link.borrow() {
            Link::Ended(ended) => Some(Arc::clone(ended)),
            _ => None,
        }
    }

    /// Waits until it has ended, by itself or because it was removed.
    pub async fn gone(&self) -> Arc<Ended> {
        let mut link = self.link.subscribe();
        loop {
            if let Some(ended) = self.ended() {
                return ended;
            }
            // The sender is this container's own.
            let _ = link.changed().await;
        }
    }

    /// Waits until its supervisor is ready, or it ended.
    pub(crate) async fn ready(&self) -> Result<(), Arc<Ended>> {
        let mut link = self.link.subscribe();
        let reached = link
            .wait_for(|link| matches!(link, Link::Connected(_) | Link::Ended(_)))
            .await;
        match reached.as_deref() {
            Ok(Link::Ended(ended)) => Err(Arc::clone(ended)),
            _ => Ok(()),
        }
    }

    /// What is known now.
    #[must_use]
    pub fn view(&self) -> View {
        let link = self.link.borrow().clone();
        let loaded = self.loaded.load(Ordering::Relaxed);
        let (condition, in_flight, ended) = match link {
            Link::Starting => (Condition::Starting, 0, None),
            Link::Lost => (Condition::Unreachable, 0, None),
            Link::Ended(ended) => (Condition::Ended, 0, Some(ended.to_string())),
            Link::Connected(channel) => {
                let in_flight = channel.in_flight();
                let condition = if self.restoring.load(Ordering::Relaxed) {
                    Condition::Restoring
                } else if in_flight > 0 {
                    Condition::Running
                } else if loaded {
                    Condition::Loaded
                } else {
                    Condition::Ready
                };
                (condition, in_flight, None)
            }
        };
        View {
            condition,
            started: self.started.get().cloned(),
            loaded,
            in_flight,
            ended,
            pid: u32::try_from(self.pid.load(Ordering::Relaxed)).unwrap_or(0),
        }
    }

    async fn channel(&self) -> Result<Arc<Channel>, ContainerError> {
        let link = self.link.borrow().clone();
        match link {
            Link::Connected(channel) => Ok(channel),
            Link::Ended(ended) => Err(ContainerError::Ended {
                id: self.id.clone(),
                cause: ended.to_string(),
            }),
            Link::Starting => Err(ContainerError::Unreachable {
                id: self.id.clone(),
                cause: "it is still starting".into(),
            }),
            Link::Lost => Err(self.lost().await),
        }
    }

    /// What to say when the connection ended under a question: why the container
    /// died, if it did.
    async fn lost(&self) -> ContainerError {
        let mut link = self.link.subscribe();
        let ended = timeout(NEWS, link.wait_for(|link| matches!(link, Link::Ended(_)))).await;
        if let Ok(Ok(link)) = ended
            && let Link::Ended(ended) = &*link
        {
            return ContainerError::Ended {
                id: self.id.clone(),
                cause: ended.to_string(),
            };
        }
        ContainerError::Unreachable {
            id: self.id.clone(),
            cause: "its supervisor closed the connection".into(),
        }
    }

    async fn ask(&self, command: &Command) -> Result<Report, ContainerError> {
        match self.channel().await?.command(command).await {
            Err(ChannelError::Closed) => Err(self.lost().await),
            other => other.map_err(ContainerError::Channel),
        }
    }

    /// Loads a function; a failure is the tenant's own, with the tenant's lines.
    ///
    /// # Errors
    /// The supervisor could not be asked.
    pub async fn load(&self, function: Function) -> Result<Result<(), Failure>, ContainerError> {
        let report = self.ask(&Command::Function(Box::new(function))).await?;
        match report {
            Report::FunctionLoaded(loaded) => {
                self.loaded.store(loaded.is_ok(), Ordering::Relaxed);
                Ok(loaded.map(drop))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Calls the function under the given id. The container's death meanwhile is
    /// the request's failure.
    ///
    /// # Errors
    /// The supervisor could not be asked.
    pub async fn request(
        &self,
        id: &str,
        data: Box<RawValue>,
        deadline_ms: Option<u64>,
        parts: Option<Parts>,
    ) -> Result<Outcome, ContainerError> {
        let channel = self.channel().await?;
        let asked = channel.request(id, data, deadline_ms, parts);
        let answered = match deadline_ms {
            None => asked.await,
            Some(ms) => {
                let end = Instant::now() + Duration::from_millis(ms).saturating_add(GRACE);
                match tokio::time::timeout_at(end, asked).await {
                    Ok(answered) => answered,
                    Err(_) => {
                        let message = format!(
                            "the supervisor did not answer within the deadline of {ms} ms and {} s more",
                            GRACE.as_secs()
                        );
                        return Ok(Err(failure(FailureKind::Timeout, message)));
                    }
                }
            }
        };
        match answered {
            Ok(outcome) => {
                if let Err(failure) = &outcome
                    && failure.kind != FailureKind::Exception
                {
                    // The worker may have been replaced, and the function with it.
                    self.refresh(&channel).await;
                }
                Ok(outcome)
            }
            Err(ChannelError::Closed) => {
                let lost = self.lost().await;
                let kind = match self.ended() {
                    Some(ended) if ended.out_of_memory => FailureKind::OutOfMemory,
                    _ => FailureKind::Crashed,
                };
                Ok(Err(failure(kind, lost.to_string())))
            }
            Err(other) => Err(ContainerError::Channel(other)),
        }
    }

    /// Puts it back to its snapshot.
    ///
    /// # Errors
    /// The supervisor could not be asked, or refused.
    pub async fn restore(&self) -> Result<Restored, ContainerError> {
        self.restoring.store(true, Ordering::Relaxed);
        let report = self.ask(&Command::Restore).await;
        self.restoring.store(false, Ordering::Relaxed);
        match report? {
            Report::Restored(restored) => {
                self.loaded.store(false, Ordering::Relaxed);
                Ok(restored)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Asks the supervisor what it is doing.
    ///
    /// # Errors
    /// The supervisor could not be asked.
    pub async fn status(&self) -> Result<Status, ContainerError> {
        match self.ask(&Command::Status).await? {
            Report::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }
}

fn unexpected(report: &Report) -> ContainerError {
    let line = String::from_utf8_lossy(&report.to_line()).trim().to_owned();
    ContainerError::Channel(ChannelError::Refused(format!("it answered {line}")))
}
