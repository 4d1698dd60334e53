//! How the front behaves whatever the function is: clients that are slow, wrong or gone,
//! too many of them, and the end of the container.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use refunction_tests::http::{Connection, LAMBDA, Site};
use refunction_tests::process::Size;
use refunction_tests::{eventually, process};
use serde_json::json;

use crate::Case;
use crate::language::Language;

pub const CASES: &[Case] = &[
    ("a_connection_serves_many_requests", keep_alive),
    (
        "requests_sent_ahead_are_answered_in_their_order",
        pipelining,
    ),
    ("what_is_not_http_is_answered_400", malformed),
    ("headers_without_end_are_answered_431", large_headers),
    ("a_slow_request_is_answered_408", slow_headers),
    ("a_slow_body_is_answered_408", slow_body),
    ("a_body_in_pieces_is_one_body", chunks),
    ("too_many_requests_are_answered_429", too_many),
    ("the_call_of_a_client_that_left_is_ended", client_gone),
    (
        "a_request_of_a_client_that_left_is_not_begun",
        client_gone_before,
    ),
    ("what_it_does_can_be_seen", metrics),
    ("it_is_not_ready_while_it_boots", booting),
    ("it_answers_what_is_in_hand_and_ends", drain),
    ("it_ends_at_once_when_it_is_idle", idle_end),
    ("what_does_not_end_is_ended_with_its_grace", grace),
    ("a_port_that_is_taken_ends_it_with_the_reason", taken_port),
    ("a_flood_of_lines_holds_nothing_up", flood),
    ("a_worker_has_none_of_its_sockets", sockets),
    ("no_signal_is_taken_by_its_thread", signals),
    ("it_needs_no_root", without_root),
];

fn site(language: &Language) -> Site {
    language.site(&[], |_| {})
}

fn patient(milliseconds: &'static str) -> impl Fn(&mut Command) {
    move |command| {
        command.env("REFUNCTION_HTTP_PATIENCE_MS", milliseconds);
    }
}

fn keep_alive(language: &Language) {
    let site = site(language);
    let mut connection = site.connect();
    for number in 0..50 {
        assert_eq!(
            connection.call(&json!({"number": number}))["number"],
            number
        );
        // A refusal ends no connection.
        assert_eq!(connection.ask("GET", "/nothing", &[], b"").status, 404);
    }
    let answer = connection.ask("POST", "/", &[("connection", "close")], b"1");
    assert_eq!(answer.status, 200);
    assert!(connection.is_closed());
}

fn pipelining(language: &Language) {
    let site = site(language);
    let mut connection = site.connect();
    for number in 0..20 {
        connection.request("POST", "/", &[], number.to_string().as_bytes());
    }
    for number in 0..20 {
        assert_eq!(connection.answer().json(), number);
    }
}

fn malformed(language: &Language) {
    let site = site(language);
    for bytes in [
        &b"nonsense\r\n\r\n"[..],
        b"POST / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ] {
        let mut connection = site.connect();
        connection.send(bytes);
        let answer = connection.answer();
        assert_eq!(answer.status, 400, "{}", String::from_utf8_lossy(bytes));
        assert!(connection.is_closed());
    }
    assert_eq!(site.call(&json!(1)), 1);
}

fn large_headers(language: &Language) {
    let site = site(language);
    let value = "x".repeat(100 * 1024);
    let answer = site.send("POST", "/", &[("x-large", &value)], b"1");
    assert_eq!(answer.status, 431);
    let many: Vec<(String, &str)> = (0..200).map(|it| (format!("x-{it}"), "1")).collect();
    let many: Vec<(&str, &str)> = many
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    assert_eq!(site.send("POST", "/", &many, b"1").status, 431);
}

fn slow_headers(language: &Language) {
    let site = language.site(&[], patient("300"));
    let mut connection = site.connect();
    connection.send(b"POST / HTTP/1.1\r\nhost: local");
    assert_eq!(connection.answer().status, 408);
    assert!(connection.is_closed());
    // One that is only kept for later ends without a word.
    let mut connection = site.connect();
    assert_eq!(connection.call(&json!(1)), 1);
    assert!(connection.is_closed());
}

fn slow_body(language: &Language) {
    let site = language.site(&[], patient("300"));
    for path in ["/", LAMBDA, "/run"] {
        let mut connection = site.connect();
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n12");
        connection.send(head.as_bytes());
        let answer = connection.answer();
        assert_eq!(answer.status, 408, "{path}");
        assert!(answer.text().contains("300 ms"), "{}", answer.text());
        assert!(connection.is_closed());
    }
    // It held nobody up, and was no call.
    assert_eq!(site.call(&json!({"op": "count"}))["count"], 1);
    assert!(
        site.get("/_/metrics")
            .text()
            .contains("refunction_requests_total{outcome=\"success\"} 1\n")
    );
}

fn chunks(language: &Language) {
    let site = site(language);
    let mut connection = site.connect();
    connection.send(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    for piece in ["[1", ",2", "]"] {
        connection.send(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes());
    }
    connection.send(b"0\r\n\r\n");
    assert_eq!(connection.answer().json(), json!([1, 2]));
    // Asked first, as curl does with what is large.
    connection
        .send(b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n");
    assert_eq!(connection.answer().status, 100);
    connection.send(b"7");
    assert_eq!(connection.answer().json(), 7);
}

fn asleep(site: &Site, seconds: f64) -> Connection {
    let mut connection = site.connect();
    let event = json!({"op": "sleep", "seconds": seconds}).to_string();
    connection.request("POST", "/", &[], event.as_bytes());
    eventually("the function sleeps", || site.output().contains("asleep\n"));
    connection
}

fn too_many(language: &Language) {
    let site = language.site(&["--queue", "2"], |_| {});
    let mut first = asleep(&site, 1.0);
    let mut waiting = [site.connect(), site.connect()];
    for connection in &mut waiting {
        connection.request("POST", "/", &[], b"1");
    }
    eventually("both wait", || {
        site.get("/_/metrics")
            .text()
            .contains("refunction_queue_length 2\n")
    });
    for (path, method) in [
        ("/", "POST"),
        (LAMBDA, "POST"),
        ("/run", "POST"),
        ("/_/ready", "GET"),
    ] {
        let answer = site.send(method, path, &[], b"");
        assert_eq!(answer.status, 429, "{path}: {}", answer.text());
        assert!(
            answer
                .header("retry-after")
                .parse::<u32>()
                .expect("seconds")
                > 0
        );
    }
    assert_eq!(site.get("/_/health").status, 200);
    assert_eq!(first.answer().status, 200);
    for mut connection in waiting {
        assert_eq!(connection.answer().json(), 1);
    }
    assert_eq!(site.get("/_/ready").status, 200);
}

fn client_gone(language: &Language) {
    let site = site(language);
    let worker = || -> Vec<String> { process::of_user(site.supervisor.uid) };
    let before = worker();
    asleep(&site, 1000.0).leave();
    // Long before it would wake up.
    assert_eq!(site.call(&json!({"op": "count"}))["count"], 1);
    assert_ne!(worker(), before, "the worker that slept is there");
}

fn client_gone_before(language: &Language) {
    let site = language.site(&["--isolation", "session"], |_| {});
    let mut first = asleep(&site, 0.7);
    let mut second = site.connect();
    second.request("POST", "/", &[], br#"{"op":"count"}"#);
    eventually("it waits", || {
        site.get("/_/metrics")
            .text()
            .contains("refunction_queue_length 1\n")
    });
    second.leave();
    eventually("it waits no more", || {
        site.get("/_/metrics")
            .text()
            .contains("refunction_queue_length 0\n")
    });
    assert_eq!(first.answer().status, 200);
    // The one before it was the first.
    assert_eq!(site.call(&json!({"op": "count"}))["count"], 2);
}

fn metrics(language: &Language) {
    let site = site(language);
    for event in [json!(1), json!({"op": "raise"}), json!(2)] {
        let _ = site.post("/", &event);
    }
    let answer = site.get("/_/metrics");
    assert!(
        answer
            .header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    let text = answer.text();
    for line in [
        "refunction_requests_total{outcome=\"success\"} 2",
        "refunction_requests_total{outcome=\"exception\"} 1",
        "refunction_request_duration_seconds_count 3",
        "refunction_ready 1",
        "# TYPE refunction_restores_total counter",
    ] {
        assert!(text.lines().any(|it| it == line), "{line} is not in {text}");
    }
    eventually("three restores are counted", || {
        let text = site.get("/_/metrics").text();
        text.contains("refunction_restores_total{method=\"rewind\"} 3\n")
    });
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (_, value) = line.rsplit_once(' ').expect("a name and a value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
    let head = site.send("HEAD", "/_/health", &[], b"");
    assert_eq!((head.status, head.text().as_str()), (200, ""));
}

fn booting(language: &Language) {
    // What it imports has it wait for long.
    let site = language.listening_for("slow.handler");
    let answer = site.get("/_/ready");
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(site.get("/_/health").status, 200);
    // A request that comes too early waits.
    assert_eq!(site.call(&json!(1)), 1);
    assert_eq!(site.get("/_/ready").status, 200);
}

fn drain(language: &Language) {
    let mut site = site(language);
    let mut first = asleep(&site, 1.0);
    let mut waiting = site.connect();
    waiting.request("POST", "/", &[], b"2");
    eventually("it waits", || {
        site.get("/_/metrics")
            .text()
            .contains("refunction_queue_length 1\n")
    });
    site.supervisor.signal(Signal::SIGTERM);
    eventually("it is not ready", || site.get("/_/ready").status == 503);
    let refused = site.post("/", &json!(3));
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(first.answer().status, 200);
    assert_eq!(waiting.answer().json(), 2);
    assert_eq!(site.supervisor.wait(), 0);
    site.supervisor.assert_nothing_left();
}

fn idle_end(language: &Language) {
    let mut site = site(language);
    // Kept open for later, as load balancers do.
    let mut idle = site.connect();
    assert_eq!(idle.call(&json!(1)), 1);
    let _silent = site.connect();
    let began = Instant::now();
    site.supervisor.signal(Signal::SIGTERM);
    assert_eq!(site.supervisor.wait(), 0);
    let took = began.elapsed();
    assert!(took < Duration::from_millis(500), "it took {took:?}");
    assert!(idle.is_closed());
}

fn grace(language: &Language) {
    let mut site = language.site(&["--grace-ms", "300"], |_| {});
    let mut first = asleep(&site, 1000.0);
    let mut waiting = site.connect();
    waiting.request("POST", "/", &[], b"2");
    eventually("it waits", || {
        site.get("/_/metrics")
            .text()
            .contains("refunction_queue_length 1\n")
    });
    site.supervisor.signal(Signal::SIGTERM);
    let answer = first.answer();
    assert_eq!(answer.status, 502);
    assert!(
        answer.text().contains("grace time of 300 ms"),
        "{}",
        answer.text()
    );
    assert_eq!(waiting.answer().status, 503);
    assert_eq!(site.supervisor.wait(), 0);
    site.supervisor.assert_nothing_left();
}

fn taken_port(language: &Language) {
    let site = site(language);
    let mut other = language.spawn(language.handler, |command| {
        command.env("PORT", site.port.to_string());
    });
    assert_eq!(other.wait(), 1);
    let words = format!("listening for HTTP on port {}", site.port);
    eventually("it says why", || other.errors().contains(&words));
    other.assert_nothing_left();
}

fn flood(language: &Language) {
    // Nobody reads its output.
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let mut site = language.site(&[], |command| {
        command.stdout(writer);
    });
    let line = "x".repeat(10 * 1024 * 1024);
    assert_eq!(
        site.post("/", &json!({"op": "print", "text": line})).status,
        200
    );
    let before = Size::of(site.supervisor.pid()).own_kib;
    let lines = format!("{}\n", "x".repeat(1000)).repeat(900);
    for _ in 0..50 {
        let answer = site.post("/", &json!({"op": "print", "text": lines}));
        assert_eq!(answer.status, 200);
    }
    assert_eq!(site.call(&json!({"op": "count"}))["count"], 1);
    let after = Size::of(site.supervisor.pid()).own_kib;
    assert!(after < before + 25 * 1024, "{before} {after}");
    // Somebody reads it after all.
    let read = Arc::new(Mutex::new(Vec::new()));
    let reading = std::thread::spawn({
        let read = Arc::clone(&read);
        move || {
            let mut chunk = [0; 64 * 1024];
            while let Ok(length @ 1..) = reader.read(&mut chunk) {
                read.lock()
                    .expect("no holder panics")
                    .extend(&chunk[..length]);
            }
        }
    });
    // More than the pipe held: there is room for another line.
    eventually("what waited is read", || {
        read.lock().expect("no holder panics").len() > 1024 * 1024
    });
    let _ = site.post("/", &json!({"op": "print", "text": "the end"}));
    site.supervisor.signal(Signal::SIGTERM);
    assert_eq!(site.supervisor.wait(), 0);
    reading.join().expect("it read");
    let text = String::from_utf8_lossy(&read.lock().expect("no holder panics")).into_owned();
    assert!(text.contains(" lines were dropped: nobody read them]\n"));
    assert!(text.contains("the end\n"));
}

fn sockets(language: &Language) {
    let site = site(language);
    let _open = site.connect();
    assert_eq!(site.call(&json!(1)), 1);
    let mut looked_at = 0;
    for pid in process::descendants(site.supervisor.pid()) {
        let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        for entry in entries.flatten() {
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            let name = target.to_string_lossy().into_owned();
            looked_at += 1;
            // The template has one, to be told of forks by.
            let is_inet = name.starts_with("socket:") && is_of_the_internet(&name);
            assert!(!is_inet, "{pid} has {name}");
        }
    }
    assert!(looked_at > 5, "{looked_at}");
}

/// True if a socket, as a link in `/proc` names it, is one of TCP.
fn is_of_the_internet(name: &str) -> bool {
    let inode = name.trim_start_matches("socket:[").trim_end_matches(']');
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|table| {
        let text = std::fs::read_to_string(table).expect("the table of sockets");
        text.lines()
            .any(|line| line.split_whitespace().nth(9) == Some(inode))
    })
}

/// A signal is for the main thread, whichever thread the kernel would choose.
fn signals(language: &Language) {
    let site = site(language);
    let directory = format!("/proc/{}/task", site.supervisor.pid());
    let threads = std::fs::read_dir(directory).expect("its threads");
    let mut masks = threads.flatten().filter_map(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim_start_matches(':').trim().to_owned())
        };
        (field("Name")? == "front")
            .then(|| field("SigBlk"))
            .flatten()
    });
    let mask = masks.next().expect("a thread called front");
    let mask = u64::from_str_radix(&mask, 16).expect("a mask");
    for signal in (1..=31).filter(|signal| ![9, 19].contains(signal)) {
        assert!(
            mask & (1 << (signal - 1)) != 0,
            "{signal} is not in {mask:x}"
        );
    }
}

fn without_root(language: &Language) {
    // No other test's, and nobody's on this host.
    const USER: u32 = 61_237;
    let mut site = language.site(&[], |command| {
        command.uid(USER).gid(USER).env_remove("TMPDIR");
    });
    for _ in 0..3 {
        assert_eq!(site.call(&json!({"op": "count"}))["count"], 1);
    }
    // It removes its workers' directory.
    site.supervisor.signal(Signal::SIGTERM);
    assert_eq!(site.supervisor.wait(), 0);
}
