//! The client of Lambda's runtime API that AWS publishes for Python, beside ours: the same
//! events for both, and what each makes of them.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use refunction_tests::environment;
use refunction_tests::runtime_api::{Invocation, Polling, Posted, Service};
use serde_json::{Value, json};

use crate::Case;
use crate::context::Caller;
use crate::language::Language;

/// Where `cargo xtask test` has installed it.
const INSTALLED: &str = "REFUNCTION_PUBLISHED_CLIENT";

const HANDLER: &str = "published.handler";

pub const CASES: &[Case] = &[
    ("the_published_client_makes_the_same_of_an_event", same),
    ("the_published_client_finds_the_same_context", contexts),
    ("the_published_client_differs_where_it_is_said", differences),
    (
        "the_published_client_tells_of_a_failed_start",
        failed_starts,
    ),
];

/// The interpreter that has it, if it could be installed.
pub fn installed() -> Option<PathBuf> {
    std::env::var_os(INSTALLED)?;
    Some(environment::file(INSTALLED))
}

/// The published client, which polls a service of its own.
struct Published {
    service: Service,
    process: Child,
}

impl Published {
    fn start(language: &Language, handler: &str) -> Self {
        let service = Service::start();
        let mut command = Command::new(installed().expect("installed"));
        command
            .args(["-m", "awslambdaric", handler])
            .current_dir(language.root())
            .env("AWS_LAMBDA_RUNTIME_API", service.address())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        furnish(language, &mut command);
        let process = command.spawn().expect("starting the published client");
        Self { service, process }
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What Lambda sets for both.
fn furnish(language: &Language, command: &mut Command) {
    language.describe(command);
    command
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/mine")
        .env("AWS_LAMBDA_LOG_STREAM_NAME", "2024/02/29/[$LATEST]0");
}

/// Both, for the same function.
struct Pair {
    ours: Polling,
    theirs: Published,
}

impl Pair {
    fn start(language: &Language, handler: &str) -> Self {
        let arguments = [&language.arguments()[..], &[handler]].concat();
        let ours = Polling::spawn(Service::start(), &arguments, |command| {
            language.furnish(command);
            command.env_remove("PORT");
            furnish(language, command);
        });
        let theirs = Published::start(language, handler);
        Self { ours, theirs }
    }

    /// What each makes of an event, ours first.
    fn ask(&self, event: Invocation) -> [Told; 2] {
        self.ours.service.send(event.clone());
        self.theirs.service.send(event);
        [&self.ours.service, &self.theirs.service].map(|service| Told::of(&service.posted()))
    }
}

/// What became of an event.
#[derive(Debug, PartialEq)]
struct Told {
    path: String,
    content_type: String,
    body: Value,
}

impl Told {
    fn of(posted: &Posted) -> Self {
        let text = String::from_utf8_lossy(&posted.body);
        // Not all of it is JSON, which the text of both shows as well.
        let body = serde_json::from_slice(&posted.body);
        let mut body = body.unwrap_or_else(|_| json!(text));
        let frames = body.get_mut("stackTrace").and_then(Value::as_array_mut);
        for frame in frames.into_iter().flatten() {
            // How deep a stack may be depends on what stands below.
            let words = frame.as_str().unwrap_or_default();
            let repeated = words.strip_prefix("  [Previous line repeated ");
            if repeated.is_some_and(|rest| rest.len() > "99 more times]\n".len()) {
                *frame = "  [Previous line repeated]".into();
            }
        }
        Self {
            path: posted.path.clone(),
            content_type: posted.header("content-type").to_owned(),
            body,
        }
    }

    /// Its end of the path, its error's type, and its message or the body.
    fn in_short(&self) -> (&str, &str, String) {
        let (_, end) = self.path.rsplit_once('/').expect("a path");
        let kind = self.body["errorType"].as_str().unwrap_or_default();
        let words = self.body["errorMessage"].as_str();
        let words = words.map_or_else(|| self.body.to_string(), str::to_owned);
        (end, kind, words)
    }
}

fn asked(event: Value) -> Invocation {
    Invocation::new("the-call", &event)
}

fn same(language: &Language) {
    let pair = Pair::start(language, HANDLER);
    let failures = [
        "plain",
        "nested",
        "chained",
        "while handling",
        "inner class",
        "without words",
        "several words",
        "lines",
        "unicode",
        "expression",
        "endless",
        "no file",
    ];
    let results = [
        "none",
        "text",
        "numbers",
        "tuple",
        "keys",
        "nested",
        "empty",
        "half a pair",
        "decimal",
        "decimals",
        "packaged",
    ];
    let payloads = [
        "null",
        "17",
        "\"\\ud83d\"",
        r#"{"a": 1, "a": 2}"#,
        "[1.0, 12345678901234567890123, -0, 1e-400]",
        " [ ] ",
    ];
    let trace = asked(json!({"op": "trace"}));
    let events = failures
        .map(|how| asked(json!({"op": "fail", "how": how})))
        .into_iter()
        .chain(results.map(|what| asked(json!({"op": "give", "what": what}))))
        .chain(payloads.map(|payload| Invocation::raw("the-call", payload.as_bytes())))
        .chain([
            trace.clone().with("Lambda-Runtime-Trace-Id", "Root=1-2-3"),
            trace,
        ]);
    for event in events {
        let text = String::from_utf8_lossy(&event.payload).into_owned();
        let [ours, theirs] = pair.ask(event);
        assert_eq!(ours, theirs, "{text}");
    }
}

fn contexts(language: &Language) {
    let pair = Pair::start(language, HANDLER);
    let caller = Caller::of_lambda();
    let (id, pool) = caller.identity.expect("an identity");
    let identity = json!({"cognitoIdentityId": id, "cognitoIdentityPoolId": pool}).to_string();
    let client = caller.client_context.expect("a client").to_string();
    let w3c = json!({"w3c": {"traceparent": "00-1", "baggage": 1, "other": "x"}}).to_string();
    let event = asked(json!({"op": "context"}));
    for event in [
        event.clone(),
        event
            .clone()
            .with("Lambda-Runtime-Client-Context", &client)
            .with("Lambda-Runtime-Cognito-Identity", &identity)
            .with("Lambda-Runtime-Aws-Tenant-Id", "a-tenant"),
        event
            .clone()
            .with("Lambda-Runtime-Client-Context", r#"{"custom": {}}"#)
            .with("Lambda-Runtime-Cognito-Identity", "{}"),
        event.with("Lambda-Runtime-Client-Context", &w3c),
        asked(json!({"op": "w3c"})),
        asked(json!({"op": "w3c"})).with("Lambda-Runtime-Client-Context", &w3c),
    ] {
        let headers = event.headers.clone();
        let [ours, theirs] = pair.ask(event);
        assert_eq!(ours, theirs, "{headers:?}");
        // Of an error both would say the same, too.
        assert!(ours.path.ends_with("/response"), "{ours:?}");
    }
}

/// Each of them stands in docs/contracts.md.
fn differences(language: &Language) {
    let pair = Pair::start(language, HANDLER);
    let give = |what: &str| asked(json!({"op": "give", "what": what}));
    let broken = asked(json!({"op": "context"}));
    for (event, ours, theirs) in [
        (
            give("set"),
            (
                "error",
                "TypeError",
                "the result is not JSON: result is of type set",
            ),
            (
                "error",
                "Runtime.MarshalError",
                "Unable to marshal response: Object of type set is not JSON serializable",
            ),
        ),
        (
            give("no decimal"),
            (
                "error",
                "ValueError",
                "the result is not JSON: result is Decimal('Infinity'), and JSON has no such number",
            ),
            ("response", "", "\"Infinity\""),
        ),
        (
            give("nan"),
            (
                "error",
                "ValueError",
                "the result is not JSON: result is nan, and JSON has no such number",
            ),
            ("response", "", "\"NaN\""),
        ),
        (
            give("bytes"),
            (
                "error",
                "TypeError",
                "the result is not JSON: result is of type bytes",
            ),
            ("response", "", "\"bytes\""),
        ),
        (
            asked(json!({"op": "later"})),
            ("response", "", "\"later\""),
            (
                "error",
                "Runtime.MarshalError",
                "Unable to marshal response: Object of type coroutine is not JSON serializable",
            ),
        ),
        (
            Invocation::raw("the-call", b""),
            ("response", "", "{}"),
            (
                "error",
                "Runtime.UnmarshalError",
                "Unable to unmarshal input: Expecting value: line 1 column 1 (char 0)",
            ),
        ),
        (
            Invocation::raw("the-call", b"{"),
            (
                "error",
                "Runtime.UnmarshalError",
                "Unable to unmarshal input: EOF while parsing an object at line 1 column 1",
            ),
            (
                "error",
                "Runtime.UnmarshalError",
                "Unable to unmarshal input: Expecting property name enclosed in double quotes or '}': line 1 column 2 (char 1)",
            ),
        ),
        (
            broken.with("Lambda-Runtime-Cognito-Identity", "{"),
            (
                "error",
                "Runtime.LambdaContextUnmarshalError",
                "Unable to parse Cognito Identity JSON: EOF while parsing an object at line 1 column 1",
            ),
            (
                "error",
                "Runtime.LambdaContextUnmarshalError",
                "Unable to parse Cognito Identity JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
            ),
        ),
    ] {
        for (told, expected) in pair.ask(event).iter().zip([ours, theirs]) {
            let (end, kind, words) = told.in_short();
            assert_eq!((end, kind, words.as_str()), expected);
        }
    }
    // What is of a type in ours is of that type in theirs, and they say it of calls, too.
    let failing = asked(json!({"op": "fail", "how": "plain"}));
    let header = "lambda-runtime-function-error-type";
    assert_eq!(
        pair.ours.service.ask(failing.clone()).header(header),
        "NoGood"
    );
    assert_eq!(pair.theirs.service.ask(failing).header(header), "");
    // Who asks to exit is taken at its word, and Lambda finds that nobody answers.
    let exit = asked(json!({"op": "fail", "how": "exit"}));
    let posted = pair.ours.service.ask(exit.clone());
    assert_eq!(posted.error_of("the-call")["errorType"], "SystemExit");
    let mut theirs = pair.theirs;
    theirs.service.send(exit);
    assert_eq!(theirs.process.wait().expect("an end").code(), Some(1));
    assert!(theirs.service.posted_by_now().is_none());
}

fn failed_starts(language: &Language) {
    for (handler, ours, theirs) in [
        (
            "broken.handler",
            ("ModuleNotFoundError", "No module named 'not_there'"),
            (
                "Runtime.ImportModuleError",
                "Unable to import module 'broken': No module named 'not_there'",
            ),
        ),
        (
            "published.nothing",
            ("EntryNotFound", "the function has no 'nothing': it has"),
            (
                "Runtime.HandlerNotFound",
                "Handler 'nothing' missing on module 'published'",
            ),
        ),
        (
            "raising.handler",
            ("ZeroDivisionError", "division by zero"),
            ("ZeroDivisionError", "division by zero"),
        ),
    ] {
        let mut pair = Pair::start(language, handler);
        let expected = [ours, theirs];
        let services = [&pair.ours.service, &pair.theirs.service];
        for (service, (kind, words)) in services.into_iter().zip(expected) {
            let posted = service.posted();
            assert_eq!(posted.path, "/init/error");
            let error = posted.json();
            assert_eq!(posted.header("lambda-runtime-function-error-type"), kind);
            assert_eq!(
                (&error["errorType"], &error["requestId"]),
                (&json!(kind), &json!(""))
            );
            let message = error["errorMessage"].as_str().expect("a message");
            assert!(message.contains(words), "{message}");
            // Ours are the function's alone; in theirs they come last.
            let frames = error["stackTrace"].as_array().expect("frames");
            if kind == "ZeroDivisionError" {
                let frame = frames.last().and_then(Value::as_str).unwrap_or_default();
                assert!(
                    frame.contains("raising.py\", line 1, in <module>\n    1 / 0\n"),
                    "{error}"
                );
            }
        }
        assert_eq!(pair.ours.supervisor.wait(), 1);
        assert_eq!(pair.theirs.process.wait().expect("an end").code(), Some(1));
    }
}
