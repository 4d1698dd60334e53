//! The host runs out of something, or somebody dies: calls that can be answered are, the
//! others are told the cause, and nothing is lost or left.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::thread;

use nix::sys::signal::Signal;
use refunction_tests::eventually;
use refunction_tests::host::{self, Host};
use refunction_tests::node::{Node, attempt};
use refunction_tests::process::{Handle, Size};
use serde_json::{Value, json};

const ECHO: &str = "def main(args):\n    return args\n";
const SLOW: &str = "
import time
def main(args):
    print('begun', flush=True)
    time.sleep(args)
    return 'woke'
";

/// Takes all the room that is left in a directory's filesystem; dropped, it gives it back.
struct Filler(std::path::PathBuf);

impl Filler {
    fn of(directory: &Path) -> Self {
        let path = directory.join("filler");
        let mut file = File::create(&path).expect("a file");
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        Self(path)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A refusal that names its cause by one of these words.
#[track_caller]
fn named(answer: &(u16, Value), statuses: &[u16], words: &[&str]) {
    let (status, body) = answer;
    assert!(statuses.contains(status), "{status} {body}");
    let message = body["error"]["message"].as_str().unwrap_or_default();
    assert!(
        words.iter().any(|it| message.to_lowercase().contains(it)),
        "{status} {body}"
    );
}

#[test]
fn on_a_full_disk_what_runs_goes_on_and_what_needs_room_is_told_so() {
    let start = |arguments: &[&str]| Host::start_on(arguments, [Some(32), Some(900)]);
    let node = Node::start_by("full", "[node]\nmax_containers = 4\n", start);
    node.put("warm", ECHO, &json!({}));
    // In a pool of its own: it needs a container of its own.
    node.put("other", ECHO, &json!({"memory_bytes": 256 << 20}));
    node.ok("warm", &json!(1));
    let port = node.port();
    for directory in [node.host.root(), node.host.state()] {
        let filler = Filler::of(directory);
        for number in 0..5 {
            assert_eq!(node.ok("warm", &json!(number)).0, json!(number));
        }
        let answer = attempt(port, "other", &json!(1)).expect("an answer");
        if directory == node.host.root() {
            let function = json!({"image": "refunction/python", "code": "x".repeat(1 << 20)});
            let put = node.ask("PUT", "/functions/big", &function);
            assert_eq!(put.status, 507, "{}", put.text());
            assert_eq!(put.json()["error"]["kind"], "no_space");
            // A root filesystem may have had room in what exists already.
            if answer.0 != 200 {
                named(&answer, &[503], &["space", "no room"]);
            }
        } else if answer.0 != 200 {
            named(&answer, &[503], &["space", "no room"]);
        }
        let create = ["create", "--image", "refunction/python"];
        let id = node.host.id("more");
        let made = node.host.funk(&[&create[..], &["--name", &id]].concat());
        if directory == node.host.state() {
            made.fails(8, &["no room left on the disk"]);
        } else if made.code == 0 {
            node.host.funk(&["rm", &id]).ok();
        }
        drop(filler);
        eventually("with room it is made", || {
            attempt(port, "other", &json!(1)).expect("an answer").0 == 200
        });
    }
    assert_eq!(node.ok("warm", &json!(1)).0, json!(1));
    node.host.assert_no_stray();
    node.end();
}

#[test]
fn without_descriptors_clients_are_told_so_and_nobody_is_lost() {
    const CLIENTS: u64 = 60;
    let node = Node::start(
        "descriptors",
        "[node]\nmax_containers = 2\nlongest_wait = \"10s\"\n",
    );
    node.put("f", ECHO, &json!({}));
    node.put("other", ECHO, &json!({"memory_bytes": 256 << 20}));
    node.ok("f", &json!(1));
    let daemon = node.host.daemon().pid;
    let limit = |soft: &str| {
        let mut command = Command::new("prlimit");
        command.args(["--pid", &daemon.to_string(), &format!("--nofile={soft}")]);
        let answer = host::run(&mut command, b"");
        assert_eq!(answer.code, 0, "{answer:?}");
    };
    let before = Size::of(daemon).descriptors;
    let limits = fs::read_to_string(format!("/proc/{daemon}/limits")).expect("its limits");
    let files = limits.lines().find(|it| it.starts_with("Max open files"));
    let words: Vec<&str> = files.expect("a line").split_whitespace().collect();
    // It lets itself have all that it may.
    assert_eq!(words[3], words[4], "{words:?}");
    limit(&format!("{}:", before + 8));
    let port = node.port();
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                for round in 0..5 {
                    let argument = json!([client, round]);
                    let answer = attempt(port, "f", &argument).expect("an answer");
                    if answer.0 == 200 {
                        assert_eq!(answer.1, argument);
                    } else {
                        named(&answer, &[429, 503], &["busy", "open files"]);
                    }
                }
            });
        }
        // What cannot be made says why; it may just have had enough.
        scope.spawn(move || {
            let answer = attempt(port, "other", &json!(1)).expect("an answer");
            if answer.0 != 200 {
                named(&answer, &[429, 503], &["open files", "busy", "containerd"]);
            }
        });
    });
    limit(&format!("{}:", words[4]));
    eventually("it is made with descriptors", || {
        attempt(port, "other", &json!(1)).expect("an answer").0 == 200
    });
    eventually("no descriptor is left open", || {
        // The other container has its own, some ten.
        Size::of(daemon).descriptors <= before + 16
    });
    node.host.assert_no_stray();
    node.end();
}

#[test]
fn a_budget_that_is_used_up_is_a_clear_busy() {
    let settings = "[node]\nmemory = \"600M\"\n[[pool]]\nimage = \"refunction/python\"\nmin = 0\nmemory = \"256M\"\n";
    let node = Node::start("budget", settings);
    node.put("slow", SLOW, &json!({}));
    node.put("other", ECHO, &json!({"memory_bytes": 300 << 20}));
    node.put("huge", ECHO, &json!({"memory_bytes": 4_u64 << 30}));
    let port = node.port();
    let huge = attempt(port, "huge", &json!(1)).expect("an answer");
    named(&huge, &[503], &["more than the node may have"]);
    thread::scope(|scope| {
        let calls: Vec<_> = (0..2)
            .map(|_| scope.spawn(move || attempt(port, "slow", &json!(8)).expect("an answer")))
            .collect();
        eventually("both run", || {
            let logs = node.host.funk(&["logs", "--function", "slow"]).ok();
            let lines = logs["lines"].as_array().expect("lines");
            lines.iter().filter(|it| it["line"] == "begun").count() == 2
        });
        // Both have what they were given, and there is no room for a third.
        let headers = [("x-deadline-ms", "500")];
        let mut connection = refunction_tests::http::Connection::to(port);
        let answer = connection.ask("POST", "/functions/other", &headers, b"1");
        assert_eq!(answer.status, 429, "{}", answer.text());
        assert_eq!(answer.json()["error"]["kind"], "busy");
        for call in calls {
            assert_eq!(call.join().expect("asked"), (200, json!("woke")));
        }
    });
    // Those that have nothing to do make room.
    assert_eq!(node.ok("other", &json!(1)).0, json!(1));
    node.end();
}

#[test]
fn a_host_short_of_memory_makes_no_container_and_says_so() {
    let mut node = Node::start("short", "[node]\nmin_available = \"0\"\n");
    node.put("f", ECHO, &json!({}));
    node.ok("f", &json!(1));
    assert_eq!(node.containers().len(), 1);
    // More than any host has.
    node.configure("[node]\nmin_available = \"1000000G\"\n");
    node.host.restart_killed(|_| {});
    eventually("idle containers make room", || node.containers().is_empty());
    let answer = attempt(node.port(), "f", &json!(1)).expect("an answer");
    named(&answer, &[503], &["short of memory"]);
    node.configure("[node]\nmin_available = \"0\"\n");
    node.host.restart_killed(|_| {});
    assert_eq!(node.ok("f", &json!(2)).0, json!(2));
    node.end();
}

#[test]
fn containerd_dies_and_comes_back() {
    let node = Node::start("restarted", "[node]\nmax_containers = 4\n");
    node.put("warm", ECHO, &json!({}));
    node.put("other", ECHO, &json!({"memory_bytes": 256 << 20}));
    let answer = node.call("warm", &json!(1));
    assert_eq!(answer.status, 200, "{}", answer.text());
    // One that is being made beside it may go with containerd.
    let id = answer.header("x-refunction-container").to_owned();
    let port = node.port();
    for _ in 0..2 {
        let containerd = Handle::open(node.host.containerd()).expect("it runs");
        containerd.signal(Signal::SIGKILL);
        for number in 0..20 {
            assert_eq!(node.ok("warm", &json!(number)).0, json!(number));
        }
        let answer = attempt(port, "other", &json!(1)).expect("an answer");
        if answer.0 != 200 {
            named(&answer, &[503], &["containerd"]);
        }
        eventually("another is there", || {
            attempt(port, "other", &json!(1)).expect("an answer").0 == 200
        });
        assert!(!containerd.is_alive());
        // The containers are the same.
        assert!(node.containers().contains(&id));
    }
    // What it did not tell of while it was away is known all the same.
    let init = node.init(&id);
    let containerd = Handle::open(node.host.containerd()).expect("it runs");
    containerd.signal(Signal::SIGKILL);
    init.signal(Signal::SIGKILL);
    eventually("the dead one is replaced", || {
        attempt(port, "warm", &json!(1)).expect("an answer").0 == 200
    });
    node.host.assert_no_stray();
    node.end();
}

#[test]
fn a_daemon_that_is_killed_cuts_its_calls_off_and_the_next_has_its_containers() {
    let mut node = Node::start("killed", "[node]\nmax_containers = 3\n");
    node.put("slow", SLOW, &json!({}));
    node.put("f", ECHO, &json!({}));
    node.ok("f", &json!(1));
    let port = node.port();
    let calls: Vec<_> = (0..2)
        .map(|_| thread::spawn(move || attempt(port, "slow", &json!(5))))
        .collect();
    eventually("both run", || {
        let logs = node.host.funk(&["logs", "--function", "slow"]).ok();
        let lines = logs["lines"].as_array().expect("lines");
        lines.iter().filter(|it| it["line"] == "begun").count() == 2
    });
    // One that is half made does not outlive its maker.
    eventually("none is being made", || {
        let listed = node.host.funk(&["list"]).ok();
        let all = listed["containers"].as_array().expect("a list");
        all.iter().all(|it| it["state"] != "starting")
    });
    let before = node.containers();
    node.host.restart_killed(|_| {
        for call in calls {
            // At once, rather than never.
            call.join().expect("asked").expect_err("cut off");
        }
    });
    // All of them are known, and what they hold of the last daemon's calls is not.
    let mut after = node.containers();
    after.sort_unstable();
    let mut before = before;
    before.sort_unstable();
    assert_eq!(after, before);
    for number in 0..20 {
        assert_eq!(node.ok("f", &json!(number)).0, json!(number));
        assert_eq!(node.ok("slow", &json!(0)).0, json!("woke"));
    }
    node.host.assert_no_stray();
    assert_eq!(node.containers().len(), before.len());
    node.end();
}
