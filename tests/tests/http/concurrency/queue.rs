//! How many run at a time, who waits, and whose turn it is.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;

use refunction_tests::eventually;
use refunction_tests::http::Connection;
use refunction_tests::meeting::Meeting;
use refunction_tests::process;
use refunction_tests::supervisor::Supervisor;
use serde_json::{Value, json};

use std::collections::BTreeSet;

use super::{gets, metric, site};
use crate::Case;
use crate::language::Language;

pub const CASES: &[Case] = &[
    ("as_many_requests_run_at_once_as_it_is_told", at_once),
    (
        "one_at_a_time_has_its_restore_out_of_its_way",
        one_at_a_time,
    ),
    ("a_restore_is_in_nobodys_way", restores_in_between),
    ("without_isolation_as_many_run_at_once", off),
    ("an_action_can_be_run_beside_itself", action),
    ("forked_runtimes_run_requests_beside_one_another", runtimes),
    ("what_cannot_run_beside_others_is_refused", refused),
];

fn at_once(language: &Language) {
    let site = site(language, &["--concurrency", "4", "--queue", "2"]);
    let meeting = Meeting::new();
    let mut four = meeting.invite(site.port, &["a", "b", "c", "d"]);
    let mut guests = meeting.meet_all(4);
    let users: BTreeSet<u32> = guests.iter().map(|guest| guest.uid).collect();
    assert_eq!(users.len(), 4, "{users:?}");
    // Two wait, and not one more.
    let mut waiting = meeting.invite(site.port, &["e", "f"]);
    eventually("both wait", || {
        metric(&site, "refunction_queue_length ") == 2
    });
    assert_eq!(metric(&site, "refunction_in_flight "), 4);
    assert_eq!(site.post("/", &meeting.event("g")).status, 429);
    assert_eq!(site.get("/_/ready").status, 429);
    // One that is answered makes room for the one that waited longest.
    let name = guests[2].name.clone();
    guests[2].answer(&json!(name));
    gets(&four.get_mut(&name).expect("it").answer(), &json!(name));
    let mut next = meeting.meet();
    assert_eq!(next.name, "e");
    assert_eq!(metric(&site, "refunction_queue_length "), 1);
    next.answer(&json!("e"));
    let mut last = meeting.meet();
    assert_eq!(last.name, "f");
    last.answer(&json!("f"));
    for (name, connection) in &mut waiting {
        gets(&connection.answer(), &json!(name));
    }
    four.remove(&name);
    for guest in guests.iter_mut().filter(|guest| guest.name != name) {
        guest.answer(&json!(guest.name.clone()));
    }
    for (name, connection) in &mut four {
        gets(&connection.answer(), &json!(name));
    }
    assert_eq!(
        metric(&site, "refunction_requests_total{outcome=\"success\"} "),
        6
    );
    eventually("all were put back", || {
        metric(&site, "refunction_restores_total{method=\"rewind\"} ") == 6
    });
}

/// Told to have one at a time, there are two workers that take turns.
fn one_at_a_time(language: &Language) {
    let site = site(language, &["--concurrency", "1"]);
    let mut connection = site.connect();
    let meeting = Meeting::new();
    let mut first = meeting.invite(site.port, &["first"]);
    let mut guest = meeting.meet();
    let mut second = meeting.invite(site.port, &["second"]);
    eventually("it waits", || {
        metric(&site, "refunction_queue_length ") == 1
    });
    assert_eq!(metric(&site, "refunction_in_flight "), 1);
    guest.answer(&json!(1));
    gets(&first.get_mut("first").expect("it").answer(), &json!(1));
    let mut next = meeting.meet();
    assert_ne!(next.uid, guest.uid);
    next.answer(&json!(2));
    gets(&second.get_mut("second").expect("it").answer(), &json!(2));
    for _ in 0..20 {
        assert_eq!(connection.call(&json!({"swap": "odd"})), json!([]));
    }
    // Where there can be no other it is as if nothing were said.
    let alone = language.named_site_with(
        "beside.handler",
        &["--concurrency", "1", "--isolation", "session"],
    );
    assert_eq!(alone.call(&json!({"swap": "kept"})), json!([]));
    let found = alone.call(&json!({"swap": "x"}));
    assert_eq!(found.as_array().map(Vec::len), Some(5), "{found}");
}

/// With a request in hand that keeps all others from being restored, were it in their way,
/// the others go on, and each worker that had a call is put back.
fn restores_in_between(language: &Language) {
    let site = site(language, &["--concurrency", "2"]);
    let meeting = Meeting::new();
    let mut long = meeting.invite(site.port, &["long"]);
    let mut stays = meeting.meet();
    let mut connection = site.connect();
    for _ in 0..50 {
        assert_eq!(connection.call(&json!({"swap": "even"})), json!([]));
    }
    eventually("each was put back", || {
        metric(&site, "refunction_restores_total{method=\"rewind\"} ") == 50
    });
    stays.answer(&json!("done"));
    gets(&long.get_mut("long").expect("it").answer(), &json!("done"));
}

fn off(language: &Language) {
    let site = site(language, &["--concurrency", "3", "--isolation", "off"]);
    let meeting = Meeting::new();
    for _ in 0..2 {
        let mut connections = meeting.invite(site.port, &["a", "b", "c"]);
        for guest in &mut meeting.meet_all(3) {
            guest.answer(&json!(guest.name.clone()));
            let connection = connections.get_mut(&guest.name).expect("it");
            gets(&connection.answer(), &json!(guest.name));
        }
    }
    let users: Vec<u32> = site.supervisor.users().collect();
    let workers = users.iter().flat_map(|user| process::of_user(*user));
    assert_eq!(workers.count(), 3);
    assert_eq!(
        metric(&site, "refunction_restores_total{method=\"rewind\"} "),
        0
    );
}

/// A function that came by `/init`, whose lines are run for each request.
fn action(language: &Language) {
    const CODE: &str = "\
import os, socket
count = 0
def main(args):
    global count
    count += 1
    socket.create_connection(('127.0.0.1', args['port'])).makefile().readline()
    return {'count': count, 'uid': os.getuid()}
";
    let arguments = ["--concurrency", "2", "--isolation", "request"];
    let site = language.generic_site(&arguments);
    assert_eq!(
        site.post("/init", &json!({"value": {"code": CODE}})).status,
        200
    );
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let body = json!({"value": {"port": port}}).to_string();
    for _ in 0..3 {
        let mut connections = [site.connect(), site.connect()];
        for connection in &mut connections {
            connection.request("POST", "/run", &[], body.as_bytes());
        }
        let met = [0, 1].map(|_| listener.accept().expect("a request comes").0);
        for mut met in met {
            met.write_all(b"go on\n").expect("it listens");
        }
        let answers = connections.map(|mut connection| connection.answer().json());
        assert!(
            answers.iter().all(|answer| answer["count"] == 1),
            "{answers:?}"
        );
        assert_ne!(answers[0]["uid"], answers[1]["uid"]);
    }
}

fn runtimes(_: &Language) {
    for name in ["javascript", "lua"] {
        let languages = crate::language::LANGUAGES;
        let language = languages.iter().find(|language| language.name == name);
        let language = language.expect("there is one");
        let site = language.site(&["--concurrency", "3"], |_| {});
        thread::scope(|scope| {
            for connection in 0..6 {
                let port = site.port;
                scope.spawn(move || {
                    let mut open = Connection::to(port);
                    for request in 0..30 {
                        let secret = format!("{connection} {request}");
                        let event = json!({"op": "swap", "secret": secret});
                        assert_eq!(open.call(&event), Value::Null);
                    }
                });
            }
        });
        let restored = || {
            let methods = ["rewind", "refork"].map(|method| {
                metric(
                    &site,
                    &format!("refunction_restores_total{{method=\"{method}\"}} "),
                )
            });
            methods.iter().sum::<u64>()
        };
        eventually("each was put back", || restored() == 180);
    }
}

fn refused(language: &Language) {
    let refuses = |arguments: &[&str], set: &dyn Fn(&mut Command), words: &[&str]| {
        let all = [&["--concurrency", "2"], arguments].concat();
        let mut supervisor = Supervisor::spawn(&all, |command| {
            language.furnish(command);
            set(command);
        });
        assert_eq!(supervisor.wait(), 1, "{arguments:?}");
        eventually("it says why", || {
            let said = supervisor.errors();
            words.iter().all(|word| said.contains(word))
        });
    };
    let as_it_is = |_: &mut Command| {};
    let handler = "beside.handler";
    let session = ["--isolation", "session", handler];
    refuses(&session, &as_it_is, &["--concurrency", "session"]);
    let node = ["--runtime", "node", "app.handler"];
    refuses(&node, &as_it_is, &["--concurrency", "forked"]);
    let control = ["--control", "/tmp/not/there", handler];
    refuses(&control, &as_it_is, &["--concurrency", "control channel"]);
    let without_port = |command: &mut Command| {
        command.env_remove("PORT");
    };
    let request = ["--isolation", "request"];
    refuses(&request, &without_port, &["--concurrency", "HTTP"]);
    let user = |command: &mut Command| {
        command.uid(61_238).gid(61_238).env_remove("TMPDIR");
    };
    refuses(&[handler], &user, &["--concurrency", "root"]);
    // A user that is somebody's already.
    let mut somebody = None;
    let mut occupied = |command: &mut Command| {
        let user: u32 = command
            .get_args()
            .skip_while(|argument| *argument != "--worker-uid")
            .nth(1)
            .and_then(|user| user.to_str()?.parse().ok())
            .expect("the workers' user");
        let mut sleep = Command::new("sleep");
        let sleep = sleep.arg("1000").uid(user + 2).spawn();
        somebody = Some(sleep.expect("it sleeps"));
    };
    let mut supervisor = Supervisor::spawn(&["--concurrency", "2", handler], |command| {
        language.furnish(command);
        occupied(command);
    });
    assert_eq!(supervisor.wait(), 1);
    eventually("it says why", || {
        supervisor.errors().contains("--worker-uid")
    });
    let mut somebody = somebody.expect("it was started");
    somebody.kill().expect("it slept until now");
    somebody.wait().expect("it ended");
    let variable = |command: &mut Command| {
        command.env("REFUNCTION_CONCURRENCY", "2");
    };
    let mut supervisor = Supervisor::spawn(&session, |command| {
        language.furnish(command);
        variable(command);
    });
    assert_eq!(supervisor.wait(), 1);
}
