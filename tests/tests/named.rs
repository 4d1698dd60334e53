//! Functions by name, over HTTP, in real containers: deployed once, scheduled, kept apart, and
//! answered whatever happens to daemon, containerd and containers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use refunction_tests::eventually;
use refunction_tests::http::{Answer, Connection};
use refunction_tests::node::{Node, ask};
use refunction_tests::process::Handle;
use serde_json::json;

/// Leaves what it is given in every place it can think of, and says what it finds there.
const TENANT: &str = "
import os, string, sys
def main(args):
    found = [value for value in (getattr(string, 'secret', None), os.environ.get('SECRET')) if value]
    for place in ('/tmp/secret', '/var/tmp/secret', '/dev/shm/secret'):
        if os.path.exists(place): found.append(open(place).read())
        open(place, 'w').write(args['secret'])
    string.secret = os.environ['SECRET'] = args['secret']
    return {'found': sorted(set(found)), 'own': args['secret']}
";

#[test]
fn functions_by_name_share_a_container_and_see_nothing_of_each_other() {
    let node = Node::start("share", "[node]\nmax_containers = 1\n");
    for name in ["a", "b", "c"] {
        let stored = node.put(name, TENANT, &json!({}));
        assert_eq!(stored["name"], name, "{stored}");
    }
    let (_, start) = node.ok("a", &json!({"secret": "a0"}));
    assert_eq!(start, "created");
    // Its own state stays while its container keeps it, as in any such system.
    let (answer, start) = node.ok("a", &json!({"secret": "a1"}));
    assert_eq!(
        (answer["found"].clone(), start.as_str()),
        (json!(["a0"]), "warm")
    );
    for round in 0..10 {
        for name in ["b", "c", "a"] {
            let (answer, start) = node.ok(name, &json!({"secret": format!("{name}{round}")}));
            assert_eq!(answer["found"], json!([]), "{name} {round}: {answer}");
            assert_eq!(start, "swapped", "{name} {round}");
        }
    }
    assert_eq!(node.containers().len(), 1);
    // Nobody meddles with what is scheduled.
    let id = node.containers().remove(0);
    for arguments in [
        vec!["restore", "-c", &id],
        vec!["request", "-c", &id, "-r", "1"],
    ] {
        node.host.funk(&arguments).fails(8, &["pool"]);
    }
    // Another revision is another function.
    node.put("a", "def main(args):\n    return 'new'\n", &json!({}));
    assert_eq!(node.ok("a", &json!(null)).0, "new");
    let deleted = node.ask("DELETE", "/functions/a", &json!(null));
    assert_eq!(deleted.status, 204, "{}", deleted.text());
    assert_eq!(node.call("a", &json!(null)).status, 404);
    node.end();
}

#[test]
fn what_a_function_does_wrong_is_named_and_harms_nobody_else() {
    let node = Node::start("wrong", "[node]\nmax_containers = 1\n");
    let kinds = [
        (
            "raises",
            "def main(args):\n    raise ValueError('no')\n",
            "exception",
        ),
        (
            "dies",
            "import os\ndef main(args):\n    os.kill(os.getpid(), 9)\n",
            "crashed",
        ),
        (
            "hangs",
            "def main(args):\n    while True: pass\n",
            "timeout",
        ),
    ];
    for (name, code, _) in kinds {
        node.put(name, code, &json!({"deadline_ms": 500}));
    }
    node.put("fine", TENANT, &json!({}));
    node.put("broken", "def main(args:\n", &json!({}));
    for (name, _, kind) in kinds {
        let answer = node.call(name, &json!(1));
        assert!(answer.status >= 400, "{name}: {}", answer.text());
        assert_eq!(answer.json()["error"]["kind"], kind, "{}", answer.text());
        let (found, _) = node.ok("fine", &json!({"secret": name}));
        assert_eq!(found["found"], json!([]), "{name}");
    }
    let answer = node.call("broken", &json!(1));
    assert!(answer.status >= 400, "{}", answer.text());
    assert!(answer.text().contains("SyntaxError"), "{}", answer.text());
    node.ok("fine", &json!({"secret": "x"}));
    node.end();
}

#[test]
fn too_much_at_once_waits_and_then_is_refused_with_a_hint() {
    let settings = "[node]\nmax_containers = 1\nqueue = 2\nqueue_per_function = 2\n";
    let node = Node::start("busy", settings);
    let slow = "import time\ndef main(args):\n    time.sleep(1)\n    return args\n";
    node.put("slow", slow, &json!({}));
    node.ok("slow", &json!(0));
    let port = node.port();
    let answers: Vec<Answer> = thread::scope(|scope| {
        let calls: Vec<_> = (0..6)
            .map(|number| scope.spawn(move || ask(port, "POST", "/functions/slow", &json!(number))))
            .collect();
        calls
            .into_iter()
            .map(|it| it.join().expect("asked"))
            .collect()
    });
    let mut statuses = BTreeMap::new();
    for answer in &answers {
        *statuses.entry(answer.status).or_insert(0) += 1;
        if answer.status == 429 {
            let after: u64 = answer.header("retry-after").parse().expect("seconds");
            assert!((1..=60).contains(&after), "{after}");
        }
    }
    assert_eq!(statuses, BTreeMap::from([(200, 3), (429, 3)]));
    node.end();
}

#[test]
fn a_container_that_dies_is_replaced_and_its_call_told_why() {
    let node = Node::start("dies", "[node]\nmax_containers = 1\n");
    node.put(
        "slow",
        "import time\ndef main(args):\n    print('begun', flush=True)\n    time.sleep(args)\n    return 'woke'\n",
        &json!({}),
    );
    node.ok("slow", &json!(0));
    let id = node.containers().remove(0);
    let init = node.init(&id);
    let port = node.port();
    let answer = thread::scope(|scope| {
        let call = scope.spawn(move || ask(port, "POST", "/functions/slow", &json!(60)));
        eventually("the call runs", || {
            let logs = node.host.funk(&["logs", "-c", &id]).ok();
            let lines = logs["lines"].as_array().expect("lines");
            lines.iter().filter(|it| it["line"] == "begun").count() == 2
        });
        init.signal(Signal::SIGKILL);
        call.join().expect("asked")
    });
    assert!(answer.status >= 500, "{}", answer.text());
    assert!(answer.text().contains("SIGKILL"), "{}", answer.text());
    let (value, start) = node.ok("slow", &json!(0));
    assert_eq!((value, start.as_str()), (json!("woke"), "created"));
    let others = node.containers();
    assert!(others.len() == 1 && others[0] != id, "{others:?}");
    node.end();
}

#[test]
fn calls_go_on_while_containerd_hangs_and_what_needs_it_is_told_so() {
    let node = Node::start("hangs", "[node]\nmax_containers = 2\n");
    node.put("warm", "def main(args):\n    return args\n", &json!({}));
    let other = json!({"memory_bytes": 256 << 20, "deadline_ms": 1000});
    node.put("other", "def main(args):\n    return args\n", &other);
    node.ok("warm", &json!(1));
    let containerd = Handle::open(node.host.containerd()).expect("it runs");
    containerd.signal(Signal::SIGSTOP);
    // The socket's own queue still takes connections: only silence tells.
    let answer = thread::scope(|scope| {
        let port = node.port();
        let waiting = scope.spawn(move || ask(port, "POST", "/functions/other", &json!(1)));
        while !waiting.is_finished() {
            assert_eq!(ask(port, "POST", "/functions/warm", &json!(1)).status, 200);
            thread::sleep(Duration::from_millis(100));
        }
        waiting.join().expect("asked")
    });
    containerd.signal(Signal::SIGCONT);
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("containerd"), "{}", answer.text());
    eventually("it is made when containerd goes on", || {
        node.call("other", &json!(1)).status == 200
    });
    node.end();
}

#[test]
fn fifty_clients_lose_nothing() {
    const CLIENTS: u64 = 50;
    let node = Node::start("clients", "[node]\nmax_containers = 4\n");
    for number in 0..8 {
        let code = format!("def main(args):\n    return [{number}, args]\n");
        node.put(&format!("f{number}"), &code, &json!({}));
    }
    let port = node.port();
    let until = Instant::now() + Duration::from_secs(10);
    let answered = AtomicU64::new(0);
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let answered = &answered;
            scope.spawn(move || {
                let mut connection = Connection::to(port);
                let mut number = client;
                while Instant::now() < until {
                    number += 1;
                    let function = number % 8;
                    let path = format!("/functions/f{function}");
                    let body = number.to_string();
                    let headers = [("content-type", "application/json")];
                    let answer = connection.ask("POST", &path, &headers, body.as_bytes());
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    assert_eq!(answer.json(), json!([function, number]));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert!(answered.load(Ordering::Relaxed) > CLIENTS);
    assert!(node.containers().len() <= 4);
    node.end();
}
