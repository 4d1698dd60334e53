//! A worker can die at any moment. Whoever waited for it is told why, and the next
//! one is served.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use refunction_tests::process::{self, Handle};
use refunction_tests::random::Random;
use refunction_tests::supervisor::Supervisor;
use serde_json::{Value, json};

const DEATHS: usize = 200;

/// Takes some milliseconds to load and to call, and dies in the way it is told.
const FUNCTION: &str = "
import os, signal, sys, threading, time
deadline = time.perf_counter() + 0.003
while time.perf_counter() < deadline: pass

def main(args):
    deadline = time.perf_counter() + 0.003
    while time.perf_counter() < deadline: pass
    if isinstance(args, dict) and 'die' in args:
        way = args['die']
        if isinstance(way, int):
            if args['thread']: threading.Thread(target=os.kill, args=(os.getpid(), way)).start()
            else: os.kill(os.getpid(), way)
            time.sleep(100)
        if way == 'exit': os._exit(9)
        if way == 'abort': os.abort()
        if way == 'descriptors': os.closerange(0, 100)
        if way == 'recursion':
            import ctypes
            ctypes.string_at(8)
    return args
";

/// The same for Node.js, whose workers are not forked.
const NODE_FUNCTION: &str = "
const spin = () => { const until = performance.now() + 3; while (performance.now() < until); };
spin();
exports.main = (args) => {
  spin();
  const way = args?.die;
  if (typeof way === 'number') {
    if (args.thread) {
      const { Worker } = require('node:worker_threads');
      new Worker(`process.kill(process.pid, ${way})`, { eval: true });
    } else process.kill(process.pid, way);
    return new Promise((go) => setTimeout(go, 100_000));
  }
  if (way === 'exit') process.exit(9);
  if (way === 'abort') process.abort();
  if (way === 'recursion') process.kill(process.pid, 'SIGSEGV');
  if (way === 'descriptors') require('node:fs').closeSync(4);
  return args ?? null;
};";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Loading,
    Running,
    Restoring,
    Idle,
    /// By the function's own hand.
    Inside,
}

const MOMENTS: [Moment; 5] = [
    Moment::Loading,
    Moment::Running,
    Moment::Restoring,
    Moment::Idle,
    Moment::Inside,
];

const WEAPONS: [Signal; 3] = [Signal::SIGKILL, Signal::SIGSEGV, Signal::SIGSTOP];

/// Counts what one death cost, and checks that each loss was explained.
struct Losses<'a> {
    words: &'a [&'a str],
    count: usize,
    what: String,
}

impl Losses<'_> {
    /// Takes in an answer; true if it was no loss.
    fn take(&mut self, answer: &Value) -> bool {
        let failure = match answer["type"].as_str() {
            Some("error") => &answer["data"],
            Some("function_loaded") if answer["data"] == false => &answer["error"],
            Some("response" | "function_loaded" | "restored") => return true,
            _ => panic!("{}: {answer}", self.what),
        };
        assert_eq!(failure["kind"], "crashed", "{}: {answer}", self.what);
        let message = failure["message"].as_str().expect("a message");
        assert!(
            self.words.iter().any(|word| message.contains(word)),
            "{}: {message:?} names none of {:?}",
            self.what,
            self.words
        );
        self.count += 1;
        assert_eq!(self.count, 1, "{}: one death cost two answers", self.what);
        false
    }
}

/// Waits for a random part of what it takes to do something. This is no waiting for
/// an event: the moment itself is what is drawn.
fn wait_randomly(random: &mut Random) {
    let until = Instant::now() + Duration::from_micros(random.below(6000));
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

fn load(supervisor: &mut Supervisor, function: &str) -> Value {
    supervisor.send(&json!({"type": "function", "data": function}));
    supervisor.receive()
}

#[test]
fn a_death_at_any_moment_costs_one_answer_at_most() {
    die_at_any_moment(&[], FUNCTION, DEATHS);
}

#[test]
fn nor_does_one_of_node() {
    die_at_any_moment(&["--runtime", "node"], NODE_FUNCTION, DEATHS / 2);
}

fn die_at_any_moment(arguments: &[&str], function: &str, deaths: usize) {
    let mut random = Random::from_environment();
    let mut supervisor = Supervisor::start(arguments);
    let mut losses = 0;
    for number in 0..deaths {
        let moment = *random.one_of(&MOMENTS);
        let weapon = *random.one_of(&WEAPONS);
        let words = [weapon.as_str()];
        let what = format!("death {number}, {weapon} while {moment:?}");
        println!("{what}");
        let began = Instant::now();
        let mut lost = Losses {
            words: &words,
            count: 0,
            what,
        };
        if moment != Moment::Loading {
            let loaded = load(&mut supervisor, function);
            assert_eq!(loaded["data"], true, "{}", lost.what);
        }
        let worker = Handle::open(supervisor.worker()).expect("a worker");
        match moment {
            Moment::Loading => {
                supervisor.send(&json!({"type": "function", "data": function}));
            }
            Moment::Running => supervisor.ask(&json!(number), &json!(number)),
            Moment::Restoring => supervisor.send(&json!({"type": "restore"})),
            Moment::Idle => {}
            Moment::Inside => {
                die_inside(&mut supervisor, &mut random, number);
                losses += 1;
                continue;
            }
        }
        wait_randomly(&mut random);
        worker.signal(weapon);
        if moment != Moment::Idle {
            let answer = supervisor.receive();
            lost.take(&answer);
        }
        // A signal that came late hits whatever is next, but once only.
        for _ in 0..2 {
            let loaded = load(&mut supervisor, function);
            if !lost.take(&loaded) {
                continue;
            }
            let answer = supervisor.answer(&json!("next"));
            if lost.take(&answer) {
                assert_eq!(answer["data"], "next", "{}", lost.what);
            }
        }
        losses += lost.count;
        // The engine gives a worker up after 5 s: none of these is to come to that.
        assert!(began.elapsed() < Duration::from_secs(4), "{}", lost.what);
    }
    println!("{losses} answers lost");
    assert!(losses > deaths / 5, "hardly a death met anything");
    // Where workers are not forked there is one in reserve, or on its way to be.
    let worker = format!("{} ", supervisor.worker());
    let of_user = process::of_user(supervisor.uid);
    assert!(
        of_user.iter().any(|it| it.starts_with(&worker)),
        "{of_user:?}"
    );
    let most = if arguments.is_empty() { 1 } else { 2 };
    assert!(of_user.len() <= most, "{of_user:?}");
    supervisor.send(&json!({"type": "shutdown"}));
    assert_eq!(supervisor.wait(), 0);
    supervisor.assert_nothing_left();
}

fn die_inside(supervisor: &mut Supervisor, random: &mut Random, number: usize) {
    let ways = [
        (json!(Signal::SIGKILL as i32), "SIGKILL"),
        (json!(Signal::SIGSEGV as i32), "SIGSEGV"),
        (json!(Signal::SIGSTOP as i32), "SIGSTOP"),
        (json!("exit"), "status 9"),
        (json!("abort"), "SIGABRT"),
        (json!("recursion"), "SIGSEGV"),
        (json!("descriptors"), "descriptor 3 or 4"),
    ];
    let (way, word) = random.one_of(&ways);
    let thread = random.below(2) == 1;
    let failure = supervisor.fail(&json!({"die": way, "thread": thread}));
    refunction_tests::peer::assert_failure(&failure, "crashed", &[word]);
    assert_eq!(supervisor.call(&json!(number)), number);
}

#[test]
fn memory_that_runs_out_inside_is_an_exception_like_any_other() {
    let mut supervisor = Supervisor::start(&[]);
    supervisor.load(
        "import resource
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))
def main(args):
    return len([bytes(1 << 20) for _ in range(args)])
",
    );
    let failure = supervisor.fail(&json!(4000));
    refunction_tests::peer::assert_failure(&failure, "exception", &[]);
    assert_eq!(failure["error_type"], "MemoryError");
    assert_eq!(supervisor.call(&json!(3)), 3);
    let restored = supervisor.restore();
    assert_eq!(restored.rows, ["limits"], "{}", restored.report);
}
