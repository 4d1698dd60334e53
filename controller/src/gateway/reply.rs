//! What answers are made of.

use std::time::Duration;

use axum::http::header::{
    CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use refunction_protocol::FailureKind;
use serde::Serialize;
use serde_json::{Value, json};
use tracing::error;

use super::body::BadBody;
use crate::node::{Answer, Asked, Refusal};
use crate::store::StoreError;

pub(super) type Reply = Response<Full<Bytes>>;

/// How long a client is asked to wait where nobody knows better.
const SOON: Duration = Duration::from_secs(1);

/// An answer of this type.
pub(super) fn of_type(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

/// An answer in JSON.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Reply {
    let body = serde_json::to_vec(body).unwrap_or_else(|_| b"null".to_vec());
    of_type(status, "application/json", body)
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = status;
    reply
}

/// An answer that is an error.
pub(super) fn refusal(status: StatusCode, kind: &str, message: &str) -> Reply {
    json(
        status,
        &json!({"error": {"kind": kind, "message": message}}),
    )
}

/// The request is wrong.
pub(super) fn bad_request(message: &str) -> Reply {
    refusal(StatusCode::BAD_REQUEST, "bad_request", message)
}

/// There is no such thing.
pub(super) fn not_found(message: &str) -> Reply {
    refusal(StatusCode::NOT_FOUND, "not_found", message)
}

/// Nothing more is taken.
pub(super) fn stopping() -> Reply {
    let message = Refusal::Ending.to_string();
    later(
        refusal(StatusCode::SERVICE_UNAVAILABLE, "stopping", &message),
        SOON,
    )
}

/// Adds a header; what cannot be one is left out.
pub(super) fn with(mut reply: Reply, name: HeaderName, value: &str) -> Reply {
    if let Ok(value) = HeaderValue::from_str(value) {
        reply.headers_mut().insert(name, value);
    }
    reply
}

/// Asks to come again.
pub(super) fn later(mut reply: Reply, after: Duration) -> Reply {
    // In whole seconds, and not before.
    let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
    let headers = reply.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    reply
}

/// Ends the connection after it: what else comes on it cannot be told from the body.
fn closing(mut reply: Reply) -> Reply {
    let headers = reply.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    reply
}

/// The token is missing, or another.
pub(super) fn unauthorized() -> Reply {
    let message = "this needs the header Authorization: Bearer <token>";
    let reply = refusal(StatusCode::UNAUTHORIZED, "unauthorized", message);
    closing(with(reply, WWW_AUTHENTICATE, "Bearer"))
}

/// Not from there.
pub(super) fn forbidden(message: &str) -> Reply {
    closing(refusal(StatusCode::FORBIDDEN, "forbidden", message))
}

/// A content type that is not read here.
pub(super) fn wrong_type(kind: &str) -> Reply {
    let message = format!("the content type {kind:?} is not known here: send application/json");
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    closing(refusal(status, "bad_request", &message))
}

/// A body that is none.
pub(super) fn bad_body(bad: &BadBody) -> Reply {
    let (status, kind, message) = match bad {
        BadBody::TooLarge(most) => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("the body is larger than the {most} bytes that are allowed"),
        ),
        BadBody::TooSlow(limit) => (
            StatusCode::REQUEST_TIMEOUT,
            "too_slow",
            format!("the body was not there within {} ms", limit.as_millis()),
        ),
        BadBody::NoRoom => {
            let message = "the bodies of other requests take all the room there is";
            let busy = refusal(StatusCode::SERVICE_UNAVAILABLE, "busy", message);
            return closing(later(busy, SOON));
        }
        BadBody::Broken(error) => (
            StatusCode::BAD_REQUEST,
            "bad_request",
            format!("the body could not be read: {error}"),
        ),
    };
    closing(refusal(status, kind, &message))
}

/// A body that is not the JSON it should be, and where.
pub(super) fn bad_json(what: &str, error: &serde_json::Error) -> Reply {
    let mut body = json!({"error": {"kind": "bad_request", "message": format!("{what}: {error}")}});
    if error.line() > 0 {
        body["error"]["line"] = error.line().into();
        body["error"]["column"] = error.column().into();
    }
    json(StatusCode::BAD_REQUEST, &body)
}

/// What the store refuses or cannot do.
pub(super) fn of_store(refused: &StoreError) -> Reply {
    let message = refused.to_string();
    let (status, kind) = match refused {
        StoreError::Invalid(_) => (StatusCode::BAD_REQUEST, "bad_request"),
        StoreError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
        StoreError::Conflict { .. } => (StatusCode::PRECONDITION_FAILED, "conflict"),
        StoreError::NoSpace { .. } => (StatusCode::INSUFFICIENT_STORAGE, "no_space"),
        StoreError::Closed => return stopping(),
        StoreError::InUse { .. }
        | StoreError::Newer { .. }
        | StoreError::Foreign { .. }
        | StoreError::Damaged { .. }
        | StoreError::File { .. }
        | StoreError::Sqlite { .. } => {
            error!(error = message, "the store fails");
            (StatusCode::INTERNAL_SERVER_ERROR, "store")
        }
    };
    refusal(status, kind, &message)
}

/// What a function's failure is in HTTP: as the front of its container has it.
fn status_of(kind: FailureKind) -> StatusCode {
    match kind {
        FailureKind::Exception => StatusCode::INTERNAL_SERVER_ERROR,
        FailureKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        FailureKind::OutOfMemory => StatusCode::INSUFFICIENT_STORAGE,
        FailureKind::Crashed => StatusCode::BAD_GATEWAY,
        FailureKind::BadRequest => StatusCode::BAD_REQUEST,
        FailureKind::NotLoaded => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// What became of a call.
pub(super) fn of_call(ended: Result<Answer, Refusal>) -> Reply {
    match ended {
        Ok(answer) => of_answer(answer),
        Err(refused) => of_refusal(refused),
    }
}

fn of_answer(answer: Answer) -> Reply {
    let reply = match answer.outcome {
        // As the function wrote it: its numbers keep their digits.
        Ok(value) => of_type(
            StatusCode::OK,
            "application/json",
            String::from(Box::<str>::from(value)),
        ),
        Err(failure) => json(status_of(failure.kind), &json!({"error": failure})),
    };
    let mut reply = reply;
    place(reply.headers_mut(), &answer.asked);
    let name = HeaderName::from_static("x-duration-seconds");
    with(reply, name, &in_text(answer.ran))
}

/// Says where a call ran, and what that took. The daemon's word stands for a function's.
pub(super) fn place(headers: &mut HeaderMap, asked: &Asked) {
    for (name, value) in [
        ("x-refunction-start", asked.start.as_str()),
        ("x-refunction-container", &asked.container),
        ("x-refunction-waited-seconds", &in_text(asked.waited)),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
}

fn of_refusal(refused: Refusal) -> Reply {
    let message = refused.to_string();
    let unavailable = |kind| refusal(StatusCode::SERVICE_UNAVAILABLE, kind, &message);
    match refused {
        Refusal::Unknown(_) => not_found(&message),
        Refusal::Busy { retry_after, .. } => later(
            refusal(StatusCode::TOO_MANY_REQUESTS, "busy", &message),
            retry_after,
        ),
        Refusal::BackingOff { retry_after, .. } => later(unavailable("backing_off"), retry_after),
        Refusal::NotLoaded { failure, .. } => {
            // The tenant's own error, told as one of a call, but for its kind: that says when.
            let mut error = json!(failure);
            error["cause"] = Value::from(failure.kind.as_str());
            error["kind"] = "not_loaded".into();
            error["message"] = message.into();
            json(StatusCode::BAD_GATEWAY, &json!({"error": error}))
        }
        Refusal::NoContainer { .. } => later(unavailable("no_container"), SOON),
        Refusal::Ending => stopping(),
    }
}

/// Seconds, to the microsecond.
fn in_text(duration: Duration) -> String {
    format!("{:.6}", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_asked_to_come_before_it_can_help() {
        let asked = |after: Duration| {
            let reply = later(empty(StatusCode::OK), after);
            reply.headers()[RETRY_AFTER].to_str().unwrap().to_owned()
        };
        assert_eq!(asked(Duration::ZERO), "1");
        assert_eq!(asked(Duration::from_millis(1)), "1");
        assert_eq!(asked(Duration::from_secs(2)), "2");
        assert_eq!(asked(Duration::from_millis(2001)), "3");
    }
}
