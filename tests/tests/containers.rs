//! Real containers, through refunctiond and a containerd of its own: what `funk`
//! says, and that nothing is left.

use std::path::Path;
use std::process::Command;

use refunction_tests::environment;
use refunction_tests::host::{self, Host};
use serde_json::{Value, json};

const ECHO: &str = "def main(args):\n    print('called with', args)\n    return args\n";

/// Leaves its secret in every place it can think of.
const TENANT_A: &str = "
import json, os, string, subprocess, threading
def main(args):
    secret = args['secret']
    string.secret = secret
    os.environ['SECRET'] = secret
    for path in ('/tmp/.secret', '/var/tmp/secret', '/dev/shm/secret'):
        with open(path, 'w') as file: file.write(secret)
    json.dumps = lambda *_, **__: secret
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    subprocess.Popen(['/bin/sleep', '1000'], start_new_session=True)
    return len(secret)
";

/// Looks for it there.
const TENANT_B: &str = "
import json, os, string, threading
def main(args):
    found = [place for place in ('/tmp/.secret', '/var/tmp/secret', '/dev/shm/secret') if os.path.exists(place)]
    if hasattr(string, 'secret'): found.append('module')
    if 'SECRET' in os.environ: found.append('environment')
    if json.dumps(1) != '1': found.append('json.dumps')
    if len(os.listdir('/proc/self/task')) != 1: found.append('thread')
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try: name = open(f'/proc/{pid}/comm').read().strip()
        except OSError: continue
        if name == 'sleep': found.append('process')
    return found
";

#[test]
fn a_container_lives_serves_two_tenants_and_leaves_nothing() {
    let mut host = Host::with_image();
    let id = host.create("life", &["--memory", "256M"]);
    let listed = host.funk(&["list"]).ok();
    let container = &listed["containers"][0];
    assert_eq!(container["id"], id, "{listed}");
    assert_eq!(container["state"], "ready", "{listed}");
    assert_eq!(container["runtime"], "python", "{listed}");
    assert_eq!(container["memory_bytes"], 256 << 20, "{listed}");

    host.load(&id, ECHO);
    let answer = host.request(&id, r#"{"größe": [1, 2.50, null]}"#).ok();
    assert_eq!(answer["value"], json!({"größe": [1, 2.5, null]}));
    let request_id = answer["request_id"].as_str().expect("an id").to_owned();
    let logs = host.funk(&["logs", "-c", &id]).ok();
    let line = logs["lines"]
        .as_array()
        .expect("lines")
        .iter()
        .find(|line| line["stream"] == "stdout")
        .unwrap_or_else(|| panic!("nothing was printed: {logs}"))
        .clone();
    assert_eq!(line["line"], "called with {'größe': [1, 2.5, None]}");
    assert_eq!(line["request_id"], request_id, "{logs}");

    // Default capabilities, the RuntimeDefault seccomp profile: and still in place.
    for round in 0..20 {
        let restored = host.funk(&["restore", "-c", &id]).ok();
        assert_eq!(restored["method"], "rewind", "{round}: {restored}");
        host.load(&id, TENANT_A);
        let secret = json!({"secret": format!("4929 0110 2233 {round:04}")}).to_string();
        assert_eq!(host.request(&id, &secret).ok()["value"], 19);
        let restored = host.funk(&["restore", "-c", &id]).ok();
        assert_eq!(restored["method"], "rewind", "{round}: {restored}");
        host.load(&id, TENANT_B);
        assert_eq!(host.request(&id, "null").ok()["value"], json!([]));
    }
    let status = host.funk(&["status", "-c", &id]).ok();
    assert_eq!(status["reforks"], 0, "{status}");

    // Large, and as it came.
    host.load(&id, "def main(args):\n    return args\n");
    let large = json!("x".repeat(5_000_000)).to_string();
    let answer = host.request(&id, &large).ok();
    assert_eq!(answer["value"].as_str().map(str::len), Some(5_000_000));

    let removed = host.funk(&["rm", &id]).ok();
    assert_eq!(removed["removed"], json!([id]));
    host.assert_no_container_left();
    assert_eq!(host.stop(), Some(0));
    host.assert_ended();
}

#[test]
fn the_worker_is_as_unprivileged_as_it_should_be() {
    let host = Host::with_image();
    let id = host.create("privileges", &[]);
    host.load(
        &id,
        "import os
def main(args):
    status = dict(line.split(':\\t', 1) for line in open('/proc/self/status').read().splitlines() if ':\\t' in line)
    writable = []
    for place, directories, files in os.walk('/'):
        if place == '/': directories[:] = [it for it in directories if it not in ('proc', 'sys')]
        if os.access(place, os.W_OK): writable.append(place)
    return {'uid': os.getuid(), 'groups': os.getgroups(), 'caps': status['CapEff'].strip(), 'bounds': status['CapPrm'].strip(),
            'seccomp': status['Seccomp'].strip(), 'no_new_privs': status['NoNewPrivs'].strip(), 'writable': writable,
            'init': os.access('/proc/1/mem', os.R_OK), 'pids': sorted(int(it) for it in os.listdir('/proc') if it.isdigit())}
",
    );
    let seen = host.request(&id, "null").ok()["value"].take();
    assert_ne!(seen["uid"], 0, "{seen}");
    assert_eq!(seen["groups"], json!([]), "{seen}");
    assert_eq!(seen["caps"], "0000000000000000", "{seen}");
    assert_eq!(seen["bounds"], "0000000000000000", "{seen}");
    assert_eq!(seen["seccomp"], "2", "{seen}");
    assert_eq!(seen["no_new_privs"], "1", "{seen}");
    assert_eq!(seen["init"], false, "{seen}");
    // The supervisor, the template and the worker: nobody else's.
    assert_eq!(seen["pids"].as_array().map(Vec::len), Some(3), "{seen}");
    let writable = seen["writable"].as_array().expect("a list");
    for place in writable {
        let place = Path::new(place.as_str().expect("a path"));
        assert!(
            ["/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue"]
                .iter()
                .any(|known| place.starts_with(known)),
            "{place:?} can be written to"
        );
    }
    assert_eq!(host.funk(&["restore", "-c", &id]).ok()["method"], "rewind");
    host.funk(&["rm", "--all"]).ok();
    host.assert_no_container_left();
}

#[test]
fn funk_runs_a_file_in_a_container_of_its_own() {
    let host = Host::with_image();
    let directory = std::env::temp_dir().join(host.id("functions"));
    std::fs::create_dir(&directory).expect("a directory");
    let file = |name: &str, source: &str| {
        let path = directory.join(name);
        std::fs::write(&path, source).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let echo = file("echo.py", ECHO);
    const IMAGE: [&str; 3] = ["run", "--image", "refunction/python"];
    let run = |arguments: &[&str]| host.funk(&[&IMAGE, arguments].concat());
    let answer = run(&[&echo, "--event", "[1,2]"]);
    assert!(answer.errors.contains("called with [1, 2]"), "{answer:?}");
    assert_eq!(answer.ok()["value"], json!([1, 2]));
    let entry = file(
        "entry.py",
        "import os\ndef other(event, context):\n    return os.environ['A']\n",
    );
    let answer = run(&[&entry, "--handler", "function.other", "-e", "A=b=c"]);
    assert_eq!(answer.ok()["value"], "b=c");
    let raising = file(
        "raising.py",
        "def main(args):\n    raise KeyError('missing')\n",
    );
    run(&[&raising]).fails(1, &["KeyError", "missing", "raise"]);
    let wrong = file("wrong.py", "def main(args:\n");
    run(&[&wrong]).fails(1, &["SyntaxError"]);
    let slow = file(
        "slow.py",
        "import time\ndef main(args):\n    time.sleep(100)\n",
    );
    run(&[&slow, "--deadline-ms", "500"]).fails(5, &["500 ms"]);
    let dying = file("dying.py", "import os\ndef main(args):\n    os._exit(3)\n");
    run(&[&dying]).fails(6, &["status 3"]);
    run(&[&echo, "--event", "{"]).fails(2, &["JSON"]);
    run(&["/nonexistent.py"]).fails(2, &["nonexistent"]);
    host.funk(&["run", &echo, "--image", "refunction/cobol"])
        .fails(3, &["cobol"]);
    std::fs::remove_dir_all(directory).expect("removed");
    host.assert_no_container_left();
}

#[test]
fn whatever_is_wrong_has_a_code_and_a_cause() {
    let host = Host::with_image();
    host.funk(&["create", "--image", "refunction/cobol"])
        .fails(3, &["cobol"]);
    host.funk(&[
        "create",
        "--image",
        "refunction/python",
        "--name",
        "no/slash",
    ])
    .fails(2, &["no/slash"]);
    host.funk(&["create", "--image", "refunction/python", "--memory", "much"])
        .fails(2, &["much"]);
    for arguments in [
        &["request", "-c", "nobody", "-r", "1"][..],
        &["function", "-c", "nobody", "-f", "def main(a): return a"],
        &["restore", "-c", "nobody"],
        &["status", "-c", "nobody"],
        &["logs", "-c", "nobody"],
        &["rm", "nobody"],
    ] {
        host.funk(arguments).fails(3, &["nobody"]);
    }
    let id = host.create("wrong", &[]);
    host.funk(&["create", "--image", "refunction/python", "--name", &id])
        .fails(2, &[&id]);
    host.request(&id, "1").fails(2, &["not_loaded"]);
    host.request(&id, "{not json").fails(2, &["JSON"]);
    host.funk_reading(&["function", "-c", &id, "-f", "-"], b"def main(a:\n")
        .fails(1, &["SyntaxError"]);
    host.load(&id, "def main(args):\n    return 1 / args\n");
    host.request(&id, "0").fails(1, &["ZeroDivisionError"]);
    assert_eq!(host.request(&id, "2").ok()["value"], 0.5);
    host.load(
        &id,
        "import time\ndef main(args):\n    time.sleep(args)\n    return 'slept'\n",
    );
    host.funk(&["request", "-c", &id, "-r", "100", "--deadline-ms", "300"])
        .fails(5, &["300 ms"]);
    assert_eq!(host.request(&id, "0").ok()["value"], "slept");
    host.load(
        &id,
        "import os\ndef main(args):\n    os.kill(os.getpid(), args)\n    return 'alive'\n",
    );
    host.request(&id, "9").fails(6, &["SIGKILL"]);
    host.request(&id, "11").fails(6, &["SIGSEGV"]);
    assert_eq!(host.request(&id, "0").ok()["value"], "alive");
    host.funk(&["rm", &id]).ok();
    host.funk(&["request", "-c", &id, "-r", "1"])
        .fails(3, &[&id]);
    host.assert_no_container_left();

    let mut command = Command::new(environment::file("FUNK"));
    command.args([
        "--target",
        "unix:///nonexistent/control.sock",
        "--output",
        "json",
        "list",
    ]);
    let answer = host::run(&mut command, b"");
    answer.fails(4, &["/nonexistent/control.sock"]);
    assert_eq!(answer.json["error"]["kind"], "unreachable", "{answer:?}");
}

#[test]
fn a_function_without_memory_is_told_from_one_that_crashed() {
    let host = Host::with_image();
    for (name, megabytes) in [("small", 64), ("larger", 128)] {
        let id = host.create(name, &["--memory", &format!("{megabytes}M")]);
        host.load(
            &id,
            "def main(args):\n    return len(bytearray(b'x') * args)\n",
        );
        assert_eq!(host.request(&id, "1000000").ok()["value"], 1_000_000);
        for _ in 0..3 {
            let answer = host.request(&id, "1000000000");
            let limit = format!("limit {}", megabytes << 20);
            answer.fails(6, &["out of memory", &limit, "peak"]);
            assert_eq!(answer.json["error"]["kind"], "out_of_memory", "{answer:?}");
            // The container lives, and so does the function.
            assert_eq!(host.request(&id, "1000").ok()["value"], 1000);
        }
        // Another death is not taken for that.
        host.load(
            &id,
            "import os\ndef main(args):\n    os.kill(os.getpid(), 9)\n",
        );
        let answer = host.request(&id, "1");
        assert_eq!(answer.json["error"]["kind"], "crashed", "{answer:?}");
        host.funk(&["rm", &id]).ok();
    }
    host.assert_no_container_left();
}

#[test]
fn a_container_that_is_killed_says_so_and_can_be_removed() {
    let mut host = Host::with_image();
    let killed = host.create("killed", &[]);
    let other = host.create("other", &[]);
    host.load(&killed, ECHO);
    host.load(&other, ECHO);
    let answer = host.ctr(&["tasks", "kill", "--signal", "SIGKILL", &killed]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let answer = host.request(&killed, "1");
    answer.fails(6, &["SIGKILL"]);
    let listed = host.funk(&["list"]).ok();
    let container = listed["containers"]
        .as_array()
        .and_then(|all| all.iter().find(|it| it["id"] == killed.as_str()))
        .expect("still listed");
    assert_eq!(container["state"], "ended", "{container}");
    assert!(
        container["ended"]
            .as_str()
            .is_some_and(|it| it.contains("SIGKILL")),
        "{container}"
    );
    // While a call is in flight.
    let busy = host.create("busy", &[]);
    host.load(
        &busy,
        "import time\ndef main(args):\n    print('in it', flush=True)\n    time.sleep(100)\n",
    );
    std::thread::scope(|scope| {
        let calling = scope.spawn(|| host.request(&busy, "1"));
        refunction_tests::eventually("the call has begun", || {
            let lines = host.funk(&["logs", "-c", &busy]).ok()["lines"].take();
            lines
                .as_array()
                .is_some_and(|lines| lines.iter().any(|it| it["line"] == "in it"))
        });
        host.ctr(&["tasks", "kill", "--signal", "SIGKILL", &busy]);
        let answer = calling.join().expect("it came back");
        answer.fails(6, &["SIGKILL"]);
    });
    assert_eq!(host.request(&other, "2").ok()["value"], 2);
    let removed = host.funk(&["rm", &killed, &busy]).ok();
    assert_eq!(removed["failed"], json!([]), "{removed}");
    // The daemon removes what is left of its private containerd's, as it ends.
    assert_eq!(host.stop(), Some(0));
    host.assert_ended();
}

#[test]
fn many_containers_at_once_are_each_their_own() {
    let host = Host::with_image();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let host = &host;
            scope.spawn(move || {
                let id = host.create(&format!("many{number}"), &[]);
                for round in 0..3 {
                    host.load(&id, ECHO);
                    let mine = json!([number, round]);
                    assert_eq!(host.request(&id, &mine.to_string()).ok()["value"], mine);
                    let restored: Value = host.funk(&["restore", "-c", &id]).ok();
                    assert_eq!(restored["method"], "rewind", "{restored}");
                }
            });
        }
    });
    let removed = host.funk(&["rm", "--all"]).ok();
    assert_eq!(
        removed["removed"].as_array().map(Vec::len),
        Some(4),
        "{removed}"
    );
    host.assert_no_container_left();
}
