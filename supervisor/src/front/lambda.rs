//! Lambda's local invocation, as its Runtime Interface Emulator has it.

use std::collections::BTreeMap;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use refunction_adapter::Caller;
use refunction_protocol::{Failure, FailureKind, Request};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::body::BadBody;
use super::bridge::{Answered, Contract, Extras, NoRoom};
use super::moment::now_in_words;
use super::plain::{in_text, raw};
use super::reply::{self, Reply};
use super::route::{Site, header, request_id};

/// What Lambda takes and gives.
const MOST_PAYLOAD: usize = 6 * 1024 * 1024;

const PREFIX: &str = "/2015-03-31/functions/";
const SUFFIX: &str = "/invocations";

/// The name by which a local function goes, whatever it is called.
const LOCAL: &str = "function";

/// How an invocation wants to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// With what the function gives.
    Request,
    /// At once, before the function has it.
    Event,
    /// Without the function: it is only looked at.
    DryRun,
}

/// The function that a path is for.
pub(super) fn function_of(path: &str) -> Option<&str> {
    let name = path.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

/// Calls the function.
pub(super) async fn invoke(
    site: &Rc<Site>,
    name: &str,
    headers: &HeaderMap,
    body: Incoming,
) -> Reply {
    let id = request_id(headers, "x-amzn-requestid");
    let answered = try_invoke(site, name, headers, body, &id).await;
    let reply = answered.unwrap_or_else(|refused| refused);
    reply::with(reply, "x-amzn-requestid", &id)
}

async fn try_invoke(
    site: &Rc<Site>,
    name: &str,
    headers: &HeaderMap,
    body: Incoming,
    id: &str,
) -> Result<Reply, Reply> {
    let kind = match header(headers, "x-amz-invocation-type") {
        None | Some("RequestResponse") => Kind::Request,
        Some("Event") => Kind::Event,
        Some("DryRun") => Kind::DryRun,
        Some(other) => {
            let message = format!(
                "the invocation type {other} is not offered here: RequestResponse, Event and DryRun are"
            );
            return Err(refusal(
                StatusCode::BAD_REQUEST,
                "InvalidParameterValueException",
                &message,
            ));
        }
    };
    let own_name = std::env::var("AWS_LAMBDA_FUNCTION_NAME");
    if name != LOCAL && own_name.as_deref() != Ok(name) {
        let message = format!("Function not found: {name}; a local function is called {LOCAL:?}");
        return Err(refusal(
            StatusCode::NOT_FOUND,
            "ResourceNotFoundException",
            &message,
        ));
    }
    let invalid = |message: &str| {
        refusal(
            StatusCode::BAD_REQUEST,
            "InvalidRequestContentException",
            message,
        )
    };
    let client_context = client_context(headers).map_err(invalid)?;
    let text = site.read(body, MOST_PAYLOAD).await;
    let text = text.map_err(|bad| bad_body(&bad))?;
    let event = match text.bytes.trim_ascii() {
        // As Lambda has it for an invocation without a payload.
        [] => b"{}",
        payload => payload,
    };
    let data: Box<RawValue> = serde_json::from_slice(event)
        .map_err(|error| invalid(&format!("Could not parse request body into json: {error}")))?;
    drop(text);
    let contract = match kind {
        Kind::Request => Contract::Lambda,
        Kind::Event => Contract::LambdaEvent,
        Kind::DryRun => return Ok(reply::empty(StatusCode::NO_CONTENT)),
    };
    let trace = header(headers, "x-amzn-trace-id")
        .map(|trace| ("_X_AMZN_TRACE_ID".to_string(), trace.to_string()));
    let request = Request {
        id: Some(raw(&id)),
        deadline_ms: None,
        pieces: false,
        data,
    };
    let extras = Extras {
        env: BTreeMap::from_iter(trace),
        caller: Caller {
            client_context,
            ..Caller::default()
        },
        contract,
    };
    if kind == Kind::Event {
        let asked = site.bridge.enqueue(request, extras).await;
        let asked = asked.map_err(|reason| no_room(&reason))?;
        // It is the container's from here on: whoever sent it may leave.
        tokio::task::spawn_local(asked.answer());
        return Ok(reply::empty(StatusCode::ACCEPTED));
    }
    let is_python = site.is_python;
    let outcome = match site.bridge.stream(request, extras).await {
        Ok(Answered::Whole(outcome)) => outcome,
        Ok(Answered::Streamed(head, pieces)) => {
            let reply = reply::streamed_or_failure(head, pieces).await;
            return Ok(reply::with(reply, "x-amz-executed-version", "$LATEST"));
        }
        Err(reason) => return Err(no_room(&reason)),
    };
    let seconds = in_text(outcome.spent);
    let answered = match outcome.result {
        Ok(data) if data.get().len() > MOST_PAYLOAD => function_error(&too_large()),
        Ok(data) => reply::of_type(
            StatusCode::OK,
            "application/json",
            String::from(Box::<str>::from(data)),
        ),
        Err(failure) => function_error(&shape(&failure, id, is_python)),
    };
    let answered = reply::with(answered, "x-amz-executed-version", "$LATEST");
    Ok(reply::with(answered, "x-duration-seconds", &seconds))
}

/// What a mobile client says of itself: JSON in base64.
fn client_context(headers: &HeaderMap) -> Result<Option<Box<RawValue>>, &'static str> {
    let Some(encoded) = header(headers, "x-amz-client-context") else {
        return Ok(None);
    };
    let decoded = STANDARD.decode(encoded).ok();
    let context = decoded
        .and_then(|decoded| serde_json::from_slice::<Value>(&decoded).ok())
        .filter(Value::is_object);
    let context = context.ok_or("Client context must be a valid Base64-encoded JSON object.")?;
    Ok(Some(raw(&context)))
}

/// A failure as Lambda's clients know it: the call went well, the function did not.
fn function_error(error: &Value) -> Reply {
    let reply = reply::json(StatusCode::OK, error);
    reply::with(reply, "x-amz-function-error", "Unhandled")
}

/// What is said of a result that is larger than Lambda takes.
pub(super) fn too_large() -> Value {
    json!({
        "errorMessage": format!("Response payload size exceeded maximum allowed payload size ({MOST_PAYLOAD} bytes)."),
        "errorType": "Function.ResponseSizeTooLarge",
    })
}

/// A failure in the words of Lambda's.
pub(super) fn shape(failure: &Failure, id: &str, is_python: bool) -> Value {
    let own = |kind: &str| {
        json!({
            "errorMessage": format!("RequestId: {id} Error: {}", failure.message),
            "errorType": kind,
        })
    };
    match failure.kind {
        FailureKind::Exception => json!({
            "errorMessage": failure.message,
            "errorType": name_of(failure, is_python),
            "requestId": id,
            "stackTrace": failure.stack.as_deref().map(frames).unwrap_or_default(),
        }),
        FailureKind::Timeout => json!({
            "errorMessage": format!("{} {id} {}", now_in_words(), timed_out(failure)),
            "errorType": "Sandbox.Timedout",
        }),
        FailureKind::OutOfMemory => own("Runtime.OutOfMemory"),
        FailureKind::Crashed => own("Runtime.ExitError"),
        FailureKind::BadRequest | FailureKind::NotLoaded => own("Runtime.Unknown"),
    }
}

/// The name of what was raised: of Python's exceptions without their module.
fn name_of(failure: &Failure, is_python: bool) -> &str {
    let name = failure.error_type.as_deref().unwrap_or("Error");
    match name.rsplit_once('.') {
        Some((_, short)) if is_python => short,
        _ => name,
    }
}

/// Lambda's words, with the limit that the failure names.
fn timed_out(failure: &Failure) -> String {
    let limit = failure
        .message
        .split_whitespace()
        .find_map(|word| word.parse::<u32>().ok())
        .unwrap_or_default();
    format!(
        "Task timed out after {:.2} seconds",
        f64::from(limit) / 1000.0
    )
}

/// A stack, frame by frame: Python's have two lines each, others one.
fn frames(stack: &str) -> Vec<String> {
    let lines: Vec<&str> = stack
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    // What led to an exception stands before it, below a heading of its own.
    let is_heading = |line: &&str| *line == "Traceback (most recent call last):";
    let Some(heading) = lines.iter().rposition(is_heading) else {
        return lines.into_iter().map(str::to_string).collect();
    };
    let is_marks = |line: &str| line.bytes().all(|byte| b" ~^".contains(&byte));
    let mut frames: Vec<String> = Vec::new();
    for line in &lines[heading + 1..] {
        match frames.last_mut() {
            // The exception itself, whose words may have any form.
            _ if !line.starts_with("  ") => break,
            _ if is_marks(line) => {}
            // A line of the source.
            Some(frame) if line.starts_with("   ") => {
                frame.push_str(line);
                frame.push('\n');
            }
            _ => frames.push(format!("{line}\n")),
        }
    }
    frames
}

/// An answer of the service's own.
fn refusal(status: StatusCode, kind: &str, message: &str) -> Reply {
    let reply = reply::json(status, &json!({"Type": "User", "message": message}));
    reply::with(reply, "x-amzn-errortype", kind)
}

fn bad_body(bad: &BadBody) -> Reply {
    let (status, message) = reply::why_bad_body(bad);
    let (kind, message) = match bad {
        BadBody::TooLarge(most) => (
            "RequestTooLargeException",
            format!("Request must be smaller than {most} bytes for the InvokeFunction operation"),
        ),
        _ => ("InvalidRequestContentException", message),
    };
    reply::closing(refusal(status, kind, &message))
}

fn no_room(reason: &NoRoom) -> Reply {
    let (status, message) = reply::why_no_room(reason);
    let kind = match reason {
        NoRoom::Busy => "TooManyRequestsException",
        NoRoom::Ending => "ServiceException",
    };
    reply::later(refusal(status, kind, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_function() {
        for (path, name) in [
            (
                "/2015-03-31/functions/function/invocations",
                Some("function"),
            ),
            ("/2015-03-31/functions//invocations", None),
            ("/2015-03-31/functions/a/b/invocations", None),
            ("/2015-03-31/functions/invocations", None),
            ("/2015-03-31/functions/function/invocations/", None),
        ] {
            assert_eq!(function_of(path), name, "{path}");
        }
    }

    #[test]
    fn pythons_frames_have_their_lines_together() {
        let stack = "Traceback (most recent call last):\n  File \"a.py\", line 1, in f\n    g()\n    ~^^\n  File \"a.py\", line 2, in g\n    raise ValueError(\"no\\n  File\")\nValueError: no\n  File\n";
        let expected = [
            "  File \"a.py\", line 1, in f\n    g()\n",
            "  File \"a.py\", line 2, in g\n    raise ValueError(\"no\\n  File\")\n",
        ];
        assert_eq!(frames(stack), expected);
        let repeated = "Traceback (most recent call last):\n  File \"a.py\", line 1, in f\n    f()\n  [Previous line repeated 9 more times]\nRecursionError: no\n";
        assert_eq!(
            frames(repeated),
            [
                "  File \"a.py\", line 1, in f\n    f()\n",
                "  [Previous line repeated 9 more times]\n",
            ]
        );
        // Of what led to it nothing is said.
        let both = format!(
            "{repeated}\nDuring handling of the above exception, another exception occurred:\n\n{stack}"
        );
        assert_eq!(frames(&both), expected);
        assert_eq!(
            frames("Error: no\n    at f (a.js:1:2)\n"),
            ["Error: no", "    at f (a.js:1:2)"]
        );
    }
}
