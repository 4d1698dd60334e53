//! A refunctiond with a containerd of its own, driven with `funk`.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::process::{self, Handle};
use crate::{PATIENCE, environment, eventually};

/// Where runc notes down what it runs, whoever's containerd asked for it.
const RUNC_NOTES: &str = "/run/containerd/runc";

/// A running daemon. Dropping it ends it with all its containers, and removes
/// everything that was its own.
pub struct Host {
    /// Tells this host's containers from anybody else's on the machine.
    pub name: String,
    state: PathBuf,
    root: PathBuf,
    /// What the daemon was told beside where its places are.
    arguments: Vec<String>,
    /// Where it says when it serves.
    notifications: UnixDatagram,
    daemon: Handle,
    /// Behind a lock so that several threads may drive one host.
    exited: Mutex<Receiver<ExitStatus>>,
    is_running: bool,
}

/// What a command did.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its exit code.
    pub code: i32,
    /// What it printed, if that is JSON.
    pub json: Value,
    /// What it printed.
    pub text: String,
    /// What it printed on standard error.
    pub errors: String,
}

impl Answer {
    /// The document, of a command that is to have worked.
    ///
    /// # Panics
    /// It did not.
    // Often it is enough that it worked.
    #[allow(clippy::must_use_candidate)]
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        self.json
    }

    /// Asserts that it failed with this code, for a cause that it names.
    ///
    /// # Panics
    /// It did not.
    #[track_caller]
    pub fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for word in words {
            assert!(self.errors.contains(word), "{word:?} is not in {self:?}");
        }
        if !self.json.is_null() && self.json.get("error").is_some() {
            let message = self.json["error"]["message"].as_str();
            assert!(message.is_some_and(|it| !it.is_empty()), "{self:?}");
        }
    }
}

/// Runs a command to its end, which is to come in time.
///
/// # Panics
/// It could not be started, or did not end.
#[track_caller]
pub fn run(command: &mut Command, input: &[u8]) -> Answer {
    run_for(command, input, PATIENCE)
}

/// As [`run`], with a time of one's own.
///
/// # Panics
/// It could not be started, or did not end.
#[track_caller]
pub fn run_for(command: &mut Command, input: &[u8], patience: Duration) -> Answer {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
    let handle = Handle::open(child.id());
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || {
        // A command that does not read it has its reasons.
        let _ = stdin.write_all(&input);
        drop(stdin);
        let _ = sender.send(child.wait_with_output());
    });
    let Ok(output) = ended.recv_timeout(patience) else {
        if let Some(handle) = handle {
            handle.signal(Signal::SIGKILL);
        }
        panic!("{command:?} did not end");
    };
    let output = output.expect("its output");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Answer {
        code: output.status.code().unwrap_or(-1),
        json: serde_json::from_str(&text).unwrap_or(Value::Null),
        text,
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Host {
    /// Starts a daemon that has the image.
    #[must_use]
    pub fn with_image() -> Self {
        Self::with_images(&["python"])
    }

    /// As [`with_image`](Self::with_image), with those of these runtimes.
    #[must_use]
    pub fn with_images(runtimes: &[&str]) -> Self {
        let host = Self::start();
        host.import(runtimes);
        host
    }

    /// Imports the images of these runtimes.
    pub fn import(&self, runtimes: &[&str]) {
        for runtime in runtimes {
            let archive = environment::image(runtime);
            let archive = archive.to_str().expect("a path in UTF-8");
            // Each blob is hashed, which takes long where everything is built at once.
            let mut command = self.funk_command(&["image", "import", archive]);
            run_for(&mut command, b"", PATIENCE * 5).ok();
        }
    }

    /// Starts a daemon and waits until it serves.
    ///
    /// # Panics
    /// It does not.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// As [`start`](Self::start), with more arguments.
    ///
    /// # Panics
    /// It does not serve.
    #[must_use]
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::start_on(arguments, [None, None])
    }

    /// As [`start_with`](Self::start_with), with filesystems of their own of so many MiB, in
    /// memory, for its state and its root directory.
    ///
    /// # Panics
    /// It does not serve.
    #[must_use]
    pub fn start_on(arguments: &[&str], sizes: [Option<u32>; 2]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        environment::require_root();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("e2e-{}-{number}", std::process::id());
        // A socket's path may have 107 bytes, and the directory for temporary files
        // may have a longer one.
        let state = Path::new("/run").join(format!("refunction-{name}"));
        let root = std::env::temp_dir().join(format!("refunction-{name}"));
        for directory in [&state, &root] {
            fs::create_dir(directory).expect("a directory of its own");
        }
        for (directory, size) in [&state, &root].into_iter().zip(sizes) {
            if let Some(size) = size {
                let options = format!("size={size}m,mode=700");
                let (kind, none) = (Some("tmpfs"), MsFlags::empty());
                mount(kind, directory, kind, none, Some(options.as_str())).expect("a tmpfs");
            }
        }
        let arguments: Vec<String> = arguments.iter().map(|it| (*it).to_owned()).collect();
        let notifications = UnixDatagram::bind(state.join("notify.sock")).expect("a socket");
        notifications
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a time to look whether it lives");
        let (daemon, exited) = launch(&name, &state, &root, &arguments);
        let host = Self {
            name,
            state,
            root,
            arguments,
            notifications,
            daemon,
            exited: Mutex::new(exited),
            is_running: true,
        };
        host.wait_until_it_serves();
        host
    }

    /// Kills the daemon, leaves its containers as they are, and starts another.
    ///
    /// # Panics
    /// The other does not serve.
    pub fn restart_killed(&mut self, meanwhile: impl FnOnce(&Self)) {
        self.daemon.signal(Signal::SIGKILL);
        assert!(self.wait().is_some(), "refunctiond was killed");
        meanwhile(self);
        let (daemon, exited) = launch(&self.name, &self.state, &self.root, &self.arguments);
        self.daemon = daemon;
        self.exited = Mutex::new(exited);
        self.wait_until_it_serves();
    }

    /// Kills the daemon, and leaves all that it made as it is.
    ///
    /// # Panics
    /// It does not end.
    pub fn kill(&mut self) {
        self.daemon.signal(Signal::SIGKILL);
        assert!(self.wait().is_some(), "refunctiond was killed");
        self.is_running = false;
    }

    /// Has everything removed that this host's daemons made.
    #[track_caller]
    pub fn purge(&self, arguments: &[&str]) -> Answer {
        let mut command = Command::new(environment::file("REFUNCTIOND"));
        command
            .args(places(&self.name, &self.state, &self.root))
            .args(&self.arguments)
            .arg("--purge")
            .args(arguments);
        run(&mut command, b"")
    }

    /// Asserts that a purge left nothing.
    ///
    /// # Panics
    /// It did.
    #[track_caller]
    pub fn assert_purged(&self) {
        self.assert_ended();
        let names = |directory: &Path| -> Vec<String> {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            let names = entries.map(|it| it.file_name().to_string_lossy().into_owned());
            names.collect()
        };
        // What these tests have there.
        assert_eq!(names(&self.state), ["notify.sock"]);
        assert_eq!(names(&self.root), ["refunctiond.log"]);
    }

    /// It says so as it does to systemd.
    fn wait_until_it_serves(&self) {
        eventually("refunctiond says that it serves", || {
            assert!(
                self.daemon.is_alive(),
                "refunctiond ended: {}",
                self.last_words()
            );
            let mut said = [0; 64];
            self.notifications
                .recv(&mut said)
                .is_ok_and(|length| said[..length] == *b"READY=1")
        });
        self.funk(&["info"]).ok();
    }

    /// The directory for what outlives the containers.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All that the daemons of this host said.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.root.join("refunctiond.log")).unwrap_or_default()
    }

    /// The process of its containerd.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn containerd(&self) -> u32 {
        self.private_containerd().expect("a private containerd")
    }

    /// The same, if there is one: whoever's child it is by now.
    #[must_use]
    pub fn private_containerd(&self) -> Option<u32> {
        self.processes().into_iter().find(|pid| is_containerd(*pid))
    }

    /// What the daemon said last.
    #[must_use]
    pub fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    /// The daemon's process.
    #[must_use]
    pub fn daemon(&self) -> &Handle {
        &self.daemon
    }

    /// A container's id that is this host's alone.
    #[must_use]
    pub fn id(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    /// Runs `funk` against this daemon, with JSON as its output.
    #[track_caller]
    pub fn funk(&self, arguments: &[&str]) -> Answer {
        self.funk_reading(arguments, b"")
    }

    /// As [`funk`](Self::funk), with something on its standard input.
    #[track_caller]
    pub fn funk_reading(&self, arguments: &[&str], input: &[u8]) -> Answer {
        run(&mut self.funk_command(arguments), input)
    }

    fn funk_command(&self, arguments: &[&str]) -> Command {
        let target = format!("unix://{}", self.state.join("control.sock").display());
        let mut command = Command::new(environment::file("FUNK"));
        command
            .args(["--target", &target, "--output", "json"])
            .args(arguments);
        command
    }

    /// Makes a container and returns its id.
    #[track_caller]
    pub fn create(&self, name: &str, arguments: &[&str]) -> String {
        self.create_from("refunction/python", name, arguments)
    }

    /// As [`create`](Self::create), from another image.
    pub fn create_from(&self, image: &str, name: &str, arguments: &[&str]) -> String {
        let id = self.id(name);
        let mut all = vec!["create", "--image", image, "--name", &id];
        // Every rewind is looked at a second time, as in the tests by hand.
        all.extend(["--env", "REFUNCTION_VERIFY=1"]);
        all.extend(arguments);
        let created = self.funk(&all).ok();
        assert_eq!(created["id"], id, "{created}");
        id
    }

    /// Loads a function from its source.
    #[track_caller]
    pub fn load(&self, id: &str, source: &str) {
        let loaded = self
            .funk_reading(&["function", "-c", id, "-f", "-"], source.as_bytes())
            .ok();
        assert_eq!(loaded["loaded"], true, "{loaded}");
    }

    /// Calls the loaded function.
    #[track_caller]
    pub fn request(&self, id: &str, json: &str) -> Answer {
        self.funk_reading(&["request", "-c", id, "-r", "-"], json.as_bytes())
    }

    /// Asks this host's containerd itself.
    #[track_caller]
    pub fn ctr(&self, arguments: &[&str]) -> Answer {
        let mut command = Command::new("ctr");
        command
            .arg("--address")
            .arg(self.state.join("containerd/containerd.sock"))
            .args(["--namespace", &self.name])
            .args(arguments);
        run(&mut command, b"")
    }

    /// Asserts that no container is left, with the daemon still running.
    ///
    /// # Panics
    /// Something is.
    #[track_caller]
    pub fn assert_no_container_left(&self) {
        let listed = self.funk(&["list"]).ok();
        assert_eq!(listed["containers"], serde_json::json!([]));
        for kind in ["tasks", "containers"] {
            assert_eq!(self.ctr(&[kind, "ls", "--quiet"]).text.trim(), "", "{kind}");
        }
        let snapshots = self.ctr(&["snapshots", "ls"]).text;
        let active: Vec<&str> = snapshots
            .lines()
            .filter(|line| line.contains("Active"))
            .collect();
        assert!(active.is_empty(), "{active:?}");
        assert_eq!(self.mounts_below(), [] as [&str; 0]);
        let notes = fs::read_dir(Path::new(RUNC_NOTES).join(&self.name));
        assert_eq!(notes.map_or(0, Iterator::count), 0, "runc's notes");
        // The kernel empties a dead process's control group when it gets to it.
        eventually("the containers' control groups go", || {
            self.control_groups().is_empty()
        });
        eventually("the containers' shims and processes end", || {
            self.processes()
                .iter()
                .all(|pid| self.daemon.pid == *pid || is_containerd(*pid))
        });
        let named = self.named_files();
        assert!(named.is_empty(), "{named:?}");
    }

    /// Ends the daemon: its exit code.
    ///
    /// # Panics
    /// It did not end in time.
    #[track_caller]
    pub fn stop(&mut self) -> Option<i32> {
        self.daemon.signal(Signal::SIGTERM);
        let Some(status) = self.wait() else {
            panic!("refunctiond did not end: {}", self.last_words());
        };
        self.is_running = false;
        status.code()
    }

    /// Asserts that nothing runs or is mounted that this host started: to be called
    /// after its end.
    ///
    /// # Panics
    /// Something does or is.
    #[track_caller]
    pub fn assert_ended(&self) {
        eventually("all its processes end", || self.processes().is_empty());
        assert_eq!(self.mounts_below(), [] as [&str; 0]);
        eventually("its control groups go", || self.control_groups().is_empty());
        assert!(!self.state.join("control.sock").exists(), "the socket");
        let named = self.named_files();
        assert!(named.is_empty(), "{named:?}");
    }

    fn wait(&self) -> Option<ExitStatus> {
        let exited = self.exited.lock().unwrap_or_else(PoisonError::into_inner);
        exited.recv_timeout(PATIENCE).ok()
    }

    /// Mount points that are not the tests' own.
    fn mounts_below(&self) -> Vec<String> {
        let mut mounts = self.mounts();
        mounts.retain(|it| ![&self.state, &self.root].contains(&&PathBuf::from(it)));
        mounts
    }

    /// Mount points at and below our directories.
    fn mounts(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("the mounts");
        mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .filter(|point| {
                Path::new(point).starts_with(&self.state)
                    || Path::new(point).starts_with(&self.root)
            })
            .map(str::to_owned)
            .collect()
    }

    /// The directory for what lives as long as the containers do.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// What runs in containers now: their inits, and what is below those.
    #[must_use]
    pub fn inside(&self) -> [Vec<Handle>; 2] {
        let mut found = [Vec::new(), Vec::new()];
        for pid in self.processes() {
            let numbers = process::status(pid, "NSpid").unwrap_or_default();
            let numbers: Vec<&str> = numbers.split_whitespace().collect();
            // In the host's process namespace it has one number.
            if let ([_, .., own], Some(handle)) = (numbers.as_slice(), Handle::open(pid)) {
                found[usize::from(*own != "1")].push(handle);
            }
        }
        found
    }

    /// What there is of containers beside those that the daemon lists: nothing, once what is
    /// being removed is gone.
    ///
    /// # Panics
    /// The daemon does not answer.
    #[must_use]
    pub fn strays(&self) -> Vec<String> {
        // Looked at first: what is made meanwhile is listed then.
        let ctr = |arguments: &[&str]| self.ctr(arguments).text;
        let mut found = Vec::new();
        for kind in ["tasks", "containers"] {
            let listed = ctr(&[kind, "ls", "--quiet"]);
            found.extend(listed.lines().map(|it| (kind, it.to_owned())));
        }
        for line in ctr(&["snapshots", "ls"]).lines() {
            if line.contains("Active") {
                let name = line.split_whitespace().next().unwrap_or_default();
                found.push(("snapshot", name.to_owned()));
            }
        }
        for mount in self.mounts_below() {
            found.push(("mount", mount));
        }
        for group in self.control_groups() {
            found.push(("control group", group.display().to_string()));
        }
        let named = |directory: PathBuf, what, found: &mut Vec<_>| {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            let names = entries.map(|it| it.file_name().to_string_lossy().into_owned());
            found.extend(names.map(|it| (what, it)));
        };
        named(self.state.join("containers"), "directory", &mut found);
        let notes = self.state.join("containerd/runc").join(&self.name);
        named(notes, "runc's note", &mut found);
        for pid in self.processes() {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains("containerd-shim") {
                found.push(("shim", line));
            }
        }
        let listed = self.funk(&["list"]).ok();
        let listed = listed["containers"].as_array().expect("a list").clone();
        let known = |what: &str| {
            let mut ids = listed.iter().filter_map(|it| it["id"].as_str());
            ids.any(|id| what.contains(id))
        };
        found.retain(|(_, what)| !known(what));
        found
            .into_iter()
            .map(|(kind, what)| format!("{kind} {what}"))
            .collect()
    }

    /// Asserts that all [strays](Self::strays) go.
    ///
    /// # Panics
    /// They do not.
    #[track_caller]
    pub fn assert_no_stray(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let strays = self.strays();
            if strays.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "{strays:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Processes that mention our directories in their arguments, their
    /// descendants, and whatever is in a control group of our containers.
    fn processes(&self) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        for pid in process::all() {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let arguments = String::from_utf8_lossy(&arguments).into_owned();
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            let mentions = [&self.state, &self.root]
                .iter()
                .any(|directory| arguments.contains(&*directory.to_string_lossy()));
            if pid != std::process::id() && (mentions || groups.contains(&self.name)) {
                found.insert(pid);
                found.extend(process::descendants(pid));
            }
        }
        found
    }

    /// Control groups of our containers.
    fn control_groups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        find_named("/sys/fs/cgroup".as_ref(), &self.name, 4, &mut found);
        found
    }

    /// Files and directories that are called after one of our containers.
    fn named_files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for directory in [&self.state, &self.root] {
            find_named(directory, &format!("{}-", self.name), 7, &mut found);
        }
        found
    }
}

/// What tells a daemon where its places are.
fn places(name: &str, state: &Path, root: &Path) -> Vec<OsString> {
    let socket = state.join("control.sock");
    let named: [(&str, &OsStr); 4] = [
        ("--state-dir", state.as_os_str()),
        ("--root-dir", root.as_os_str()),
        ("--socket", socket.as_os_str()),
        ("--namespace", OsStr::new(name)),
    ];
    let named = named.map(|(option, value)| [OsString::from(option), value.to_owned()]);
    let private = OsString::from("--private-containerd");
    std::iter::once(private)
        .chain(named.into_iter().flatten())
        .collect()
}

/// Starts a daemon: its process, and its end.
fn launch(
    name: &str,
    state: &Path,
    root: &Path,
    arguments: &[String],
) -> (Handle, Receiver<ExitStatus>) {
    let log = File::options()
        .create(true)
        .append(true)
        .open(root.join("refunctiond.log"))
        .expect("a log");
    let (sender, exited) = mpsc::channel();
    let (started, pid) = mpsc::channel();
    let mut command = Command::new("setpriv");
    command
        // If the tests are killed outright, the daemon still ends.
        .args(["--pdeathsig", "SIGTERM"])
        .arg(environment::file("REFUNCTIOND"))
        .args(places(name, state, root))
        .args(arguments)
        .env("NO_COLOR", "1")
        .env("NOTIFY_SOCKET", state.join("notify.sock"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log)
        .process_group(0);
    // The signal comes when the thread that started it ends, so that thread
    // stays until the daemon has ended.
    std::thread::spawn(move || {
        let child = command.spawn();
        let pid = child.as_ref().map(std::process::Child::id);
        let _ = started.send(pid.map_err(ToString::to_string));
        if let Ok(status) = child.and_then(|mut child| child.wait()) {
            let _ = sender.send(status);
        }
    });
    let pid = pid
        .recv_timeout(PATIENCE)
        .expect("it was started")
        .expect("setpriv and refunctiond can be run");
    (Handle::open(pid).expect("it was not reaped yet"), exited)
}

fn is_containerd(pid: u32) -> bool {
    process::status(pid, "Name").is_some_and(|name| name == "containerd")
}

/// Everything below a directory whose own name holds `name`.
fn find_named(directory: &Path, name: &str, depth: usize, found: &mut Vec<PathBuf>) {
    // It may go while it is looked at, and then there is nothing in it.
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().contains(name) {
            found.push(entry.path());
        }
        // Unpacked images are large, and nothing in them is called after a container.
        if depth > 0
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
            && entry.file_name() != "snapshots"
            && entry.file_name() != "rootfs"
        {
            find_named(&entry.path(), name, depth - 1, found);
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("refunctiond's last words:\n{}", self.last_words());
        }
        if self.is_running {
            self.daemon.signal(Signal::SIGTERM);
            if self.wait().is_none() {
                self.daemon.signal(Signal::SIGKILL);
                self.wait();
            }
        }
        // What a daemon that failed the test left behind.
        let handles: Vec<Handle> = self
            .processes()
            .into_iter()
            .filter_map(Handle::open)
            .collect();
        for handle in &handles {
            handle.signal(Signal::SIGKILL);
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while handles.iter().any(Handle::is_alive) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        for point in self.mounts().iter().rev() {
            let _ = umount2(point.as_str(), MntFlags::MNT_DETACH);
        }
        for group in self.control_groups().iter().rev() {
            let _ = fs::remove_dir(group);
        }
        for directory in [
            &self.state,
            &self.root,
            &Path::new(RUNC_NOTES).join(&self.name),
        ] {
            if let Err(error) = fs::remove_dir_all(directory)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                eprintln!("removing {}: {error}", directory.display());
            }
        }
    }
}
