//! Functions on this machine without a container, as `funk run` and `funk serve` have them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};

use nix::sys::signal::Signal;
use refunction_tests::host::{self, Answer};
use refunction_tests::http::Connection;
use refunction_tests::process::{self, Handle};
use refunction_tests::supervisor::{collect, fresh_uid};
use refunction_tests::{PATIENCE, environment, eventually, java};
use serde_json::{Value, json};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A folder of functions that goes with its owner, and `funk` for them.
struct Folder {
    path: PathBuf,
    /// Of the workers of its supervisors.
    uid: u32,
}

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        environment::require_root();
        let uid = fresh_uid();
        let path = Path::new("/tmp").join(format!("refunction-funk-{uid}"));
        fs::create_dir(&path).expect("a folder");
        // Whoever runs them may read them.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
        let folder = Self { path, uid };
        for (name, text) in files {
            folder.write(name, text);
        }
        folder
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path.join(name), text).expect("written");
    }

    fn funk(&self) -> Command {
        let mut command = Command::new(environment::file("FUNK"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("REFUNCTION_") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(&self.path)
            .env("REFUNCTION_SUPERVISOR", environment::supervisor())
            .env("REFUNCTION_WORKER_UID", self.uid.to_string())
            // It is for images, and says nothing here.
            .env("PORT", "1");
        command
    }

    fn run(&self, arguments: &[&str]) -> Answer {
        let mut command = self.funk();
        command.args(["--output", "json", "run"]).args(arguments);
        host::run(&mut command, b"")
    }

    #[track_caller]
    fn assert_nothing_left(&self) {
        eventually("the workers' processes end", || {
            process::of_user(self.uid).is_empty()
        });
        let files = process::files_of_user(self.uid);
        assert!(files.is_empty(), "{files:?}");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Workers have a user of their own, and would find it closed in the middle of a call.
#[test]
fn a_folder_that_is_closed_to_workers_is_refused_by_its_name() {
    let folder = Folder::new(&[ECHO]);
    let inner = folder.path.join("of/the/function");
    fs::create_dir_all(&inner).expect("a folder");
    fs::copy(folder.path.join("app.py"), inner.join("app.py")).expect("copied");
    let file = inner.join("app.py");
    let file = file.to_str().expect("UTF-8");
    for name in ["of/the/function", "of"] {
        let closed = folder.path.join(name);
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("its mode");
        let words = [
            &format!("the function's folder {} is closed", inner.display()),
            &format!("user of workers, {}", folder.uid),
            &format!("cannot enter {}: ", closed.display()),
            &"chmod o+x".to_owned(),
        ];
        folder.run(&[file]).fails(1, &words.map(|it| it.as_str()));
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o711)).expect("its mode");
        folder.run(&[file]).ok();
    }
    folder.assert_nothing_left();
}

// --- run -----------------------------------------------------------------------

/// Says what it is given, and where.
const ECHO: (&str, &str) = (
    "app.py",
    "import os, sys
print('imported')
def handler(event, context):
    print('out'); print('err', file=sys.stderr)
    return {'event': event, 'root': os.environ['FUNCTION_ROOT'], 'cwd': os.getcwd(),
            'set': os.environ.get('SET'), 'port': os.environ.get('PORT')}
",
);

#[test]
fn a_file_is_run_and_its_result_is_all_of_the_output() {
    let folder = Folder::new(&[ECHO, ("event.json", "{\n  \"a\":\n 1.50\n}\n")]);
    let answer = folder.run(&["app.py", "-e", "SET=a=b"]);
    // What it prints on either stream, at its import too, is none of the result.
    for line in ["imported\n", "out\n", "err\n"] {
        assert!(answer.errors.contains(line), "{line:?}: {answer:?}");
    }
    let value = answer.ok()["value"].take();
    let root = folder.path.to_str().expect("UTF-8");
    let expected = json!({"event": {}, "root": root, "cwd": root, "set": "a=b", "port": null});
    assert_eq!(value, expected);
    let from_file = folder.run(&["app.py", "--event", "@event.json"]).ok();
    assert_eq!(from_file["value"]["event"], json!({"a": 1.5}));
    let mut command = folder.funk();
    command.args(["run", "app.py", "--event", "-"]);
    let answer = host::run(&mut command, b"[1, \"\xc3\xbc\"]");
    assert_eq!(answer.code, 0, "{answer:?}");
    // Without --output json it is the result itself.
    assert_eq!(answer.json["event"], json!([1, "ü"]), "{answer:?}");
    folder.assert_nothing_left();
}

#[test]
fn the_function_is_handler_or_main_or_what_is_named() {
    let folder = Folder::new(&[
        ("main.py", "def main(args):\n    return 'main'\n"),
        (
            "both.lua",
            "function main() return 'main' end\nfunction handler() return 'handler' end",
        ),
        ("a.mjs", "export function other() { return 'other'; }"),
        ("package.cjs", "exports.handler = () => process.version;"),
    ]);
    for (arguments, expected) in [
        (&["main.py"][..], "main"),
        (&["both.lua"], "handler"),
        (&["both.lua", "--handler", "main"], "main"),
        (&["a.mjs", "--handler", "other"], "other"),
        (&["a.mjs", "--handler", "a.other"], "other"),
    ] {
        assert_eq!(
            folder.run(arguments).ok()["value"],
            expected,
            "{arguments:?}"
        );
    }
    let on_node = folder.run(&["package.cjs", "--runtime", "node"]).ok();
    let version = on_node["value"].as_str().expect("a version");
    assert!(version.starts_with('v'), "{version}");
    folder.assert_nothing_left();
}

#[test]
fn each_failure_has_its_status_and_its_cause() {
    let folder = Folder::new(&[
        (
            "app.py",
            "import os, time
def handler(event, context):
    if event['do'] == 'raise': raise KeyError('missing')
    if event['do'] == 'exit': os._exit(3)
    if event['do'] == 'sleep': time.sleep(1000)
",
        ),
        ("broken.py", "import not_there\n"),
        ("none.py", "def other(): pass\n"),
        ("app.rb", ""),
    ]);
    let event = |what: &str| json!({ "do": what }).to_string();
    let raised = folder.run(&["app.py", "--event", &event("raise")]);
    raised.fails(1, &["app.py\", line 3", "KeyError", "missing"]);
    assert_eq!(raised.json["error"]["error_type"], "KeyError", "{raised:?}");
    let stack = raised.json["error"]["stack"].as_str();
    assert!(stack.is_some_and(|it| it.contains("line 3")), "{raised:?}");
    let exited = folder.run(&["app.py", "--event", &event("exit")]);
    exited.fails(6, &["status 3"]);
    assert_eq!(exited.json["error"]["kind"], "crashed", "{exited:?}");
    let late = folder.run(&["app.py", "--event", &event("sleep"), "--deadline-ms", "300"]);
    late.fails(5, &["300 ms"]);
    folder
        .run(&["broken.py"])
        .fails(1, &["not_there", "broken.py\", line 1"]);
    folder
        .run(&["none.py"])
        .fails(1, &["handler", "it has other"]);
    folder
        .run(&["app.rb"])
        .fails(2, &["no runtime", "Python (.py)"]);
    folder.run(&["missing.py"]).fails(2, &["missing.py"]);
    folder.run(&["app.py", "--event", "{"]).fails(2, &["JSON"]);
    folder
        .run(&["app.py", "--supervisor", "/nonexistent"])
        .fails(2, &["/nonexistent"]);
    folder.assert_nothing_left();
}

#[test]
fn it_runs_without_root_and_says_what_is_lost() {
    const USER: u32 = 3_333_001;
    let folder = Folder::new(&[(
        "app.py",
        "import os, tempfile
def handler(event, context):
    with tempfile.NamedTemporaryFile(delete=False) as file: file.write(b'it')
    return [os.getuid(), tempfile.gettempdir()]
",
    )]);
    let mut command = folder.funk();
    command.args(["run", "app.py"]).uid(USER).gid(USER);
    let answer = host::run(&mut command, b"");
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(answer.errors.contains("not started as root"), "{answer:?}");
    assert_eq!(answer.json[0], USER, "{answer:?}");
    let place = answer.json[1].as_str().expect("a path");
    assert!(!Path::new(place).exists(), "{place} is left");
    eventually("its processes end", || process::of_user(USER).is_empty());
    assert!(process::files_of_user(USER).is_empty());
}

#[test]
fn what_the_readmes_run_gives_what_they_say() {
    let folder = Folder::new(&[]);
    let mut tried = 0;
    for document in ["README.md", "examples/README.md"] {
        let text = fs::read_to_string(Path::new(ROOT).join(document)).expect("a README");
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.windows(2) {
            let Some(arguments) = pair[0].trim().strip_prefix("funk run examples/") else {
                continue;
            };
            let mut command = folder.funk();
            command
                .current_dir(ROOT)
                .arg("run")
                .args(words(&format!("examples/{arguments}")));
            let answer = host::run(&mut command, b"");
            assert_eq!(answer.code, 0, "{arguments}: {answer:?}");
            let expected: Value = serde_json::from_str(pair[1].trim()).expect("JSON");
            assert_eq!(answer.json, expected, "{arguments}");
            tried += 1;
        }
    }
    assert!(tried >= 4, "{tried}");
    // Classes are compiled first, wherever the reader likes.
    let sources = java::sources_under(&Path::new(ROOT).join("examples/java/src"));
    let class = java::compile(&sources).join("shop/Basket.class");
    let mut command = folder.funk();
    command
        .env("FUNCTION_JAVA_ADAPTER", java::adapter())
        .arg("run")
        .arg(class)
        .args(["--handler", "shop.Basket::handle"])
        .args(["--event", r#"{"items": [{"name": "bread"}]}"#]);
    let answer = host::run(&mut command, b"");
    assert_eq!(
        answer.json,
        json!({"items": 1, "total": 320, "requests": 1}),
        "{answer:?}"
    );
}

/// The words of a command, of which some are in single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, part) in line.split('\'').enumerate() {
        if number % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

// --- serve ---------------------------------------------------------------------

/// `funk serve`, with what it said until now.
struct Serving {
    handle: Handle,
    ended: Receiver<i32>,
    errors: Arc<Mutex<String>>,
    output: Arc<Mutex<String>>,
    port: u16,
}

impl Serving {
    #[track_caller]
    fn start(folder: &Folder, arguments: &[&str]) -> Self {
        let mut child = folder
            .funk()
            .args(["serve", "--port", "0"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starting funk");
        let handle = Handle::open(child.id()).expect("it was not reaped yet");
        let errors = collect(child.stderr.take());
        let output = collect(child.stdout.take());
        let mut serving = Self {
            handle,
            ended: reap(child),
            errors,
            output,
            port: 0,
        };
        eventually("it says where it listens", || {
            let said = serving.errors();
            let line = said
                .lines()
                .find_map(|line| line.strip_prefix("funk: listening on http://127.0.0.1:"));
            let is_whole = said.contains('\n');
            let port = line.filter(|_| is_whole).and_then(|it| it.parse().ok());
            serving.port = port.unwrap_or_default();
            port.is_some()
        });
        serving
    }

    fn errors(&self) -> String {
        self.errors.lock().map(|it| it.clone()).unwrap_or_default()
    }

    fn output(&self) -> String {
        self.output.lock().map(|it| it.clone()).unwrap_or_default()
    }

    #[track_caller]
    fn connect(&self) -> Connection {
        Connection::to(self.port)
    }

    fn wait(&self) -> i32 {
        let status = self.ended.recv_timeout(PATIENCE);
        status.unwrap_or_else(|_| panic!("it did not end; it said: {}", self.errors()))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // In order: killed, it leaves a directory of sockets.
        self.handle.signal(Signal::SIGTERM);
        if self.ended.recv_timeout(PATIENCE).is_err() {
            self.handle.signal(Signal::SIGKILL);
        }
    }
}

fn reap(mut child: Child) -> Receiver<i32> {
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || {
        if let Ok(status) = child.wait() {
            let _ = sender.send(status.code().unwrap_or(-1));
        }
    });
    ended
}

/// Says which version it is; with `wait` not before the file of that name is there.
fn version(number: u32) -> String {
    format!(
        "import os, time
def handler(event, context):
    print('version', {number})
    while 'wait' in event and not os.path.exists(event['wait']): time.sleep(0.01)
    return {number}
"
    )
}

#[test]
fn a_change_is_served_and_what_was_asked_before_is_answered() {
    let folder = Folder::new(&[("app.py", &version(1))]);
    let serving = Serving::start(&folder, &["app.py"]);
    let mut client = serving.connect();
    // Before it was imported, too.
    assert_eq!(client.call(&json!({})), 1);
    let gate = folder.path.join(".gate");
    let mut slow = serving.connect();
    let wait = json!({"wait": gate}).to_string();
    slow.request("POST", "/", &[], wait.as_bytes());
    eventually("the slow call has begun", || {
        serving.output().matches("version 1").count() == 2
    });
    for number in 2..5 {
        folder.write("app.py", &version(number));
        eventually("the change was seen", || {
            serving.errors().matches("app.py has changed").count() >= number as usize - 1
        });
        // On a connection that was there before.
        assert_eq!(client.call(&json!({})), number);
    }
    fs::write(&gate, "").expect("written");
    assert_eq!(slow.answer().json(), 1);
    // Whoever served before is gone, once it has nothing in hand.
    eventually("one supervisor is left", || {
        supervisors(serving.handle.pid).len() == 1
    });
    // A module beside it, in a folder that was not there.
    fs::create_dir(folder.path.join("shop")).expect("a folder");
    fs::write(folder.path.join("shop/price.py"), "PRICE = 7\n").expect("written");
    folder.write(
        "app.py",
        "from shop.price import PRICE\ndef handler(event, context): return PRICE\n",
    );
    eventually("the folder is seen", || client.call(&json!({})) == 7);
    fs::write(folder.path.join("shop/price.py"), "PRICE = 8\n").expect("written");
    eventually("what is in it is seen", || client.call(&json!({})) == 8);
    // An editor that writes another file and puts it in the place.
    fs::write(folder.path.join(".app.py.new"), version(9)).expect("written");
    fs::rename(folder.path.join(".app.py.new"), folder.path.join("app.py")).expect("moved");
    eventually("what was moved there is seen", || {
        client.call(&json!({})) == 9
    });
}

fn supervisors(funk: u32) -> Vec<u32> {
    let children = process::descendants(funk).into_iter();
    children
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains("--http-socket")
        })
        .collect()
}

#[test]
fn a_broken_file_answers_with_its_error_until_it_is_mended() {
    let folder = Folder::new(&[("app.py", "def handler(:\n")]);
    let serving = Serving::start(&folder, &["app.py"]);
    let mut client = serving.connect();
    let answer = client.post("/", &json!({}));
    assert_eq!(answer.status, 500, "{answer:?}");
    let message = answer.json()["error"]["message"].to_string();
    assert!(
        message.contains("SyntaxError") && message.contains("app.py"),
        "{message}"
    );
    assert!(serving.errors().contains("SyntaxError"));
    folder.write("app.py", &version(1));
    eventually("it is mended", || {
        client.post("/", &json!({})).status == 200
    });
    // Not what was good before: that would be the answer of a file that is no more.
    folder.write("app.py", "import not_there\n");
    eventually("it is broken", || {
        client.post("/", &json!({})).status == 500
    });
    fs::remove_file(folder.path.join("app.py")).expect("removed");
    eventually("it is missing", || {
        let answer = client.post("/", &json!({}));
        answer.status == 500 && answer.text().contains("No such file")
    });
    folder.write("app.py", &version(2));
    eventually("it is there again", || {
        let answer = client.post("/", &json!({}));
        answer.status == 200 && answer.json() == 2
    });
}

#[test]
fn everything_that_images_speak_is_spoken() {
    let folder = Folder::new(&[("app.py", &version(1))]);
    let serving = Serving::start(&folder, &["app.py"]);
    let mut client = serving.connect();
    assert_eq!(
        client
            .post(refunction_tests::http::LAMBDA, &json!({}))
            .json(),
        1
    );
    assert_eq!(client.ask("GET", "/_/health", &[], b"").status, 200);
    assert_eq!(client.ask("GET", "/nowhere", &[], b"").status, 404);
    // Each finds the function as it was imported.
    folder.write(
        "app.py",
        "calls = 0\ndef handler(event, context):\n    global calls\n    calls += 1\n    return calls\n",
    );
    eventually("it is counted", || client.call(&json!({})) == 1);
    let port = serving.port.to_string();
    let again = ["serve", "app.py", "--port", &port];
    let mut command = folder.funk();
    command.args(again);
    host::run(&mut command, b"").fails(2, &[&port, "--port"]);
}

#[test]
fn ctrl_c_ends_all_at_once_and_leaves_nothing() {
    let folder = Folder::new(&[("app.py", &version(1))]);
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let serving = Serving::start(&folder, &["app.py"]);
        let mut client = serving.connect();
        assert_eq!(client.call(&json!({})), 1);
        let forever = json!({"wait": "/nonexistent"}).to_string();
        client.request("POST", "/", &[], forever.as_bytes());
        eventually("the call has begun", || {
            serving.output().matches("version 1").count() == 2
        });
        // One that has a call in hand, and another in its place.
        folder.write("app.py", &version(1));
        let mut other = serving.connect();
        assert_eq!(other.call(&json!({})), 1);
        let started = supervisors(serving.handle.pid);
        assert_eq!(started.len(), 2, "{started:?}");
        serving.handle.signal(signal);
        assert_eq!(serving.wait(), 0, "{signal}");
        for pid in started {
            assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{pid} lives");
        }
        folder.assert_nothing_left();
    }
}

#[test]
fn nothing_outlives_a_funk_that_is_killed() {
    let folder = Folder::new(&[("app.py", &version(1))]);
    let serving = Serving::start(&folder, &["app.py"]);
    assert_eq!(serving.connect().call(&json!({})), 1);
    let started = supervisors(serving.handle.pid);
    assert_eq!(started.len(), 1, "{started:?}");
    let line = fs::read(format!("/proc/{}/cmdline", started[0])).expect("its arguments");
    let line = String::from_utf8_lossy(&line).into_owned();
    let sockets = line.split('\0').find_map(|it| it.strip_suffix("/control"));
    serving.handle.signal(Signal::SIGKILL);
    eventually("its supervisor ends", || {
        started
            .iter()
            .all(|pid| process::status(*pid, "State").is_none_or(|it| it.starts_with('Z')))
    });
    // Nobody is left to remove it.
    fs::remove_dir_all(sockets.expect("a directory")).expect("removed");
    folder.assert_nothing_left();
}
