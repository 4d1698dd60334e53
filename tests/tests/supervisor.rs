//! The supervisor by itself, as somebody drives it by hand: its messages, what it
//! survives, what it says of each cause, and how it ends.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use refunction_tests::peer::{Peer, assert_failure};
use refunction_tests::process::{self, Handle};
use refunction_tests::supervisor::{Listening, Supervisor};
use refunction_tests::{PATIENCE, environment, eventually};
use serde_json::{Value, json};

/// Answers with its argument.
const ECHO: &str = "def main(args):\n    return args\n";

/// Does what it is told: `{"do": "source"}`; otherwise an echo.
const OBEY: &str = r#"
import ctypes, mmap, os, resource, signal, socket, subprocess, sys, threading, time

def main(args):
    if not isinstance(args, dict) or "do" not in args:
        return args
    scope = dict(globals(), args=args, answer=None)
    exec(args["do"], scope)
    return scope["answer"]
"#;

fn obeying(arguments: &[&str]) -> Supervisor {
    let mut supervisor = Supervisor::start(arguments);
    supervisor.load(OBEY);
    supervisor
}

fn doing(source: &str) -> Value {
    json!({ "do": source })
}

/// The answer to a call that the worker does not survive, and then the next call:
/// a fresh worker, with the function in it again.
#[track_caller]
fn dies(supervisor: &mut Supervisor, source: &str, words: &[&str]) {
    let failure = supervisor.fail(&doing(source));
    assert_failure(&failure, "crashed", words);
    assert_eq!(supervisor.call(&json!([1, "next"])), json!([1, "next"]));
}

// --- the original's messages ---------------------------------------------------

#[test]
fn the_originals_four_messages_work_unchanged() {
    let mut supervisor = Supervisor::start(&[]);
    let started = &supervisor.started["data"];
    assert_eq!(started["runtime"], "python", "{started}");
    assert!(
        started["version"]
            .as_str()
            .is_some_and(|it| it.starts_with("3."))
    );
    assert!(started["snapshot_bytes"].as_u64() > Some(1024 * 1024));
    assert!(started["boot_us"].as_u64() > Some(0));
    let worker = started["pid"].as_u64().expect("a pid") as u32;
    assert_eq!(worker, supervisor.worker());

    supervisor.send(&json!({"type": "function", "data": ECHO}));
    assert_eq!(
        supervisor.receive(),
        json!({"type": "function_loaded", "data": true})
    );
    supervisor.send(&json!({"type": "request", "data": {"a": [1, 2.5, null, "x"]}}));
    assert_eq!(
        supervisor.receive(),
        json!({"type": "response", "data": {"a": [1, 2.5, null, "x"]}})
    );
    let answer = supervisor.try_load(&json!("def main(args:\n"));
    assert_eq!(answer["data"], false, "{answer}");
    assert_eq!(answer["error"]["kind"], "exception", "{answer}");
    assert_eq!(answer["error"]["error_type"], "SyntaxError", "{answer}");
    assert_failure(&supervisor.fail(&Value::Null), "not_loaded", &["function"]);
}

#[test]
fn an_id_comes_back_unchanged_whatever_json_it_is() {
    let mut supervisor = Supervisor::start(&[]);
    supervisor.load(ECHO);
    for id in [
        "1",
        "\"text \\u00fc \\\"quoted\\\"\"",
        "-0.10e+2",
        "123456789012345678901234567890",
        "null",
        "true",
        "[1,  {\"a\": []}]",
        "{\"b\":1,\"a\":{\"c\":null}}",
    ] {
        let line = format!("{{\"type\":\"request\",\"id\":{id},\"data\":1}}\n");
        supervisor.send_bytes(line.as_bytes());
        let answer = supervisor.expect("response");
        let sent: Value = serde_json::from_str(id).expect("JSON");
        assert_eq!(answer.get("id").unwrap_or(&Value::Null), &sent);
    }
    // Also in what goes wrong.
    supervisor.send(&json!({"type": "nonsense", "id": {"a": 1}}));
    assert_eq!(supervisor.expect("error")["id"], json!({"a": 1}));
}

#[test]
fn what_is_no_message_is_refused_and_nothing_more() {
    let mut supervisor = Supervisor::start(&[]);
    let long = {
        let mut line = vec![b'x'; 6 * 6 * 1024 * 1024 + 64 * 1024 + 1];
        line.push(b'\n');
        line
    };
    for (bytes, words) in [
        (&b"nonsense\n"[..], &["JSON"][..]),
        (b"\x00\xff\xfe\n", &["JSON"]),
        (b"[]\n", &["JSON"]),
        (b"{}\n", &["type"]),
        (b"{\"type\":1}\n", &["type"]),
        (
            b"{\"type\":\"dance\"}\n",
            &["unknown message type", "dance"],
        ),
        (b"{\"type\":\"function\"}\n", &["data"]),
        (b"{\"type\":\"function\",\"data\":5}\n", &["function"]),
        (
            b"{\"type\":\"function\",\"data\":{\"main\":\"f\"}}\n",
            &["code"],
        ),
        (b"{\"type\":\"request\",\"deadline_ms\":-1}\n", &["JSON"]),
        (&long, &["longer than"]),
    ] {
        supervisor.send_bytes(bytes);
        let error = supervisor.expect("error");
        assert_failure(&error["data"], "bad_request", words);
    }
    // Empty lines are nothing, unknown fields are ignored, and it lives on.
    supervisor.send_bytes(b"\n  \n\r\n");
    supervisor.load(ECHO);
    supervisor.send(&json!({"type": "request", "data": 1, "colour": "red"}));
    assert_eq!(supervisor.expect("response")["data"], 1);
}

#[test]
fn a_function_that_raises_says_so_with_its_own_lines() {
    let mut supervisor = Supervisor::start(&[]);
    assert_failure(&supervisor.fail(&json!(1)), "not_loaded", &["function"]);
    supervisor.load("def main(args):\n    return inner(args)\n\ndef inner(args):\n    raise ValueError('no ' + args)\n");
    let failure = supervisor.fail(&json!("reason"));
    assert_failure(&failure, "exception", &["no reason"]);
    assert_eq!(failure["error_type"], "ValueError");
    let stack = failure["stack"].as_str().expect("a stack");
    assert!(
        stack.contains("in inner") && stack.contains("raise ValueError"),
        "{stack}"
    );
    assert!(!stack.contains("<refunction>"), "{stack}");
    // A function that cannot be told in JSON is an exception too, not a death.
    supervisor.load("def main(args):\n    return {1, 2}\n");
    assert_failure(&supervisor.fail(&Value::Null), "exception", &["JSON"]);
    let answer = supervisor.try_load(&json!("raise RuntimeError('at load')\n"));
    assert_failure(&answer["error"], "exception", &["at load"]);
    let answer = supervisor.try_load(&json!("x = 1\n"));
    assert_failure(&answer["error"], "exception", &["main"]);
}

#[test]
fn a_function_can_have_an_entry_an_environment_and_a_limit_of_its_own() {
    let mut supervisor = Supervisor::start(&[]);
    let answer = supervisor.try_load(&json!({
        "code": "import os\ndef other(args):\n    return [os.environ.get('GREETING'), os.environ.get('EMPTY')]\n",
        "main": "other",
        "env": {"GREETING": "grüß dich", "EMPTY": ""},
    }));
    assert_eq!(answer["data"], true, "{answer}");
    assert_eq!(supervisor.call(&Value::Null), json!(["grüß dich", ""]));
    let answer = supervisor.try_load(&json!({
        "code": "import time\ndef handler(event, context):\n    time.sleep(event)\n    return context.aws_request_id\n",
        "handler": "function.handler",
        "limits": {"deadline_ms": 2000},
    }));
    assert_eq!(answer["data"], true, "{answer}");
    assert_eq!(supervisor.call(&json!(0)), "the-call");
    assert_failure(&supervisor.fail(&json!(30)), "timeout", &["2000 ms"]);
}

#[test]
fn status_tells_what_there_is() {
    let mut supervisor = Supervisor::start(&[]);
    assert_eq!(supervisor.status()["state"], "ready");
    supervisor.load(ECHO);
    supervisor.call(&json!(1));
    let status = supervisor.status();
    assert_eq!(status["state"], "loaded", "{status}");
    assert_eq!(status["requests"], 1, "{status}");
    assert_eq!(status["queued"], 0, "{status}");
    supervisor.load("import time\ndef main(args):\n    print('in it')\n    time.sleep(args)\n");
    supervisor.send(&json!({"type": "request", "id": 1, "data": 20, "deadline_ms": 2000}));
    supervisor.send(&json!({"type": "request", "id": 2, "data": 0}));
    supervisor.wait_for_log(|log| log["line"] == "in it");
    let status = supervisor.status();
    assert_eq!(status["state"], "running", "{status}");
    assert_eq!(status["queued"], 1, "{status}");
    assert_eq!(supervisor.expect("error")["id"], 1);
    assert_eq!(supervisor.expect("response")["id"], 2);
    let before = supervisor.status();
    assert_eq!(supervisor.restore().method, "rewind");
    let status = supervisor.status();
    assert_eq!(status["state"], "ready", "{status}");
    assert_eq!(
        status["rewinds"].as_u64(),
        before["rewinds"].as_u64().map(|count| count + 1)
    );
}

// --- causes --------------------------------------------------------------------

#[test]
fn a_deadline_ends_the_call_names_the_limit_and_spares_the_next() {
    let mut supervisor = obeying(&["--deadline-ms", "60000"]);
    let began = Instant::now();
    for (source, limit) in [
        ("time.sleep(100)", 200),
        ("while True: pass", 250),
        // What a function may well try.
        (
            "for number in range(1, 65):\n    try: signal.signal(number, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nwhile True:\n    try: time.sleep(100)\n    except BaseException: pass",
            300,
        ),
    ] {
        let worker = supervisor.worker();
        supervisor.send(&json!({
            "type": "request", "id": limit, "data": doing(source), "deadline_ms": limit,
        }));
        let answer = supervisor.expect("error");
        assert_eq!(answer["id"], limit);
        assert_failure(&answer["data"], "timeout", &[&format!("{limit} ms")]);
        assert_eq!(supervisor.call(&json!("next")), "next");
        assert_ne!(supervisor.worker(), worker, "the worker was used again");
        assert!(Handle::open(worker).is_none(), "the worker is still there");
    }
    assert!(began.elapsed() < Duration::from_secs(30));
    // The deadline counts from arrival, and covers the loading as well.
    supervisor.send(&json!({"type": "function", "data": "import time\ntime.sleep(100)\n"}));
    supervisor.send(&json!({"type": "shutdown"}));
}

#[test]
fn the_containers_own_deadline_holds_where_nobody_names_one() {
    let mut supervisor = obeying(&["--deadline-ms", "2000"]);
    assert_failure(
        &supervisor.fail(&doing("time.sleep(100)")),
        "timeout",
        &["2000 ms"],
    );
    let answer = supervisor.try_load(&json!("while True: pass"));
    assert_failure(&answer["error"], "timeout", &["2000 ms"]);
    supervisor.load(ECHO);
    assert_eq!(supervisor.call(&json!(1)), 1);
}

#[test]
fn a_worker_that_ends_itself_is_told_from_one_that_answers() {
    let mut supervisor = obeying(&[]);
    for (source, words) in [
        ("os._exit(3)", &["exited with status 3"][..]),
        ("os._exit(0)", &["exited with status 0"]),
        ("os.kill(os.getpid(), signal.SIGKILL)", &["SIGKILL"]),
        ("os.kill(os.getpid(), signal.SIGSEGV)", &["SIGSEGV"]),
        ("ctypes.string_at(1)", &["SIGSEGV"]),
        ("os.abort()", &["SIGABRT"]),
        (
            "os.kill(os.getpid(), signal.SIGSTOP)\ntime.sleep(100)",
            &["stopped", "SIGSTOP"],
        ),
        (
            "os.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(100)",
            &["SIGTERM"],
        ),
        ("os.execv('/bin/true', ['true'])", &["exec"]),
        ("os.execv('/bin/sleep', ['sleep', '100'])", &["exec"]),
        (
            "threading.Thread(target=os._exit, args=(5,)).start()\ntime.sleep(100)",
            &["status 5"],
        ),
    ] {
        println!("{source}");
        dies(&mut supervisor, source, words);
    }
}

#[test]
fn a_worker_that_is_ended_from_outside_is_no_mystery() {
    let mut supervisor = obeying(&[]);
    for (signal, word) in [
        (Signal::SIGKILL, "SIGKILL"),
        (Signal::SIGSEGV, "SIGSEGV"),
        (Signal::SIGSTOP, "SIGSTOP"),
        (Signal::SIGTERM, "SIGTERM"),
    ] {
        let worker = Handle::open(supervisor.worker()).expect("a worker");
        supervisor.ask(&json!(1), &doing("print('asleep')\ntime.sleep(100)"));
        supervisor.wait_for_log(|log| log["line"] == "asleep");
        supervisor.take_logs();
        worker.signal(signal);
        let answer = supervisor.expect("error");
        assert_failure(&answer["data"], "crashed", &[word]);
        assert_eq!(supervisor.call(&json!("next")), "next");
    }
    // One that ends while it has nothing to do costs nobody a request.
    for signal in [Signal::SIGKILL, Signal::SIGSEGV, Signal::SIGSTOP] {
        let worker = Handle::open(supervisor.worker()).expect("a worker");
        worker.signal(signal);
        eventually("the worker is replaced", || !worker.is_there());
        assert_eq!(supervisor.call(&json!("next")), "next");
    }
    // The template too.
    supervisor.restore();
    let worker = supervisor.worker();
    let template = process::descendants(supervisor.pid())
        .into_iter()
        .find(|pid| *pid != worker)
        .and_then(Handle::open)
        .expect("a template");
    template.signal(Signal::SIGKILL);
    eventually("the template is reaped", || !template.is_there());
    supervisor.load(ECHO);
    assert_eq!(supervisor.call(&json!(7)), 7);
}

#[test]
fn a_broken_channel_is_the_functions_own_loss() {
    let mut supervisor = obeying(&[]);
    for (source, words) in [
        ("os.close(4)", &["3 or 4"][..]),
        ("os.close(3); os.close(4)", &["3 or 4"]),
        (
            "os.write(4, b'rubbish at length')",
            &["broke its channel", "kind"],
        ),
        (
            "os.write(4, (10**9).to_bytes(4, 'little') + b'v')",
            &["1000000000 bytes"],
        ),
        (
            "os.write(4, (4).to_bytes(4, 'little') + b'L' + b'null')",
            &["broke its channel"],
        ),
        (
            "os.write(4, (4).to_bytes(4, 'little') + b'l' + b'null')",
            &["broke its channel"],
        ),
        (
            "os.write(4, (3).to_bytes(4, 'little') + b'v' + b'{{{')",
            &["broke its channel"],
        ),
        (
            "os.write(4, (2).to_bytes(4, 'little') + b'x' + b'[]')",
            &["broke its channel"],
        ),
        (
            "os.write(4, (2).to_bytes(4, 'little') + b'v' + b'\\xff\\xfe')",
            &["broke its channel"],
        ),
        // A call with no answer, and nobody to give one.
        (
            "os.close(4); os.close(3); time.sleep(100)",
            &["response pipe"],
        ),
    ] {
        println!("{source}");
        dies(&mut supervisor, source, words);
    }
}

#[test]
fn a_forged_frame_can_only_be_the_forgers_own_answer() {
    let mut supervisor = obeying(&[]);
    let forge = "\
def frame(text):
    return len(text).to_bytes(4, 'little') + b'v' + text
os.write(4, frame(b'\"forged\"') + frame(b'\"for the next\"'))
answer = 'honest'";
    assert_eq!(supervisor.call(&doing(forge)), "forged");
    // What it wrote too much, or in advance, answers nobody else's request.
    for number in 0..20 {
        let answer = supervisor.answer(&json!({"number": number}));
        if answer["type"] == "response" {
            assert_ne!(answer["data"], "for the next", "{answer}");
        }
        supervisor.restore();
        supervisor.load(OBEY);
        assert_eq!(supervisor.call(&json!(number)), number);
        supervisor.ask(&json!(1), &doing(forge));
        supervisor.expect("response");
    }
    // A thread that forges while somebody else's function is called is ended first.
    let later = "\
def forging():
    while True:
        try: os.write(4, (8).to_bytes(4, 'little') + b'v' + b'\"forged\"')
        except OSError: pass
        time.sleep(0.0001)
threading.Thread(target=forging, daemon=True).start()
subprocess.Popen(['/bin/sh', '-c', 'while true; do printf nonsense >&4; done'], pass_fds=[4])";
    supervisor.restore();
    for number in 0..20 {
        supervisor.load(OBEY);
        supervisor.answer(&doing(later));
        supervisor.restore();
        supervisor.load(ECHO);
        for part in 0..5 {
            let mine = json!([number, part]);
            assert_eq!(supervisor.call(&mine), mine);
        }
        supervisor.restore();
    }
}

// --- logs ----------------------------------------------------------------------

#[test]
fn every_line_carries_its_request_whatever_printed_it() {
    let mut supervisor = Supervisor::start(&[]);
    let answer = supervisor.try_load(&json!(
        "import ctypes, os, subprocess, sys
print('while loading')
libc = ctypes.CDLL(None)
def main(args):
    print('print', args)
    print('errors', args, file=sys.stderr)
    os.write(1, b'descriptor %d\\n' % args)
    subprocess.run(['/bin/sh', '-c', 'echo subprocess %d; echo its errors %d >&2' % (args, args)])
    libc.printf(b'printf %d\\n', args)
    sys.stdout.write('no newline %d' % args)
    return args
"
    ));
    assert_eq!(answer["data"], true);
    let logs = supervisor.take_logs();
    assert_eq!(logs.len(), 1, "{logs:?}");
    assert_eq!(logs[0]["line"], "while loading");
    assert!(logs[0].get("id").is_none(), "{logs:?}");
    // All at once: they wait for each other.
    for number in 0..20 {
        supervisor.ask(&json!({"request": number}), &json!(number));
    }
    for number in 0..20 {
        let answer = supervisor.expect("response");
        assert_eq!(answer["id"], json!({"request": number}));
        let logs = supervisor.take_logs();
        let mut lines: Vec<String> = logs
            .iter()
            .map(|log| {
                assert_eq!(log["id"], json!({"request": number}), "{log}");
                format!(
                    "{} {}",
                    log["stream"].as_str().expect("a stream"),
                    log["line"].as_str().expect("a line")
                )
            })
            .collect();
        lines.sort();
        let mut expected = [
            format!("stdout print {number}"),
            format!("stderr errors {number}"),
            format!("stdout descriptor {number}"),
            format!("stdout subprocess {number}"),
            format!("stderr its errors {number}"),
            format!("stdout printf {number}"),
            format!("stdout no newline {number}"),
        ];
        expected.sort();
        assert_eq!(lines, expected);
    }
}

#[test]
fn what_was_printed_before_a_death_is_not_lost() {
    let mut supervisor = obeying(&[]);
    supervisor.ask(
        &json!(5),
        &doing("print('last words')\nos.write(2, b'and no newline')\nos._exit(1)"),
    );
    supervisor.expect("error");
    let logs = supervisor.take_logs();
    let lines: Vec<&Value> = logs.iter().map(|log| &log["line"]).collect();
    assert!(lines.contains(&&json!("last words")), "{logs:?}");
    assert!(lines.contains(&&json!("and no newline")), "{logs:?}");
    assert!(logs.iter().all(|log| log["id"] == 5), "{logs:?}");
}

#[test]
fn no_amount_of_printing_stops_anything_and_a_cut_is_marked() {
    let mut supervisor = obeying(&[]);
    // One line of 10 MB.
    supervisor.ask(
        &json!("long"),
        &doing("print('x' * 10_000_000); print('after')"),
    );
    supervisor.expect("response");
    let logs = supervisor.take_logs();
    assert!(
        logs.iter().any(|log| log["truncated"] == true),
        "nothing is marked"
    );
    let kept: usize = logs
        .iter()
        .map(|log| log["line"].as_str().map_or(0, str::len))
        .sum();
    assert!((1000..2_000_000).contains(&kept), "{kept} bytes are kept");
    assert!(logs.iter().any(|log| log["line"] == "after"));
    // Many lines.
    supervisor.ask(
        &json!("many"),
        &doing("for number in range(200_000): print('line', number)"),
    );
    supervisor.expect("response");
    let logs = supervisor.take_logs();
    assert_eq!(logs.last().expect("lines")["truncated"], true);
    assert!(logs.iter().all(|log| log["id"] == "many"));
    // Bytes that are no text, and none at all.
    supervisor.ask(
        &json!("bytes"),
        &doing("os.write(1, b'\\xff\\x00\\xfe\\n\\n')"),
    );
    supervisor.expect("response");
    assert_eq!(supervisor.take_logs().len(), 2);
    // Each request has its own share.
    supervisor.ask(&json!("next"), &doing("print('short')"));
    supervisor.expect("response");
    let logs = supervisor.take_logs();
    assert_eq!(logs.len(), 1, "{logs:?}");
    assert_eq!(logs[0]["line"], "short");
    assert!(logs[0].get("truncated").is_none());
}

// --- payloads ------------------------------------------------------------------

#[test]
fn large_payloads_and_every_character_come_back() {
    let mut supervisor = Supervisor::start(&[]);
    supervisor.load(ECHO);
    // What OpenWhisk tests with, and Lambda's limit.
    for size in [1_048_561, 6 * 1024 * 1024] {
        let text = "abcdefghij".repeat(size / 10);
        let payload = json!({ "value": text });
        assert!(
            supervisor.call(&payload) == payload,
            "{size} bytes came back otherwise"
        );
    }
    let text = "grüße, 世界, 🦀, \u{0}\u{1f}\u{7f}\u{85}\u{2028}, \"\\/\u{10ffff}";
    let payload = json!({ text: [text] });
    assert_eq!(supervisor.call(&payload), payload);
    // Numbers are not to be rounded on their way.
    let line = "{\"type\":\"request\",\"data\":[123456789012345678901234567890,1e-7,0.1]}\n";
    supervisor.send_bytes(line.as_bytes());
    let answer = supervisor.expect("response");
    assert_eq!(answer["data"][2], json!(0.1));
    supervisor.load("def main(args):\n    return {'größe': 'naïve ☃ 🦀' + args}\n# 世界\n");
    assert_eq!(
        supervisor.call(&json!("ß")),
        json!({"größe": "naïve ☃ 🦀ß"})
    );
    supervisor.load(
        "def main(args):\n    print('größe ☃ 🦀')\n    return len('x' * args) and 'x' * args\n",
    );
    let answer = supervisor.call(&json!(6_000_000));
    assert_eq!(answer.as_str().map(str::len), Some(6_000_000));
    assert_eq!(supervisor.take_logs()[0]["line"], "größe ☃ 🦀");
}

#[test]
fn a_request_may_come_in_pieces_and_several_at_once() {
    let mut supervisor = Supervisor::start(&[]);
    supervisor.load(ECHO);
    for byte in b"{\"type\":\"request\",\"data\":\"slow\"}" {
        supervisor.send_bytes(&[*byte]);
    }
    supervisor.send_bytes(b"\r\n");
    assert_eq!(supervisor.expect("response")["data"], "slow");
    let mut all = Vec::new();
    for number in 0..1000 {
        all.extend(format!("{{\"type\":\"request\",\"id\":{number},\"data\":{number}}}\n").bytes());
    }
    supervisor.send_bytes(&all);
    for number in 0..1000 {
        let answer = supervisor.expect("response");
        assert_eq!(
            (&answer["id"], &answer["data"]),
            (&json!(number), &json!(number))
        );
    }
}

// --- the end -------------------------------------------------------------------

#[test]
fn shutdown_ends_it_when_nothing_is_in_flight() {
    let mut supervisor = obeying(&[]);
    supervisor.ask(&json!(1), &doing("time.sleep(0.3); answer = 'done'"));
    supervisor.send(&json!({"type": "shutdown"}));
    supervisor.ask(&json!(2), &json!(2));
    let refused = supervisor.expect("error");
    assert_eq!(refused["id"], 2);
    assert_failure(&refused["data"], "bad_request", &["stopping"]);
    let answer = supervisor.expect("response");
    assert_eq!(
        (&answer["id"], &answer["data"]),
        (&json!(1), &json!("done"))
    );
    assert_eq!(supervisor.wait(), 0);
    assert!(supervisor.is_over());
    supervisor.assert_nothing_left();
}

#[test]
fn sigterm_drains_and_the_second_one_does_not_wait() {
    let mut supervisor = obeying(&[]);
    supervisor.ask(
        &json!(1),
        &doing("print('in it'); time.sleep(0.5); answer = 'done'"),
    );
    supervisor.wait_for_log(|log| log["line"] == "in it");
    supervisor.signal(Signal::SIGTERM);
    let answer = supervisor.expect("response");
    assert_eq!(
        (&answer["id"], &answer["data"]),
        (&json!(1), &json!("done"))
    );
    assert_eq!(supervisor.wait(), 0);
    supervisor.assert_nothing_left();

    let mut supervisor = obeying(&[]);
    supervisor.ask(&json!(1), &doing("print('in it'); time.sleep(100)"));
    supervisor.wait_for_log(|log| log["line"] == "in it");
    supervisor.signal(Signal::SIGTERM);
    // Not before the first one was seen: two at once are one to the kernel.
    while supervisor.status()["state"] != "draining" {}
    let began = Instant::now();
    supervisor.signal(Signal::SIGTERM);
    assert_eq!(supervisor.wait(), 143);
    assert!(began.elapsed() < Duration::from_secs(4), "it waited");
    supervisor.assert_nothing_left();
}

#[test]
fn the_grace_time_is_the_end_of_waiting() {
    let mut supervisor = obeying(&["--grace-ms", "400"]);
    supervisor.ask(&json!(1), &doing("print('in it'); time.sleep(100)"));
    supervisor.wait_for_log(|log| log["line"] == "in it");
    supervisor.signal(Signal::SIGINT);
    let answer = supervisor.expect("error");
    assert_failure(&answer["data"], "crashed", &["stopped", "400 ms"]);
    assert_eq!(supervisor.wait(), 0);
    supervisor.assert_nothing_left();
}

#[test]
fn other_signals_are_the_functions() {
    let mut supervisor = obeying(&[]);
    // No function yet: nobody's.
    supervisor.restore();
    supervisor.signal(Signal::SIGUSR1);
    supervisor.signal(Signal::SIGHUP);
    // They are taken before this is answered or right after, and so before the load.
    supervisor.status();
    supervisor.load(OBEY);
    supervisor.ask(
        &json!(1),
        &doing(
            "\
got = []
signal.signal(signal.SIGUSR1, lambda *_: got.append('usr1'))
print('waiting')
while not got: signal.pause()
answer = got",
        ),
    );
    supervisor.wait_for_log(|log| log["line"] == "waiting");
    supervisor.signal(Signal::SIGUSR1);
    assert_eq!(supervisor.expect("response")["data"], json!(["usr1"]));
}

#[test]
fn the_end_of_its_input_is_its_end_and_what_was_asked_is_answered() {
    let mut supervisor = obeying(&[]);
    supervisor.ask(&json!(1), &doing("time.sleep(0.2); answer = 'done'"));
    supervisor.ask(&json!(2), &json!("queued"));
    supervisor.send_bytes(b"{\"type\":\"request\",\"id\":3,\"data\":\"no newline\"}");
    supervisor.close();
    for (id, data) in [(1, "done"), (2, "queued"), (3, "no newline")] {
        let answer = supervisor.expect("response");
        assert_eq!((&answer["id"], &answer["data"]), (&json!(id), &json!(data)));
    }
    assert_eq!(supervisor.wait(), 0);
    supervisor.assert_nothing_left();
}

#[test]
fn a_killed_supervisor_takes_everything_with_it() {
    let mut supervisor = obeying(&[]);
    supervisor.ask(
        &json!(1),
        &doing("subprocess.Popen(['/bin/sleep', '1000'], start_new_session=True); print('in it'); time.sleep(100)"),
    );
    supervisor.wait_for_log(|log| log["line"] == "in it");
    let descendants: Vec<Handle> = process::descendants(supervisor.pid())
        .into_iter()
        .filter_map(Handle::open)
        .collect();
    assert!(descendants.len() >= 3, "template, worker and its child");
    supervisor.signal(Signal::SIGKILL);
    assert_eq!(supervisor.wait(), 137);
    eventually("all it started ends", || {
        descendants.iter().all(|process| !process.is_alive())
    });
    supervisor.assert_nothing_left();
}

#[test]
fn orphans_and_daemons_are_ended_and_reaped() {
    let mut supervisor = obeying(&[]);
    let daemonise = "\
import json
def fork_away():
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(write, str(os.getpid()).encode())
            for descriptor in range(3): os.close(descriptor)
            time.sleep(1000)
        os._exit(0)
    return int(os.read(read, 20))
answer = [fork_away() for _ in range(5)]
answer += [subprocess.Popen(['/bin/sleep', '1000'], start_new_session=True).pid]
answer += [subprocess.Popen(['/bin/sh', '-c', 'trap \"\" TERM HUP INT; while true; do sleep 1000; done']).pid]";
    for _ in 0..3 {
        let daemons = supervisor.call(&doing(daemonise));
        let daemons: Vec<Handle> = daemons
            .as_array()
            .expect("pids")
            .iter()
            .map(|pid| Handle::open(pid.as_u64().expect("a pid") as u32).expect("it runs"))
            .collect();
        supervisor.restore();
        let left: Vec<u32> = daemons
            .iter()
            .filter(|it| it.is_alive())
            .map(|it| it.pid)
            .collect();
        assert!(left.is_empty(), "still run: {left:?}");
        let worker = supervisor.worker();
        // Some are orphans, which the supervisor reaps when the kernel says so.
        eventually("all are reaped", || daemons.iter().all(|it| !it.is_there()));
        let mine = process::of_user(supervisor.uid);
        assert_eq!(mine.len(), 1, "{mine:?}");
        assert!(mine[0].starts_with(&worker.to_string()), "{mine:?}");
        supervisor.load(OBEY);
    }
    // An orphan that ends by itself is reaped while the function goes on.
    let orphan = supervisor.call(&doing(
        "\
read, write = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.write(write, str(os.getpid()).encode())
        os._exit(0)
    os._exit(0)
os.wait()
answer = int(os.read(read, 20))",
    ));
    let orphan = orphan.as_u64().expect("a pid") as u32;
    eventually("the orphan is reaped", || {
        process::parent(orphan) != Some(supervisor.pid())
    });
    supervisor.send(&json!({"type": "shutdown"}));
    assert_eq!(supervisor.wait(), 0);
    supervisor.assert_nothing_left();
}

// --- start ---------------------------------------------------------------------

#[test]
fn a_library_that_is_missing_is_named_at_the_start() {
    let mut supervisor = Supervisor::spawn(&[], |command| {
        command.env("REFUNCTION_PRELOAD", "json, no_such_library");
    });
    assert_eq!(supervisor.wait(), 1);
    eventually("the message is read", || {
        supervisor.errors().ends_with('\n')
    });
    let errors = supervisor.errors();
    assert!(errors.contains("no_such_library"), "{errors}");
    assert!(errors.contains("ModuleNotFoundError"), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    supervisor.assert_nothing_left();
}

#[test]
fn wrong_arguments_are_refused_with_a_reason() {
    for arguments in [
        &["--method", "magic"][..],
        &["--scan", "soft-dirty"],
        &["--deadline-ms", "soon"],
        &["--control", "/nonexistent/directory/control.sock"],
    ] {
        let mut supervisor = Supervisor::spawn(arguments, |_| {});
        assert_ne!(supervisor.wait(), 0, "{arguments:?}");
        eventually("the message is read", || !supervisor.errors().is_empty());
        supervisor.assert_nothing_left();
    }
}

#[test]
fn it_always_reforks_when_told_to() {
    let mut supervisor = Supervisor::start(&["--method", "refork"]);
    for number in 0..5 {
        let worker = supervisor.worker();
        supervisor.load(ECHO);
        assert_eq!(supervisor.call(&json!(number)), number);
        let restored = supervisor.restore();
        assert_eq!(restored.method, "refork", "{}", restored.report);
        assert!(restored.rows.is_empty(), "{}", restored.report);
        assert_ne!(supervisor.worker(), worker);
    }
    let status = supervisor.status();
    assert_eq!(
        (&status["rewinds"], &status["reforks"]),
        (&json!(0), &json!(5))
    );
}

/// What workers of one template share, the hash seed and where things are in memory,
/// lasts as long as the template.
#[test]
fn another_template_takes_over_after_so_many_restores() {
    let mut supervisor = Supervisor::start(&["--rotate-after", "3"]);
    let mut seen = std::collections::BTreeSet::new();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while seen.len() < 4 {
        assert!(std::time::Instant::now() < deadline, "only {seen:?}");
        supervisor.load("def main(args):\n    return [hash('seed'), id(list)]\n");
        seen.insert(supervisor.call(&json!(null)).to_string());
        let restored = supervisor.restore();
        // Where the worker was still unused the change needed no restore.
        if restored.method == "refork" {
            assert_eq!(restored.rows, ["template"], "{}", restored.report);
        }
    }
    // The ones before are gone: a template, a worker, perhaps a template to come.
    let children = format!("/proc/{0}/task/{0}/children", supervisor.pid());
    let children = std::fs::read_to_string(children).expect("children");
    assert!(children.split_whitespace().count() <= 3, "{children}");
}

#[test]
fn settings_may_come_from_the_environment() {
    let mut supervisor = Supervisor::start_with(&[], |command| {
        command
            .env("REFUNCTION_METHOD", "refork")
            .env("REFUNCTION_DEADLINE_MS", "2000")
            .env("REFUNCTION_PRELOAD", "colorsys,")
            .env("OF_THE_CONTAINER", "yes");
    });
    supervisor.load("import os, sys, time\nhad = 'colorsys' in sys.modules\ndef main(args):\n    time.sleep(args)\n    return [had, sorted(name for name in os.environ if name.startswith('REFUNCTION_')), os.environ.get('OF_THE_CONTAINER')]\n");
    assert_eq!(supervisor.call(&json!(0)), json!([true, [], "yes"]));
    assert_failure(&supervisor.fail(&json!(50)), "timeout", &["2000 ms"]);
    assert_eq!(supervisor.restore().method, "refork");
}

// --- on a socket ---------------------------------------------------------------

#[test]
fn two_peers_get_each_their_own_answers() {
    let listening = Listening::start(&[]);
    let mut one = listening.connect();
    let mut two = listening.connect();
    one.load("def main(args):\n    print('for', args)\n    return args\n");
    for number in 0..50 {
        one.ask(&json!(["one", number]), &json!(number));
        two.ask(&json!(["two", number]), &json!(-number));
    }
    for number in 0..50 {
        let answer = one.expect("response");
        assert_eq!(
            (&answer["id"], &answer["data"]),
            (&json!(["one", number]), &json!(number))
        );
        let answer = two.expect("response");
        assert_eq!(
            (&answer["id"], &answer["data"]),
            (&json!(["two", number]), &json!(-number))
        );
    }
    for (peer, name) in [(&mut one, "one"), (&mut two, "two")] {
        let logs = peer.take_logs();
        assert_eq!(logs.len(), 50);
        assert!(logs.iter().all(|log| log["id"][0] == name), "{logs:?}");
    }
    // One's goodbye is not the other's.
    drop(one);
    two.send_bytes(b"nonsense\n");
    two.expect("error");
    assert_eq!(two.call(&json!("still")), "still");
    two.send(&json!({"type": "shutdown"}));
    assert!(two.is_over());
}

#[test]
fn a_peer_that_never_reads_holds_nobody_up() {
    let listening = Listening::start(&[]);
    let mut deaf = std::os::unix::net::UnixStream::connect(listening.path()).expect("connected");
    let mut peer = listening.connect();
    peer.load("def main(args):\n    print('x' * args)\n    return 'y' * args\n");
    // 40 MB of answers and as much of logs, which nobody takes.
    for number in 0..40 {
        use std::io::Write;
        let line = format!("{{\"type\":\"request\",\"id\":{number},\"data\":1000000}}\n");
        deaf.write_all(line.as_bytes()).expect("written");
    }
    for number in 0..40 {
        let began = Instant::now();
        let answer = peer.call(&json!(number));
        assert_eq!(answer.as_str().map(str::len), Some(number));
        assert!(began.elapsed() < PATIENCE);
    }
    let size = process::Size::of(listening.supervisor.pid());
    assert!(size.own_kib < 200 * 1024, "{size:?}");
    drop(deaf);
    assert_eq!(peer.call(&json!(3)), "yyy");
}

#[test]
fn a_peer_that_leaves_loses_only_its_own_answer() {
    let mut listening = Listening::start(&[]);
    let mut keeper = listening.connect();
    keeper.load(OBEY);
    let pid = listening.supervisor.pid();
    let before = process::Size::of(pid).descriptors;
    for number in 0..20 {
        let mut leaver = listening.connect();
        leaver.ask(&json!(1), &doing("time.sleep(0.02); answer = 1"));
        leaver.ask(
            &json!(2),
            &doing("print('y' * 100000); answer = 'x' * 100000"),
        );
        drop(leaver);
        let mut half = listening.connect();
        half.send_bytes(b"{\"type\":\"request\",");
        drop(half);
        assert_eq!(keeper.call(&json!(number)), number);
    }
    eventually("those who left are forgotten", || {
        keeper.status();
        process::Size::of(pid).descriptors <= before
    });
    // Nobody there at all is no reason to end.
    drop(keeper);
    let mut late: Peer = listening.connect();
    assert_eq!(late.call(&json!("late")), "late");
    listening.supervisor.signal(Signal::SIGTERM);
    assert_eq!(listening.supervisor.wait(), 0);
    assert!(!listening.path().exists(), "the socket is left");
    listening.supervisor.assert_nothing_left();
}

#[test]
fn only_its_own_user_may_connect() {
    use std::os::unix::fs::PermissionsExt;
    environment::require_root();
    let listening = Listening::start(&[]);
    let mode = std::fs::metadata(listening.path())
        .expect("a socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}
