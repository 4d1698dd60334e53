//! A supervisor started by hand on this host.

use std::io::Read;
use std::ops::{Deref, DerefMut};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::peer::Peer;
use crate::process::{self, Handle};
use crate::{PATIENCE, environment, eventually};

/// How long a supervisor may live. A supervisor that hangs is ended then, and with
/// it every write to it that would otherwise block for good.
const LIFETIME: Duration = Duration::from_secs(600);

/// A running supervisor, and the peer on its standard streams. Dropping it ends it
/// and whatever it started.
pub struct Supervisor {
    peer: Peer,
    handle: Handle,
    exited: Receiver<ExitStatus>,
    status: Option<ExitStatus>,
    errors: Arc<Mutex<String>>,
    /// The workers' (first) user, which no other supervisor's workers have: what is theirs
    /// can be told from anybody else's, and a supervisor on a shared host clears
    /// away what belongs to its workers' user.
    pub uid: u32,
    /// What it said of itself at its start.
    pub started: Value,
    _watchdog: Sender<()>,
}

/// Users that the workers of one supervisor have at most: those that run beside one another
/// have one each, and some to choose from.
pub const USERS: u32 = 32;

/// A user id for the workers of one supervisor; those that follow it up to [`USERS`] are
/// theirs, too.
#[must_use]
pub fn fresh_uid() -> u32 {
    /// More than one process starts while the longest test of its runs: two supervisors of
    /// the same users would kill each other's workers.
    const SUPERVISORS: u32 = 256;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed) % SUPERVISORS;
    // Process numbers have 22 bits at most; of two that live at a time the low ones differ.
    (std::process::id() % (1 << 17) * SUPERVISORS + number) * USERS + 100_000
}

impl Supervisor {
    /// Starts one and waits until it has a worker.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, |_| {})
    }

    /// As [`start`](Self::start), with whatever else is to be set.
    #[must_use]
    #[track_caller]
    pub fn start_with(arguments: &[&str], set: impl FnOnce(&mut Command)) -> Self {
        Self::spawn(arguments, set).started()
    }

    #[track_caller]
    fn started(mut self) -> Self {
        match self.peer.receive_within(PATIENCE) {
            Some(started) if started["type"] == "started" => self.started = started,
            other => panic!("no start, but {other:?}; it said: {}", self.errors()),
        }
        self
    }

    /// Lets it live for as long as its tenants come.
    #[must_use]
    pub fn unwatched(mut self) -> Self {
        self._watchdog = mpsc::channel().0;
        self
    }

    /// Starts one and waits for nothing.
    ///
    /// # Panics
    /// The binary is not there or cannot be run.
    #[must_use]
    pub fn spawn(arguments: &[&str], set: impl FnOnce(&mut Command)) -> Self {
        Self::spawn_by(Command::new(environment::supervisor()), arguments, set)
    }

    /// Starts one by a command that becomes it, and waits until it has a worker.
    #[must_use]
    #[track_caller]
    pub fn start_by(by: &[&str], arguments: &[&str]) -> Self {
        let mut command = Command::new(by[0]);
        command.args(&by[1..]).arg(environment::supervisor());
        Self::spawn_by(command, arguments, |_| {}).started()
    }

    fn spawn_by(mut command: Command, arguments: &[&str], set: impl FnOnce(&mut Command)) -> Self {
        environment::require_root();
        let uid = fresh_uid();
        // Whatever the person who runs the tests has set for themselves.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("REFUNCTION_") {
                command.env_remove(name);
            }
        }
        // It would have it speak HTTP.
        command.env_remove("PORT");
        command
            // Every rewind is looked at a second time; a difference is a refork, and
            // the tests that expect a rewind fail.
            .arg("--verify")
            .args(["--worker-uid", &uid.to_string()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        set(&mut command);
        let mut child = command.spawn().expect("starting the supervisor");
        let handle = Handle::open(child.id()).expect("the supervisor was not reaped yet");
        let errors = collect(child.stderr.take());
        // Where it is not a peer's, the test has a pipe of its own.
        let output: Box<dyn Read + Send> = match child.stdout.take() {
            Some(output) => Box::new(output),
            None => Box::new(std::io::empty()),
        };
        let input: ChildStdin = child.stdin.take().expect("its input is a pipe");
        let watchdog = watch_over(child.id());
        Self {
            peer: Peer::new(output, input),
            handle,
            exited: reap(child),
            status: None,
            errors,
            uid,
            started: Value::Null,
            _watchdog: watchdog,
        }
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.handle.pid
    }

    /// The users of its workers, as many as there can be.
    pub fn users(&self) -> std::ops::Range<u32> {
        self.uid..self.uid + USERS
    }

    /// The worker's process, as the supervisor tells it.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn worker(&mut self) -> u32 {
        let status = self.status();
        let pid = status["worker_pid"].as_u64();
        u32::try_from(pid.unwrap_or_else(|| panic!("no worker: {status}"))).expect("a pid")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.handle.signal(signal);
    }

    /// What it printed on its standard error.
    #[must_use]
    pub fn errors(&self) -> String {
        self.errors
            .lock()
            .map(|text| text.clone())
            .unwrap_or_default()
    }

    /// Waits for its end: its exit code, or 128 and the signal.
    ///
    /// # Panics
    /// It did not end in time.
    #[track_caller]
    pub fn wait(&mut self) -> i32 {
        let status = match self.status {
            Some(status) => status,
            None => match self.exited.recv_timeout(PATIENCE) {
                Ok(status) => status,
                Err(_) => panic!("the supervisor did not end; it said: {}", self.errors()),
            },
        };
        self.status = Some(status);
        status
            .code()
            .or_else(|| Some(128 + status.signal()?))
            .expect("it exited or was killed")
    }

    /// Asserts that nothing of its workers is on this host any more: to be called
    /// after its end.
    ///
    /// # Panics
    /// Something is left.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        // The last processes are killed by the kernel when their tracer ends, which
        // it announces to nobody.
        eventually("the workers' processes end", || {
            self.users().all(|user| process::of_user(user).is_empty())
        });
        let files: Vec<PathBuf> = self.users().flat_map(process::files_of_user).collect();
        assert!(files.is_empty(), "left behind: {files:?}");
    }
}

impl Deref for Supervisor {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.peer
    }
}

impl DerefMut for Supervisor {
    fn deref_mut(&mut self) -> &mut Peer {
        &mut self.peer
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let handles: Vec<Handle> = process::descendants(self.pid())
            .into_iter()
            .filter_map(Handle::open)
            .collect();
        if self.status.is_none() {
            self.handle.signal(Signal::SIGKILL);
            let _ = self.exited.recv_timeout(PATIENCE);
        }
        for handle in &handles {
            handle.signal(Signal::SIGKILL);
        }
        for file in self.users().flat_map(process::files_of_user) {
            let _ = std::fs::remove_dir_all(&file).or_else(|_| std::fs::remove_file(&file));
        }
    }
}

/// Reaps in a thread of its own, so that waiting can have a deadline.
fn reap(mut child: Child) -> Receiver<ExitStatus> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        if let Ok(status) = child.wait() {
            // The test may be over.
            let _ = sender.send(status);
        }
    });
    receiver
}

/// Kills a process when its lifetime is over and the sender is still there.
fn watch_over(pid: u32) -> Sender<()> {
    let (sender, dropped) = mpsc::channel::<()>();
    let handle = Handle::open(pid);
    std::thread::spawn(move || {
        if dropped.recv_timeout(LIFETIME) == Err(mpsc::RecvTimeoutError::Timeout)
            && let Some(handle) = handle
        {
            handle.signal(Signal::SIGKILL);
        }
    });
    sender
}

/// Reads a stream to its end as it comes.
#[must_use]
pub fn collect(stream: Option<impl Read + Send + 'static>) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let to = Arc::clone(&text);
    if let Some(mut stream) = stream {
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                if let Ok(mut text) = to.lock() {
                    text.push_str(&String::from_utf8_lossy(&buffer[..length]));
                }
            }
        });
    }
    text
}

/// A supervisor that listens on a socket.
pub struct Listening {
    /// The supervisor; its standard streams are not a peer then.
    pub supervisor: Supervisor,
    directory: PathBuf,
}

impl Listening {
    /// Starts one and waits until it listens.
    ///
    /// # Panics
    /// It does not.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, |_| {})
    }

    /// As [`start`](Self::start), with whatever else is to be set.
    ///
    /// # Panics
    /// It does not listen.
    #[must_use]
    pub fn start_with(arguments: &[&str], set: impl FnOnce(&mut Command)) -> Self {
        let name = format!("refunction-tests-{}", fresh_uid());
        let directory = Path::new("/run").join(name);
        std::fs::create_dir(&directory).expect("a directory for the socket");
        let path = directory.join("control.sock");
        let control = path.to_str().expect("a path in UTF-8").to_owned();
        let mut all = vec!["--control", &control];
        all.extend(arguments);
        let supervisor = Supervisor::spawn(&all, set);
        let listening = Self {
            supervisor,
            directory,
        };
        // It says nowhere that it listens; whoever mounted the directory sees the
        // socket appear.
        eventually("somebody listens on the control socket", || {
            std::os::unix::net::UnixStream::connect(listening.path()).is_ok()
        });
        listening
    }

    /// The socket.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.join("control.sock")
    }

    /// A peer that has heard of the start.
    #[must_use]
    #[track_caller]
    pub fn connect(&self) -> Peer {
        let mut peer = Peer::connect(&self.path());
        peer.expect("started");
        peer
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.supervisor.signal(Signal::SIGKILL);
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
