//! What one request leaves, and who finds it.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::thread;

use refunction_tests::eventually;
use refunction_tests::http::{Connection, LAMBDA, Site};
use refunction_tests::process::Size;
use refunction_tests::supervisor::Supervisor;
use serde_json::{Value, json};

use crate::Case;
use crate::language::Language;

pub const CASES: &[Case] = &[
    (
        "each_request_finds_the_function_as_it_was_imported",
        by_request,
    ),
    ("a_session_finds_what_it_left", by_session),
    ("nothing_is_put_back_where_that_is_off", off),
    ("no_request_finds_anothers_secret", secrets),
    ("no_call_has_the_trace_of_the_one_before", traces),
];

/// What can be tried with one runtime for all.
pub const ONCE: &[Case] = &[
    (
        "only_one_function_can_go_without_isolation",
        off_for_tenants,
    ),
    ("a_load_that_failed_leaves_nothing_either", failed_loads),
    ("a_container_without_a_function_says_so", without_function),
];

fn restores(site: &Site) -> u64 {
    let text = site.get("/_/metrics").text();
    text.lines()
        .filter_map(|line| line.strip_prefix("refunction_restores_total{method="))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum()
}

fn by_request(language: &Language) {
    let site = language.site(&[], |_| {});
    let mut connection = site.connect();
    for _ in 0..10 {
        assert_eq!(connection.call(&json!({"op": "count"}))["count"], 1);
    }
    // What raised left no more.
    assert_eq!(connection.post("/", &json!({"op": "raise"})).status, 500);
    assert_eq!(connection.call(&json!({"op": "count"}))["count"], 1);
    eventually("each was put back", || restores(&site) == 12);
    let text = site.get("/_/metrics").text();
    assert!(
        text.contains("refunction_restores_total{method=\"refork\"} 0\n"),
        "{text}"
    );
}

fn by_session(language: &Language) {
    let site = language.site(&["--isolation", "session"], |_| {});
    for count in 1..=5 {
        assert_eq!(site.call(&json!({"op": "count"}))["count"], count);
    }
    assert_eq!(restores(&site), 0);
}

fn off(language: &Language) {
    let site = language.site(&[], |command| {
        command.env("REFUNCTION_ISOLATION", "off");
    });
    for count in 1..=5 {
        assert_eq!(site.call(&json!({"op": "count"}))["count"], count);
    }
    assert_eq!(restores(&site), 0);
}

/// Where nothing is put back it is not the restore that takes it away.
fn traces(language: &Language) {
    let name = "_X_AMZN_TRACE_ID";
    let asked = json!({"op": "env", "name": name}).to_string();
    for (isolation, own) in [("session", None), ("off", Some("Root=0"))] {
        let site = language.site(&["--isolation", isolation], |command| {
            command.envs(own.map(|own| (name, own)));
        });
        let mut connection = site.connect();
        let mut call = |headers: &[_]| {
            let answer = connection.ask("POST", LAMBDA, headers, asked.as_bytes());
            assert_eq!(answer.status, 200, "{}", answer.text());
            answer.json()
        };
        for trace in ["Root=1-2-3", "Root=4-5-6"] {
            assert_eq!(call(&[("x-amzn-trace-id", trace)]), trace, "{isolation}");
            assert_eq!(call(&[("x-amzn-trace-id", trace)]), trace, "{isolation}");
            assert_eq!(call(&[]), json!(own), "{isolation}");
            assert_eq!(call(&[]), json!(own), "{isolation}");
        }
    }
}

fn off_for_tenants(_: &Language) {
    let mut supervisor = Supervisor::spawn(&["--isolation", "off"], |_| {});
    assert_eq!(supervisor.wait(), 1);
    eventually("it says why", || {
        supervisor.errors().contains("share a worker")
    });
}

/// The sockets that a supervisor has: one that listens, one for each connection, and a few
/// to templates and spares.
fn sockets(site: &Site) -> usize {
    let directory = format!("/proc/{}/fd", site.supervisor.pid());
    let entries = std::fs::read_dir(directory).expect("its descriptors");
    let targets = entries
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
}

/// From several connections, each request leaves a secret in the function's memory and
/// takes what it finds there: nothing, if what others left is gone.
fn secrets(language: &Language) {
    const CONNECTIONS: usize = 8;
    const REQUESTS: usize = 50;
    let site = language.site(&[], |_| {});
    let before = Size::of(site.supervisor.pid());
    let sockets_before = sockets(&site);
    let answered = Mutex::new(BTreeSet::new());
    thread::scope(|scope| {
        for connection in 0..CONNECTIONS {
            let (port, answered) = (site.port, &answered);
            scope.spawn(move || {
                let mut open = Connection::to(port);
                for request in 0..REQUESTS {
                    let secret = format!("secret {connection} {request}");
                    let id = format!("{connection}-{request}");
                    let event = json!({"op": "swap", "secret": secret}).to_string();
                    let answer = open.ask("POST", "/", &[("x-request-id", &id)], event.as_bytes());
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    assert_eq!(answer.json(), Value::Null, "{id} found it");
                    // It is its own answer.
                    assert_eq!(answer.header("x-request-id"), id);
                    answered.lock().expect("nobody panicked").insert(id);
                }
            });
        }
    });
    assert_eq!(
        answered.into_inner().expect("nobody panicked").len(),
        CONNECTIONS * REQUESTS
    );
    let text = site.get("/_/metrics").text();
    let expected = format!(
        "refunction_requests_total{{outcome=\"success\"}} {}\n",
        CONNECTIONS * REQUESTS
    );
    assert!(text.contains(&expected), "{text}");
    eventually("the connections are gone", || {
        sockets(&site) <= sockets_before + 2
    });
    let after = Size::of(site.supervisor.pid());
    assert!(
        after.own_kib < before.own_kib + 32 * 1024,
        "{before:?} {after:?}"
    );
    assert_eq!(after.threads, before.threads);
    // A connection says nothing to the next call on it, and the test could tell.
    let shared = language.site(&["--isolation", "session"], |_| {});
    let _ = shared.call(&json!({"op": "swap", "secret": "kept"}));
    assert_eq!(shared.call(&json!({"op": "swap", "secret": "x"})), "kept");
}

/// A module that is loaded for each request, fails by chance, and looks for what it left
/// when it failed before.
fn failed_loads(language: &Language) {
    const CODE: &str = "\
import builtins, os
left = getattr(builtins, 'left', None)
builtins.left = True
if left or os.urandom(1)[0] < 128:
    raise ValueError('left' if left else 'chance')
def main(args): return {}
";
    let site = language.generic_site(&["--isolation", "request"]);
    let init = || site.post("/init", &json!({"value": {"code": CODE}}));
    eventually("it is loaded, in the end", || init().status == 200);
    let mut seen = BTreeSet::new();
    for _ in 0..40 {
        let answer = site.post("/run", &json!({})).json();
        let error = answer["error"].as_str().unwrap_or_default().to_owned();
        assert!(!error.contains("left"), "{error}");
        seen.insert(error);
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
}

fn without_function(language: &Language) {
    let site = language.generic_site(&[]);
    let answer = site.post("/", &json!({}));
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.json()["error"]["kind"], "not_loaded");
}
