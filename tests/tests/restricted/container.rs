//! Containers by runc, with as much taken from them as a test says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use refunction_tests::http::Connection;
use refunction_tests::peer::Peer;
use refunction_tests::supervisor::collect;
use refunction_tests::{PATIENCE, environment, eventually};
use serde_json::{Value, json};

use crate::image;

/// What Docker and containerd give a container.
pub const DEFAULT: &str = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP \
                       SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE";

/// Of these it takes.
pub const NEEDED: &str = "CHOWN DAC_OVERRIDE FOWNER KILL SETGID SETUID";

/// What the controller's containers have, which is `RuntimeDefault` (see its own tests).
const ALLOWED: &str = include_str!("../../../controller/src/container/seccomp_allowed.txt");

/// A user that the image does not know.
pub const USER: u32 = 4242;

/// How a container is restricted.
pub struct Limits<'a> {
    /// Whose image it is made of.
    pub runtime: &'a str,
    pub user: u32,
    pub capabilities: &'a str,
    pub read_only: bool,
    pub no_new_privileges: bool,
    /// Where a tmpfs is mounted.
    pub writable: &'a [&'a str],
    /// What comes before the supervisor.
    pub init: bool,
    /// What its command names; if something, the host's network is its own, too.
    pub command: &'a [&'a str],
    pub env: &'a [&'a str],
    /// Changes the root before it is entered.
    pub prepare: fn(&Path),
}

/// An ordinary container, with the seccomp profile that all of them have.
pub const ORDINARY: Limits<'_> = Limits {
    runtime: "python",
    user: 0,
    capabilities: DEFAULT,
    read_only: false,
    no_new_privileges: false,
    writable: &[],
    init: false,
    command: &[],
    env: &[],
    prepare: |_| {},
};

/// A container, and the peer on its supervisor's streams. It goes with its owner.
pub struct Container {
    pub peer: Option<Peer>,
    runc: Child,
    errors: Arc<Mutex<String>>,
    name: String,
    place: PathBuf,
}

impl Container {
    pub fn run(limits: &Limits<'_>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        environment::require_root();
        let lower = image::of(limits.runtime);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("refunction-restricted-{}-{number}", std::process::id());
        let place = std::env::temp_dir().join(&name);
        let [upper, work, root] = ["top/upper", "top/work", "root"].map(|it| place.join(it));
        fs::create_dir_all(place.join("top")).expect("a directory");
        // The layer that is written to must not be an overlay itself.
        mount_on("tmpfs", &place.join("top"), "tmpfs", "");
        for directory in [&upper, &work, &root] {
            fs::create_dir_all(directory).expect("a directory");
        }
        let layers = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            upper.display(),
            work.display()
        );
        mount_on("overlay", &root, "overlay", &layers);
        (limits.prepare)(&root);
        let config = place.join("config.json");
        fs::write(config, configuration(limits, &name).to_string()).expect("written");
        let mut runc = Command::new("runc")
            .args(["run", "--bundle"])
            .arg(&place)
            .arg(&name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starting runc");
        let errors = collect(runc.stderr.take());
        Self {
            peer: None,
            runc,
            errors,
            name,
            place,
        }
    }

    /// With whoever speaks to it on its streams.
    pub fn spawn(limits: &Limits<'_>) -> Self {
        let mut container = Self::run(limits);
        let output = container.runc.stdout.take().expect("a pipe");
        let input = container.runc.stdin.take().expect("a pipe");
        container.peer = Some(Peer::new(Box::new(output), input));
        container
    }

    /// With a function of its own; and the port that it is called on.
    #[track_caller]
    pub fn serve(limits: &Limits<'_>) -> (Self, u16) {
        let container = Self::run(limits);
        let mut port = None;
        eventually("it says where it listens", || {
            let errors = container.errors();
            let (whole, _) = errors.rsplit_once('\n').unwrap_or_default();
            let mut lines = whole.lines();
            let line = lines.find(|line| line.contains("listening for HTTP"));
            port = line.and_then(|line| line.rsplit_once(':')?.1.parse().ok());
            port.is_some()
        });
        let port = port.expect("a port");
        eventually("it is ready", || {
            let answer = Connection::to(port).ask("GET", "/_/ready", &[], b"");
            answer.status == 200
        });
        (container, port)
    }

    #[track_caller]
    pub fn start(limits: &Limits<'_>) -> Self {
        let mut container = Self::spawn(limits);
        let started = container.peer().receive_within(PATIENCE);
        let is_started = started.as_ref().is_some_and(|it| it["type"] == "started");
        assert!(is_started, "{started:?}; it said: {}", container.errors());
        container
    }

    pub fn peer(&mut self) -> &mut Peer {
        self.peer.as_mut().expect("it was not ended")
    }

    pub fn errors(&self) -> String {
        self.errors.lock().map(|it| it.clone()).unwrap_or_default()
    }

    /// What it said of itself by the time that it served.
    #[track_caller]
    pub fn assert_lines(&self, expected: &[&[&str]]) {
        if !expected.is_empty() {
            eventually("it has said so", || self.errors().ends_with('\n'));
        }
        let errors = self.errors();
        let lines: Vec<&str> = errors.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{errors}");
        for (line, words) in lines.iter().zip(expected) {
            for word in *words {
                assert!(line.contains(word), "{word:?} is not in {line:?}");
            }
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.peer = None;
        let _ = Command::new("runc")
            .args(["delete", "--force", &self.name])
            .stderr(Stdio::null())
            .status();
        let _ = self.runc.wait();
        for place in ["root", "top"] {
            let _ = umount2(&self.place.join(place), MntFlags::MNT_DETACH);
        }
        let _ = fs::remove_dir_all(&self.place);
    }
}

fn mount_on(source: &str, place: &Path, kind: &str, options: &str) {
    mount(
        Some(source),
        place,
        Some(kind),
        MsFlags::empty(),
        Some(options),
    )
    .unwrap_or_else(|errno| panic!("mounting {kind} on {}: {errno}", place.display()));
}

/// The container's specification, as runc takes it.
fn configuration(limits: &Limits<'_>, name: &str) -> Value {
    let capabilities: Vec<String> = limits
        .capabilities
        .split_whitespace()
        .map(|it| format!("CAP_{it}"))
        .collect();
    // Those that execute a program with another user than root have none of them.
    let held = if limits.user == 0 {
        capabilities.clone()
    } else {
        Vec::new()
    };
    let supervisor = "/usr/local/bin/refunction-supervisor";
    let arguments = match limits.init {
        // Its input is not what a shell gives a program in the background.
        true => json!([
            "/bin/sh",
            "-c",
            format!("exec 3<&0; {supervisor} <&3 & wait")
        ]),
        false => Value::from_iter([&[supervisor], limits.command].concat()),
    };
    let mut env = vec![
        "PATH=/usr/local/bin:/usr/bin:/bin",
        "FUNCTION_ROOT=/var/task",
        "LANG=C.UTF-8",
        "REFUNCTION_VERIFY=1",
    ];
    env.extend(limits.env);
    let tmpfs = |place: &str, mode: &str| {
        json!({"destination": place, "type": "tmpfs", "source": "tmpfs",
               "options": ["nosuid", "nodev", mode]})
    };
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc"}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
               "options": ["nosuid", "strictatime", "mode=755"]}),
        tmpfs("/dev/shm", "mode=1777"),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs",
               "options": ["nosuid", "noexec", "nodev", "ro"]}),
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
               "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}),
    ];
    mounts.extend(
        limits
            .writable
            .iter()
            .map(|place| tmpfs(place, "mode=1777")),
    );
    let mut namespaces = vec!["pid", "ipc", "uts", "mount"];
    if limits.command.is_empty() {
        namespaces.push("network");
    }
    let allowed: Vec<&str> = ALLOWED
        .split_whitespace()
        .chain(["arch_prctl", "chroot", "ptrace"])
        .collect();
    json!({
        "ociVersion": "1.0.2",
        "root": {"path": "root", "readonly": limits.read_only},
        "hostname": "restricted",
        "process": {
            "terminal": false,
            "user": {"uid": limits.user, "gid": limits.user},
            "args": arguments,
            "env": env,
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": held, "permitted": held},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": limits.no_new_privileges,
        },
        "mounts": mounts,
        "linux": {
            "cgroupsPath": format!("/{name}"),
            "namespaces": Vec::from_iter(namespaces.iter().map(|kind| json!({"type": kind}))),
            "resources": {"memory": {"limit": 256 << 20}},
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO",
                "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [
                    {"names": allowed, "action": "SCMP_ACT_ALLOW"},
                    {"names": ["socket"], "action": "SCMP_ACT_ALLOW",
                     "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}]},
                    {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
                     "args": [{"index": 0, "value": 0x7e02_0000, "valueTwo": 0,
                               "op": "SCMP_CMP_MASKED_EQ"}]},
                    {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
                ],
            },
        },
    })
}
