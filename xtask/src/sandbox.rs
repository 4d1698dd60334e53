//! A refunctiond with a containerd of its own, and nothing of either afterwards.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::Signal;

use crate::shell;
use crate::workspace::Workspace;

/// Sockets and mounts are kept here: a socket's path may have 107 bytes, and the
/// source tree's own can be longer.
const STATES: &str = "/run/refunction-xtask";

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(30);

/// A running daemon. Dropping it takes everything down.
pub(crate) struct Sandbox {
    places: Places,
    daemon: Daemon,
    funk: PathBuf,
}

impl Sandbox {
    /// Starts the daemon that was built, and waits until it serves.
    pub(crate) fn start(workspace: &Workspace, name: &str) -> Result<Self> {
        let places = Places::named(workspace, &format!("{name}-{}", std::process::id()));
        places.remove();
        places.make()?;
        let started = Daemon::start(&workspace.release("refunctiond"), &places);
        match started {
            Ok(daemon) => {
                let sandbox = Self {
                    places,
                    daemon,
                    funk: workspace.release("funk"),
                };
                // The socket takes calls from its making on; the first answer comes
                // when containerd stands behind it.
                match shell::quiet(sandbox.funk().arg("info")) {
                    Ok(_) => Ok(sandbox),
                    Err(error) => {
                        sandbox.print_last_words();
                        Err(error)
                    }
                }
            }
            Err(error) => {
                places.print_last_words();
                places.remove();
                Err(error)
            }
        }
    }

    /// `funk`, told where this daemon is.
    pub(crate) fn funk(&self) -> Command {
        let mut command = Command::new(&self.funk);
        command
            .arg("--target")
            .arg(format!("unix://{}", self.places.socket().display()));
        command
    }

    /// What the daemon said last, for whoever looks for a failure's cause.
    pub(crate) fn print_last_words(&self) {
        self.places.print_last_words();
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.daemon.stop();
        self.places.remove();
    }
}

struct Daemon {
    pid: u32,
    exited: Receiver<ExitStatus>,
    running: bool,
}

impl Daemon {
    fn start(binary: &Path, places: &Places) -> Result<Self> {
        shell::check_interrupt()?;
        let socket = places.socket();
        let directory = socket.parent().context("a socket has a directory")?;
        // Watched before the daemon can make it, so that its making is never missed.
        let watch = Inotify::init(InitFlags::IN_CLOEXEC)?;
        watch.add_watch(
            directory,
            AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO,
        )?;
        let log = File::create(places.log())?;
        let mut child = Command::new("setpriv")
            // If this program is killed outright, the daemon still ends.
            .args(["--pdeathsig", "SIGTERM"])
            .arg(binary)
            .arg("--private-containerd")
            .arg("--state-dir")
            .arg(&places.state)
            .arg("--root-dir")
            .arg(&places.root)
            .arg("--socket")
            .arg(&socket)
            .arg("--namespace")
            .arg(places.namespace())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // An interrupt at the terminal is for us; we stop the daemon in order.
            .process_group(0)
            .spawn()
            .context("starting refunctiond")?;
        let pid = child.id();
        let (news, heard) = mpsc::channel();
        let (gone, exited) = mpsc::channel();
        let ended = news.clone();
        std::thread::spawn(move || {
            if let Ok(status) = child.wait() {
                // Nobody may be listening any more.
                let _ = gone.send(status);
                let _ = ended.send(News::Ended(status));
            }
        });
        let awaited = socket.clone();
        std::thread::spawn(move || {
            while let Ok(events) = watch.read_events() {
                let made = events
                    .iter()
                    .any(|event| event.name.as_deref() == awaited.file_name());
                if made {
                    let _ = news.send(News::Serves);
                    return;
                }
            }
        });
        let mut daemon = Self {
            pid,
            exited,
            running: true,
        };
        match heard.recv_timeout(START) {
            Ok(News::Serves) => Ok(daemon),
            Ok(News::Ended(status)) => {
                daemon.running = false;
                bail!("refunctiond ended at its start ({status})")
            }
            Err(_) => {
                daemon.stop();
                bail!("refunctiond made no socket within {} s", START.as_secs())
            }
        }
    }

    fn stop(&mut self) {
        if !std::mem::take(&mut self.running) {
            return;
        }
        for (signal, patience) in [(Signal::SIGTERM, STOP), (Signal::SIGKILL, STOP)] {
            if self.exited.try_recv().is_ok() {
                return;
            }
            // Not reaped a moment ago, so the number is still the daemon's.
            let _ = shell::signal(self.pid, signal);
            match self.exited.recv_timeout(patience) {
                Ok(_) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

enum News {
    Serves,
    Ended(ExitStatus),
}

/// The directories of one sandbox, and everything that runs or is mounted there.
struct Places {
    name: String,
    state: PathBuf,
    root: PathBuf,
}

impl Places {
    fn named(workspace: &Workspace, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: Path::new(STATES).join(name),
            root: workspace.sandboxes().join(name),
        }
    }

    fn make(&self) -> Result<()> {
        for directory in [&self.state, &self.root] {
            fs::create_dir_all(directory)
                .with_context(|| format!("making {}", directory.display()))?;
        }
        Ok(())
    }

    fn socket(&self) -> PathBuf {
        self.state.join("control.sock")
    }

    fn log(&self) -> PathBuf {
        self.root.join("refunctiond.log")
    }

    /// The containerd namespace: its own, so that what runc notes down outside
    /// these directories can be told from anybody else's.
    fn namespace(&self) -> String {
        format!("xtask-{}", self.name)
    }

    fn print_last_words(&self) {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        eprintln!("refunctiond's last words:");
        for line in &lines[lines.len().saturating_sub(10)..] {
            eprintln!("    {line}");
        }
    }

    /// Ends and removes whatever is left; says what it could not.
    fn remove(&self) {
        let bundles = self.bundles();
        let groups: Vec<_> = bundles.iter().flat_map(|it| control_groups(it)).collect();
        let shims: Vec<_> = bundles.iter().filter_map(|it| shim_socket(it)).collect();
        kill_all(&self.processes());
        for directory in [&self.state, &self.root] {
            if let Err(error) = unmount_below(directory).and_then(|()| remove_tree(directory)) {
                eprintln!("xtask: {error:#}");
            }
        }
        // What processes that were killed had no time to remove.
        let notes = Path::new("/run/containerd/runc").join(self.namespace());
        if let Err(error) = remove_tree(&notes) {
            eprintln!("xtask: {error:#}");
        }
        for file in shims {
            let _ = fs::remove_file(file);
        }
        for group in groups {
            // A killed process stays in its group for a moment. Refused for good
            // where somebody else is in it, and then it is not ours.
            eventually(|| fs::remove_dir(&group).is_ok() || !group.exists());
            if let Some(parent) = group.parent() {
                let _ = fs::remove_dir(parent);
            }
        }
        // Only the last sandbox finds them empty.
        let _ = fs::remove_dir(STATES);
        if let Some(parent) = self.root.parent() {
            let _ = fs::remove_dir(parent);
        }
    }

    /// Processes that were started with one of our directories in their arguments,
    /// and their descendants: the daemon, containerd, its shims, the containers.
    fn processes(&self) -> BTreeSet<u32> {
        let mut ours = BTreeSet::new();
        let mut parents = Vec::new();
        for pid in all_processes() {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let arguments = String::from_utf8_lossy(&arguments).into_owned();
            let mentions = [&self.state, &self.root].iter().any(|directory| {
                let directory = directory.to_string_lossy();
                arguments
                    .split(['\0', '='])
                    .any(|argument| Path::new(argument).starts_with(&*directory))
            });
            if mentions && pid != std::process::id() {
                ours.insert(pid);
            }
            if let Some(parent) = parent_of(pid) {
                parents.push((pid, parent));
            }
        }
        loop {
            let before = ours.len();
            for (pid, parent) in &parents {
                if ours.contains(parent) {
                    ours.insert(*pid);
                }
            }
            if ours.len() == before {
                return ours;
            }
        }
    }

    /// What containerd keeps of each container that runs.
    fn bundles(&self) -> Vec<PathBuf> {
        let tasks = self
            .state
            .join("containerd/run/io.containerd.runtime.v2.task")
            .join(self.namespace());
        let entries = fs::read_dir(tasks).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }
}

/// Where a bundle's shim listens.
fn shim_socket(bundle: &Path) -> Option<PathBuf> {
    let address = fs::read_to_string(bundle.join("address")).ok()?;
    address.strip_prefix("unix://").map(PathBuf::from)
}

/// Ends what sandboxes of programs that were killed left behind.
pub(crate) fn clean(workspace: &Workspace) -> Result<()> {
    let mut names = BTreeSet::new();
    for directory in [Path::new(STATES), &workspace.sandboxes()] {
        if let Ok(entries) = fs::read_dir(directory) {
            for entry in entries {
                names.insert(entry?.file_name().to_string_lossy().into_owned());
            }
        }
    }
    for name in names {
        eprintln!("==> removing the sandbox {name}");
        Places::named(workspace, &name).remove();
    }
    Ok(())
}

fn all_processes() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may itself hold spaces and brackets.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// Kills them and waits until none is there.
fn kill_all(pids: &BTreeSet<u32>) {
    let handles: Vec<File> = pids
        .iter()
        .filter_map(|pid| {
            let handle = File::open(format!("/proc/{pid}/stat")).ok()?;
            shell::signal(*pid, Signal::SIGKILL).ok()?;
            Some(handle)
        })
        .collect();
    // Not our children, so there is no wait for them.
    eventually(|| handles.iter().all(is_gone));
}

/// Looks until it is so, for as long as the kernel may take to end a process.
fn eventually(mut is_so: impl FnMut() -> bool) {
    for _ in 0..500 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// True once the process is reaped or a zombie. An open `stat` stays bound to its
/// process, whoever gets the number next.
fn is_gone(stat: &File) -> bool {
    use std::os::unix::fs::FileExt;
    let mut bytes = [0; 512];
    let Ok(length) = stat.read_at(&mut bytes, 0) else {
        return true;
    };
    let text = String::from_utf8_lossy(&bytes[..length]);
    text.rsplit_once(") ")
        .is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// The control groups that a bundle's container was given, in every hierarchy.
fn control_groups(bundle: &Path) -> Vec<PathBuf> {
    let given = fs::read(bundle.join("config.json"))
        .ok()
        .and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
    let Some(path) = given
        .as_ref()
        .and_then(|spec| spec["linux"]["cgroupsPath"].as_str())
        .map(|path| path.trim_start_matches('/'))
        .filter(|path| !path.is_empty())
    else {
        return Vec::new();
    };
    // Version 2 alone has its groups in the root; version 1 one level below.
    let root = Path::new("/sys/fs/cgroup");
    let below = fs::read_dir(root).into_iter().flatten().flatten();
    std::iter::once(root.to_owned())
        .chain(below.map(|entry| entry.path()))
        .map(|hierarchy| hierarchy.join(path))
        .filter(|group| group.is_dir())
        .collect()
}

fn unmount_below(directory: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("reading the mounts")?;
    let below: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(|point| PathBuf::from(point.replace("\\040", " ")))
        .filter(|point| point.starts_with(directory))
        .collect();
    // What was mounted last lies on top.
    for point in below.iter().rev() {
        umount2(point, MntFlags::MNT_DETACH)
            .with_context(|| format!("unmounting {}", point.display()))?;
    }
    Ok(())
}

fn remove_tree(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", directory.display()))
        }
        _ => Ok(()),
    }
}
