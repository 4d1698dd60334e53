//! kill -9 of daemon, containerd, supervisors and workers, in random order and under load: each
//! call is answered or fails for a cause that it is told, and nothing is left in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use refunction_tests::eventually;
use refunction_tests::node::{Node, attempt};
use refunction_tests::process::Handle;
use refunction_tests::random::Random;
use serde_json::json;
use sha2::{Digest, Sha256};

/// How long, if `REFUNCTION_CHAOS_SECONDS` does not say it.
const SECONDS: u64 = 45;

const CLIENTS: u64 = 6;
const FUNCTIONS: u64 = 12;

/// Where every containerd's shims have their sockets.
const SOCKETS: &str = "/run/containerd/s";

/// Takes some milliseconds, and leaves something of its own behind.
const FUNCTION: &str = "
import string, time
def main(args):
    seen = getattr(string, 'seen', NAME)
    string.seen = NAME
    time.sleep(args['ms'] / 1000)
    return [NAME, seen, args['number']]
";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Daemon,
    Containerd,
    Supervisor,
    Worker,
}

const VICTIMS: [Victim; 4] = [
    Victim::Daemon,
    Victim::Containerd,
    Victim::Supervisor,
    Victim::Worker,
];

/// When there was no daemon: from its death until the next one serves.
#[derive(Default)]
struct Absences(Mutex<Vec<(Instant, Option<Instant>)>>);

impl Absences {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Instant, Option<Instant>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there was one between these.
    fn excuse(&self, from: Instant, to: Instant) -> bool {
        self.lock()
            .iter()
            .any(|(began, ended)| *began <= to && ended.is_none_or(|ended| ended >= from))
    }
}

/// What became of all calls: answers by their status and kind.
type Outcomes = BTreeMap<String, u64>;

/// One call, and whether that is what may become of one.
fn call(port: &AtomicU16, absences: &Absences, random: &mut Random, outcomes: &Mutex<Outcomes>) {
    let function = random.below(FUNCTIONS);
    let number = random.number() >> 12;
    let name = format!("f{function}");
    let argument = json!({"ms": random.below(30), "number": number});
    let began = Instant::now();
    let answer = attempt(port.load(Ordering::SeqCst), &name, &argument);
    let ended = Instant::now();
    let what = match answer {
        Ok((200, value)) => {
            // Its own, with nothing of another function's in it.
            assert_eq!(value, json!([function, function, number]), "{name}");
            "200".to_owned()
        }
        Ok((status, body)) => {
            let error = &body["error"];
            let message = error["message"].as_str().unwrap_or_default();
            let kind = error["kind"].as_str().unwrap_or_default();
            assert!(!message.is_empty() && !kind.is_empty(), "{status} {body}");
            let may = [
                "crashed",
                "busy",
                "no_container",
                "not_loaded",
                "backing_off",
                "stopping",
            ];
            assert!(may.contains(&kind), "{status} {body}");
            // Its code is fine: only its worker can have been killed.
            let is_killed = kind != "not_loaded" || error["cause"] == "crashed";
            assert!(is_killed, "{status} {body}");
            format!("{status} {kind}")
        }
        Err(error) => {
            assert!(
                absences.excuse(began, ended),
                "{name}: {error} after {:?}, with a daemon that lived",
                ended - began
            );
            let kinds = [
                ErrorKind::ConnectionRefused,
                ErrorKind::ConnectionReset,
                ErrorKind::BrokenPipe,
                ErrorKind::UnexpectedEof,
            ];
            assert!(kinds.contains(&error.kind()), "{name}: {error}");
            // Nobody listens: no reason to ask again at once.
            thread::sleep(Duration::from_millis(20));
            "no daemon".to_owned()
        }
    };
    let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
    *outcomes.entry(what).or_default() += 1;
}

fn strike(
    node: &mut Node,
    victim: Victim,
    random: &mut Random,
    port: &AtomicU16,
    absences: &Absences,
) {
    match victim {
        Victim::Daemon => {
            absences.lock().push((Instant::now(), None));
            node.host.restart_killed(|_| {});
            port.store(node.port(), Ordering::SeqCst);
            if let Some((_, ended)) = absences.lock().last_mut() {
                *ended = Some(Instant::now());
            }
        }
        Victim::Containerd => {
            if let Some(containerd) = node.host.private_containerd().and_then(Handle::open) {
                containerd.signal(Signal::SIGKILL);
            }
        }
        Victim::Supervisor | Victim::Worker => {
            let [supervisors, workers] = node.host.inside();
            let those = if victim == Victim::Supervisor {
                supervisors
            } else {
                workers
            };
            if !those.is_empty() {
                random.one_of(&those).signal(Signal::SIGKILL);
            }
        }
    }
}

/// The sockets of shims that these containers had.
fn sockets(state: &Path, namespace: &str, ids: &BTreeSet<String>) -> Vec<String> {
    let address = state.join("containerd/containerd.sock");
    let of = |id: &String| {
        // As containerd names them.
        let path = address.join(namespace).join(id);
        let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
        let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Path::new(SOCKETS).join(name)
    };
    let there = ids.iter().map(of).filter(|it| it.exists());
    there
        .map(|it| {
            let lives = UnixStream::connect(&it).is_ok();
            format!(
                "{} {}",
                it.display(),
                if lives { "lives" } else { "is dead" }
            )
        })
        .collect()
}

/// All containers that the daemons made, by what they said.
fn made(log: &str) -> BTreeSet<String> {
    log.lines()
        .filter_map(|line| line.split_once("container=\"")?.1.split_once('"'))
        .map(|(id, _)| id.to_owned())
        .collect()
}

#[test]
fn whoever_is_killed_calls_end_and_nothing_is_left() {
    let seconds = std::env::var("REFUNCTION_CHAOS_SECONDS").map_or(SECONDS, |text| {
        text.parse().expect("REFUNCTION_CHAOS_SECONDS is a number")
    });
    let mut random = Random::from_environment();
    let settings = "[node]\nmax_containers = 4\nlongest_wait = \"20s\"\n[[pool]]\nimage = \"refunction/python\"\nmin = 2\n";
    let mut node = Node::start("chaos", settings);
    for number in 0..FUNCTIONS {
        let code = format!("NAME = {number}\n{FUNCTION}");
        node.put(
            &format!("f{number}"),
            &code,
            &json!({"deadline_ms": 10_000}),
        );
    }
    let port = AtomicU16::new(node.port());
    let (absences, outcomes) = (Absences::default(), Mutex::new(Outcomes::new()));
    let is_over = AtomicBool::new(false);
    let mut strikes = BTreeMap::new();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let mut random = random.fork();
                let (port, absences, outcomes, is_over) = (&port, &absences, &outcomes, &is_over);
                scope.spawn(move || {
                    while !is_over.load(Ordering::SeqCst) {
                        call(port, absences, &mut random, outcomes);
                    }
                })
            })
            .collect();
        let until = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < until && clients.iter().all(|it| !it.is_finished()) {
            // The moment itself is what is drawn.
            thread::sleep(Duration::from_millis(random.below(2000)));
            let victim = *random.one_of(&VICTIMS);
            *strikes.entry(victim).or_insert(0_u32) += 1;
            strike(&mut node, victim, &mut random, &port, &absences);
        }
        is_over.store(true, Ordering::SeqCst);
    });
    println!("{strikes:?}");
    let outcomes = outcomes
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    println!("{outcomes:?}");
    assert!(
        outcomes.get("200").is_some_and(|it| *it > seconds),
        "{outcomes:?}"
    );

    // It is a node as before.
    for number in 0..FUNCTIONS {
        eventually("every function answers", || {
            let argument = json!({"ms": 0, "number": number});
            let answer = attempt(node.port(), &format!("f{number}"), &argument);
            answer.is_ok_and(|it| it == (200, json!([number, number, number])))
        });
    }
    node.host.assert_no_stray();
    let ids = made(&node.host.log());
    assert!(!ids.is_empty());
    let listed: BTreeSet<String> = node.containers().into_iter().collect();
    let gone = &ids - &listed;
    let left = sockets(node.host.state(), &node.host.name, &gone);
    assert!(left.is_empty(), "{left:#?}");
    let crashed = node
        .host
        .log()
        .lines()
        .filter(|it| it.contains("panicked"))
        .count();
    assert_eq!(crashed, 0, "{}", node.host.last_words());
    let (state, name) = (node.host.state().to_owned(), node.host.name.clone());
    node.end();
    assert!(sockets(&state, &name, &ids).is_empty());
    assert!(!fs::exists(state.join("control.sock")).unwrap_or(true));
}
