//! What goes wrong with one, or ends, is not the others' concern.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use refunction_tests::eventually;
use refunction_tests::http::Site;
use refunction_tests::meeting::Meeting;
use refunction_tests::process::{self, Handle};
use serde_json::json;

use super::{REFORKS, gets, metric, of_four, site};
use crate::Case;
use crate::language::Language;

pub const CASES: &[Case] = &[
    ("a_request_that_ends_badly_ends_alone", ends),
    ("a_client_that_leaves_ends_its_own_call_only", client_gone),
    ("all_that_are_in_hand_are_answered_before_it_ends", drain),
    (
        "another_template_takes_over_while_several_are_in_hand",
        rotation,
    ),
    ("all_go_on_when_their_template_has_died", template_death),
];

/// Processes of the supervisor's user below it: templates.
fn templates(site: &Site) -> BTreeSet<u32> {
    process::descendants(site.supervisor.pid())
        .into_iter()
        .filter(|pid| process::status(*pid, "Uid").is_some_and(|ids| ids.starts_with("0\t")))
        .collect()
}

fn ends(language: &Language) {
    let site = site(language, &["--concurrency", "4", "--deadline-ms", "60000"]);
    let meeting = Meeting::new();
    for (how, status, word) in [
        ("exit", 502, "exited with status 3"),
        ("raise", 500, "told to"),
        ("memory", 502, "SIGSEGV"),
        ("exec", 502, "another program"),
        ("stop", 502, "SIGSTOP"),
        ("close", 502, "broke its channel"),
    ] {
        let mut connections = meeting.invite(site.port, &["a", "b", "c", "d"]);
        let mut guests = meeting.meet_all(4);
        let mut bad = guests.remove(1);
        bad.tell(&json!({"do": "end", "how": how}));
        let answer = connections.remove(&bad.name).expect("it").answer();
        assert_eq!(answer.status, status, "{how}: {}", answer.text());
        assert!(answer.text().contains(word), "{how}: {}", answer.text());
        // There is a worker for the next, while the others are where they were.
        let mut fifth = meeting.invite(site.port, &["e"]);
        let mut next = meeting.meet();
        next.answer(&json!("e"));
        gets(&fifth.get_mut("e").expect("it").answer(), &json!("e"));
        for guest in &mut guests {
            guest.answer(&json!(guest.name.clone()));
            let connection = connections.get_mut(&guest.name).expect("it");
            gets(&connection.answer(), &json!(guest.name));
        }
    }
    overdue(language);
}

/// One whose time is over. There is always another in hand, younger than that one.
fn overdue(language: &Language) {
    let limits = ["--concurrency", "3", "--deadline-ms", "1500"];
    let site = site(language, &limits);
    let meeting = Meeting::new();
    let mut slow = meeting.invite(site.port, &["slow"]);
    let _stays = meeting.meet();
    let invite = || (meeting.invite(site.port, &["beside"]), meeting.meet());
    let mut beside = invite();
    let mut is_replaced_by = |next: Option<_>| {
        let (connections, met) = &mut beside;
        met.answer(&json!("in time"));
        let connection = connections.get_mut("beside").expect("it");
        gets(&connection.answer(), &json!("in time"));
        if let Some(next) = next {
            beside = next;
        }
    };
    eventually("its time is over", || {
        is_replaced_by(Some(invite()));
        let text = site.get("/_/metrics").text();
        text.contains("refunction_requests_total{outcome=\"timeout\"} 1\n")
    });
    is_replaced_by(None);
    let answer = slow.get_mut("slow").expect("it").answer();
    assert_eq!(answer.status, 504, "{}", answer.text());
}

fn client_gone(language: &Language) {
    let site = of_four(language);
    let meeting = Meeting::new();
    let mut connections = meeting.invite(site.port, &["a", "b", "c"]);
    let mut guests = meeting.meet_all(3);
    let worker = |name: &str| {
        let guest = guests.iter().find(|guest| guest.name == name);
        Handle::open(guest.expect("it came").pid).expect("its worker is there")
    };
    let (left, stayed) = (worker("b"), worker("a"));
    connections.remove("b").expect("it").leave();
    eventually("its worker is gone", || !left.is_alive());
    assert!(stayed.is_alive());
    for guest in guests.iter_mut().filter(|guest| guest.name != "b") {
        guest.answer(&json!(guest.name.clone()));
        gets(
            &connections.get_mut(&guest.name).expect("it").answer(),
            &json!(guest.name),
        );
    }
    assert_eq!(
        metric(&site, "refunction_requests_total{outcome=\"crashed\"} "),
        1
    );
}

fn drain(language: &Language) {
    let mut site = site(language, &["--concurrency", "3"]);
    let meeting = Meeting::new();
    let mut connections = meeting.invite(site.port, &["a", "b", "c"]);
    let mut guests = meeting.meet_all(3);
    let mut waiting = meeting.invite(site.port, &["d"]);
    eventually("it waits", || {
        metric(&site, "refunction_queue_length ") == 1
    });
    site.supervisor.signal(Signal::SIGTERM);
    eventually("it is not ready", || site.get("/_/ready").status == 503);
    assert_eq!(site.post("/", &meeting.event("e")).status, 503);
    for guest in &mut guests {
        guest.answer(&json!(guest.name.clone()));
        let connection = connections.get_mut(&guest.name).expect("it");
        gets(&connection.answer(), &json!(guest.name));
    }
    let mut last = meeting.meet();
    last.answer(&json!("d"));
    gets(&waiting.get_mut("d").expect("it").answer(), &json!("d"));
    assert_eq!(site.supervisor.wait(), 0);
    site.supervisor.assert_nothing_left();
    // What does not end is ended with the rest, and told so.
    let mut site = language.named_site_with(
        "beside.handler",
        &["--concurrency", "2", "--grace-ms", "300"],
    );
    let connections = meeting.invite(site.port, &["a", "b"]);
    let _guests = meeting.meet_all(2);
    site.supervisor.signal(Signal::SIGTERM);
    for mut connection in connections.into_values() {
        let answer = connection.answer();
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert!(answer.text().contains("grace time"), "{}", answer.text());
    }
    assert_eq!(site.supervisor.wait(), 0);
    site.supervisor.assert_nothing_left();
}

fn rotation(language: &Language) {
    let site = site(language, &["--concurrency", "2", "--rotate-after", "20"]);
    let meeting = Meeting::new();
    let before = templates(&site);
    assert_eq!(before.len(), 1);
    // One stays in hand all the time.
    let mut long = meeting.invite(site.port, &["long"]);
    let mut stays = meeting.meet();
    let mut connection = site.connect();
    eventually("another has taken over", || {
        let _ = connection.call(&json!({"swap": "x"}));
        let now = templates(&site);
        now.len() == 2 && before.is_subset(&now) && metric(&site, REFORKS) > 0
    });
    // As long as it has a worker it is there, whatever comes after it.
    for _ in 0..100 {
        assert_eq!(connection.call(&json!({"swap": "x"})), json!([]));
    }
    assert!(before.is_subset(&templates(&site)));
    stays.answer(&json!("done"));
    gets(&long.get_mut("long").expect("it").answer(), &json!("done"));
    eventually("it ended with its last worker", || {
        let _ = connection.call(&json!({"swap": "x"}));
        templates(&site).is_disjoint(&before)
    });
    eventually("the one that serves is alone", || {
        templates(&site).len() == 1
    });
}

fn template_death(language: &Language) {
    let site = site(language, &["--concurrency", "3"]);
    let meeting = Meeting::new();
    let mut connections = meeting.invite(site.port, &["a", "b"]);
    let _guests = meeting.meet_all(2);
    for template in templates(&site) {
        Handle::open(template).expect("it").signal(Signal::SIGKILL);
    }
    for connection in connections.values_mut() {
        let answer = connection.answer();
        assert!(answer.status >= 500, "{}", answer.text());
    }
    let mut connections = meeting.invite(site.port, &["c", "d", "e"]);
    for guest in &mut meeting.meet_all(3) {
        guest.answer(&json!(guest.name.clone()));
        let connection = connections.get_mut(&guest.name).expect("it");
        gets(&connection.answer(), &json!(guest.name));
    }
}
