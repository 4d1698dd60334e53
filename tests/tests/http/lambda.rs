//! Lambda's local invocation, as its emulator has it.

use std::process::Command;

use nix::sys::signal::Signal;
use refunction_tests::eventually;
use refunction_tests::http::{LAMBDA, Site};
use serde_json::{Value, json};

use crate::Case;
use crate::context::Caller;
use crate::language::Language;

pub const CASES: &[Case] = &[
    (
        "lambda_gives_the_event_and_takes_the_result",
        event_and_result,
    ),
    ("lambda_tells_an_exception_as_a_function_error", exception),
    ("lambda_tells_a_time_out_with_its_seconds", time_out),
    ("lambda_tells_a_crash", crash),
    ("lambda_takes_six_mebibytes_and_no_more", payload_limit),
    ("lambda_refuses_what_is_no_invocation", refusals),
    ("lambda_functions_find_their_variables", variables),
    ("lambda_has_a_log_line_for_each_stage", log_lines),
    (
        "lambda_logs_are_json_if_that_is_asked_for",
        log_lines_in_json,
    ),
    ("lambda_has_its_whole_context", context),
    ("lambda_takes_an_event_and_runs_it_by_itself", events),
];

/// What can be tried with one runtime for all.
pub const ONCE: &[Case] = &[
    (
        "lambda_takes_no_more_events_than_may_wait",
        events_are_bounded,
    ),
    (
        "lambda_says_which_events_were_not_run",
        events_are_given_up_with_a_line,
    ),
];

fn start(language: &Language, set: impl FnOnce(&mut Command)) -> Site {
    language.site(&[], set)
}

fn event_and_result(language: &Language) {
    let site = start(language, |_| {});
    for event in [
        json!({"text": "ünïcødé 😀", "number": 2.5, "list": [1, null, true]}),
        json!("a text"),
        json!([1, 2]),
        json!(17),
    ] {
        let answer = site.post(LAMBDA, &event);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json(), event);
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("x-amz-executed-version"), "$LATEST");
        assert_eq!(answer.header("x-amz-function-error"), "");
    }
    // A payload is not asked what type it is of, and may be missing.
    let headers = [
        ("content-type", "text/plain"),
        ("x-amzn-requestid", "mine-17"),
    ];
    let answer = site.send("POST", LAMBDA, &headers, b"{\"a\":1}");
    assert_eq!(answer.json(), json!({"a": 1}));
    assert_eq!(answer.header("x-amzn-requestid"), "mine-17");
    let nothing = site.send("POST", LAMBDA, &[], b"");
    assert_eq!(nothing.json(), json!({}));
    assert_eq!(nothing.header("x-amzn-requestid").len(), 36);
}

fn exception(language: &Language) {
    let site = start(language, |_| {});
    let answer = site.post(LAMBDA, &json!({"op": "raise"}));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-amz-function-error"), "Unhandled");
    let error = answer.json();
    assert_eq!(error["errorType"], language.exception, "{error}");
    let message = error["errorMessage"].as_str().expect("a message");
    assert!(message.ends_with("no good"), "{error}");
    let stack = error["stackTrace"].as_array().expect("a list of frames");
    let is_own = |frame: &Value| frame.as_str().expect("text").to_lowercase().contains("app");
    assert!(stack.iter().any(is_own), "{error}");
    // In Lambda's own words for Python.
    if language.name == "python" {
        let frame = stack[0].as_str().expect("text");
        assert!(
            frame.starts_with("  File \"") && frame.contains("in handler\n    raise"),
            "{error}"
        );
    }
    assert_eq!(site.call(&json!({"op": "count"}))["count"], 1);
}

fn time_out(language: &Language) {
    // A program in the place of one that was ended boots within the deadline of the next call.
    let seconds = if ["java", "node"].contains(&language.name) {
        "6"
    } else {
        "1"
    };
    let site = start(language, |command| {
        command.env("AWS_LAMBDA_FUNCTION_TIMEOUT", seconds);
    });
    let answer = site.post(LAMBDA, &json!({"op": "sleep", "seconds": 100}));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-amz-function-error"), "Unhandled");
    let error = answer.json();
    let message = error["errorMessage"].as_str().expect("a message");
    let id = answer.header("x-amzn-requestid");
    let words = format!("{id} Task timed out after {seconds}.00 seconds");
    assert!(message.ends_with(&words), "{message}");
    // What it printed until then is not lost.
    eventually("its line is there", || site.output().contains("asleep\n"));
    // The worker was replaced, and the module imported once is there again.
    assert_eq!(site.call(&json!({"op": "count"}))["count"], 1);
}

fn crash(language: &Language) {
    if !language.can_exit {
        return;
    }
    let site = start(language, |_| {});
    let answer = site.post(LAMBDA, &json!({"op": "exit"}));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-amz-function-error"), "Unhandled");
    let error = answer.json();
    assert_eq!(error["errorType"], "Runtime.ExitError");
    let message = error["errorMessage"].as_str().expect("a message");
    assert!(message.contains("exited with status 3"), "{message}");
    assert_eq!(site.call(&json!({"op": "count"}))["count"], 1);
}

fn payload_limit(language: &Language) {
    const MOST: usize = 6 * 1024 * 1024;
    let site = start(language, |_| {});
    let text = |length: usize| [b"\"", &vec![b'x'; length - 2][..], b"\""].concat();
    let largest = text(MOST);
    let answer = site.send("POST", LAMBDA, &[], &largest);
    assert_eq!(answer.status, 200);
    assert!(answer.body == largest);
    let answer = site.send("POST", LAMBDA, &[], &text(MOST + 1));
    assert_eq!(answer.status, 413);
    let message = answer.json()["message"].to_string();
    assert!(message.contains("smaller than 6291456 bytes"), "{message}");
    assert_eq!(answer.header("x-amz-errortype"), "");
    assert_eq!(
        answer.header("x-amzn-errortype"),
        "RequestTooLargeException"
    );
    let answer = site.post(LAMBDA, &json!({"op": "large", "bytes": MOST}));
    assert_eq!(answer.header("x-amz-function-error"), "Unhandled");
    let error = answer.json();
    assert_eq!(
        error["errorType"], "Function.ResponseSizeTooLarge",
        "{error}"
    );
}

fn refusals(language: &Language) {
    let site = start(language, |_| {});
    let refused = |headers: &[(&str, &str)], path: &str, body: &[u8]| {
        let answer = site.send("POST", path, headers, body);
        let kind = answer.header("x-amzn-errortype").to_owned();
        (answer.status, kind)
    };
    let invalid = (400, "InvalidRequestContentException".to_owned());
    assert_eq!(refused(&[], LAMBDA, b"{"), invalid);
    assert_eq!(refused(&[], LAMBDA, b"\xff"), invalid);
    let context = [("x-amz-client-context", "bm90IEpTT04=")];
    assert_eq!(refused(&context, LAMBDA, b"{}"), invalid);
    let other = LAMBDA.replace("functions/function", "functions/other");
    assert_eq!(
        refused(&[], &other, b"{}"),
        (404, "ResourceNotFoundException".to_owned())
    );
    let unknown = [("x-amz-invocation-type", "Whatever")];
    assert_eq!(
        refused(&unknown, LAMBDA, b"{}"),
        (400, "InvalidParameterValueException".to_owned())
    );
    let dry = [("x-amz-invocation-type", "DryRun")];
    assert_eq!(
        refused(&dry, LAMBDA, b"{\"op\":\"count\"}"),
        (204, String::new())
    );
    let get = site.get(LAMBDA);
    assert_eq!((get.status, get.header("allow")), (405, "POST"));
}

fn variables(language: &Language) {
    let site = start(language, |command| {
        command
            .env("AWS_LAMBDA_FUNCTION_NAME", "mine")
            .env("MY_OWN", "kept");
    });
    let root = language.root();
    for (name, value) in [
        ("AWS_LAMBDA_FUNCTION_NAME", "mine"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
        ("AWS_LAMBDA_FUNCTION_TIMEOUT", "60"),
        ("AWS_LAMBDA_FUNCTION_HANDLER", language.handler),
        ("_HANDLER", language.handler),
        ("LAMBDA_TASK_ROOT", root.to_str().expect("UTF-8")),
        ("MY_OWN", "kept"),
    ] {
        assert_eq!(
            site.call(&json!({"op": "env", "name": name})),
            value,
            "{name}"
        );
    }
    // It goes by its name, too; and what is one call's is the next one's no more.
    let path = LAMBDA.replace("functions/function", "functions/mine");
    let asked = json!({"op": "env", "name": "_X_AMZN_TRACE_ID"}).to_string();
    let trace = [("x-amzn-trace-id", "Root=1-2-3")];
    let answer = site.send("POST", &path, &trace, asked.as_bytes());
    assert_eq!(answer.json(), "Root=1-2-3");
    let answer = site.send("POST", &path, &[], asked.as_bytes());
    assert_eq!(answer.json(), Value::Null);
}

fn log_lines(language: &Language) {
    let site = start(language, |_| {});
    let headers = [("x-amzn-requestid", "the-call")];
    let event = json!({"op": "print", "text": "said by it"}).to_string();
    let answer = site.send("POST", LAMBDA, &headers, event.as_bytes());
    assert_eq!(answer.status, 200);
    eventually("there is a report", || site.output().contains("REPORT"));
    let output = site.output();
    let lines: Vec<&str> = output
        .lines()
        .skip_while(|line| !line.starts_with("START"))
        .collect();
    assert!(output.starts_with("imported\n"), "{output}");
    assert_eq!(lines[0], "START RequestId: the-call Version: $LATEST");
    assert_eq!(lines[1], "said by it");
    assert_eq!(lines[2], "END RequestId: the-call");
    let parts: Vec<&str> = lines[3].split('\t').collect();
    let labels = [
        "REPORT RequestId: the-call",
        "Duration: ",
        "Billed Duration: ",
        "Memory Size: 128 MB",
        "Max Memory Used: ",
        "Restore Duration: ",
    ];
    assert_eq!(parts.len(), labels.len(), "{parts:?}");
    for (part, label) in parts.iter().zip(labels) {
        assert!(part.starts_with(label), "{part:?} is not {label:?}");
    }
    eventually("its error stream is the container's", || {
        site.supervisor.errors().contains("said by it\n")
    });
}

fn log_lines_in_json(language: &Language) {
    let site = start(language, |command| {
        command.env("REFUNCTION_LOG", "json");
    });
    let headers = [("x-amzn-requestid", "the-call")];
    let event = json!({"op": "print", "text": "said by it"}).to_string();
    let answer = site.send("POST", LAMBDA, &headers, event.as_bytes());
    assert_eq!(answer.status, 200);
    eventually("there is a report", || {
        site.output().contains("platform.report")
    });
    let lines: Vec<Value> = site
        .output()
        .lines()
        // What a module prints while a template imports it goes straight to the stream.
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .filter(|line: &Value| line["message"] != "imported")
        .collect();
    let kinds: Vec<&Value> = lines.iter().map(|line| &line["type"]).collect();
    let expected = [
        "platform.start",
        "function",
        "function",
        "platform.end",
        "platform.report",
    ];
    assert_eq!(kinds, expected);
    for line in &lines {
        let id = line
            .get("requestId")
            .unwrap_or(&line["record"]["requestId"]);
        assert_eq!(id, "the-call", "{line}");
        assert!(
            line["time"].as_str().expect("a time").ends_with('Z'),
            "{line}"
        );
    }
    let streams: Vec<&Value> = lines[1..3].iter().map(|line| &line["stream"]).collect();
    assert!(streams.contains(&&json!("stdout")) && streams.contains(&&json!("stderr")));
    assert!(
        lines[1..3]
            .iter()
            .all(|line| line["message"] == "said by it")
    );
    let metrics = &lines[4]["record"]["metrics"];
    for name in ["durationMs", "maxMemoryUsedMB", "restoreDurationMs"] {
        assert!(metrics[name].as_f64().expect("a number") > 0.0, "{metrics}");
    }
}

fn context(language: &Language) {
    let site = start(language, |command| {
        language.describe(command);
        command.env("REFUNCTION_DEADLINE_MS", "20000");
    });
    // {"client":{"installation_id":"an-installation"},"custom":{"a":1},"env":{"locale":"de"}}
    let client = "eyJjbGllbnQiOnsiaW5zdGFsbGF0aW9uX2lkIjoiYW4taW5zdGFsbGF0aW9uIn0sImN1c3RvbSI6eyJhIjoxfSwiZW52Ijp7ImxvY2FsZSI6ImRlIn19";
    let headers = [
        ("x-amzn-requestid", "the-call"),
        ("x-amz-client-context", client),
    ];
    let mut found = site
        .send("POST", LAMBDA, &headers, br#"{"op":"context"}"#)
        .json();
    let remaining = found["remaining"].take().as_u64().expect("milliseconds");
    assert!((15_000..=20_000).contains(&remaining), "{remaining}");
    assert_eq!(found, language.context(&Caller::of_local_client()));
    // Nobody said anything of themselves.
    let mut without = site
        .send("POST", LAMBDA, &headers[..1], br#"{"op":"context"}"#)
        .json();
    without["remaining"].take();
    assert_eq!(without, language.context(&Caller::unknown()));
    if ["node", "javascript"].contains(&language.name) {
        let site = language.named_site("app.done", |_| {});
        assert_eq!(site.call(&json!({"a": 1})), json!(["done", {"a": 1}]));
        let site = language.named_site("app.fail", |_| {});
        assert_eq!(site.post("/", &json!({})).status, 500);
    }
}

fn events(language: &Language) {
    // Another runtime boots, in the place of what a call's end leaves, in its deadline.
    let site = start(language, |command| {
        command.env("AWS_LAMBDA_FUNCTION_TIMEOUT", "6");
    });
    let send = |id: &str, event: Value| {
        let headers = [("x-amz-invocation-type", "Event"), ("x-amzn-requestid", id)];
        let answer = site.send("POST", LAMBDA, &headers, event.to_string().as_bytes());
        assert_eq!(answer.status, 202, "{}", answer.text());
        assert_eq!(
            (answer.body.len(), answer.header("x-amzn-requestid")),
            (0, id)
        );
    };
    send("good", json!({"op": "print", "text": "said by it"}));
    eventually("it is run", || {
        site.output().contains("REPORT RequestId: good")
    });
    assert!(site.output().contains("said by it\nEND RequestId: good\n"));
    // Nobody waits for these failures: they are in the log.
    send("bad", json!({"op": "raise"}));
    eventually("its failure is told", || {
        let output = site.output();
        let mut lines = output.lines();
        lines.any(|line| line.starts_with("RequestId: bad Error: ") && line.ends_with("no good"))
    });
    send("late", json!({"op": "sleep", "seconds": 100}));
    eventually("that it took too long is told", || {
        let output = site.output();
        output.contains("RequestId: late Error: the call took longer than its deadline of 6000 ms")
    });
    assert_eq!(site.call(&json!({"op": "count"}))["count"], 1);
}

fn events_are_bounded(language: &Language) {
    let mut site = start(language, |command| {
        command
            .env("REFUNCTION_QUEUE", "2")
            .env("REFUNCTION_GRACE_MS", "60000");
    });
    let send = |site: &Site, id: &str, event: Value| {
        let headers = [("x-amz-invocation-type", "Event"), ("x-amzn-requestid", id)];
        let body = event.to_string();
        let answer = site.send("POST", LAMBDA, &headers, body.as_bytes());
        (answer.status, answer.header("x-amzn-errortype").to_owned())
    };
    let taken = (202, String::new());
    let sleep = json!({"op": "sleep", "seconds": 1});
    assert_eq!(send(&site, "first", sleep), taken);
    eventually("it is begun", || site.output().contains("asleep\n"));
    let print = |text: &str| json!({"op": "print", "text": text});
    assert_eq!(send(&site, "second", print("the second")), taken);
    assert_eq!(send(&site, "third", print("the third")), taken);
    assert_eq!(
        send(&site, "fourth", print("the fourth")),
        (429, "TooManyRequestsException".to_owned())
    );
    // What was taken is finished.
    site.supervisor.signal(Signal::SIGTERM);
    assert_eq!(site.supervisor.wait(), 0);
    eventually("all lines are read", || {
        site.output().contains("END RequestId: third")
    });
    let output = site.output();
    assert!(
        output.contains("the second\n") && output.contains("the third\n"),
        "{output}"
    );
    assert!(!output.contains("the fourth"), "{output}");
}

fn events_are_given_up_with_a_line(language: &Language) {
    let mut site = start(language, |command| {
        command.env("REFUNCTION_GRACE_MS", "100");
    });
    for (id, event) in [
        ("first", json!({"op": "sleep", "seconds": 100})),
        ("second", json!({"op": "print", "text": "the second"})),
    ] {
        let headers = [("x-amz-invocation-type", "Event"), ("x-amzn-requestid", id)];
        let answer = site.send("POST", LAMBDA, &headers, event.to_string().as_bytes());
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    site.supervisor.signal(Signal::SIGTERM);
    assert_eq!(site.supervisor.wait(), 0);
    for line in [
        "RequestId: first Error: the container was stopped, and the call did not end",
        "RequestId: second Error: the container was stopped before its turn had come",
    ] {
        eventually(line, || site.output().contains(line));
    }
}
