//! A containerd that speaks the CRI, with a refunctiond in front of it, and what is to
//! be gone when they are.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::host::{Answer, run};
use crate::{environment, eventually, process};

/// The image that a pod's sandbox is made of.
const PAUSE: &str = "docker.io/refunction/pause:1";

/// The image of the pods' containers.
pub const PYTHON: &str = "docker.io/refunction/python:latest";

/// Both daemons, and everything that is theirs alone. Dropping it ends and removes it.
pub struct Node {
    name: String,
    state: PathBuf,
    root: PathBuf,
    containerd: Option<Child>,
    refunctiond: Option<Child>,
}

impl Node {
    /// Starts both.
    ///
    /// # Panics
    /// Something of it does not start.
    #[must_use]
    pub fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        environment::require_root();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cri-{}-{number}", std::process::id());
        let mut node = Self {
            state: Path::new("/run").join(format!("refunction-{name}")),
            // On the disk that images usually are on: a temporary directory may be one
            // that no overlay can lie on.
            root: environment::kept().join(&name),
            name,
            containerd: None,
            refunctiond: None,
        };
        for directory in [&node.state, &node.root, &node.root.join("cni")] {
            fs::create_dir(directory).expect("a directory of its own");
        }
        node.configure(number);
        node.start_containerd();
        let pause = node.pause();
        for archive in [pause, environment::image("python")] {
            let archive = archive.to_str().expect("a path in UTF-8").to_owned();
            let imported = node.ctr(&["images", "import", &archive]);
            assert_eq!(imported.code, 0, "{imported:?}");
        }
        node.start_refunctiond();
        node
    }

    fn configure(&self, number: u32) {
        let (state, root) = (self.state.display(), self.root.display());
        let configuration = format!(
            r#"version = 2
root = "{root}/data"
state = "{state}/run"
[grpc]
  address = "{state}/containerd.sock"
[ttrpc]
  address = "{state}/containerd.ttrpc.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{root}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  # A host that may not lower it has every sandbox fail otherwise.
  restrict_oom_score_adj = true
  sandbox_image = "{PAUSE}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "{state}/runc"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{root}/cni"
"#
        );
        fs::write(self.root.join("containerd.toml"), configuration).expect("its configuration");
        // A pair of interfaces for each pod, and no bridge.
        let (high, low) = (std::process::id() % 250, number % 16 * 16);
        let network = format!(
            r#"{{"cniVersion": "0.4.0", "name": "{}", "plugins": [{{"type": "ptp", "ipam":
            {{"type": "host-local", "dataDir": "{state}/ipam", "subnet": "10.231.{high}.{low}/28"}}}}]}}"#,
            self.name
        );
        fs::write(self.root.join("cni/10-pods.conflist"), network).expect("its network");
    }

    /// An image with nothing but a program that waits, for no registry has to be asked.
    fn pause(&self) -> PathBuf {
        let place = self.root.join("pause");
        fs::create_dir(&place).expect("a directory");
        fs::write(
            place.join("pause.c"),
            "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n",
        )
        .expect("a program");
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.arg("-ec").arg(script).current_dir(&place);
            let answer = run(&mut command, b"");
            assert_eq!(answer.code, 0, "{answer:?}");
            answer.text.trim().to_owned()
        };
        shell("cc -static -Os -o pause pause.c && tar -cf layer.tar pause");
        let digest = shell("sha256sum layer.tar | cut -d' ' -f1");
        let configuration = serde_json::json!({
            "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" },
            "os": "linux",
            "config": {"Entrypoint": ["/pause"]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
        });
        let manifest = serde_json::json!([
            {"Config": "config.json", "RepoTags": ["refunction/pause:1"], "Layers": ["layer.tar"]}
        ]);
        for (name, document) in [("config.json", configuration), ("manifest.json", manifest)] {
            fs::write(place.join(name), document.to_string()).expect("a document");
        }
        shell("tar -cf pause.tar manifest.json config.json layer.tar");
        place.join("pause.tar")
    }

    fn daemon(&self, program: &Path, log: &str) -> Command {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.root.join(log))
            .expect("a log");
        // In a group of its own; tests that are killed outright leave it behind.
        let mut command = Command::new(program);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .env("NO_COLOR", "1")
            .process_group(0);
        command
    }

    /// Starts containerd, and waits until it answers.
    ///
    /// # Panics
    /// It does not.
    pub fn start_containerd(&mut self) {
        let child = self
            .daemon(Path::new("containerd"), "containerd.log")
            .arg("--config")
            .arg(self.root.join("containerd.toml"))
            .spawn()
            .expect("containerd can be run");
        self.containerd = Some(child);
        eventually("containerd answers", || self.ctr(&["version"]).code == 0);
    }

    fn refunctiond(&self, log: &str) -> Command {
        let mut command = self.daemon(&environment::file("REFUNCTIOND"), log);
        command
            .arg("--containerd-address")
            .arg(self.containerd_socket())
            .arg("--state-dir")
            .arg(self.state.join("state"))
            .arg("--root-dir")
            .arg(self.root.join("lib"))
            .arg("--socket")
            .arg(self.state.join("control.sock"))
            .args(["--namespace", &self.name])
            .arg("--cri-socket")
            .arg(self.cri_socket());
        command
    }

    /// Has everything removed that refunctiond made.
    #[track_caller]
    pub fn purge(&self, arguments: &[&str]) -> Answer {
        let mut command = self.refunctiond("purge.log");
        command.arg("--purge").args(arguments);
        run(&mut command, b"")
    }

    /// Asks containerd directly, about what refunctiond makes by itself.
    #[track_caller]
    pub fn ctr_of_ours(&self, arguments: &[&str]) -> Answer {
        let mut command = Command::new("ctr");
        command
            .arg("--address")
            .arg(self.containerd_socket())
            .args(["--namespace", &self.name])
            .args(arguments);
        run(&mut command, b"")
    }

    /// What is left in refunctiond's directories, and of its sockets.
    #[must_use]
    pub fn places(&self) -> Vec<PathBuf> {
        let all = [
            self.state.join("state"),
            self.root.join("lib"),
            self.state.join("control.sock"),
            self.cri_socket(),
        ];
        all.into_iter().filter(|it| it.exists()).collect()
    }

    /// Starts refunctiond in front of it, and waits until it serves kubelet.
    ///
    /// # Panics
    /// It does not.
    pub fn start_refunctiond(&mut self) {
        let mut child = self
            .refunctiond("refunctiond.log")
            .spawn()
            .expect("refunctiond can be run");
        eventually("refunctiond serves", || {
            assert!(
                child.try_wait().expect("its state").is_none(),
                "refunctiond ended: {}",
                self.log("refunctiond.log")
            );
            std::os::unix::net::UnixStream::connect(self.cri_socket()).is_ok()
        });
        self.refunctiond = Some(child);
    }

    /// Ends refunctiond, with a signal of one's choice.
    ///
    /// # Panics
    /// It does not end.
    pub fn end_refunctiond(&mut self, signal: Signal) {
        end(self.refunctiond.take(), signal);
    }

    /// Ends containerd; what it started goes on.
    ///
    /// # Panics
    /// It does not end.
    pub fn end_containerd(&mut self, signal: Signal) {
        end(self.containerd.take(), signal);
    }

    /// containerd's own socket.
    #[must_use]
    pub fn containerd_socket(&self) -> PathBuf {
        self.state.join("containerd.sock")
    }

    /// refunctiond's, for kubelet.
    #[must_use]
    pub fn cri_socket(&self) -> PathBuf {
        self.state.join("cri.sock")
    }

    /// Where refunctiond keeps what it shares with kubelet's containers.
    #[must_use]
    pub fn shared(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.state.join("state/cri")).expect("the directory");
        entries.flatten().map(|entry| entry.path()).collect()
    }

    /// A directory for logs and the like.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        &self.root
    }

    /// The end of a log.
    #[must_use]
    pub fn log(&self, name: &str) -> String {
        let log = fs::read_to_string(self.root.join(name)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Asks containerd directly, about what kubelet makes.
    #[track_caller]
    pub fn ctr(&self, arguments: &[&str]) -> Answer {
        self.ctr_at(&self.containerd_socket(), arguments)
    }

    /// As [`ctr`](Self::ctr), through a socket.
    #[track_caller]
    pub fn ctr_at(&self, socket: &Path, arguments: &[&str]) -> Answer {
        let mut command = Command::new("ctr");
        command
            .arg("--address")
            .arg(socket)
            .args(["--namespace", "k8s.io"])
            .args(arguments);
        run(&mut command, b"")
    }

    /// Asks refunctiond.
    #[track_caller]
    pub fn funk(&self, arguments: &[&str], input: &str) -> Answer {
        let target = format!("unix://{}", self.state.join("control.sock").display());
        let mut command = Command::new(environment::file("FUNK"));
        command
            .args(["--target", &target, "--output", "json"])
            .args(arguments);
        run(&mut command, input.as_bytes())
    }

    /// Asserts that the pods left nothing on the host.
    ///
    /// # Panics
    /// They did.
    #[track_caller]
    pub fn assert_no_pod_left(&self) {
        for kind in ["tasks", "containers"] {
            assert_eq!(self.ctr(&[kind, "ls", "--quiet"]).text.trim(), "", "{kind}");
        }
        assert_eq!(self.shared(), [] as [&Path; 0]);
        assert_eq!(self.addresses(), [] as [String; 0]);
        eventually("what was mounted for pods goes", || {
            self.mounts().is_empty()
        });
        eventually("the pods' processes end", || self.shims().is_empty());
    }

    /// The addresses that pods have: given back with a pod's interfaces.
    fn addresses(&self) -> Vec<String> {
        let given = fs::read_dir(self.state.join("ipam").join(&self.name));
        given
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.starts_with("10."))
            .collect()
    }

    fn containers(&self) -> Vec<String> {
        let listed = self.ctr(&["containers", "ls", "--quiet"]).text;
        listed.lines().map(str::to_owned).collect()
    }

    /// The network namespaces of the pods that these containers are in.
    fn networks(&self, containers: &[String]) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for id in containers {
            let info = self.ctr(&["containers", "info", id]).json;
            let namespaces = info["Spec"]["linux"]["namespaces"].as_array().cloned();
            let network = namespaces
                .into_iter()
                .flatten()
                .find(|it| it["type"] == "network");
            found.extend(network.and_then(|it| Some(it["path"].as_str()?.to_owned())));
        }
        found
    }

    /// Mount points of pods and containers.
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

    /// The processes that look after containers, and the containers' own.
    fn shims(&self) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        for pid in process::all() {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let arguments = String::from_utf8_lossy(&arguments).into_owned();
            if arguments.contains("containerd-shim")
                && arguments.contains(&*self.state.to_string_lossy())
            {
                found.insert(pid);
                found.extend(process::descendants(pid));
            }
        }
        found
    }
}

fn end(child: Option<Child>, signal: Signal) {
    let Some(mut child) = child else { return };
    let pid = i32::try_from(child.id()).expect("a process id");
    let _ = kill(Pid::from_raw(pid), signal);
    let mut ended = None;
    eventually("a daemon ends", || {
        ended = child.try_wait().expect("its state");
        ended.is_some()
    });
}

impl Drop for Node {
    fn drop(&mut self) {
        // A test that failed leaves pods; they end with those who look after them.
        let left = match self.containerd {
            Some(_) if std::thread::panicking() => self.containers(),
            _ => Vec::new(),
        };
        let networks = self.networks(&left);
        for pid in self.shims() {
            let _ = kill(
                Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX)),
                Signal::SIGKILL,
            );
        }
        let daemons = [self.refunctiond.take(), self.containerd.take()];
        for mut daemon in daemons.into_iter().flatten() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        for point in self.mounts().into_iter().rev() {
            let _ = umount2(point.as_str(), MntFlags::MNT_DETACH);
        }
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten();
        for hierarchy in hierarchies.flatten() {
            for id in &left {
                let _ = fs::remove_dir(hierarchy.path().join("k8s.io").join(id));
                // With one hierarchy it lies here itself.
                let _ = fs::remove_dir(hierarchy.path().join(id));
            }
        }
        // Their interfaces go with them.
        for network in networks.iter().filter(|path| path.contains("/netns/cni-")) {
            let _ = umount2(network.as_str(), MntFlags::MNT_DETACH);
            let _ = fs::remove_file(network);
        }
        if std::thread::panicking() {
            eprintln!("refunctiond said:\n{}", self.log("refunctiond.log"));
        }
        for directory in [&self.state, &self.root] {
            let _ = fs::remove_dir_all(directory);
        }
    }
}

/// What a container's process says when it is executed or attached to at a URL that the
/// CRI gave out: its standard output, over a web socket.
///
/// # Panics
/// Nobody answers there as the streaming server does.
#[must_use]
pub fn stream(url: &str) -> String {
    stream_telling(url, |_| {})
}

/// The same, and says what has come whenever more does.
///
/// # Panics
/// As [`stream`].
#[must_use]
pub fn stream_telling(url: &str, mut tell: impl FnMut(&str)) -> String {
    use std::io::{Read, Write};
    let rest = url.strip_prefix("http://").expect("a plain URL");
    let (address, path) = rest.split_once('/').expect("a path");
    let mut peer = TcpStream::connect(address).expect("the streaming server");
    peer.set_read_timeout(Some(crate::PATIENCE))
        .expect("a limit");
    write!(
        peer,
        "GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n"
    )
    .expect("a request");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        peer.read_exact(&mut byte).expect("an answer");
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let mut output = Vec::new();
    loop {
        let mut frame = [0; 2];
        peer.read_exact(&mut frame).expect("a frame");
        let length = match frame[1] & 0x7f {
            126 => {
                let mut length = [0; 2];
                peer.read_exact(&mut length).expect("a length");
                usize::from(u16::from_be_bytes(length))
            }
            127 => panic!("a frame of more than 64 KiB"),
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        peer.read_exact(&mut payload).expect("a payload");
        match (frame[0] & 0xf, payload.split_first()) {
            // Channel 1 is standard output, 3 the end and its cause.
            (2, Some((1, data))) => {
                output.extend(data);
                tell(&String::from_utf8_lossy(&output));
            }
            (2, Some((3, _))) | (8, _) => {
                return String::from_utf8_lossy(&output).into_owned();
            }
            _ => {}
        }
    }
}
