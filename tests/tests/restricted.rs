//! Containers with less than an ordinary one has, or with several workers, each made by runc of
//! the image: what works in them, what does not, and that the supervisor says so in one line.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use refunction_tests::http::Connection;
use refunction_tests::peer::Peer;
use refunction_tests::{PATIENCE, environment, eventually};
use serde_json::{Value, json};

/// What Docker and containerd give a container.
const DEFAULT: &str = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP \
                       SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE";

/// Of these it takes.
const NEEDED: &str = "CHOWN DAC_OVERRIDE FOWNER KILL SETGID SETUID";

/// What the controller's containers have, which is `RuntimeDefault` (see its own tests).
const ALLOWED: &str = include_str!("../../controller/src/container/seccomp_allowed.txt");

/// A user that the image does not know.
const USER: u32 = 4242;

/// How a container is restricted.
struct Limits<'a> {
    user: u32,
    capabilities: &'a str,
    read_only: bool,
    no_new_privileges: bool,
    /// Where a tmpfs is mounted.
    writable: &'a [&'a str],
    /// What comes before the supervisor.
    init: bool,
    /// What its command names; if something, the host's network is its own, too.
    command: &'a [&'a str],
    env: &'a [&'a str],
    /// Changes the root before it is entered.
    prepare: fn(&Path),
}

/// An ordinary container, with the seccomp profile that all of them have.
const ORDINARY: Limits<'_> = Limits {
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

/// The image's files, unpacked once for each version of the image.
fn image() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let archive = environment::image("python");
        let status = fs::metadata(&archive).expect("an archive");
        let kept = archive.with_file_name("unpacked");
        let name = format!("{}-{}", status.size(), status.mtime());
        let root = kept.join(&name);
        if !root.is_dir() {
            // Of versions that are no more.
            let _ = fs::remove_dir_all(&kept);
            let unfinished = kept.join(format!("{name}-{}", std::process::id()));
            unpack(&archive, &unfinished);
            fs::rename(unfinished.join("root"), &root).expect("kept");
            fs::remove_dir_all(unfinished).expect("removed");
        }
        root
    })
}

fn unpack(archive: &Path, to: &Path) {
    let (layers, root) = (to.join("layers"), to.join("root"));
    for directory in [&layers, &root] {
        fs::create_dir_all(directory).expect("a directory");
    }
    let tar = |archive: &Path, to: &Path| {
        let mut command = Command::new("tar");
        command
            .arg("--extract")
            .arg("--file")
            .arg(archive)
            .arg("--directory")
            .arg(to);
        assert!(command.status().expect("tar").success(), "{command:?}");
    };
    tar(archive, &layers);
    let manifest = fs::read(layers.join("manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    for layer in manifest[0]["Layers"].as_array().expect("layers") {
        tar(&layers.join(layer.as_str().expect("a name")), &root);
        remove_whiteouts(&root);
    }
}

/// A layer says by a name what it takes away from those below.
fn remove_whiteouts(directory: &Path) {
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let (name, kind) = (entry.file_name(), entry.file_type().expect("its kind"));
        if let Some(gone) = name.to_str().and_then(|name| name.strip_prefix(".wh.")) {
            let gone = directory.join(gone);
            let _ = fs::remove_dir_all(&gone).or_else(|_| fs::remove_file(&gone));
            fs::remove_file(entry.path()).expect("removed");
        } else if kind.is_dir() && entry.path().is_dir() {
            // One that was taken away may still be listed.
            remove_whiteouts(&entry.path());
        }
    }
}

/// A container, and the peer on its supervisor's streams. It goes with its owner.
struct Container {
    peer: Option<Peer>,
    runc: Child,
    errors: Arc<Mutex<String>>,
    name: String,
    place: PathBuf,
}

impl Container {
    fn run(limits: &Limits<'_>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        environment::require_root();
        let lower = image();
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
        let errors = collect(runc.stderr.take().expect("a pipe"));
        Self {
            peer: None,
            runc,
            errors,
            name,
            place,
        }
    }

    /// With whoever speaks to it on its streams.
    fn spawn(limits: &Limits<'_>) -> Self {
        let mut container = Self::run(limits);
        let output = container.runc.stdout.take().expect("a pipe");
        let input = container.runc.stdin.take().expect("a pipe");
        container.peer = Some(Peer::new(Box::new(output), input));
        container
    }

    /// With a function of its own; and the port that it is called on.
    #[track_caller]
    fn serve(limits: &Limits<'_>) -> (Self, u16) {
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
    fn start(limits: &Limits<'_>) -> Self {
        let mut container = Self::spawn(limits);
        let started = container.peer().receive_within(PATIENCE);
        let is_started = started.as_ref().is_some_and(|it| it["type"] == "started");
        assert!(is_started, "{started:?}; it said: {}", container.errors());
        container
    }

    fn peer(&mut self) -> &mut Peer {
        self.peer.as_mut().expect("it was not ended")
    }

    fn errors(&self) -> String {
        self.errors.lock().map(|it| it.clone()).unwrap_or_default()
    }

    /// What it said of itself by the time that it served.
    #[track_caller]
    fn assert_lines(&self, expected: &[&[&str]]) {
        let errors = self.errors();
        let lines: Vec<&str> = errors.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{errors}");
        for (line, words) in lines.iter().zip(expected) {
            for word in *words {
                assert!(line.contains(word), "{word:?} is not in {line:?}");
            }
        }
    }

    /// Has this done by a tenant, and then all put back in place.
    #[track_caller]
    fn tenant(&mut self, source: &str) -> Value {
        let answer = self.tenant_who_stays(source);
        let restored = self.peer().restore();
        assert_eq!(restored.method, "rewind", "{}", restored.report);
        answer
    }

    #[track_caller]
    fn tenant_who_stays(&mut self, source: &str) -> Value {
        self.peer().load(OBEY);
        self.peer().call(&json!({ "do": source }))
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

fn collect(mut stream: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let to = Arc::clone(&text);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            if let Ok(mut text) = to.lock() {
                text.push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        }
    });
    text
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

/// Does what it is told.
const OBEY: &str = r#"
import os, subprocess, sys, tempfile

def listing(*places):
    return {place: sorted(os.listdir(place)) for place in places}

def status(name):
    lines = open('/proc/self/status').read().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(name + ':'))

def leave(place):
    os.makedirs(place + '/deep/er')
    open(place + '/deep/er/file', 'w').close()
    open(place + '/secret', 'w').write('hunter2')
    os.chmod(place + '/deep/er', 0)
    os.chmod(place + '/deep', 0)

def fails(act):
    try: act()
    except OSError as error: return os.strerror(error.errno)
    return False

def main(args):
    scope = dict(globals(), answer=None)
    exec(args["do"], scope)
    return scope["answer"]
"#;

/// Leaves files wherever it can, and a process.
const LEAVE: &str = "
for place in ('/tmp', '/var/tmp', '/dev/shm'): leave(place)
subprocess.Popen(['/bin/sleep', '1000'], start_new_session=True)
answer = [os.getuid(), status('CapEff'), status('Seccomp'), status('NoNewPrivs')]";

const LOOK: &str = "answer = listing('/tmp', '/var/tmp', '/dev/shm')";

fn nothing() -> Value {
    json!({"/tmp": [], "/var/tmp": [], "/dev/shm": []})
}

const NO_CAPABILITIES: &str = "0000000000000000";

#[test]
fn six_capabilities_are_enough() {
    let mut container = Container::start(&Limits {
        capabilities: NEEDED,
        no_new_privileges: true,
        ..ORDINARY
    });
    container.assert_lines(&[]);
    for _ in 0..3 {
        let seen = container.tenant(LEAVE);
        assert_eq!(seen, json!([64_533, NO_CAPABILITIES, "2", "1"]));
        assert_eq!(container.tenant(LOOK), nothing());
    }
}

#[test]
fn root_without_one_of_them_is_refused_by_its_name() {
    for missing in NEEDED.split_whitespace() {
        let others: Vec<&str> = DEFAULT
            .split_whitespace()
            .filter(|name| *name != missing)
            .collect();
        let mut container = Container::spawn(&Limits {
            capabilities: &others.join(" "),
            ..ORDINARY
        });
        assert!(container.peer().is_over(), "{missing}");
        eventually("it says why", || {
            let errors = container.errors();
            let words = [
                &format!("root without CAP_{missing} "),
                "add CHOWN, ",
                "or drop all",
            ];
            words.iter().all(|word| errors.contains(*word))
        });
    }
}

#[test]
fn root_without_any_capability_is_like_another_user() {
    for capabilities in ["", "NET_BIND_SERVICE"] {
        let mut container = Container::start(&Limits {
            capabilities,
            ..ORDINARY
        });
        container.assert_lines(&[&[
            "started as root without CAP_CHOWN",
            "CAP_SETUID: workers run as this very user",
            "make files in /tmp, /var/tmp, /dev/shm only",
        ]]);
        // The whole image is its user's.
        let change = "
os.chmod('/etc/hostname.of', 0o777); os.utime('/etc/hostname.of', (5, 6))
answer = [fails(lambda: open('/etc/hostname.of', 'a')), fails(lambda: os.remove('/etc/hostname.of')),
          fails(lambda: os.mkdir('/etc/mine'))]";
        container.peer = None;
        drop(container);
        let mut container = Container::start(&Limits {
            capabilities,
            prepare: |root| fs::write(root.join("etc/hostname.of"), "it").expect("written"),
            ..ORDINARY
        });
        let refused = container.tenant(change);
        let denied = "Permission denied";
        assert_eq!(refused, json!([denied, denied, denied]));
        let look = "
it = os.stat('/etc/hostname.of')
answer = [oct(it.st_mode), it.st_mtime == 6, it.st_atime == 5]";
        assert_eq!(container.tenant(look), json!(["0o100644", false, false]));
        container.tenant(LEAVE);
        assert_eq!(container.tenant(LOOK), nothing());
    }
}

#[test]
fn another_users_files_go_wherever_workers_can_make_them() {
    let mut container = Container::start(&Limits {
        user: USER,
        prepare: |root| {
            let own = root.join("srv/own");
            fs::create_dir(&own).expect("a directory");
            fs::write(own.join("file"), "mine").expect("written");
            fs::write(own.join("closed"), "mine").expect("written");
            fs::set_permissions(own.join("closed"), fs::Permissions::from_mode(0o000))
                .expect("its mode");
            // What is the user's among what was there before the boot.
            fs::write(root.join("tmp/known"), "known").expect("written");
            for place in ["srv/own", "srv/own/file", "srv/own/closed", "tmp/known"] {
                chown(root.join(place), Some(USER), Some(USER)).expect("its owner");
            }
        },
        ..ORDINARY
    });
    container.assert_lines(&[&[
        "not started as root: workers run as this very user",
        "make files in /tmp, /var/tmp, /dev/shm only",
        "read this user's files",
    ]]);
    let errors = container.errors();
    assert!(
        !errors.contains("attributes"),
        "they are put back: {errors}"
    );
    let before = container.tenant(
        "answer = [[*os.stat('/srv/own/' + it)][0:1] + [os.stat('/srv/own/' + it).st_mtime_ns] for it in ('', 'file', 'closed')]",
    );
    for _ in 0..3 {
        let seen = container.tenant(LEAVE);
        assert_eq!(seen, json!([USER, NO_CAPABILITIES, "2", "1"]));
        let change = "
open('/tmp/known', 'w').write('changed'); os.chmod('/tmp/known', 0)
for name in ('', 'file', 'closed'):
    os.chmod('/srv/own/' + name, 0o755); os.utime('/srv/own/' + name, (5, 6))
answer = [fails(lambda: open('/srv/own/more', 'w')), fails(lambda: open('/srv/own/file', 'w')),
          fails(lambda: os.remove('/srv/own/file'))]";
        let denied = "Permission denied";
        assert_eq!(container.tenant(change), json!([denied, denied, denied]));
        assert_eq!(
            container.tenant("answer = open('/tmp/known').read()"),
            "known"
        );
        let after = container.tenant(
            "answer = [[*os.stat('/srv/own/' + it)][0:1] + [os.stat('/srv/own/' + it).st_mtime_ns] for it in ('', 'file', 'closed')]",
        );
        assert_eq!(after, before);
        let mut expected = nothing();
        expected["/tmp"] = json!(["known"]);
        assert_eq!(container.tenant(LOOK), expected);
    }
    // A call that is recorded replaces the worker, and what it did is put back all the same.
    container.tenant_who_stays("os.setxattr('/srv/own/file', 'user.secret', b'it')");
    let restored = container.peer().restore();
    assert_eq!(restored.method, "refork", "{}", restored.report);
    assert_eq!(
        container.tenant("answer = os.listxattr('/srv/own/file')"),
        json!([])
    );
}

/// What Kubernetes calls restricted, with a directory for files.
#[test]
fn a_restricted_pod_is_enough() {
    let mut container = Container::start(&Limits {
        user: USER,
        capabilities: "",
        read_only: true,
        no_new_privileges: true,
        writable: &["/tmp"],
        ..ORDINARY
    });
    container.assert_lines(&[&["not started as root", "make files in /tmp, /dev/shm only"]]);
    let leave = "leave('/tmp'); leave('/dev/shm'); answer = fails(lambda: leave('/var/tmp'))";
    assert_eq!(container.tenant(leave), "Read-only file system");
    assert_eq!(container.tenant(LOOK), nothing());
    let archive = "answer = tempfile.gettempdir()";
    assert_eq!(container.tenant(archive), "/tmp");
}

#[test]
fn a_read_only_root_leaves_shared_memory() {
    for user in [0, USER] {
        let mut container = Container::start(&Limits {
            user,
            read_only: true,
            ..ORDINARY
        });
        match user {
            0 => container.assert_lines(&[]),
            _ => container.assert_lines(&[&["make files in /dev/shm only"]]),
        }
        let leave = "leave('/dev/shm'); answer = fails(lambda: leave('/tmp'))";
        assert_eq!(container.tenant(leave), "Read-only file system");
        assert_eq!(container.tenant(LOOK), nothing());
    }
}

/// A directory that anybody may write to, and that is not one of the usual.
fn shared(root: &Path) {
    let place = root.join("srv/shared");
    fs::create_dir(&place).expect("a directory");
    fs::set_permissions(place, fs::Permissions::from_mode(0o777)).expect("its mode");
}

#[test]
fn behind_an_init_it_says_what_is_not_removed_or_is_told_that_all_is_its_own() {
    let limits = Limits {
        init: true,
        prepare: shared,
        ..ORDINARY
    };
    let leave = format!("{LEAVE}; open('/srv/shared/left', 'w').close()");
    let mut container = Container::start(&limits);
    container.assert_lines(&[&[
        "not PID 1 of its container",
        "/tmp, /var/tmp, /dev/shm",
        "REFUNCTION_OWN_CONTAINER=1",
    ]]);
    container.tenant(&leave);
    assert_eq!(container.tenant(LOOK), nothing());
    let left = "answer = os.listdir('/srv/shared')";
    assert_eq!(container.tenant(left), json!(["left"]));

    let mut container = Container::start(&Limits {
        env: &["REFUNCTION_OWN_CONTAINER=1"],
        ..limits
    });
    container.assert_lines(&[]);
    container.tenant(&leave);
    assert_eq!(container.tenant(LOOK), nothing());
    assert_eq!(container.tenant(left), json!([]));
}

#[test]
fn another_user_behind_an_init_has_one_directory() {
    let mut container = Container::start(&Limits {
        user: USER,
        init: true,
        ..ORDINARY
    });
    container.assert_lines(&[&[
        "not started as root",
        "make files in /tmp/refunction-",
        "attributes",
    ]]);
    let leave = "leave(os.environ['TMPDIR']); answer = fails(lambda: leave('/tmp'))";
    assert_eq!(container.tenant(leave), "Permission denied");
    let look = "answer = os.listdir(os.environ['TMPDIR'])";
    assert_eq!(container.tenant(look), json!([]));
}

/// A function that does, line by line, what it is told by whoever listens on a port.
const BESIDE: &str = r#"
import json, os, socket, tempfile

def handler(event, context):
    conversation = socket.create_connection(("127.0.0.1", event["port"]))
    lines = conversation.makefile("rw")
    def say(value):
        lines.write(json.dumps(value) + "\n")
        lines.flush()
    say(event["name"])
    for line in lines:
        scope = dict(globals(), answer=None)
        exec(json.loads(line), scope)
        say(scope["answer"])
    return event["name"]
"#;

fn install_beside(root: &Path) {
    fs::write(root.join("var/task/app.py"), BESIDE).expect("written");
}

/// A call in hand, and its client.
struct Beside {
    lines: BufReader<TcpStream>,
    client: Connection,
}

impl Beside {
    fn begin(port: u16, listener: &TcpListener, name: &str) -> Self {
        let mut client = Connection::to(port);
        let own = listener.local_addr().expect("an address").port();
        let event = json!({"port": own, "name": name}).to_string();
        client.request("POST", "/", &[], event.as_bytes());
        let mut waited_for = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(PATIENCE).expect("short");
        assert_eq!(poll(&mut waited_for, limit), Ok(1), "{name} does not come");
        let (stream, _) = listener.accept().expect("it comes");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        let mut beside = Self {
            lines: BufReader::new(stream),
            client,
        };
        assert_eq!(beside.hear(), name);
        beside
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("it says something");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn tell(&mut self, step: &str) {
        let line = format!("{}\n", json!(step));
        let told = self.lines.get_mut().write_all(line.as_bytes());
        told.expect("it listens");
    }

    fn ask(&mut self, step: &str) -> Value {
        self.tell(step);
        self.hear()
    }

    fn ends_well(mut self, name: &str) {
        let stream = self.lines.get_ref();
        stream.shutdown(Shutdown::Write).expect("it listens");
        let answer = self.client.answer();
        assert_eq!((answer.status, answer.json()), (200, json!(name)));
    }
}

#[test]
fn workers_beside_one_another_have_no_files_in_common_and_run_out_of_memory_alone() {
    let (container, port) = Container::serve(&Limits {
        command: &["--concurrency", "3", "app.handler"],
        env: &["PORT=0"],
        prepare: install_beside,
        ..ORDINARY
    });
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut calls = ["a", "b", "c"].map(|name| Beside::begin(port, &listener, name));
    let mut users = Vec::new();
    for call in &mut calls {
        users.push(call.ask("answer = os.getuid()"));
        for place in ["/tmp", "/var/tmp", "/dev/shm"] {
            let make = format!("answer = tempfile.mkstemp(dir='{place}')[1]");
            let path = call.ask(&make);
            assert!(
                path.as_str().is_some_and(|it| it.starts_with(place)),
                "{path}"
            );
            let list = format!(
                "try: answer = os.listdir('{place}')\nexcept OSError as it: answer = it.strerror"
            );
            assert_eq!(call.ask(&list), "Permission denied", "{place}");
        }
    }
    users.sort_by_key(Value::as_u64);
    users.dedup();
    assert_eq!(users.len(), 3, "{users:?}");

    let [mut hungry, mut b, c] = calls;
    hungry.tell("held = []\nwhile True: held.append(b'x' * (1 << 20))");
    let answer = hungry.client.answer();
    assert_eq!(
        answer.json()["error"]["kind"],
        "out_of_memory",
        "{answer:?}"
    );
    assert_eq!(b.ask("answer = 1 + 1"), 2, "{}", container.errors());
    // In the place of the one that went.
    Beside::begin(port, &listener, "d").ends_well("d");
    b.ends_well("b");
    c.ends_well("c");
}
