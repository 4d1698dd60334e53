//! Workers that stand by, and layers of libraries: what is made ready so that nobody waits,
//! and that no tenant gets at it or finds another's in it.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use refunction_tests::peer::assert_failure;
use refunction_tests::process::{self, Handle};
use refunction_tests::supervisor::Supervisor;
use refunction_tests::{environment, eventually};
use serde_json::{Value, json};

/// Does what it is told: `{"do": "source"}`.
const OBEY: &str = r#"
import ctypes, os, random, resource, signal, sys, tempfile, threading, time, uuid

def main(args):
    scope = dict(globals(), args=args, answer=None)
    exec(args["do"], scope)
    return scope["answer"]
"#;

fn doing(source: &str) -> Value {
    json!({ "do": source })
}

/// Waits until as many workers stand by as are to.
#[track_caller]
fn stand_by(supervisor: &mut Supervisor, count: u64) {
    eventually("workers stand by", || {
        supervisor.status()["spares"] == count
    });
}

fn phases(report: &Value) -> Vec<String> {
    let phases = report["phases"].as_array().expect("phases");
    let names = phases.iter().map(|it| it["name"].as_str());
    names.map(|it| it.expect("a name").to_owned()).collect()
}

fn user_of(pid: u32) -> u32 {
    let ids = process::status(pid, "Uid").expect("it is there");
    let first = ids.split_whitespace().next().expect("a user");
    first.parse().expect("a number")
}

/// Processes below the supervisor, of any of its workers' users.
fn workers(supervisor: &Supervisor) -> Vec<u32> {
    let below = process::descendants(supervisor.pid()).into_iter();
    let users = supervisor.users();
    below.filter(|pid| users.contains(&user_of(*pid))).collect()
}

// --- workers that stand by -------------------------------------------------------

#[test]
fn a_refork_is_served_by_who_stands_by() {
    for runtime in ["python", "javascript", "lua"] {
        let mut supervisor =
            Supervisor::start(&["--runtime", runtime, "--method", "refork", "--spare"]);
        let source = match runtime {
            "python" => "def main(args): return args",
            "javascript" => "function main(args) { return args; }",
            _ => "function main(args) return args end",
        };
        let mut seen = Vec::new();
        for turn in 0..12 {
            stand_by(&mut supervisor, 1);
            let worker = supervisor.worker();
            assert!(!seen.contains(&worker), "{runtime}: {worker} came again");
            seen.push(worker);
            let next: Vec<u32> = workers(&supervisor);
            let next: Vec<u32> = next.into_iter().filter(|it| *it != worker).collect();
            assert_eq!(next.len(), 1, "{runtime}");
            assert_ne!(user_of(next[0]), user_of(worker), "{runtime}");
            let old = Handle::open(worker).expect("it runs");
            supervisor.load(source);
            assert_eq!(supervisor.call(&json!([turn])), json!([turn]));
            let restored = supervisor.restore();
            assert_eq!(restored.method, "refork", "{runtime}");
            let phases = phases(&restored.report);
            assert!(phases.contains(&"spare".into()), "{runtime}: {phases:?}");
            assert_eq!(supervisor.worker(), next[0], "{runtime}");
            // Killed after the answer.
            eventually("the old worker is reaped", || !old.is_there());
        }
        supervisor.send(&json!({"type": "shutdown"}));
        assert_eq!(supervisor.wait(), 0);
        supervisor.assert_nothing_left();
    }
}

#[test]
fn who_comes_before_one_stands_by_waits_for_a_fork() {
    let mut supervisor = Supervisor::start(&["--method", "refork", "--spare"]);
    for _ in 0..50 {
        supervisor.load("def main(args): return args");
        assert_eq!(supervisor.call(&json!(1)), 1);
        assert_eq!(supervisor.restore().method, "refork");
    }
    supervisor.send(&json!({"type": "shutdown"}));
    assert_eq!(supervisor.wait(), 0);
    supervisor.assert_nothing_left();
}

#[test]
fn crashes_and_time_outs_are_followed_by_who_stands_by() {
    let mut supervisor = Supervisor::start(&["--spare"]);
    supervisor.load(OBEY);
    for (source, kind) in [
        ("os.kill(os.getpid(), signal.SIGKILL)", "crashed"),
        ("os.kill(os.getpid(), signal.SIGSTOP)", "crashed"),
        ("os._exit(3)", "crashed"),
        ("ctypes.string_at(1)", "crashed"),
        ("while True: pass", "timeout"),
        // What it started runs on, and must not be there any more.
        (
            "if os.fork() == 0:\n    while True: time.sleep(1)\nos._exit(4)",
            "crashed",
        ),
    ] {
        stand_by(&mut supervisor, 1);
        let next: Vec<u32> = workers(&supervisor);
        let worker = supervisor.worker();
        supervisor.send(&json!({
            "type": "request", "id": 1, "deadline_ms": 2000, "data": doing(source)
        }));
        let answer = supervisor.receive();
        assert_eq!(answer["data"]["kind"], kind, "{source}: {answer}");
        let now = supervisor.worker();
        assert!(now != worker && next.contains(&now), "{source}");
        assert_eq!(supervisor.call(&doing("answer = 1")), 1);
        stand_by(&mut supervisor, 1);
        eventually("nobody else is left", || workers(&supervisor).len() == 2);
    }
}

#[test]
fn a_tenant_does_not_get_at_who_stands_by() {
    let mut supervisor = Supervisor::start(&["--spare"]);
    stand_by(&mut supervisor, 1);
    let worker = supervisor.worker();
    let spare = workers(&supervisor).into_iter().find(|it| *it != worker);
    let spare = spare.expect("one stands by");
    supervisor.load(OBEY);
    let attempts = format!(
        "
def fails(attempt):
    try: return repr(attempt())
    except OSError as error: return type(error).__name__
spare = {spare}
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0: raise OSError(ctypes.get_errno(), 'refused')
answer = [
    fails(lambda: os.kill(spare, signal.SIGKILL)),
    fails(lambda: os.kill(spare, signal.SIGSTOP)),
    fails(lambda: os.pidfd_open(spare) and signal.pidfd_send_signal(os.pidfd_open(spare), signal.SIGKILL)),
    fails(lambda: open(f'/proc/{{spare}}/mem', 'rb').read(1)),
    fails(lambda: open(f'/proc/{{spare}}/maps').read(1)),
    fails(lambda: open(f'/proc/{{spare}}/environ').read(1)),
    fails(lambda: os.listdir(f'/proc/{{spare}}/fd')),
    fails(lambda: open(f'/proc/{{spare}}/oom_score_adj', 'w')),
    fails(lambda: resource.prlimit(spare, resource.RLIMIT_NOFILE, (10, 10))),
    fails(lambda: os.sched_setaffinity(spare, {{0}})),
    fails(lambda: os.setpriority(os.PRIO_PROCESS, spare, 5)),
    fails(lambda: call(251, 1, spare, 0)),
]
# All of them at once: whoever may be signalled is.
signal.signal(signal.SIGTERM, signal.SIG_IGN)
fails(lambda: os.kill(-1, signal.SIGTERM))
fails(lambda: os.kill(0, signal.SIGTERM))"
    );
    let answers = supervisor.call(&doing(&attempts));
    let answers = answers.as_array().expect("a list");
    for answer in answers {
        assert!(
            answer == "PermissionError" || answer == "ProcessLookupError",
            "{answers:?}"
        );
    }
    supervisor.restore();
    // It is as it was, and serves after one whose worker cannot be rewound.
    supervisor.load(OBEY);
    supervisor.call(&doing("os.setsid()"));
    let restored = supervisor.restore();
    assert_eq!(restored.method, "refork", "{}", restored.report);
    assert_eq!(supervisor.worker(), spare);
    supervisor.load(OBEY);
    assert_eq!(supervisor.call(&doing("answer = 2")), 2);
}

#[test]
fn nothing_of_a_tenant_reaches_who_stood_by() {
    let mut supervisor = Supervisor::start(&["--spare", "--method", "refork"]);
    let mut drawn = Vec::new();
    for _ in 0..8 {
        stand_by(&mut supervisor, 1);
        supervisor.load(OBEY);
        let source = "
place = f'/tmp/{os.path.basename(sys.prefix)}-of-a-tenant'
answer = [os.path.exists('/dev/shm/mark-of-a-tenant'), hasattr(sys, 'mark'), [random.random(), str(uuid.uuid4()), os.urandom(8).hex(), os.path.basename(tempfile.mktemp())]]
sys.mark = 1
open('/dev/shm/mark-of-a-tenant', 'w').close()
os.chmod('/dev/shm/mark-of-a-tenant', 0o666)";
        let answer = supervisor.call(&doing(source));
        assert_eq!(answer[0], false, "{answer}");
        assert_eq!(answer[1], false, "{answer}");
        for number in answer[2].as_array().expect("numbers") {
            assert!(!drawn.contains(number), "{number} came twice");
            drawn.push(number.clone());
        }
        supervisor.restore();
    }
    for user in supervisor.users() {
        assert!(process::files_of_user(user).is_empty());
    }
}

#[test]
fn who_stands_by_is_of_the_template_that_serves() {
    let mut supervisor = Supervisor::start(&["--spare", "--rotate-after", "3"]);
    let mut hashes = Vec::new();
    // Another template boots beside the tenants that come meanwhile.
    eventually("others took over", || {
        stand_by(&mut supervisor, 1);
        supervisor.load(OBEY);
        hashes.push(supervisor.call(&doing("answer = hash('a text')")));
        // One that cannot be rewound has one of the template follow it that serves.
        supervisor.call(&doing("os.setsid()"));
        assert_eq!(supervisor.restore().method, "refork");
        hashes.dedup();
        hashes.len() > 2
    });
    eventually("templates that retired are gone", || {
        process::descendants(supervisor.pid()).len() <= 4
    });
}

#[test]
fn one_that_stood_by_and_died_is_replaced() {
    let mut supervisor = Supervisor::start(&["--spare", "--method", "refork"]);
    for _ in 0..3 {
        stand_by(&mut supervisor, 1);
        let worker = supervisor.worker();
        let spare = workers(&supervisor).into_iter().find(|it| *it != worker);
        let spare = Handle::open(spare.expect("one stands by")).expect("it runs");
        spare.signal(Signal::SIGKILL);
        eventually("it is reaped", || !spare.is_there());
        supervisor.load(OBEY);
        assert_eq!(supervisor.call(&doing("answer = 1")), 1);
        supervisor.restore();
    }
}

// --- layers ----------------------------------------------------------------------

const LAYERS: &[&str] = &["--layers-mib", "512"];

const NUMPY: &str = "import numpy\ndef main(args): return float(numpy.arange(args).sum())\n";

fn layers(supervisor: &mut Supervisor) -> Vec<Vec<String>> {
    let layers = supervisor.status()["layers"].clone();
    let layers = layers.as_array().cloned().unwrap_or_default();
    layers
        .iter()
        .map(|it| serde_json::from_value(it["libraries"].clone()).expect("names"))
        .collect()
}

#[test]
fn a_library_that_functions_import_comes_to_be_in_a_layer() {
    let mut supervisor = Supervisor::start(LAYERS);
    let first = supervisor.try_load(&json!(NUMPY));
    assert_eq!(first["data"], true, "{first}");
    assert_eq!(first["no_layer"], "they came for the first time", "{first}");
    assert_eq!(supervisor.call(&json!(4)), 6.0);
    supervisor.restore();
    for _ in 0..4 {
        let loaded = supervisor.try_load(&json!(NUMPY));
        assert_eq!(loaded["layer"], json!(["numpy"]), "{loaded}");
        assert_eq!(supervisor.call(&json!(4)), 6.0);
        // Its workers are put back to the layer's snapshot.
        let restored = supervisor.restore();
        assert_eq!(restored.method, "rewind", "{}", restored.report);
    }
    // Who does not ask for it does not find it.
    supervisor.load(OBEY);
    assert_eq!(
        supervisor.call(&doing("answer = 'numpy' in sys.modules")),
        false
    );
    assert_eq!(supervisor.status()["layers"][0]["functions"], 4);
    let loaded = supervisor.try_load(&json!({"code": OBEY, "libraries": ["numpy"]}));
    assert_eq!(loaded["layer"], json!(["numpy"]), "{loaded}");
    assert_eq!(
        supervisor.call(&doing("answer = 'numpy' in sys.modules")),
        true
    );
}

#[test]
fn layers_are_grown_from_one_another() {
    let mut supervisor = Supervisor::start(LAYERS);
    let load = |supervisor: &mut Supervisor, libraries: &[&str]| {
        let loaded = supervisor.try_load(&json!({"code": OBEY, "libraries": libraries}));
        assert_eq!(loaded["data"], true, "{loaded}");
        assert_eq!(loaded["layer"], json!(libraries), "{loaded}");
        let addresses = "answer = [id(sys.modules.get(it)) for it in ('numpy', 'requests')]";
        supervisor.call(&doing(addresses))
    };
    let one = load(&mut supervisor, &["numpy"]);
    let both = load(&mut supervisor, &["numpy", "requests"]);
    // The same objects: it was forked from the first, which imported them.
    assert_eq!(one[0], both[0]);
    assert_ne!(one[1], both[1]);
    let other = load(&mut supervisor, &["requests"]);
    assert_ne!(other[1], both[1]);
    assert_eq!(layers(&mut supervisor).len(), 3);
    // And back again, each time into what it was.
    assert_eq!(load(&mut supervisor, &["numpy"]), one);
    assert_eq!(load(&mut supervisor, &["numpy", "requests"]), both);
}

#[test]
fn nothing_of_a_tenant_reaches_the_next_across_layers() {
    for arguments in [
        &["--layers-mib", "512"][..],
        &["--layers-mib", "512", "--spare"],
        &["--layers-mib", "512", "--spare", "--method", "refork"],
    ] {
        let mut supervisor = Supervisor::start(arguments);
        let look = "
import builtins
numpy = sys.modules.get('numpy')
answer = [hasattr(sys, 'mark'), hasattr(builtins, 'mark'), hasattr(numpy, 'mark'), os.path.exists('/tmp/mark-of-a-layer')]
drawn = random.random()
answer.append(drawn if numpy is None else [drawn, float(numpy.random.random())])
sys.mark = builtins.mark = 1
if numpy is not None: numpy.mark = 1
open('/tmp/mark-of-a-layer', 'w').close()";
        let mut drawn = Vec::new();
        for turn in 0..9 {
            let libraries: &[&str] = [&[][..], &["numpy"], &["requests"]][turn % 3];
            let loaded = supervisor.try_load(&json!({"code": OBEY, "libraries": libraries}));
            assert_eq!(loaded["data"], true, "{loaded}");
            let answer = supervisor.call(&doing(look));
            for found in answer.as_array().expect("a list").iter().take(4) {
                assert_eq!(*found, false, "turn {turn} of {arguments:?}: {answer}");
            }
            assert!(!drawn.contains(&answer[4]), "{answer} came twice");
            drawn.push(answer[4].clone());
            if turn % 2 == 0 {
                supervisor.restore();
            }
        }
        supervisor.send(&json!({"type": "shutdown"}));
        assert_eq!(supervisor.wait(), 0);
        supervisor.assert_nothing_left();
    }
}

/// A directory of libraries that none but root can write to.
struct Libraries(PathBuf);

impl Libraries {
    fn with(modules: &[(&str, &str)]) -> Self {
        environment::require_root();
        let name = format!(
            "refunction-libraries-{}",
            refunction_tests::supervisor::fresh_uid()
        );
        let place = PathBuf::from("/run").join(name);
        fs::create_dir(&place).expect("a directory");
        for (name, source) in modules {
            fs::write(place.join(format!("{name}.py")), source).expect("a module");
        }
        Self(place)
    }

    fn start(&self, arguments: &[&str]) -> Supervisor {
        let place = self.0.clone();
        Supervisor::start_with(arguments, |command| {
            command.env("PYTHONPATH", place);
        })
    }
}

impl Drop for Libraries {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_library_that_cannot_be_in_a_layer_is_refused_and_the_function_works() {
    let libraries = Libraries::with(&[
        ("raises", "raise RuntimeError('not here')"),
        ("ends", "import os\nos._exit(3)"),
        (
            "threads",
            "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()",
        ),
        ("opens", "kept = open('/etc/passwd')"),
        (
            "starts",
            "import subprocess\nkept = subprocess.Popen(['/bin/sleep', '1000'])",
        ),
        ("maps", "import mmap\nkept = mmap.mmap(-1, 4096)"),
        ("works", "value = 7"),
    ]);
    let mut supervisor = libraries.start(LAYERS);
    for (name, reason) in [
        ("raises", "not here"),
        ("ends", "it ended"),
        ("threads", "thread"),
        ("opens", "/etc/passwd"),
        ("starts", "process"),
        ("maps", "shared mapping"),
        ("nowhere", "the image has no nowhere"),
    ] {
        for _ in 0..2 {
            let function = json!({"code": OBEY, "libraries": [name]});
            let loaded = supervisor.try_load(&function);
            assert_eq!(loaded["data"], true, "{name}: {loaded}");
            let why = loaded["no_layer"].as_str().unwrap_or_default();
            assert!(why.contains(reason), "{name}: {loaded}");
            assert_eq!(supervisor.call(&doing("answer = 5")), 5, "{name}");
            supervisor.restore();
        }
    }
    assert!(layers(&mut supervisor).is_empty());
    let loaded = supervisor.try_load(&json!({"code": OBEY, "libraries": ["works"]}));
    assert_eq!(loaded["layer"], json!(["works"]), "{loaded}");
    assert_eq!(
        supervisor.call(&doing("import works; answer = works.value")),
        7
    );
    // Of those that were not to be, nothing is left but the templates and a worker.
    assert_eq!(process::descendants(supervisor.pid()).len(), 3);
}

#[test]
fn what_a_worker_could_write_is_in_no_layer() {
    let libraries = Libraries::with(&[("mine", "value = 1")]);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(&libraries.0, mode).expect("its mode");
    let mut supervisor = libraries.start(LAYERS);
    let loaded = supervisor.try_load(&json!({"code": OBEY, "libraries": ["mine"]}));
    assert_eq!(loaded["no_layer"], "the image has no mine", "{loaded}");
    assert_eq!(
        supervisor.call(&doing("import mine; answer = mine.value")),
        1
    );
}

#[test]
fn layers_have_a_budget_and_the_one_unused_for_longest_goes() {
    let ballast = |mib: usize| format!("import os\nvalue = os.urandom({mib} << 20)");
    let modules: Vec<(String, String)> = ["one", "two", "three"]
        .iter()
        .map(|name| ((*name).to_owned(), ballast(20)))
        .chain([("large".to_owned(), ballast(200))])
        .collect();
    let modules: Vec<(&str, &str)> = modules
        .iter()
        .map(|(name, source)| (name.as_str(), source.as_str()))
        .collect();
    let libraries = Libraries::with(&modules);
    // Room for two of them.
    let mut supervisor = libraries.start(&["--layers-mib", "80", "--spare"]);
    let load = |supervisor: &mut Supervisor, name: &str| {
        let loaded = supervisor.try_load(&json!({"code": OBEY, "libraries": [name]}));
        assert_eq!(loaded["data"], true, "{loaded}");
        assert_eq!(supervisor.call(&doing("answer = 1")), 1);
        loaded
    };
    for name in ["one", "two", "one"] {
        assert_eq!(load(&mut supervisor, name)["layer"], json!([name]));
    }
    assert_eq!(load(&mut supervisor, "three")["layer"], json!(["three"]));
    assert_eq!(layers(&mut supervisor), [["one"], ["three"]]);
    let loaded = load(&mut supervisor, "large");
    let why = loaded["no_layer"].as_str().unwrap_or_default();
    assert!(why.contains("MiB, and layers may take 80"), "{loaded}");
    let bytes: u64 = supervisor.status()["layers"].as_array().map_or(0, |all| {
        all.iter().filter_map(|it| it["bytes"].as_u64()).sum()
    });
    assert!(bytes <= 80 << 20, "{bytes}");
}

#[test]
fn a_library_that_takes_for_ever_is_given_up_and_its_function_loaded() {
    let libraries = Libraries::with(&[("slow", "import time\nwhile True: time.sleep(1)")]);
    let mut supervisor = libraries.start(LAYERS);
    supervisor.send(&json!({"type": "function", "data": {"code": OBEY, "libraries": ["slow"]}}));
    // Others are answered meanwhile.
    supervisor.send(&json!({"type": "status"}));
    supervisor.expect("status");
    let loaded = supervisor.receive();
    assert_eq!(loaded["data"], true, "{loaded}");
    let why = loaded["no_layer"].as_str().unwrap_or_default();
    assert!(why.contains("takes longer than"), "{loaded}");
}

#[test]
fn workers_of_a_layer_crash_and_templates_of_layers_die() {
    let mut supervisor = Supervisor::start(LAYERS);
    let function = json!({"code": OBEY, "libraries": ["numpy"]});
    supervisor.try_load(&function);
    assert_failure(&supervisor.fail(&doing("os._exit(3)")), "crashed", &["3"]);
    // Its next worker is of the same layer, with the function in it again.
    let imported = doing("answer = 'numpy' in sys.modules");
    assert_eq!(supervisor.call(&imported), true);
    let worker = supervisor.worker();
    let templates: Vec<u32> = process::descendants(supervisor.pid())
        .into_iter()
        .filter(|it| *it != worker)
        .collect();
    assert_eq!(templates.len(), 2);
    // The later one is the layer's.
    let layer = Handle::open(templates[1]).expect("it runs");
    layer.signal(Signal::SIGKILL);
    eventually("it is reaped", || !layer.is_there());
    // Who has a worker of it keeps that; the next finds another.
    assert_eq!(supervisor.call(&imported), true);
    supervisor.restore();
    let loaded = supervisor.try_load(&function);
    assert_eq!(loaded["layer"], json!(["numpy"]), "{loaded}");
    assert_eq!(supervisor.call(&imported), true);
}
