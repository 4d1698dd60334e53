//! Answers that come in pieces.

use std::io::{Read, Write};
use std::net::TcpStream;

use refunction_tests::eventually;
use refunction_tests::http::{Chunk, Connection, LAMBDA, Site};
use refunction_tests::peer::assert_failure;
use refunction_tests::process::{self, Size};
use refunction_tests::supervisor::Listening;
use serde_json::{Value, json};

use crate::Case;
use crate::language::Language;

/// For each runtime whose functions can.
pub const CASES: &[Case] = &[
    ("a_piece_is_there_before_the_next_is_made", at_once),
    ("items_are_bytes_text_or_lines_of_json", items),
    ("lambda_has_the_pieces_too", lambda),
    ("what_raises_in_the_middle_breaks_the_answer", raises),
    ("an_item_that_is_none_breaks_the_answer", odd_items),
    ("a_time_out_in_the_middle_breaks_the_answer", time_out),
    (
        "what_was_streamed_is_put_back_after_its_last_piece",
        restored,
    ),
    (
        "a_client_that_does_not_read_holds_the_function_up",
        slow_client,
    ),
    (
        "a_client_that_leaves_in_the_middle_ends_the_call",
        client_gone,
    ),
    ("pieces_are_joined_where_an_answer_is_one", joined),
    (
        "a_container_that_stops_breaks_an_answer_after_its_grace",
        grace,
    ),
];

/// For Node.js.
pub const NODE: &[Case] = &[
    ("lambdas_way_to_stream_is_known", streamified),
    ("what_is_thrown_beside_a_stream_breaks_it", thrown_beside),
];

/// For both kinds of JavaScript.
pub const SCRIPTS: &[Case] = &[(
    "what_gives_one_after_the_other_is_streamed",
    other_iterators,
)];

/// For one runtime.
pub const ONCE: &[Case] = &[
    ("a_crash_in_the_middle_breaks_the_answer", crash),
    ("every_iterator_is_streamed", iterators),
    ("a_forged_frame_is_the_forgers_own_loss", forged),
];

const HANDLER: &str = "streaming.handler";

fn site(language: &Language) -> Site {
    language.named_site(HANDLER, |_| {})
}

/// Asks, and waits for the head of the answer.
#[track_caller]
fn begin(site: &Site, event: &Value) -> Connection {
    let mut connection = site.connect();
    connection.request("POST", "/", &[], event.to_string().as_bytes());
    let head = connection.head();
    assert_eq!(head.status, 200);
    assert_eq!(head.header("transfer-encoding"), "chunked", "{head:?}");
    connection
}

#[track_caller]
fn assert_next(connection: &mut Connection, text: &str) {
    assert_eq!(connection.chunk(), Chunk::Piece(text.into()));
}

fn in_flight(site: &Site) -> bool {
    let text = site.get("/_/metrics").text();
    text.contains("refunction_in_flight 1\n")
}

fn has_failed(site: &Site, kind: &str) -> bool {
    let text = site.get("/_/metrics").text();
    text.contains(&format!(
        "refunction_requests_total{{outcome=\"{kind}\"}} 1\n"
    ))
}

/// The next one is answered, by a function as it was imported.
#[track_caller]
fn assert_fresh(site: &Site) {
    assert_eq!(site.call(&json!({"op": "plain"}))["count"], 1);
}

fn at_once(language: &Language) {
    let site = site(language);
    // Much longer than this test waits for anything.
    let mut connection = begin(&site, &json!({"op": "hold", "seconds": 1000}));
    assert_next(&mut connection, "first");
    assert!(in_flight(&site), "it is not over");
    connection.leave();
    // And all of it comes.
    let mut connection = begin(&site, &json!({"op": "hold", "seconds": 0}));
    assert_eq!(connection.rest(), (b"firstlast".to_vec(), Chunk::Last));
    // The connection is good for more.
    assert_eq!(connection.call(&json!({"op": "plain"}))["count"], 1);
}

fn items(language: &Language) {
    let site = site(language);
    for (items, kind, body) in [
        (
            json!(["a", "", "ü\n"]),
            "text/plain; charset=utf-8",
            "aü\n".as_bytes(),
        ),
        (
            json!([{"bytes": [0, 255]}, {"bytes": [10]}]),
            "application/octet-stream",
            b"\x00\xff\n",
        ),
        (
            json!([{"a": [1, null]}, 2, null, true]),
            "application/x-ndjson",
            b"{\"a\":[1,null]}\n2\nnull\ntrue\n",
        ),
        (
            json!(["a", 1, {"bytes": [98]}]),
            "text/plain; charset=utf-8",
            b"a1\nb",
        ),
        (json!([]), "", b""),
    ] {
        let event = json!({"op": "items", "items": items});
        let answer = site.post("/", &event);
        assert_eq!(answer.status, 200, "{items}");
        assert_eq!(answer.header("content-type"), kind, "{items}");
        assert_eq!(answer.body, body, "{items}");
    }
    // Larger than a piece may be, and than all that may wait.
    let event = json!({"op": "large", "pieces": 3, "bytes": 1_000_001});
    assert!(site.post("/", &event).body == vec![b'x'; 3_000_003]);
}

fn lambda(language: &Language) {
    let site = site(language);
    let mut connection = site.connect();
    let event = json!({"op": "hold", "seconds": 1000}).to_string();
    connection.request(
        "POST",
        LAMBDA,
        &[("x-amzn-requestid", "mine")],
        event.as_bytes(),
    );
    let head = connection.head();
    assert_eq!(head.header("x-amzn-requestid"), "mine");
    assert_eq!(head.header("content-type"), "text/plain; charset=utf-8");
    assert_next(&mut connection, "first");
    connection.leave();
    let answer = site.post(LAMBDA, &json!({"op": "items", "items": ["a", "b"]}));
    assert_eq!(answer.text(), "ab");
    eventually("it is reported", || {
        site.output().matches("REPORT RequestId: ").count() == 2
    });
}

fn raises(language: &Language) {
    let site = site(language);
    let mut connection = begin(&site, &json!({"op": "raise"}));
    assert_eq!(connection.rest(), (b"first".to_vec(), Chunk::Broken));
    assert!(connection.is_closed());
    // Without chunks the end of a connection is that of an answer; a reset is not.
    for (event, is_whole) in [(r#"{"op": "raise"}"#, false), (r#"{"op": "count"}"#, true)] {
        let mut old = TcpStream::connect(("127.0.0.1", site.port)).expect("connecting");
        let request = format!(
            "POST / HTTP/1.0\r\ncontent-length: {}\r\n\r\n{event}",
            event.len()
        );
        old.write_all(request.as_bytes()).expect("sending");
        let mut answer = Vec::new();
        assert_eq!(old.read_to_end(&mut answer).is_ok(), is_whole, "{event}");
    }
    // The client cannot be told, so the log is.
    eventually("it is in the log", || {
        let said = site.output();
        said.contains("no good") && said.contains("streaming.")
    });
    assert_fresh(&site);
}

fn odd_items(language: &Language) {
    let site = site(language);
    // Before there is anything, it is a failure as any.
    let answer = site.post("/", &json!({"op": "items", "items": [{"bytes": "x"}]}));
    assert_eq!(answer.status, 500, "{}", answer.text());
    let mut connection = begin(&site, &json!({"op": "odd", "first": "first"}));
    assert_eq!(connection.rest(), (b"first".to_vec(), Chunk::Broken));
    eventually("it is in the log", || site.output().contains("JSON"));
    // The function has heard that nobody asks for more.
    eventually("it was closed", || site.output().contains("closed\n"));
    assert_fresh(&site);
}

fn time_out(language: &Language) {
    let site = language.named_site(HANDLER, |command| {
        command.env("REFUNCTION_DEADLINE_MS", "1000");
    });
    let mut connection = begin(&site, &json!({"op": "hold", "seconds": 1000}));
    assert_eq!(connection.rest(), (b"first".to_vec(), Chunk::Broken));
    eventually("it is in the log", || site.output().contains("1000 ms"));
    assert!(has_failed(&site, "timeout"));
    assert_fresh(&site);
}

fn crash(language: &Language) {
    let site = site(language);
    let mut connection = begin(&site, &json!({"op": "exit"}));
    assert_eq!(connection.rest(), (b"first".to_vec(), Chunk::Broken));
    eventually("it is in the log", || {
        site.output().contains("exited with status 3")
    });
    assert!(has_failed(&site, "crashed"));
    assert_fresh(&site);
}

fn restored(language: &Language) {
    let site = site(language);
    for _ in 0..3 {
        // What it has is there until its end, and gone after it.
        let answer = site.post("/", &json!({"op": "count"}));
        assert_eq!(answer.text(), "12");
    }
    eventually("what was printed is", || {
        site.output().matches("counted\n").count() == 3
    });
    eventually("each was put back", || {
        let text = site.get("/_/metrics").text();
        text.contains("refunction_restores_total{method=\"rewind\"} 3\n")
    });
    // Nobody else's request is begun in between.
    let held = begin(&site, &json!({"op": "hold", "seconds": 1000}));
    let mut waiting = site.connect();
    waiting.request("POST", "/", &[], br#"{"op": "plain"}"#);
    eventually("it waits", || {
        site.get("/_/metrics")
            .text()
            .contains("refunction_queue_length 1\n")
    });
    held.leave();
    assert_eq!(waiting.answer().json()["count"], 1);
}

/// The workers' number that waits to write to its answers' pipe, if one does.
fn held_up(site: &Site) -> bool {
    process::descendants(site.supervisor.pid())
        .iter()
        .any(|pid| {
            let call = std::fs::read_to_string(format!("/proc/{pid}/syscall"));
            // write(4, …); what runs has no line of that kind.
            call.is_ok_and(|call| call.starts_with("1 0x4 "))
        })
}

fn slow_client(language: &Language) {
    const PIECES: usize = 2048;
    const BYTES: usize = 64 * 1024;
    let site = site(language);
    // Room for what it holds anyway.
    let _ = site.post("/", &json!({"op": "large", "pieces": 16, "bytes": BYTES}));
    let before = Size::of(site.supervisor.pid()).own_kib;
    let event = json!({"op": "large", "pieces": PIECES, "bytes": BYTES});
    let mut connection = begin(&site, &event);
    let mut looks = 0;
    eventually("the function is held up", || {
        looks = if held_up(&site) { looks + 1 } else { 0 };
        looks == 20
    });
    let after = Size::of(site.supervisor.pid()).own_kib;
    assert!(after < before + 8 * 1024, "{before} {after}");
    // Others are answered meanwhile.
    assert_eq!(site.get("/_/health").status, 200);
    let (body, end) = connection.rest();
    assert_eq!((body.len(), end), (PIECES * BYTES, Chunk::Last));
    let after = Size::of(site.supervisor.pid()).own_kib;
    assert!(after < before + 8 * 1024, "{before} {after}");
}

fn client_gone(language: &Language) {
    let site = site(language);
    for op in ["large", "hold"] {
        let event = json!({"op": op, "pieces": 1_000_000, "bytes": 65536, "seconds": 1000});
        let mut connection = begin(&site, &event);
        assert!(matches!(connection.chunk(), Chunk::Piece(_)));
        connection.leave();
        eventually("the call is over", || !in_flight(&site));
        assert_fresh(&site);
    }
    let text = site.get("/_/metrics").text();
    let two = "refunction_restores_total{method=\"refork\"} 2\n";
    assert!(text.contains(two), "{text}");
}

fn joined(language: &Language) {
    let arguments = [
        &language.arguments()[..],
        &["--isolation", "request", HANDLER],
    ]
    .concat();
    let listening = Listening::start_with(&arguments, |command| language.furnish(command));
    let mut peer = listening.connect();
    let answer = peer.call(&json!({"op": "items", "items": ["a", {"b": 1}, "ü"]}));
    assert_eq!(answer, "a{\"b\":1}\nü");
    let failure = peer.fail(&json!({"op": "items", "items": [{"bytes": [255]}]}));
    assert_failure(&failure, "exception", &["no text", "HTTP"]);
    let failure = peer.fail(&json!({"op": "raise"}));
    assert_failure(&failure, "exception", &["no good"]);
    let failure = peer.fail(&json!({"op": "large", "pieces": 1000, "bytes": 65536}));
    assert_failure(&failure, "crashed", &["33554432 bytes"]);
    assert_eq!(peer.call(&json!({"op": "plain"}))["count"], 1);
    // OpenWhisk takes objects.
    let site = site(language);
    let answer = site.post("/run", &json!({"value": {"op": "items", "items": ["a"]}}));
    assert_eq!(answer.status, 502);
    assert!(
        answer.text().contains("did not return"),
        "{}",
        answer.text()
    );
}

fn grace(language: &Language) {
    let mut site = language.named_site(HANDLER, |command| {
        command.env("REFUNCTION_GRACE_MS", "300");
    });
    let mut connection = begin(&site, &json!({"op": "hold", "seconds": 1000}));
    assert_next(&mut connection, "first");
    site.supervisor.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(connection.rest(), (Vec::new(), Chunk::Broken));
    assert_eq!(site.supervisor.wait(), 0);
    site.supervisor.assert_nothing_left();
}

fn iterators(language: &Language) {
    let site = site(language);
    assert_eq!(site.post("/", &json!({"op": "mapped"})).text(), "012");
    let source = language.root().join("streaming.py");
    let answer = site.post("/", &json!({"op": "lines"}));
    assert_eq!(answer.body, std::fs::read(source).expect("the source"));
    for handler in ["streaming.later", "streaming.returns"] {
        let site = language.named_site(handler, |_| {});
        let mut connection = begin(&site, &json!({"op": "hold", "seconds": 1000}));
        assert_next(&mut connection, "first");
        connection.leave();
        let answer = site.post("/", &json!({"op": "count"}));
        assert_eq!(answer.text(), "12");
        let mut connection = begin(&site, &json!({"op": "odd", "first": "a"}));
        assert_eq!(connection.rest(), (b"a".to_vec(), Chunk::Broken));
        eventually("it was closed", || site.output().contains("closed\n"));
    }
}

fn other_iterators(language: &Language) {
    let site = language.named_site("streaming.others", |_| {});
    let mut ops = vec!["generator", "web"];
    if language.name == "node" {
        ops.push("readable");
        let answer = site.post("/", &json!({"op": "file"}));
        let source = language.root().join("streaming.js");
        assert_eq!(answer.body, std::fs::read(source).expect("the source"));
    }
    for op in ops {
        let answer = site.post("/", &json!({"op": op}));
        assert_eq!(answer.text(), "ab", "{op}");
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    }
    // What is a value of JSON is one answer.
    assert_eq!(
        site.post("/", &json!({"op": "list"})).json(),
        json!(["a", "b"])
    );
    let mut connection = begin(&site, &json!({"op": "never"}));
    assert_eq!(connection.rest(), (b"a".to_vec(), Chunk::Broken));
    eventually("it is in the log", || {
        site.output().contains("nothing is left that could settle")
    });
}

fn thrown_beside(language: &Language) {
    let site = language.named_site("streaming.others", |_| {});
    let mut connection = begin(&site, &json!({"op": "late"}));
    assert_eq!(connection.rest(), (b"first".to_vec(), Chunk::Broken));
    eventually("it is in the log", || site.output().contains("no good"));
}

fn streamified(language: &Language) {
    let site = language.named_site("streaming.streamed", |_| {});
    let mut connection = begin(&site, &json!({"op": "hold", "seconds": 1000}));
    assert_next(&mut connection, "first");
    connection.leave();
    let answer = site.post(LAMBDA, &json!({}));
    assert_eq!(answer.text(), "first and last");
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    let answer = site.post("/", &json!({"op": "type"}));
    assert_eq!(answer.header("content-type"), "text/event-stream");
    let answer = site.post("/", &json!({"op": "http"}));
    assert_eq!(
        (answer.status, answer.text()),
        (201, "first and last".into())
    );
    assert_eq!(answer.header("content-type"), "text/odd");
    assert_eq!(answer.header("x-own"), "yes");
    assert_eq!(answer.all("set-cookie"), ["a=1", "b=2"]);
    let mut connection = begin(&site, &json!({"op": "raise"}));
    assert_eq!(connection.rest(), (b"first".to_vec(), Chunk::Broken));
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a length");
    [&length.to_le_bytes()[..], &[kind], payload].concat()
}

/// What a function writes to its pipe by itself is refused, or is its own answer.
fn forged(language: &Language) {
    let site = site(language);
    let head = br#"{"status":200,"headers":[]}"#;
    let split = br#"{"status":200,"headers":[["x","a\r\nb: c"]]}"#;
    for (number, (first, frames)) in [
        // Before an answer has begun.
        (Value::Null, frame(b'p', b"x")),
        (Value::Null, frame(b'e', b"")),
        (Value::Null, frame(b'h', b"{}")),
        (Value::Null, frame(b'h', split)),
        (Value::Null, frame(b'h', &vec![b' '; 100 * 1024])),
        (Value::Null, [frame(b'h', head), frame(b'h', head)].concat()),
        (Value::Null, [frame(b'h', head), frame(b'v', b"1")].concat()),
        // After it has.
        (json!("first"), frame(b'h', head)),
        (json!("first"), frame(b'v', b"1")),
        (json!("first"), frame(b'l', b"null")),
        (json!("first"), frame(b'r', b"{}")),
        (json!("first"), frame(b'p', b"")),
        (json!("first"), frame(b'p', &vec![b'x'; 64 * 1024 + 1])),
        (json!("first"), frame(b'?', b"x")),
        (json!("first"), frame(b'x', b"x")),
        (json!("first"), vec![0xff; 5]),
    ]
    .into_iter()
    .enumerate()
    {
        let event = json!({"op": "write", "first": first, "frames": frames});
        let mut connection = site.connect();
        connection.request("POST", "/", &[], event.to_string().as_bytes());
        let answer = connection.head();
        if answer.status == 200 {
            let (_, end) = connection.rest();
            assert_eq!(end, Chunk::Broken, "{number}: {answer:?}");
        } else {
            assert_eq!(answer.status, 502, "{number}: {answer:?}");
        }
        let words = "broke its channel";
        eventually("it is in the log", || {
            site.output().matches(words).count() == number + 1
        });
        assert_fresh(&site);
    }
    // As its own answer, and nothing of it is the next one's.
    let frames = [
        frame(b'h', head),
        frame(b'p', b"forged"),
        frame(b'e', b""),
        frame(b'h', head),
        frame(b'p', b"left"),
    ];
    let event = json!({"op": "write", "first": null, "frames": frames.concat()});
    assert_eq!(site.post("/", &event).text(), "forged");
    assert_fresh(&site);
}
