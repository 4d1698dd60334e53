//! WSGI and ASGI applications, which are given whole requests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use refunction_tests::http::{Chunk, LAMBDA, Site};
use refunction_tests::{environment, eventually};
use serde_json::{Value, json};

use crate::Case;
use crate::language::Language;

pub const CASES: &[Case] = &[
    ("an_application_is_given_requests_as_they_come", requests),
    ("an_applications_answer_is_the_answer", answers),
    ("an_application_has_all_paths_but_the_supervisors", paths),
    (
        "an_application_sends_a_piece_before_the_next_is_made",
        at_once,
    ),
    ("some_answers_of_an_application_have_no_body", no_body),
    ("an_application_that_fails_says_so_in_the_log", failures),
    (
        "a_body_that_is_too_large_does_not_reach_an_application",
        too_large,
    ),
    (
        "each_request_finds_an_application_as_it_was_imported",
        isolation,
    ),
    ("an_application_is_told_by_what_it_is", interfaces),
    (
        "what_is_no_application_ends_the_container_and_says_why",
        not_there,
    ),
    ("an_application_begins_in_its_worker", lifespan),
    ("flask_is_served", flask),
    ("django_is_served", django),
    ("fastapi_is_served", fastapi),
    ("starlette_is_served", starlette),
];

const BOTH: [&str; 2] = ["web:wsgi", "web:asgi"];

fn site(language: &Language, application: &str) -> Site {
    language.named_site(application, |_| {})
}

fn requests(language: &Language) {
    for application in BOTH {
        let site = site(language, application);
        let headers = [
            ("X-Twice", "1"),
            ("x-twice", "2"),
            ("cookie", "a=1; b=ü"),
            ("content-type", "text/odd"),
            ("connection", "keep-alive, x-hop"),
            ("x-hop", "1"),
            ("te", "trailers"),
        ];
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "FROB"] {
            let body = "the bödy".as_bytes();
            let target = "/a%20b/%C3%BC%2fx//?x=1&y=%20&z";
            let mut answer = site.send(method, target, &headers, body).json();
            assert_eq!(answer["method"], method, "{application}");
            assert_eq!(answer["path"], "/a b/ü/x//", "{application}");
            assert_eq!(answer["raw"], target, "{application}");
            assert_eq!(answer["query"], "x=1&y=%20&z", "{application}");
            assert_eq!(answer["body"], "the bödy", "{application}");
            let found = answer["headers"].take();
            let expected = json!({
                "host": "localhost",
                "x-twice": "1,2",
                // A header is bytes, and a byte a character.
                "cookie": "a=1; b=Ã¼",
                "content-type": "text/odd",
                "content-length": "9",
            });
            assert_eq!(found, expected, "{application}");
        }
        // A body in pieces has a length by then.
        let mut connection = site.connect();
        connection.send(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
        connection.send(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
        let answer = connection.answer().json();
        assert_eq!(answer["body"], "abcde", "{application}");
        let headers = json!({"host": "x", "content-length": "5"});
        assert_eq!(answer["headers"], headers, "{application}");
        // The connection is good for more.
        assert_eq!(connection.ask("GET", "/", &[], b"").json()["method"], "GET");
    }
    // Nobody passes for another by the name of a header: in WSGI both would be one.
    let site = site(language, "web:wsgi");
    let headers = [("x-user", "me"), ("x_user", "you")];
    let answer = site.send("GET", "/", &headers, b"").json();
    assert_eq!(answer["headers"]["x-user"], "me");
}

fn answers(language: &Language) {
    for application in BOTH {
        let site = site(language, application);
        let target = "/plan?status=418&pieces=a||b&headers=Set-Cookie:a=1|X-Own:yes|set-cookie:b=2|content-type:text/odd";
        let answer = site.get(target);
        assert_eq!((answer.status, answer.text()), (418, "ab".into()));
        assert_eq!(answer.all("set-cookie"), ["a=1", "b=2"], "{application}");
        assert_eq!(answer.all("x-own"), ["yes"], "{application}");
        assert_eq!(answer.all("content-type"), ["text/odd"], "{application}");
        assert_eq!(answer.header("transfer-encoding"), "chunked");
        // With a length of its own it needs no chunks, and what is too much is cut.
        let mut connection = site.connect();
        for pieces in ["ab|c", "ab|cdef", "abcdef"] {
            let target = format!("/plan?headers=content-length:3&pieces={pieces}");
            let answer = connection.ask("GET", &target, &[], b"");
            assert_eq!(answer.text(), "abc", "{application} {pieces}");
            assert_eq!(answer.all("content-length"), ["3"], "{application}");
            assert_eq!(answer.header("transfer-encoding"), "", "{application}");
        }
        // The connection is the supervisor's.
        let kept = site.get("/plan?headers=connection:close|transfer-encoding:gzip&pieces=a");
        assert_eq!(kept.header("connection"), "", "{application}");
        assert_eq!(kept.text(), "a", "{application}");
    }
}

fn paths(language: &Language) {
    for application in BOTH {
        let site = site(language, application);
        for path in ["/", "/init", "/run", LAMBDA, "/_/other", "/_", "/_/health/"] {
            let answer = site.send("POST", path, &[], b"{}").json();
            assert_eq!(answer["path"], path, "{application}");
        }
        for (path, word) in [
            ("/_/health", "ok"),
            ("/_/ready", "ready"),
            ("/_/metrics", "refunction_ready"),
        ] {
            assert!(site.get(path).text().contains(word), "{path}");
            assert_eq!(site.send("POST", path, &[], b"").status, 405, "{path}");
        }
    }
}

fn at_once(language: &Language) {
    for application in BOTH {
        let site = site(language, application);
        let mut connection = site.connect();
        connection.request("GET", "/plan?pieces=first&then=hold", &[], b"");
        assert_eq!(connection.head().status, 200);
        assert_eq!(connection.chunk(), Chunk::Piece(b"first".to_vec()));
        let text = site.get("/_/metrics").text();
        assert!(text.contains("refunction_in_flight 1\n"), "{text}");
        connection.leave();
        assert_eq!(site.get("/").json()["count"], 1, "{application}");
    }
}

fn no_body(language: &Language) {
    for application in BOTH {
        let site = site(language, application);
        let mut connection = site.connect();
        // On one connection: what was sent for all that would be the next one's.
        let head = connection.ask(
            "HEAD",
            "/plan?headers=content-length:5&pieces=abcde",
            &[],
            b"",
        );
        assert_eq!((head.status, head.header("content-length")), (200, "5"));
        let head = connection.ask("HEAD", "/plan?pieces=abcde|f", &[], b"");
        assert_eq!((head.status, head.header("content-length")), (200, ""));
        for status in [204, 304] {
            let target = format!("/plan?status={status}&headers=x-own:yes&pieces=abcde");
            let answer = connection.ask("GET", &target, &[], b"");
            assert_eq!((answer.status, answer.header("x-own")), (status, "yes"));
            assert_eq!(answer.text(), "", "{application}");
        }
        assert_eq!(connection.ask("GET", "/", &[], b"").json()["count"], 1);
        let text = site.get("/_/metrics").text();
        let none = "refunction_restores_total{method=\"refork\"} 0\n";
        assert!(text.contains(none), "{application}: {text}");
    }
}

fn failures(language: &Language) {
    for application in BOTH {
        let site = site(language, application);
        for (target, words) in [
            ("/plan?then=early", "no good"),
            ("/silent", "application"),
            ("/plan?status=99", "99"),
            ("/plan?headers=a(b:c", "header"),
            ("/plan?headers=content-length:x", "length"),
        ] {
            let answer = site.get(target);
            assert_eq!(answer.status, 500, "{application} {target}");
            // Who asks is not the author: only the log has it.
            assert_eq!(answer.text(), "Internal Server Error\n", "{application}");
            eventually("it is in the log", || site.output().contains(words));
        }
        for (then, words) in [("raise", "no good"), ("exit", "status 3")] {
            let mut connection = site.connect();
            let target = format!("/plan?pieces=first&then={then}");
            connection.request("GET", &target, &[], b"");
            assert_eq!(connection.head().status, 200);
            assert_eq!(connection.rest(), (b"first".to_vec(), Chunk::Broken));
            eventually("it is in the log", || site.output().contains(words));
        }
        // Less than it said.
        let mut connection = site.connect();
        let target = "/plan?headers=content-length:9&pieces=abc";
        connection.request("GET", target, &[], b"");
        assert_eq!(connection.head().status, 200);
        assert!(!connection.is_closed(), "there is something");
        assert_eq!(site.get("/").json()["count"], 1, "{application}");
    }
    // After its answer a failure is nobody's, and is told all the same.
    let site = site(language, "web:asgi");
    let answer = site.get("/plan?pieces=whole&then=late");
    assert_eq!((answer.status, answer.text()), (200, "whole".into()));
    eventually("it is in the log", || {
        site.supervisor.errors().contains("no good")
    });
}

fn too_large(language: &Language) {
    let site = site(language, "web:wsgi");
    let most = 32 * 1024 * 1024;
    let mut connection = site.connect();
    let answer = connection.ask("PUT", "/", &[], &vec![b'x'; most + 1]);
    assert_eq!(answer.status, 413);
    assert!(
        answer.text().contains("33554432 bytes"),
        "{}",
        answer.text()
    );
    assert!(connection.is_closed());
    let answer = site.send("PUT", "/", &[], &vec![b'x'; most]).json();
    assert_eq!(answer["body"].as_str().map(str::len), Some(most));
    assert_eq!(answer["count"], 1);
}

fn isolation(language: &Language) {
    for application in BOTH {
        let site = site(language, application);
        for _ in 0..10 {
            assert_eq!(site.get("/").json()["count"], 1, "{application}");
        }
        eventually("each was put back", || {
            let text = site.get("/_/metrics").text();
            text.contains("refunction_restores_total{method=\"rewind\"} 10\n")
        });
        let shared = language.named_site(application, |command| {
            command.env("REFUNCTION_ISOLATION", "session");
        });
        for count in 1..=3 {
            assert_eq!(shared.get("/").json()["count"], count, "{application}");
        }
    }
    // What goes on after the client has all of it is not cut off.
    let site = site(language, "web:asgi");
    for count in 1..=3 {
        assert_eq!(site.get("/").json()["count"], 1);
        eventually("it went on", || {
            site.output().matches("after the answer\n").count() == count
        });
    }
}

fn interfaces(language: &Language) {
    for (application, interface) in [
        ("web:called", "asgi"),
        ("web:partly", "asgi"),
        ("web:Awaited", "asgi"),
        ("web:Iterated", "wsgi"),
        ("web:site.inner.app", "wsgi"),
    ] {
        let answer = site(language, application).get("/").json();
        assert_eq!(answer["interface"], interface, "{application}");
    }
    let told = language.named_site("web:hidden", |command| {
        command.env("REFUNCTION_INTERFACE", "asgi");
    });
    assert_eq!(told.get("/").json()["interface"], "asgi");
}

fn not_there(language: &Language) {
    for (application, set, words) in [
        ("web:nothing", "", &["nothing", "it has"][..]),
        ("web:site.other", "", &["site.other"]),
        ("web:number", "", &["not callable", "int"]),
        ("web:", "", &["module:application"]),
        ("broken:app", "", &["broken.py", "line 1", "not_there"]),
        ("web:wsgi", "cgi", &["cgi", "asgi"]),
    ] {
        let mut supervisor = language.spawn(application, |command| {
            if !set.is_empty() {
                command.env("REFUNCTION_INTERFACE", set);
            }
        });
        assert_ne!(supervisor.wait(), 0, "{application}");
        for word in words {
            eventually(&format!("{application}: {word:?} is said"), || {
                supervisor.errors().contains(word)
            });
        }
    }
}

fn lifespan(language: &Language) {
    let site = site(language, "web:started");
    for _ in 0..3 {
        let answer = site.get("/").json();
        assert_eq!(
            (&answer["count"], &answer["state"]),
            (&json!(1), &json!({"loop": true}))
        );
    }
    let unstarted = language.named_site("web:unstarted", |_| {});
    for count in 1..=2 {
        assert_eq!(unstarted.get("/").status, 500);
        eventually("it is in the log", || {
            unstarted.output().matches("no database").count() == count
        });
    }
}

// --- frameworks ----------------------------------------------------------------------

/// Where the libraries of `requirements.txt` are, installed once; nothing if they are not to
/// be had.
fn libraries(language: &Language) -> Option<&'static Path> {
    static LIBRARIES: OnceLock<Option<PathBuf>> = OnceLock::new();
    let install = || {
        let version = site(language, "web:wsgi").get("/").json()["version"].take();
        let version = version.as_str().expect("a version").to_owned();
        let requirements = language.root().join("frameworks/requirements.txt");
        let wanted = std::fs::read_to_string(&requirements).expect("requirements");
        let name: String = wanted.chars().filter(char::is_ascii_alphanumeric).collect();
        let kept = environment::kept().join(format!("python-{version}-{name}"));
        if kept.is_dir() {
            return Some(kept);
        }
        let unfinished = kept.with_extension(format!("{}.part", std::process::id()));
        // What the tests' own surroundings have is no business of this.
        let installed = Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--no-input"])
            .args(["--only-binary", ":all:", "--python-version", &version])
            .arg("--target")
            .arg(&unfinished)
            .arg("--requirement")
            .arg(&requirements)
            .output();
        match installed {
            Ok(output) if output.status.success() => {
                // Another test process may have been faster.
                let _ = std::fs::rename(&unfinished, &kept);
                Some(kept)
            }
            other => {
                let _ = std::fs::remove_dir_all(&unfinished);
                let why = other.map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
                println!("skipped: the frameworks cannot be installed with pip: {why:?}");
                None
            }
        }
    };
    LIBRARIES.get_or_init(install).as_deref()
}

/// What every framework is to do, whatever it is.
fn framework(language: &Language, application: &str) -> Option<Site> {
    let libraries = libraries(language)?;
    let site = language.named_site(application, |command| {
        command
            .env("PYTHONPATH", libraries)
            .env("REFUNCTION_VERIFY", "1");
    });
    for _ in 0..3 {
        assert_eq!(site.get("/count").json()["count"], 1, "{application}");
    }
    let echoed = site.send("POST", "/echo/a%20b/c?q=%C3%BC", &[], b"the body");
    assert_eq!(echoed.status, 200, "{application}: {}", echoed.text());
    let expected = json!({"path": "a b/c", "query": "ü", "body": "the body"});
    assert_eq!(echoed.json(), expected, "{application}");
    let cookies = echoed.all("set-cookie");
    let begins = |start: &str| cookies.iter().any(|cookie| cookie.starts_with(start));
    assert!(
        begins("a=1;") && begins("b=2;"),
        "{application}: {cookies:?}"
    );
    assert_eq!(site.get("/stream").text(), "0\n1\n2\n", "{application}");
    assert_eq!(site.get("/bad").status, 500, "{application}");
    assert_eq!(site.get("/nothing").status, 404, "{application}");
    let refused = site.send("DELETE", "/echo/x", &[], b"");
    assert!([405, 200].contains(&refused.status), "{application}");
    let mut connection = site.connect();
    let head = connection.ask("HEAD", "/nothing", &[], b"");
    assert_eq!(head.status, 404, "{application}");
    assert_eq!(connection.ask("GET", "/count", &[], b"").json()["count"], 1);
    eventually("each was put back", || {
        let text = site.get("/_/metrics").text();
        let value = |what: &str| {
            let line = text.lines().find(|line| line.starts_with(what))?;
            line.rsplit_once(' ')?.1.parse::<u64>().ok()
        };
        value("refunction_restores_total{method=\"refork\"}") == Some(0)
            && value("refunction_restores_total{method=\"rewind\"}")
                == value("refunction_request_duration_seconds_count")
    });
    Some(site)
}

fn flask(language: &Language) {
    framework(language, "frameworks.flask_site:app");
}

fn django(language: &Language) {
    framework(language, "frameworks.django_site:wsgi");
    framework(language, "frameworks.django_site:asgi");
}

fn fastapi(language: &Language) {
    if let Some(site) = framework(language, "frameworks/fastapi_site:app") {
        eventually("its task ran", || {
            site.output().contains("in the background\n")
        });
        let document: Value = site.get("/openapi.json").json();
        assert!(document["paths"]["/count"].is_object());
    }
}

fn starlette(language: &Language) {
    framework(language, "frameworks.starlette_site:app");
}
