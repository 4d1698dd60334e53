//! Lambda's runtime API, polled as a runtime of Lambda's does.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use refunction_tests::eventually;
use refunction_tests::http::{Connection, LAMBDA};
use refunction_tests::runtime_api::{Invocation, Polling, Service};
use serde_json::{Value, json};

use crate::Case;
use crate::context::Caller;
use crate::language::Language;

pub const CASES: &[Case] = &[
    (
        "the_runtime_api_gives_events_and_takes_results",
        events_and_results,
    ),
    ("the_runtime_api_is_told_of_an_exception", exception),
    ("the_runtime_api_is_told_of_a_time_out", time_out),
    ("the_runtime_api_is_told_of_a_crash", crash),
    ("the_runtime_api_is_told_why_nothing_starts", failed_start),
    ("the_runtime_api_gives_the_whole_context", context),
    ("the_runtime_api_gives_a_trace_for_each_call", traces),
    (
        "the_runtime_api_takes_six_mebibytes_and_says_if_that_is_too_much",
        payloads,
    ),
    ("no_event_finds_what_another_left", nothing_is_left),
    (
        "the_runtime_api_leaves_the_lines_of_lambda_to_it",
        log_lines,
    ),
];

/// What can be tried with one runtime for all.
pub const ONCE: &[Case] = &[
    ("what_is_no_event_is_not_called_with", no_events),
    ("a_runtime_api_that_is_not_there_yet_is_waited_for", late),
    ("a_runtime_api_that_is_gone_ends_it", gone),
    ("a_poll_that_is_cut_off_is_made_again", cut_off),
    ("answers_that_are_not_taken_are_noted", not_taken),
    ("a_runtime_api_that_refuses_ends_it", refused),
    ("a_poll_ends_with_its_container", stopped),
    ("what_is_in_hand_is_answered_before_the_end", drained),
    ("what_is_polled_for_can_be_called_too", listening_too),
    ("a_function_to_poll_for_is_named", named),
    ("a_function_that_is_not_there_is_told", no_root),
];

/// A supervisor that polls for the function that does what it is asked for.
fn start(language: &Language, set: impl FnOnce(&mut Command)) -> Polling {
    spawn(language, Service::start(), language.handler, set)
}

fn spawn(
    language: &Language,
    service: Service,
    handler: &str,
    set: impl FnOnce(&mut Command),
) -> Polling {
    let arguments = [&language.arguments()[..], &[handler]].concat();
    Polling::spawn(service, &arguments, |command| {
        language.furnish(command);
        command.env_remove("PORT");
        set(command);
    })
}

fn events_and_results(language: &Language) {
    let polling = start(language, |_| {});
    for (number, event) in [
        json!({"text": "ünïcødé 😀", "number": 2.5, "list": [1, null, true]}),
        json!("a text"),
        json!([1, 2]),
        json!(17),
        Value::Null,
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("call-{number}");
        let posted = polling.service.ask(Invocation::new(&id, &event));
        assert_eq!(posted.result_of(&id), event);
        assert_eq!(posted.header("content-type"), "application/json");
        let agent = posted.header("user-agent");
        assert!(
            agent.starts_with("refunction/") && agent.contains(language.name),
            "{agent}"
        );
    }
    let nothing = polling.service.ask(Invocation::raw("empty", b""));
    assert_eq!(nothing.result_of("empty"), json!({}));
    // Two may have one id; which is meant is said by what comes with it.
    let event = Invocation::new("again", &json!(1)).with("Lambda-Runtime-Invocation-Id", "the-2nd");
    let posted = polling.service.ask(event);
    assert_eq!(posted.header("lambda-runtime-invocation-id"), "the-2nd");
    let agents = polling.service.agents();
    assert!(agents.iter().all(|agent| agent.starts_with("refunction/")));
    // Where events are fetched nobody is listened to.
    assert!(!polling.supervisor.errors().contains("listening"));
}

fn exception(language: &Language) {
    let polling = start(language, |_| {});
    let posted = polling
        .service
        .ask(Invocation::new("bad", &json!({"op": "raise"})));
    let error = posted.error_of("bad");
    assert_eq!(error["errorType"], language.exception, "{error}");
    let message = error["errorMessage"].as_str().expect("a message");
    assert!(message.ends_with("no good"), "{error}");
    let stack = error["stackTrace"].as_array().expect("a list of frames");
    let is_own = |frame: &Value| frame.as_str().expect("text").to_lowercase().contains("app");
    assert!(stack.iter().any(is_own), "{error}");
    assert_eq!(polling.call(&json!({"op": "count"}))["count"], 1);
}

fn time_out(language: &Language) {
    let polling = start(language, |_| {});
    // Its time begins when it is sent, whether anybody is there or not.
    polling.service.await_poll();
    let sleep = json!({"op": "sleep", "seconds": 100});
    let event = Invocation::new("late", &sleep).within(Duration::from_secs(2));
    let error = polling.service.ask(event).error_of("late");
    assert_eq!(error["errorType"], "Sandbox.Timedout", "{error}");
    let message = error["errorMessage"].as_str().expect("a message");
    let (_, words) = message
        .split_once("late Task timed out after ")
        .expect(message);
    let (seconds, _) = words.split_once(" seconds").expect(message);
    let seconds: f64 = seconds.parse().expect(message);
    assert!((0.5..=2.0).contains(&seconds), "{message}");
    // One whose time is over before it is there has no chance.
    let over = Invocation::new("over", &sleep).with("Lambda-Runtime-Deadline-Ms", "1");
    let error = polling.service.ask(over).error_of("over");
    assert_eq!(error["errorType"], "Sandbox.Timedout", "{error}");
    assert_eq!(polling.call(&json!({"op": "count"}))["count"], 1);
}

fn crash(language: &Language) {
    if !language.can_exit {
        return;
    }
    let polling = start(language, |_| {});
    let event = Invocation::new("gone", &json!({"op": "exit"}));
    let error = polling.service.ask(event).error_of("gone");
    assert_eq!(error["errorType"], "Runtime.ExitError");
    let message = error["errorMessage"].as_str().expect("a message");
    assert!(message.contains("exited with status 3"), "{message}");
    assert_eq!(polling.call(&json!({"op": "count"}))["count"], 1);
}

fn failed_start(language: &Language) {
    for (handler, words) in [&language.broken, &language.missing] {
        let mut polling = spawn(language, Service::start(), handler, |_| {});
        let posted = polling.service.posted();
        assert_eq!(posted.path, "/init/error");
        let error = posted.json();
        let kind = posted.header("lambda-runtime-function-error-type");
        assert!(!kind.is_empty());
        assert_eq!(error["errorType"], kind);
        assert!(error["stackTrace"].is_array(), "{error}");
        for word in *words {
            assert!(error.to_string().contains(word), "{handler}: {error}");
        }
        assert_eq!(polling.supervisor.wait(), 1, "{handler}");
        assert_eq!(polling.service.polls(), 0);
        assert!(polling.service.posted_by_now().is_none());
        // For who reads the log.
        eventually("it says why", || {
            words
                .iter()
                .all(|word| polling.supervisor.errors().contains(word))
        });
        polling.supervisor.assert_nothing_left();
    }
}

fn context(language: &Language) {
    let polling = start(language, |command| language.describe(command));
    let caller = Caller::of_lambda();
    let (id, pool) = caller.identity.expect("an identity");
    let identity = json!({"cognitoIdentityId": id, "cognitoIdentityPoolId": pool}).to_string();
    let client_context = caller.client_context.clone().expect("a client").to_string();
    let limit = Duration::from_secs(20);
    let asked = json!({"op": "context"});
    let event = Invocation::new("the-call", &asked)
        .within(limit)
        .with("Lambda-Runtime-Client-Context", &client_context)
        .with("Lambda-Runtime-Cognito-Identity", &identity)
        .with(
            "Lambda-Runtime-Invoked-Function-Arn",
            caller.arn.expect("a name"),
        )
        .with(
            "Lambda-Runtime-Aws-Tenant-Id",
            caller.tenant.expect("a tenant"),
        );
    let mut found = polling.service.ask(event).result_of("the-call");
    let remaining = found["remaining"].take().as_u64().expect("milliseconds");
    assert!((15_000..=20_000).contains(&remaining), "{remaining}");
    assert_eq!(found, language.context(&caller));
    // What is said of one call is not said of the next.
    let event = Invocation::new("the-call", &asked);
    let mut found = polling.service.ask(event).result_of("the-call");
    found["remaining"].take();
    assert_eq!(found, language.context(&Caller::unknown()));
}

fn traces(language: &Language) {
    let polling = start(language, |_| {});
    let asked = json!({"op": "env", "name": "_X_AMZN_TRACE_ID"});
    for trace in ["Root=1-2-3;Parent=4;Sampled=1", "Root=5-6-7"] {
        let event = Invocation::new("traced", &asked).with("Lambda-Runtime-Trace-Id", trace);
        assert_eq!(polling.service.ask(event).result_of("traced"), trace);
    }
    assert_eq!(polling.call(&asked), Value::Null);
}

fn payloads(language: &Language) {
    const MOST: usize = 6 * 1024 * 1024;
    let polling = start(language, |_| {});
    let largest = [b"\"", &vec![b'x'; MOST - 2][..], b"\""].concat();
    let posted = polling.service.ask(Invocation::raw("large", &largest));
    assert_eq!(posted.path, "/invocation/large/response");
    assert!(posted.body == largest);
    // How much is too much says the service, which may tell its client by itself, or not.
    polling.service.refuse("POST", 413);
    let asked = json!({"op": "large", "bytes": MOST});
    let posted = polling.service.ask(Invocation::new("larger", &asked));
    assert_eq!(posted.path, "/invocation/larger/response");
    let error = polling.service.posted().error_of("larger");
    assert_eq!(error["errorType"], "Function.ResponseSizeTooLarge");
    assert_eq!(polling.call(&json!({"op": "count"}))["count"], 1);
}

fn nothing_is_left(language: &Language) {
    const EVENTS: usize = 100;
    let polling = start(language, |_| {});
    for number in 0..EVENTS {
        // All wait from the beginning: the next is there before the last is put back.
        let event = json!({"op": "swap", "secret": format!("secret {number}")});
        let event = Invocation::new(&format!("call-{number}"), &event);
        polling.service.send(event);
    }
    for number in 0..EVENTS {
        let posted = polling.service.posted();
        assert_eq!(posted.result_of(&format!("call-{number}")), Value::Null);
    }
    drop(polling);
    // The test could tell.
    let polling = start(language, |command| {
        command.env("REFUNCTION_ISOLATION", "session");
    });
    let _ = polling.call(&json!({"op": "swap", "secret": "kept"}));
    let found = polling.call(&json!({"op": "swap", "secret": "x"}));
    assert_eq!(found, "kept");
}

/// Whoever gives the events prints START, END and REPORT, and there would be two of each.
fn log_lines(language: &Language) {
    // Why a call ended nobody but us knows.
    for (format, word) in [("text", "late Error: "), ("json", "platform.fault")] {
        let mut polling = start(language, |command| {
            command.env("REFUNCTION_LOG", format);
        });
        let event = json!({"op": "print", "text": "said by it"});
        let posted = polling.service.ask(Invocation::new("the-call", &event));
        let _ = posted.result_of("the-call");
        let late = Invocation::new("late", &json!({"op": "sleep", "seconds": 100}));
        let posted = polling.service.ask(late.within(Duration::from_secs(1)));
        assert_eq!(posted.error_of("late")["errorType"], "Sandbox.Timedout");
        // All that there is to be said is said by its end.
        polling.supervisor.signal(Signal::SIGTERM);
        assert_eq!(polling.supervisor.wait(), 0);
        eventually("all is there", || polling.output().contains(word));
        let output = polling.output();
        assert!(output.contains("said by it"), "{output}");
        for word in [
            "START",
            "END",
            "REPORT",
            "platform.start",
            "platform.report",
        ] {
            assert!(!output.contains(word), "{output}");
        }
    }
}

fn no_events(language: &Language) {
    let mut polling = start(language, |_| {});
    let good = json!({"op": "count"});
    for (event, kind, words) in [
        (
            Invocation::raw("bad", b"{"),
            "Runtime.UnmarshalError",
            "Unable to unmarshal input: ",
        ),
        (
            Invocation::raw("bad", b"\xff"),
            "Runtime.UnmarshalError",
            "Unable to unmarshal input: ",
        ),
        (
            Invocation::new("bad", &good).with("Lambda-Runtime-Client-Context", "{"),
            "Runtime.LambdaContextUnmarshalError",
            "Unable to parse Client Context JSON: ",
        ),
        (
            Invocation::new("bad", &good).with("Lambda-Runtime-Cognito-Identity", "[]"),
            "Runtime.LambdaContextUnmarshalError",
            "Unable to parse Cognito Identity JSON: ",
        ),
    ] {
        let error = polling.service.ask(event).error_of("bad");
        assert_eq!(error["errorType"], kind);
        let message = error["errorMessage"].as_str().expect("a message");
        assert!(message.starts_with(words), "{message}");
    }
    assert_eq!(polling.call(&good)["count"], 1);
    // To one without a name there is no answer, nor to one whose name leads elsewhere.
    polling.service.send(Invocation::raw("../init", b"1"));
    assert_eq!(polling.supervisor.wait(), 1);
    eventually("it says why", || {
        let errors = polling.supervisor.errors();
        errors.contains("without a usable id: \"../init\"")
    });
}

fn late(language: &Language) {
    let service = Service::start();
    let port = service.port();
    service.stop();
    let polling = spawn(language, service, language.handler, |_| {});
    // Once it asks whoever has the port, it is ready; before, nobody has.
    let listener = eventually_bound(port);
    let (_, _) = listener.accept().expect("it tries");
    drop(listener);
    let service = Service::listening_on(port);
    let posted = service.ask(Invocation::new("first", &json!(1)));
    assert_eq!(posted.result_of("first"), 1);
    drop(polling);
}

fn eventually_bound(port: u16) -> std::net::TcpListener {
    let mut listener = None;
    eventually("the port is free", || {
        listener = std::net::TcpListener::bind(("127.0.0.1", port)).ok();
        listener.is_some()
    });
    listener.expect("bound")
}

fn gone(language: &Language) {
    let mut polling = start(language, |_| {});
    assert_eq!(polling.call(&json!(1)), 1);
    polling.service.stop();
    assert_eq!(polling.supervisor.wait(), 1);
    let words = format!(
        "Lambda's runtime API at {} cannot be reached, tried 7 times: ",
        polling.service.address()
    );
    eventually("it says why", || {
        polling.supervisor.errors().contains(&words)
    });
    polling.supervisor.assert_nothing_left();
}

fn cut_off(language: &Language) {
    let polling = start(language, |_| {});
    for number in 0..3 {
        polling.service.await_poll();
        let polls = polling.service.polls();
        polling.service.hang_up();
        eventually("it polls again", || polling.service.polls() > polls);
        assert_eq!(polling.call(&json!(number)), number);
    }
    // Something between that has nobody behind it for a while.
    for status in [502, 503, 504] {
        polling.service.refuse("GET", status);
        polling.service.refuse("POST", status);
        let again = Invocation::new("again", &json!(status));
        polling.service.send(again);
        // The poll that was waiting already is given it; the answer comes once more.
        for _ in 0..2 {
            assert_eq!(polling.service.posted().result_of("again"), status);
        }
        eventually("both were refused", || polling.service.refusals() == 0);
    }
}

fn not_taken(language: &Language) {
    let polling = start(language, |_| {});
    for status in [400, 403, 404, 410] {
        for (event, end) in [(json!(1), "response"), (json!({"op": "raise"}), "error")] {
            polling.service.refuse("POST", status);
            let id = format!("call-{status}");
            let posted = polling.service.ask(Invocation::new(&id, &event));
            assert_eq!(posted.path, format!("/invocation/{id}/{end}"));
            let words = format!("did not take the answer of {id}: {status}");
            eventually("it is noted", || {
                polling.supervisor.errors().contains(&words)
            });
            assert_eq!(polling.call(&json!({"op": "count"}))["count"], 1);
        }
    }
}

fn refused(language: &Language) {
    for (method, status) in [("GET", 403), ("GET", 410), ("GET", 500), ("POST", 500)] {
        let service = Service::start();
        service.refuse(method, status);
        let mut polling = spawn(language, service, language.handler, |_| {});
        polling.service.send(Invocation::new("first", &json!(1)));
        assert_eq!(polling.supervisor.wait(), 1);
        let words = format!("with {status}");
        eventually("it says why", || {
            let errors = polling.supervisor.errors();
            errors.contains(&words) && errors.contains(&format!("said with {status}"))
        });
        polling.supervisor.assert_nothing_left();
    }
}

fn stopped(language: &Language) {
    let mut polling = start(language, |_| {});
    assert_eq!(polling.call(&json!(1)), 1);
    polling.service.await_poll();
    polling.supervisor.signal(Signal::SIGTERM);
    assert_eq!(polling.supervisor.wait(), 0);
    assert!(polling.service.posted_by_now().is_none());
    polling.supervisor.assert_nothing_left();
}

fn drained(language: &Language) {
    let mut polling = start(language, |_| {});
    let sleep = json!({"op": "sleep", "seconds": 1});
    polling.service.send(Invocation::new("first", &sleep));
    eventually("it is begun", || polling.output().contains("asleep\n"));
    polling.service.send(Invocation::new("second", &json!(1)));
    let polls = polling.service.polls();
    polling.supervisor.signal(Signal::SIGTERM);
    assert_eq!(polling.service.posted().result_of("first"), Value::Null);
    assert_eq!(polling.supervisor.wait(), 0);
    // The second is somebody else's.
    assert_eq!(polling.service.polls(), polls);
    assert!(polling.service.posted_by_now().is_none());
    // What does not end is answered, too.
    let mut polling = start(language, |command| {
        command.env("REFUNCTION_GRACE_MS", "100");
    });
    let sleep = json!({"op": "sleep", "seconds": 100});
    polling.service.send(Invocation::new("first", &sleep));
    eventually("it is begun", || polling.output().contains("asleep\n"));
    polling.supervisor.signal(Signal::SIGTERM);
    let error = polling.service.posted().error_of("first");
    let message = error["errorMessage"].as_str().expect("a message");
    assert!(message.contains("the container was stopped"), "{message}");
    assert_eq!(polling.supervisor.wait(), 0);
}

fn listening_too(language: &Language) {
    let polling = start(language, |command| {
        command.env("PORT", "0").env("REFUNCTION_QUEUE", "0");
    });
    let mut port = None;
    eventually("it says where it listens", || {
        let said = polling.supervisor.errors();
        let (whole, _) = said.rsplit_once('\n').unwrap_or_default();
        let line = whole.lines().find(|line| line.contains("listening"));
        port = line.and_then(|line| line.rsplit_once(':')?.1.parse().ok());
        port.is_some()
    });
    let port = port.expect("a port");
    polling.service.await_poll();
    assert_eq!(Connection::to(port).call(&json!(1)), 1);
    // Of those who come by themselves nobody else tells in which stage they are.
    let headers = [("x-amzn-requestid", "by-itself")];
    let answer = Connection::to(port).ask("POST", LAMBDA, &headers, b"1");
    assert_eq!(answer.status, 200);
    eventually("it is reported", || {
        polling.output().contains("REPORT RequestId: by-itself\t")
    });
    // A full queue is for those who can be asked to come again.
    let sleep = json!({"op": "sleep", "seconds": 1});
    let mut sleeper = Connection::to(port);
    sleeper.request("POST", "/", &[], sleep.to_string().as_bytes());
    eventually("it is begun", || polling.output().contains("asleep\n"));
    let posted = polling.service.ask(Invocation::new("polled", &json!(2)));
    assert_eq!(posted.result_of("polled"), 2);
    assert_eq!(sleeper.answer().status, 200);
    assert!(!polling.output().contains("RequestId: polled"));
}

fn named(language: &Language) {
    let polling = Polling::spawn(Service::start(), &language.arguments(), |command| {
        language.furnish(command);
        command.env_remove("PORT").env("_HANDLER", language.handler);
    });
    assert_eq!(polling.call(&json!(1)), 1);
    let mut polling = Polling::spawn(Service::start(), &language.arguments(), |command| {
        language.furnish(command);
        command.env_remove("PORT").env("_HANDLER", "");
    });
    assert_eq!(polling.supervisor.wait(), 1);
    eventually("it says why", || {
        let errors = polling.supervisor.errors();
        errors.contains("no function is named")
    });
}

fn no_root(language: &Language) {
    let mut polling = start(language, |command| {
        command.env("LAMBDA_TASK_ROOT", "/there/is/none");
    });
    let posted = polling.service.posted();
    assert_eq!(posted.path, "/init/error");
    let error = posted.json();
    assert_eq!(error["errorType"], "Runtime.UnknownReason", "{error}");
    assert!(error["errorMessage"].to_string().contains("/there/is/none"));
    assert_eq!(polling.supervisor.wait(), 1);
}
