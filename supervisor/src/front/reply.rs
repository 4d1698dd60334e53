//! What answers are made of.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
};
use hyper::{Response, StatusCode};
use refunction_protocol::{Failure, FailureKind, Head};
use serde::Serialize;
use serde_json::json;

use super::body::BadBody;
use super::bridge::NoRoom;
use super::pieces::{Broken, Content, Pieces};

pub(super) type Reply = Response<Content>;

/// How long a client is asked to wait when there is no room.
const RETRY_SECONDS: u16 = 1;

/// An answer of this type.
pub(super) fn of_type(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Content::Whole(Full::new(body.into())));
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
    let mut reply = Response::new(Content::Whole(Full::default()));
    *reply.status_mut() = status;
    reply
}

/// An answer that a function gives piece by piece; to `HEAD`, if that was asked. Why there is
/// none, if that is known before it is sent, and if anybody knows.
pub(super) async fn streamed(
    head: Head,
    pieces: Pieces,
    is_head: bool,
) -> Result<Reply, Option<Failure>> {
    let is_all = head.is_all(is_head);
    let Head {
        status,
        mut headers,
    } = head;
    let mut reply = if is_all {
        // Nothing is sent that could be held back: the end is waited for.
        pieces.end().await.map_err(|Broken(failure)| failure)?;
        if !is_head && status != StatusCode::NOT_MODIFIED {
            headers.remove(CONTENT_LENGTH);
        }
        empty(status)
    } else {
        Response::new(Content::Pieces(pieces))
    };
    *reply.status_mut() = status;
    *reply.headers_mut() = headers;
    Ok(reply)
}

/// A refusal of the front's own.
pub(super) fn refusal(status: StatusCode, kind: &str, message: &str) -> Reply {
    json(
        status,
        &json!({"error": {"kind": kind, "message": message}}),
    )
}

/// What a function's failure is in HTTP: each kind has a status of its own.
pub(super) fn status_of(kind: FailureKind) -> StatusCode {
    match kind {
        FailureKind::Exception => StatusCode::INTERNAL_SERVER_ERROR,
        FailureKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        FailureKind::OutOfMemory => StatusCode::INSUFFICIENT_STORAGE,
        FailureKind::Crashed => StatusCode::BAD_GATEWAY,
        FailureKind::BadRequest => StatusCode::BAD_REQUEST,
        FailureKind::NotLoaded => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// An answer to a client of a function's, or the failure in its place.
pub(super) async fn streamed_or_failure(head: Head, pieces: Pieces) -> Reply {
    match streamed(head, pieces, false).await {
        Ok(reply) => reply,
        Err(Some(failed)) => failure(&failed),
        Err(None) => no_room(&NoRoom::Ending),
    }
}

/// A function's failure, told as on the control channel.
pub(super) fn failure(failure: &Failure) -> Reply {
    json(status_of(failure.kind), &json!({"error": failure}))
}

/// Adds a header; what cannot be one is left out.
pub(super) fn with(mut reply: Reply, name: &'static str, value: &str) -> Reply {
    if let Ok(value) = HeaderValue::from_str(value) {
        reply
            .headers_mut()
            .insert(HeaderName::from_static(name), value);
    }
    reply
}

/// A path that is there, and not for this method.
pub(super) fn wrong_method(allowed: &'static str) -> Reply {
    let message = format!("this path takes {allowed}");
    let mut reply = refusal(StatusCode::METHOD_NOT_ALLOWED, "bad_request", &message);
    let headers = reply.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(allowed));
    reply
}

/// The words for it where there is no room.
pub(super) fn why_no_room(reason: &NoRoom) -> (StatusCode, &'static str) {
    match reason {
        NoRoom::Busy => (
            StatusCode::TOO_MANY_REQUESTS,
            "as many requests wait as may",
        ),
        NoRoom::Ending => (StatusCode::SERVICE_UNAVAILABLE, "the container is stopping"),
    }
}

/// Asks to come again.
pub(super) fn later(mut reply: Reply) -> Reply {
    let headers = reply.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
    reply
}

/// No room.
pub(super) fn no_room(reason: &NoRoom) -> Reply {
    let (status, message) = why_no_room(reason);
    let kind = match reason {
        NoRoom::Busy => "busy",
        NoRoom::Ending => "stopping",
    };
    later(refusal(status, kind, message))
}

/// The words for a body that is none.
pub(super) fn why_bad_body(bad: &BadBody) -> (StatusCode, String) {
    match bad {
        BadBody::TooLarge(most) => (
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than the {most} bytes that are allowed"),
        ),
        BadBody::TooSlow(limit) => (
            StatusCode::REQUEST_TIMEOUT,
            format!("the body was not there within {} ms", limit.as_millis()),
        ),
        BadBody::NoRoom => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the bodies of other requests take all the room there is".into(),
        ),
        BadBody::Broken(error) => (
            StatusCode::BAD_REQUEST,
            format!("the body could not be read: {error}"),
        ),
    }
}

/// A body that is none.
pub(super) fn bad_body(bad: &BadBody) -> Reply {
    let (status, message) = why_bad_body(bad);
    closing(refusal(status, "bad_request", &message))
}

/// Ends the connection after it: what else comes on it cannot be told from the body.
pub(super) fn closing(mut reply: Reply) -> Reply {
    let headers = reply.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    reply
}
