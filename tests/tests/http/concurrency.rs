//! Requests that one container runs beside one another, each in a worker of its own. What
//! they do at the same time is brought about by conversations with them, not by waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use refunction_tests::http::{Answer, Connection, LAMBDA, Site};
use refunction_tests::process::{self, Handle, Size};
use refunction_tests::supervisor::Supervisor;
use refunction_tests::{PATIENCE, eventually};
use serde_json::{Value, json};

use crate::Case;
use crate::language::Language;

pub const CASES: &[Case] = &[
    ("as_many_requests_run_at_once_as_it_is_told", at_once),
    (
        "requests_beside_one_another_find_nothing_of_each_other",
        secrets,
    ),
    (
        "what_one_lets_others_write_to_keeps_nothing_for_the_next",
        opened,
    ),
    ("a_request_that_ends_badly_ends_alone", ends),
    ("a_client_that_leaves_ends_its_own_call_only", client_gone),
    (
        "what_is_printed_is_told_of_the_request_that_printed_it",
        logs,
    ),
    ("reports_are_of_their_own_request", reports),
    ("all_that_are_in_hand_are_answered_before_it_ends", drain),
    ("processes_of_one_go_and_those_of_others_stay", children),
    (
        "another_template_takes_over_while_several_are_in_hand",
        rotation,
    ),
    ("all_go_on_when_their_template_has_died", template_death),
    ("an_action_can_be_run_beside_itself", action),
    ("without_isolation_as_many_run_at_once", off),
    ("forked_runtimes_run_requests_beside_one_another", runtimes),
    ("a_restore_is_in_nobodys_way", restores_in_between),
    (
        "one_at_a_time_has_its_restore_out_of_its_way",
        one_at_a_time,
    ),
    ("what_cannot_run_beside_others_is_refused", refused),
    ("ten_thousand_requests_in_four_workers_leave_nothing", many),
];

/// Where requests are met.
struct Meeting(TcpListener);

/// A request that was met: it waits for what it is told.
struct Guest {
    lines: BufReader<TcpStream>,
    name: String,
    pid: u32,
    uid: u32,
}

impl Meeting {
    fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").expect("a port"))
    }

    /// The event that has a request come here.
    fn event(&self, name: &str) -> Value {
        let port = self.0.local_addr().expect("an address").port();
        json!({"port": port, "name": name})
    }

    /// Sends requests of these names, each over a connection of its own.
    fn invite(&self, site: &Site, names: &[&str]) -> BTreeMap<String, Connection> {
        names
            .iter()
            .map(|name| {
                let mut connection = site.connect();
                let body = self.event(name).to_string();
                let headers = [("x-request-id", *name)];
                connection.request("POST", "/", &headers, body.as_bytes());
                (name.to_string(), connection)
            })
            .collect()
    }

    /// The next that comes.
    fn meet(&self) -> Guest {
        let (stream, _) = self.0.accept().expect("a request comes");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        let mut guest = Guest {
            lines: BufReader::new(stream),
            name: String::new(),
            pid: 0,
            uid: 0,
        };
        let said = guest.hear();
        let number = |name: &str| u32::try_from(said[name].as_u64().expect("a number"));
        guest.name = said["name"].as_str().expect("a name").to_owned();
        guest.pid = number("pid").expect("a pid");
        guest.uid = number("uid").expect("a user");
        guest
    }

    fn meet_all(&self, count: usize) -> Vec<Guest> {
        (0..count).map(|_| self.meet()).collect()
    }
}

impl Guest {
    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("it says something");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn tell(&mut self, step: &Value) {
        let line = format!("{step}\n");
        let told = self.lines.get_mut().write_all(line.as_bytes());
        told.expect("it listens");
    }

    /// Has it do something; what comes of it.
    fn ask(&mut self, step: &Value) -> Value {
        self.tell(step);
        self.hear()
    }

    /// Has it answer its request.
    fn answer(&mut self, answer: &Value) {
        self.tell(&json!({"answer": answer}));
    }
}

fn site(language: &Language, arguments: &[&str]) -> Site {
    language.named_site_with("beside.handler", arguments)
}

fn of_four(language: &Language) -> Site {
    site(language, &["--concurrency", "4"])
}

#[track_caller]
fn gets(answer: &Answer, value: &Value) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json(), *value);
}

fn metric(site: &Site, name: &str) -> u64 {
    let text = site.get("/_/metrics").text();
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let value = value.and_then(|value| value.trim().parse().ok());
    value.unwrap_or_else(|| panic!("{name} is not in {text}"))
}

fn at_once(language: &Language) {
    let site = site(language, &["--concurrency", "4", "--queue", "2"]);
    let meeting = Meeting::new();
    let mut four = meeting.invite(&site, &["a", "b", "c", "d"]);
    let mut guests = meeting.meet_all(4);
    let users: BTreeSet<u32> = guests.iter().map(|guest| guest.uid).collect();
    assert_eq!(users.len(), 4, "{users:?}");
    // Two wait, and not one more.
    let mut waiting = meeting.invite(&site, &["e", "f"]);
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

fn secrets(language: &Language) {
    let mut site = of_four(language);
    let meeting = Meeting::new();
    let names = ["a", "b", "c", "d"];
    let secret = |name: &str| format!("5ecret-{name}-{}", site.supervisor.pid());
    let mut connections = meeting.invite(&site, &names);
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
    let mut followers = meeting.invite(&site, &["e", "f"]);
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
        let mut first = meeting.invite(&site, &["opens"]);
        let mut opens = meeting.meet();
        for step in &opening {
            let _ = opens.ask(step);
        }
        let mut second = meeting.invite(&site, &["puts"]);
        let mut puts = meeting.meet();
        let mode = puts.ask(&json!({"do": "put", "path": file, "text": "5ecret"}));
        assert_eq!(mode, json!(0o600));
        // It is there, for who has its user.
        let text = puts.ask(&json!({"do": "read", "path": file}));
        assert_eq!(text, "5ecret");
        puts.answer(&json!(1));
        gets(&second.get_mut("puts").expect("it").answer(), &json!(1));
        for _ in 0..8 {
            let mut third = meeting.invite(&site, &["reads"]);
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
        let mut connections = meeting.invite(&site, &names);
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
        let mut connections = meeting.invite(&site, &["a", "b", "c", "d"]);
        let mut guests = meeting.meet_all(4);
        let mut bad = guests.remove(1);
        bad.tell(&json!({"do": "end", "how": how}));
        let answer = connections.remove(&bad.name).expect("it").answer();
        assert_eq!(answer.status, status, "{how}: {}", answer.text());
        assert!(answer.text().contains(word), "{how}: {}", answer.text());
        // There is a worker for the next, while the others are where they were.
        let mut fifth = meeting.invite(&site, &["e"]);
        let mut next = meeting.meet();
        next.answer(&json!("e"));
        gets(&fifth.get_mut("e").expect("it").answer(), &json!("e"));
        for guest in &mut guests {
            guest.answer(&json!(guest.name.clone()));
            let connection = connections.get_mut(&guest.name).expect("it");
            gets(&connection.answer(), &json!(guest.name));
        }
    }
    // One whose time is over.
    let limited = language.named_site_with(
        "beside.handler",
        &["--concurrency", "2", "--deadline-ms", "1500"],
    );
    let mut connections = meeting.invite(&limited, &["slow", "quick"]);
    let mut guests = meeting.meet_all(2);
    let quick = guests.iter_mut().find(|guest| guest.name == "quick");
    let quick = quick.expect("it came");
    quick.answer(&json!("in time"));
    gets(
        &connections.get_mut("quick").expect("it").answer(),
        &json!("in time"),
    );
    // Its own time is to be over well after the other's.
    thread::sleep(Duration::from_millis(700));
    let mut beside = meeting.invite(&limited, &["beside"]);
    let mut met = meeting.meet();
    let slow = connections.get_mut("slow").expect("it").answer();
    assert_eq!(slow.status, 504, "{}", slow.text());
    met.answer(&json!("it is here"));
    gets(
        &beside.get_mut("beside").expect("it").answer(),
        &json!("it is here"),
    );
}

fn client_gone(language: &Language) {
    let site = of_four(language);
    let meeting = Meeting::new();
    let mut connections = meeting.invite(&site, &["a", "b", "c"]);
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

fn logs(language: &Language) {
    let site = site(language, &["--concurrency", "4", "--log", "json"]);
    let meeting = Meeting::new();
    let names = ["a", "b", "c", "d"];
    let mut connections = meeting.invite(&site, &names);
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

fn drain(language: &Language) {
    let mut site = site(language, &["--concurrency", "3"]);
    let meeting = Meeting::new();
    let mut connections = meeting.invite(&site, &["a", "b", "c"]);
    let mut guests = meeting.meet_all(3);
    let mut waiting = meeting.invite(&site, &["d"]);
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
    let connections = meeting.invite(&site, &["a", "b"]);
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

fn children(language: &Language) {
    let site = site(language, &["--concurrency", "2"]);
    let meeting = Meeting::new();
    let mut connections = meeting.invite(&site, &["a", "b"]);
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

/// Processes of the supervisor's user below it: templates.
fn templates(site: &Site) -> BTreeSet<u32> {
    process::descendants(site.supervisor.pid())
        .into_iter()
        .filter(|pid| process::status(*pid, "Uid").is_some_and(|ids| ids.starts_with("0\t")))
        .collect()
}

fn rotation(language: &Language) {
    let site = site(language, &["--concurrency", "2", "--rotate-after", "20"]);
    let meeting = Meeting::new();
    let before = templates(&site);
    assert_eq!(before.len(), 1);
    // One stays in hand all the time.
    let mut long = meeting.invite(&site, &["long"]);
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

const REFORKS: &str = "refunction_restores_total{method=\"refork\"} ";

fn template_death(language: &Language) {
    let site = site(language, &["--concurrency", "3"]);
    let meeting = Meeting::new();
    let mut connections = meeting.invite(&site, &["a", "b"]);
    let _guests = meeting.meet_all(2);
    for template in templates(&site) {
        Handle::open(template).expect("it").signal(Signal::SIGKILL);
    }
    for connection in connections.values_mut() {
        let answer = connection.answer();
        assert!(answer.status >= 500, "{}", answer.text());
    }
    let mut connections = meeting.invite(&site, &["c", "d", "e"]);
    for guest in &mut meeting.meet_all(3) {
        guest.answer(&json!(guest.name.clone()));
        let connection = connections.get_mut(&guest.name).expect("it");
        gets(&connection.answer(), &json!(guest.name));
    }
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

fn off(language: &Language) {
    let site = site(language, &["--concurrency", "3", "--isolation", "off"]);
    let meeting = Meeting::new();
    for _ in 0..2 {
        let mut connections = meeting.invite(&site, &["a", "b", "c"]);
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

/// With a request in hand that keeps all others from being restored, were it in their way,
/// the others go on, and each worker that had a call is put back.
fn restores_in_between(language: &Language) {
    let site = site(language, &["--concurrency", "2"]);
    let meeting = Meeting::new();
    let mut long = meeting.invite(&site, &["long"]);
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

/// Told to have one at a time, there are two workers that take turns.
fn one_at_a_time(language: &Language) {
    let site = site(language, &["--concurrency", "1"]);
    let mut connection = site.connect();
    let meeting = Meeting::new();
    let mut first = meeting.invite(&site, &["first"]);
    let mut guest = meeting.meet();
    let mut second = meeting.invite(&site, &["second"]);
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
        // The last connections close a moment after their last answers.
        thread::sleep(Duration::from_millis(50));
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
