//! What each has of its own: user, files, processes, lines of the log, reports.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use refunction_tests::eventually;
use refunction_tests::http::{Connection, LAMBDA};
use refunction_tests::meeting::Meeting;
use refunction_tests::process;
use serde_json::{Value, json};

use super::{gets, metric, of_four, site};
use crate::Case;
use crate::language::Language;

pub const CASES: &[Case] = &[
    (
        "requests_beside_one_another_find_nothing_of_each_other",
        secrets,
    ),
    (
        "what_one_lets_others_write_to_keeps_nothing_for_the_next",
        opened,
    ),
    ("processes_of_one_go_and_those_of_others_stay", children),
    (
        "what_is_printed_is_told_of_the_request_that_printed_it",
        logs,
    ),
    ("reports_are_of_their_own_request", reports),
];

fn secrets(language: &Language) {
    let mut site = of_four(language);
    let meeting = Meeting::new();
    let names = ["a", "b", "c", "d"];
    let secret = |name: &str| format!("5ecret-{name}-{}", site.supervisor.pid());
    let mut connections = meeting.invite(site.port, &names);
    let mut guests = meeting.meet_all(4);
    for guest in &mut guests {
        let secret = secret(&guest.name);
        let _ = guest.ask(&json!({"do": "leave", "secret": secret}));
    }
    let people: Vec<(u32, u32)> = guests.iter().map(|guest| (guest.pid, guest.uid)).collect();
    for guest in &mut guests {
        let others = people.iter().filter(|(pid, _)| *pid != guest.pid);
        let secrets = names.iter().filter(|name| **name != guest.name);
        let found = guest.ask(&json!({
            "do": "find",
            "others": others.collect::<Vec<_>>(),
            "secrets": secrets.map(|name| secret(name)).collect::<Vec<_>>(),
        }));
        assert_eq!(found, json!([]), "{}", guest.name);
        // It can tell: its own is there to be found.
        let found = guest.ask(&json!({
            "do": "find",
            "others": [[guest.pid, guest.uid]],
            "secrets": [secret(&guest.name)],
        }));
        let found = found.as_array().expect("a list").len();
        assert!(found > 15, "{found}");
    }
    // Two are put back; what the others have is not touched.
    for guest in &mut guests[..2] {
        guest.answer(&json!(null));
        gets(
            &connections.get_mut(&guest.name).expect("it").answer(),
            &json!(null),
        );
    }
    eventually("two were put back", || {
        let restores = ["rewind", "refork"].map(|method| {
            metric(
                &site,
                &format!("refunction_restores_total{{method=\"{method}\"}} "),
            )
        });
        restores.iter().sum::<u64>() == 2
    });
    for guest in &guests[..2] {
        assert_eq!(
            process::files_of_user(guest.uid),
            [""; 0].map(std::path::PathBuf::from)
        );
    }
    for guest in &mut guests[2..] {
        assert!(!process::files_of_user(guest.uid).is_empty());
        let path = format!("/tmp/left-{}-{}", guest.uid, secret(&guest.name));
        let own = guest.ask(&json!({"do": "put", "path": path, "text": "again"}));
        assert_eq!(own, json!(0o600));
    }
    // Those that follow find nothing, with whoever's worker they have.
    let mut followers = meeting.invite(site.port, &["e", "f"]);
    for mut guest in meeting.meet_all(2) {
        let found = guest.ask(&json!({
            "do": "find",
            "others": people,
            "secrets": names.map(secret),
        }));
        assert_eq!(found, json!([]));
        guest.answer(&json!(null));
        gets(
            &followers.get_mut(&guest.name).expect("it").answer(),
            &json!(null),
        );
    }
    for guest in &mut guests[2..] {
        guest.answer(&json!(null));
        gets(
            &connections.get_mut(&guest.name).expect("it").answer(),
            &json!(null),
        );
    }
    site.supervisor.signal(Signal::SIGTERM);
    assert_eq!(site.supervisor.wait(), 0);
    assert_eq!(site.supervisor.errors().lines().count(), 1);
}

/// One makes a directory that others can write to, and is still in hand when another, which
/// left something there, was put back: whoever has that one's user finds it there.
fn opened(language: &Language) {
    let site = site(language, &["--concurrency", "3"]);
    let meeting = Meeting::new();
    let directory = format!("/tmp/open-{}", site.supervisor.pid());
    let file = format!("{directory}/secret");
    for opening in [
        vec![json!({"do": "open", "path": directory, "how": "chmod"})],
        // By what it lets files have that are made later.
        vec![
            json!({"do": "umask", "mask": 0}),
            json!({"do": "open", "path": directory, "how": "mask"}),
        ],
    ] {
        let mut first = meeting.invite(site.port, &["opens"]);
        let mut opens = meeting.meet();
        for step in &opening {
            let _ = opens.ask(step);
        }
        let mut second = meeting.invite(site.port, &["puts"]);
        let mut puts = meeting.meet();
        let mode = puts.ask(&json!({"do": "put", "path": file, "text": "5ecret"}));
        assert_eq!(mode, json!(0o600));
        // It is there, for who has its user.
        let text = puts.ask(&json!({"do": "read", "path": file}));
        assert_eq!(text, "5ecret");
        puts.answer(&json!(1));
        gets(&second.get_mut("puts").expect("it").answer(), &json!(1));
        for _ in 0..8 {
            let mut third = meeting.invite(site.port, &["reads"]);
            let mut reads = meeting.meet();
            // It has not the user of the one that put it there.
            assert_ne!(reads.uid, puts.uid);
            let text = reads.ask(&json!({"do": "read", "path": file}));
            assert_eq!(text, "Permission denied");
            reads.answer(&json!(2));
            gets(&third.get_mut("reads").expect("it").answer(), &json!(2));
        }
        opens.answer(&json!(3));
        gets(&first.get_mut("opens").expect("it").answer(), &json!(3));
        eventually("it is gone", || {
            !std::fs::exists(&directory).unwrap_or(true)
        });
        // The one that waited serves again.
        let names = ["a", "b", "c"];
        let mut connections = meeting.invite(site.port, &names);
        for mut guest in meeting.meet_all(3) {
            let text = guest.ask(&json!({"do": "read", "path": file}));
            assert_eq!(text, "No such file or directory");
            guest.answer(&json!(4));
            gets(
                &connections.get_mut(&guest.name).expect("it").answer(),
                &json!(4),
            );
        }
    }
}

fn children(language: &Language) {
    let site = site(language, &["--concurrency", "2"]);
    let meeting = Meeting::new();
    let mut connections = meeting.invite(site.port, &["a", "b"]);
    let mut guests = meeting.meet_all(2);
    for guest in &mut guests {
        let _ = guest.ask(&json!({"do": "fork"}));
        eventually("it has two more", || process::of_user(guest.uid).len() == 3);
    }
    guests[0].answer(&json!(0));
    let first = connections.get_mut(&guests[0].name).expect("it");
    gets(&first.answer(), &json!(0));
    eventually("they are gone", || {
        process::of_user(guests[0].uid).len() == 1
    });
    assert_eq!(process::of_user(guests[1].uid).len(), 3);
    guests[1].answer(&json!(1));
    let second = connections.get_mut(&guests[1].name).expect("it");
    gets(&second.answer(), &json!(1));
    eventually("they are gone, too", || {
        process::of_user(guests[1].uid).len() == 1
    });
}

fn logs(language: &Language) {
    let site = site(language, &["--concurrency", "4", "--log", "json"]);
    let meeting = Meeting::new();
    let names = ["a", "b", "c", "d"];
    let mut connections = meeting.invite(site.port, &names);
    let mut guests = meeting.meet_all(4);
    for round in 0..3 {
        for guest in &mut guests {
            let text = format!("by {} in {round}", guest.name);
            let _ = guest.ask(&json!({"do": "say", "text": text, "times": 5}));
        }
    }
    for guest in &mut guests {
        guest.answer(&json!(null));
        gets(
            &connections.get_mut(&guest.name).expect("it").answer(),
            &json!(null),
        );
    }
    let lines = |output: &str| -> Vec<Value> {
        let whole = output.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines = whole
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines
            .filter(|line: &Value| line["type"] == "function")
            .filter(|line| {
                line["message"]
                    .as_str()
                    .is_some_and(|it| it.starts_with("by "))
            })
            .collect()
    };
    eventually("all lines are there", || {
        lines(&site.output()).len() == names.len() * 3 * 5 * 2
    });
    for line in lines(&site.output()) {
        let message = line["message"].as_str().expect("a message");
        let name = message.split(' ').nth(1).expect("a name");
        assert_eq!(line["requestId"], name, "{line}");
        let stream = if message.ends_with("err") {
            "stderr"
        } else {
            "stdout"
        };
        assert_eq!(line["stream"], stream, "{line}");
    }
}

fn reports(language: &Language) {
    let site = of_four(language);
    let meeting = Meeting::new();
    let names = ["r-a", "r-b", "r-c", "r-d"];
    let mut connections: BTreeMap<&str, Connection> = BTreeMap::new();
    for name in names {
        let mut connection = site.connect();
        let body = meeting.event(name).to_string();
        let headers = [("x-amzn-requestid", name)];
        connection.request("POST", LAMBDA, &headers, body.as_bytes());
        connections.insert(name, connection);
    }
    for guest in &mut meeting.meet_all(4) {
        guest.answer(&json!(guest.name.clone()));
        let connection = connections.get_mut(guest.name.as_str()).expect("it");
        gets(&connection.answer(), &json!(guest.name));
    }
    let output = || site.output();
    eventually("each has its report, with its restore", || {
        output().matches("REPORT RequestId: ").count() == 4
    });
    for line in output().lines().filter(|line| line.starts_with("REPORT ")) {
        assert!(line.contains("Restore Duration: "), "{line}");
    }
}
