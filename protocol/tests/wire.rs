//! Tripwires: the exact bytes of every message. Whoever changes one of these
//! changes what containers in the field say to controllers in the field.

use refunction_protocol::{
    Command, Failure, FailureKind, Function, Layer, Limits, Loaded, Log, Method, Phase, Report,
    Request, Restored, Started, State, Status, Stream, Taint,
};
use serde_json::value::RawValue;

fn raw(json: &str) -> Box<RawValue> {
    serde_json::from_str(json).unwrap()
}

#[track_caller]
fn says(report: &Report, line: &str) {
    let bytes = report.to_line();
    assert_eq!(
        String::from_utf8(bytes.clone()).unwrap(),
        format!("{line}\n")
    );
    // And whoever reads it and says it again says the same.
    let again = Report::parse(&bytes).unwrap().to_line();
    assert_eq!(String::from_utf8(again).unwrap(), format!("{line}\n"));
}

#[track_caller]
fn commands(command: &Command, line: &str) {
    assert_eq!(
        String::from_utf8(command.to_line()).unwrap(),
        format!("{line}\n")
    );
    let again = Command::parse(line.as_bytes()).unwrap().to_line();
    assert_eq!(String::from_utf8(again).unwrap(), format!("{line}\n"));
}

fn failure() -> Failure {
    Failure {
        kind: FailureKind::Exception,
        message: "division by zero".into(),
        error_type: Some("ZeroDivisionError".into()),
        stack: Some("Traceback…\n".into()),
    }
}

#[test]
fn commands_to_the_supervisor() {
    commands(&Command::Restore, r#"{"type":"restore"}"#);
    commands(&Command::Status, r#"{"type":"status"}"#);
    commands(&Command::Shutdown, r#"{"type":"shutdown"}"#);
    commands(
        &Command::Request(Request {
            id: Some(raw("17")),
            deadline_ms: Some(250),
            pieces: false,
            data: raw(r#"{"n":123456789012345678901234567890}"#),
        }),
        r#"{"type":"request","data":{"n":123456789012345678901234567890},"id":17,"deadline_ms":250}"#,
    );
    commands(
        &Command::Request(Request {
            id: Some(raw(r#""a""#)),
            deadline_ms: None,
            pieces: true,
            data: raw("1"),
        }),
        r#"{"type":"request","data":1,"id":"a","pieces":true}"#,
    );
    commands(
        &Command::Function(Box::new(Function {
            code: "UEsF".into(),
            binary: true,
            main: Some("entry".into()),
            handler: None,
            env: [("A".to_string(), String::new())].into(),
            limits: Limits {
                deadline_ms: Some(3000),
            },
            libraries: Some(vec!["numpy".into()]),
        })),
        r#"{"type":"function","data":{"code":"UEsF","binary":true,"main":"entry","env":{"A":""},"limits":{"deadline_ms":3000},"libraries":["numpy"]}}"#,
    );
}

/// What the first version's clients send and expect.
#[test]
fn the_original_messages() {
    let Command::Function(function) =
        Command::parse(br#"{"type":"function","data":"def main(args): return args"}"#).unwrap()
    else {
        panic!("not a function");
    };
    assert_eq!(
        *function,
        Function::from_source("def main(args): return args")
    );
    let Command::Request(request) =
        Command::parse(br#"{"type":"request","data":{"k":[1,2]}}"#).unwrap()
    else {
        panic!("not a request");
    };
    assert_eq!(request.data.get(), r#"{"k":[1,2]}"#);
    assert!(request.id.is_none() && request.deadline_ms.is_none());
    says(
        &Report::FunctionLoaded(Ok(Loaded::default())),
        r#"{"type":"function_loaded","data":true}"#,
    );
    says(
        &Report::FunctionLoaded(Ok(Loaded {
            layer: vec!["numpy".into()],
            no_layer: Some("the image has no x".into()),
        })),
        r#"{"type":"function_loaded","data":true,"layer":["numpy"],"no_layer":"the image has no x"}"#,
    );
    says(
        &Report::Response {
            id: None,
            data: raw("[1,2]"),
        },
        r#"{"type":"response","data":[1,2]}"#,
    );
}

#[test]
fn reports_of_the_supervisor() {
    says(
        &Report::Started(Started {
            runtime: "python".into(),
            version: "3.11.2".into(),
            pid: 9,
            snapshot_bytes: 4096,
            boot_us: 12,
        }),
        r#"{"type":"started","data":{"runtime":"python","version":"3.11.2","pid":9,"snapshot_bytes":4096,"boot_us":12}}"#,
    );
    says(
        &Report::FunctionLoaded(Err(failure())),
        r#"{"type":"function_loaded","data":false,"error":{"kind":"exception","message":"division by zero","error_type":"ZeroDivisionError","stack":"Traceback…\n"}}"#,
    );
    says(
        &Report::Response {
            id: Some(raw(r#""a""#)),
            data: raw("null"),
        },
        r#"{"type":"response","data":null,"id":"a"}"#,
    );
    says(
        &Report::Head {
            id: Some(raw(r#""a""#)),
            data: raw(r#"{"status":200,"headers":[["content-type","text/plain"]]}"#),
        },
        r#"{"type":"head","data":{"status":200,"headers":[["content-type","text/plain"]]},"id":"a"}"#,
    );
    says(
        &Report::Piece {
            id: Some(raw(r#""a""#)),
            data: "AP8=".into(),
        },
        r#"{"type":"piece","data":"AP8=","id":"a"}"#,
    );
    says(
        &Report::Restored(Restored {
            method: Method::Refork,
            total_us: 400,
            phases: vec![Phase {
                name: "kill".into(),
                ns: 1,
            }],
            dirty_pages: 7,
            taints: vec![Taint {
                row: "limits".into(),
                detail: "setrlimit".into(),
            }],
        }),
        r#"{"type":"restored","data":{"method":"refork","total_us":400,"phases":[{"name":"kill","ns":1}],"dirty_pages":7,"taints":[{"row":"limits","detail":"setrlimit"}]}}"#,
    );
    says(
        &Report::Status(Status {
            state: State::Running,
            runtime: "python".into(),
            worker_pid: Some(3),
            requests: 1,
            rewinds: 2,
            reforks: 3,
            queued: 4,
            spares: 1,
            layers: vec![Layer {
                libraries: vec!["numpy".into()],
                bytes: 5,
                functions: 6,
            }],
        }),
        r#"{"type":"status","data":{"state":"running","runtime":"python","worker_pid":3,"requests":1,"rewinds":2,"reforks":3,"queued":4,"spares":1,"layers":[{"libraries":["numpy"],"bytes":5,"functions":6}]}}"#,
    );
    says(
        &Report::Log(Log {
            id: Some(raw("1")),
            stream: Stream::Stderr,
            line: "ö".into(),
            truncated: true,
        }),
        r#"{"type":"log","data":{"id":1,"stream":"stderr","line":"ö","truncated":true}}"#,
    );
}

#[test]
fn the_words_for_kinds_states_methods_and_streams() {
    for (kind, word) in [
        (FailureKind::Exception, "exception"),
        (FailureKind::Timeout, "timeout"),
        (FailureKind::OutOfMemory, "out_of_memory"),
        (FailureKind::Crashed, "crashed"),
        (FailureKind::BadRequest, "bad_request"),
        (FailureKind::NotLoaded, "not_loaded"),
    ] {
        assert_eq!(serde_json::to_string(&kind).unwrap(), format!("{word:?}"));
        assert_eq!(kind.as_str(), word);
    }
    for (state, word) in [
        (State::Booting, "booting"),
        (State::Ready, "ready"),
        (State::Loaded, "loaded"),
        (State::Running, "running"),
        (State::Restoring, "restoring"),
        (State::Draining, "draining"),
    ] {
        assert_eq!(serde_json::to_string(&state).unwrap(), format!("{word:?}"));
    }
    assert_eq!(
        serde_json::to_string(&Method::Rewind).unwrap(),
        r#""rewind""#
    );
    assert_eq!(
        serde_json::to_string(&Stream::Stdout).unwrap(),
        r#""stdout""#
    );
}

#[test]
fn a_message_that_is_none_is_told_what_it_lacks() {
    for (line, words) in [
        ("", "not a JSON object"),
        ("[]", "not a JSON object"),
        (r#"{"data":1}"#, "type"),
        (
            r#"{"type":"nonsense"}"#,
            r#"unknown message type "nonsense""#,
        ),
        (r#"{"type":"function"}"#, "needs \"data\""),
        (
            r#"{"type":"function","data":3}"#,
            "neither a source string nor",
        ),
        (r#"{"type":"function","data":{}}"#, "missing field `code`"),
        (
            r#"{"type":"function","data":{"code":"x","env":{"A":1}}}"#,
            "expected a string",
        ),
        (r#"{"type":"request","deadline_ms":-1}"#, "invalid value"),
    ] {
        let error = Command::parse(line.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(words), "{line}: {error}");
    }
    // Its id comes back all the same.
    let bad = Command::parse(br#"{"type":"x","id":"me"}"#).unwrap_err();
    assert_eq!(bad.id.unwrap().get(), r#""me""#);
}

#[test]
fn unknown_fields_are_ignored() {
    assert!(Command::parse(br#"{"type":"restore","since":"2030"}"#).is_ok());
    let line = br#"{"type":"function","data":{"code":"x","colour":"red"}}"#;
    assert!(Command::parse(line).is_ok());
}

/// A tenant's result may be spread over lines; a message may not.
#[test]
fn a_result_with_newlines_stays_on_one_line() {
    let report = Report::Response {
        id: None,
        data: raw("{\n  \"a\": \"x\\ny\"\r\n}"),
    };
    let line = report.to_line();
    assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
    let Report::Response { data, .. } = Report::parse(&line).unwrap() else {
        panic!("not a response");
    };
    let value: serde_json::Value = serde_json::from_str(data.get()).unwrap();
    assert_eq!(value["a"], "x\ny");
}
