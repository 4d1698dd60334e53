//! Ten thousand requests, and what is left of them.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::thread;

use nix::sys::signal::Signal;
use refunction_tests::eventually;
use refunction_tests::http::Connection;
use refunction_tests::process::Size;
use serde_json::json;

use super::{REFORKS, metric, of_four};
use crate::Case;
use crate::language::Language;

pub const CASES: &[Case] = &[("ten_thousand_requests_in_four_workers_leave_nothing", many)];

/// Each request leaves secrets, finds none, and gets its own answer; and the supervisor has
/// grown by nothing.
fn many(language: &Language) {
    const CONNECTIONS: usize = 50;
    const REQUESTS: usize = 10_000;
    let mut site = of_four(language);
    let answered = Mutex::new(BTreeSet::new());
    let round = |first: usize, requests: usize| {
        thread::scope(|scope| {
            for connection in 0..CONNECTIONS {
                let (port, answered) = (site.port, &answered);
                scope.spawn(move || {
                    let mut open = Connection::to(port);
                    for request in (first..first + requests)
                        .skip(connection)
                        .step_by(CONNECTIONS)
                    {
                        let id = request.to_string();
                        let event = json!({"swap": format!("secret {id}")}).to_string();
                        let headers = [("x-request-id", id.as_str())];
                        let answer = open.ask("POST", "/", &headers, event.as_bytes());
                        assert_eq!(answer.status, 200, "{}", answer.text());
                        assert_eq!(answer.json(), json!([]), "{id} found it");
                        assert_eq!(answer.header("x-request-id"), id);
                        answered.lock().expect("nobody panicked").insert(request);
                    }
                });
            }
        });
    };
    let size = || {
        eventually("all are put back, and connections closed", || {
            let restored = ["rewind", "refork"].map(|method| {
                metric(
                    &site,
                    &format!("refunction_restores_total{{method=\"{method}\"}} "),
                )
            });
            let calls = metric(&site, "refunction_requests_total{outcome=\"success\"} ");
            restored.iter().sum::<u64>() == calls
        });
        eventually("the connections are closed", || {
            site.open_connections() == 0
        });
        Size::of(site.supervisor.pid())
    };
    round(0, REQUESTS / 4);
    let early = size();
    round(REQUESTS / 4, REQUESTS - REQUESTS / 4);
    let late = size();
    assert_eq!(answered.lock().expect("nobody panicked").len(), REQUESTS);
    assert_eq!(metric(&site, REFORKS), 0);
    assert_eq!(late.descriptors, early.descriptors, "{early:?} {late:?}");
    assert_eq!(late.threads, early.threads, "{early:?} {late:?}");
    assert_eq!(late.processes, early.processes, "{early:?} {late:?}");
    assert!(late.own_kib <= early.own_kib + 2048, "{early:?} {late:?}");
    site.supervisor.signal(Signal::SIGTERM);
    assert_eq!(site.supervisor.wait(), 0);
    site.supervisor.assert_nothing_left();
}
