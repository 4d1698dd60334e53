//! Calling a function, and fetching what became of a call.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use axum::response::{IntoResponse, Response};
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::json;
use serde_json::value::RawValue;

use super::body::Text;
use super::reply::{self, Reply};
use super::request::{Name, Parameters, header, is_json};
use super::results::{Known, Refused};
use super::{Gateway, MOST_PAYLOAD, pieces};
use crate::node::Call;
use crate::traces;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const DEADLINE: &str = "x-deadline-ms";

/// Milliseconds that a call may take: a week, as for a function's own limit.
const MOST_DEADLINE_MS: u64 = 7 * 24 * 3600 * 1000;

/// How long somebody may wait for an outcome with one request.
const MOST_WAIT: Duration = Duration::from_secs(60);

/// `POST /functions/{name}`
pub(super) async fn call(
    State(gateway): State<Arc<Gateway>>,
    name: Name,
    request: Request,
) -> Response {
    let id = request_id(request.headers());
    let mut reply = begin(&gateway, name, &id, request)
        .await
        .unwrap_or_else(IntoResponse::into_response);
    if let Ok(id) = HeaderValue::from_str(&id) {
        reply.headers_mut().insert(REQUEST_ID, id);
    }
    reply
}

async fn begin(
    gateway: &Arc<Gateway>,
    Name(name): Name,
    id: &str,
    request: Request,
) -> Result<Response, Reply> {
    let (parts, body) = request.into_parts();
    let mut parameters = Parameters::of(&parts.uri)?;
    let is_async = parameters.flag("async")?;
    parameters.end()?;
    // Before the body: one that is of no use need not come.
    check_type(&parts.headers)?;
    let deadline_ms = deadline(&parts.headers)?;
    // The room is taken until the call is over: arguments that wait are many, or large.
    let Text { bytes, room } = gateway.read(body, MOST_PAYLOAD).await?;
    let payload = match bytes.trim_ascii() {
        [] => RawValue::NULL.to_owned(),
        json => serde_json::from_slice(json)
            .map_err(|error| reply::bad_json("the body is not JSON", &error))?,
    };
    drop(bytes);
    let conflict = || {
        let message =
            format!("there is a call with the id {id:?} already; its header is X-Request-Id");
        reply::refusal(StatusCode::CONFLICT, "conflict", &message)
    };
    let ticket = gateway.results.take(id).ok_or_else(conflict)?;
    let mut call = Call {
        function: name.clone(),
        id: id.to_owned(),
        payload,
        deadline_ms,
        parent: traces::parent(&parts.headers),
        pieces: None,
    };
    if !is_async {
        let (pieces, taken) = pieces::way();
        call.pieces = Some(pieces);
        let invoke = Arc::clone(&gateway.invoke);
        let ended = async move {
            let ended = invoke.invoke(call).await;
            drop((ticket, room));
            ended
        };
        return Ok(taken.answer(ended).await);
    }
    // Who does not wait is told at once what can be known at once.
    let found = gateway.store.get(&name).await;
    if found.map_err(|error| reply::of_store(&error))?.is_none() {
        return Err(unknown(&name));
    }
    let running = {
        let (gateway, id) = (Arc::clone(gateway), id.to_owned());
        async move {
            let reply = reply::of_call(gateway.invoke.invoke(call).await);
            drop(room);
            reply::with(reply, REQUEST_ID, &id)
        }
    };
    match gateway.results.begin(ticket, running) {
        Ok(()) => {
            let reply = reply::json(StatusCode::ACCEPTED, &pending(id));
            Ok(reply::with(reply, LOCATION, &place_of(id)).into_response())
        }
        Err(Refused::Taken) => Err(conflict()),
        Err(Refused::Full) => {
            let message = "as many calls are under way as may be that nobody waits for";
            let busy = reply::refusal(StatusCode::TOO_MANY_REQUESTS, "busy", message);
            Err(reply::later(busy, Duration::from_secs(1)))
        }
    }
}

/// `GET /results/{id}`
pub(super) async fn result(
    State(gateway): State<Arc<Gateway>>,
    Name(id): Name,
    request: Request,
) -> Result<Reply, Reply> {
    let mut parameters = Parameters::of(request.uri())?;
    let patience = match parameters.take("wait")? {
        None => Duration::ZERO,
        Some(text) => seconds(&text)?,
    };
    parameters.end()?;
    match gateway.results.get(&id, patience).await {
        Some(Known::Done(reply)) => Ok(copy(&reply)),
        Some(Known::Pending) => {
            let reply = reply::json(StatusCode::ACCEPTED, &pending(&id));
            Ok(reply::later(reply, Duration::from_secs(1)))
        }
        None => Err(no_result(&id)),
    }
}

/// `DELETE /results/{id}`
pub(super) async fn forget(
    State(gateway): State<Arc<Gateway>>,
    Name(id): Name,
    request: Request,
) -> Result<Reply, Reply> {
    Parameters::of(request.uri())?.end()?;
    if gateway.results.forget(&id) {
        return Ok(reply::empty(StatusCode::NO_CONTENT));
    }
    Err(no_result(&id))
}

pub(super) fn unknown(name: &str) -> Reply {
    reply::not_found(&format!("there is no function {name:?}"))
}

fn no_result(id: &str) -> Reply {
    reply::not_found(&format!(
        "there is no result {id:?}: it was deleted, has had its time, or made room for others, if it ever was"
    ))
}

fn pending(id: &str) -> serde_json::Value {
    json!({"id": id, "status": "pending"})
}

fn copy(reply: &Reply) -> Reply {
    let mut copy: Reply = axum::http::Response::new(Full::<Bytes>::clone(reply.body()));
    *copy.status_mut() = reply.status();
    *copy.headers_mut() = reply.headers().clone();
    copy
}

/// An id may be any visible text, and a path may not.
fn place_of(id: &str) -> String {
    let mut place = String::from("/results/");
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            place.push(byte.into());
        } else {
            place += &format!("%{byte:02X}");
        }
    }
    place
}

/// The client's own id, if it is one that can stand in a header and a log line, or a new one.
fn request_id(headers: &HeaderMap) -> String {
    header(headers, &REQUEST_ID)
        .filter(|id| {
            (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
        })
        .map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned)
}

fn check_type(headers: &HeaderMap) -> Result<(), Reply> {
    let kind = headers.get(CONTENT_TYPE).map_or(Ok(""), |it| it.to_str());
    let kind = kind.map_err(|_| reply::wrong_type("that is no text"))?;
    // What curl says of any text, too, as the front of a container has it.
    if kind.is_empty() || is_json(kind) || kind == "application/x-www-form-urlencoded" {
        return Ok(());
    }
    Err(reply::wrong_type(kind))
}

fn deadline(headers: &HeaderMap) -> Result<Option<u64>, Reply> {
    let Some(text) = headers.get(DEADLINE) else {
        return Ok(None);
    };
    let number = text.to_str().ok().and_then(|text| text.parse().ok());
    number
        .filter(|ms| (1..=MOST_DEADLINE_MS).contains(ms))
        .map(Some)
        .ok_or_else(|| {
            reply::bad_request(&format!(
                "the header X-Deadline-Ms is a number of milliseconds from 1 to {MOST_DEADLINE_MS}"
            ))
        })
}

fn seconds(text: &str) -> Result<Duration, Reply> {
    let seconds = text.parse().ok();
    seconds
        .filter(|seconds| (0.0..=MOST_WAIT.as_secs_f64()).contains(seconds))
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| {
            reply::bad_request(&format!(
                "\"wait\" is a number of seconds from 0 to {}",
                MOST_WAIT.as_secs()
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_leads_to_its_result() {
        assert_eq!(place_of("a-B_1.~"), "/results/a-B_1.~");
        assert_eq!(place_of("a/b?c%#"), "/results/a%2Fb%3Fc%25%23");
        // These would be taken for steps in the path.
        assert_eq!(place_of("."), "/results/.");
    }

    #[test]
    fn waits_and_deadlines_are_bounded() {
        for fine in ["0", "0.5", "60"] {
            assert!(seconds(fine).is_ok(), "{fine}");
        }
        for wrong in ["", "-1", "61", "NaN", "inf", "1s"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
        let deadline = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(DEADLINE, text.parse().unwrap());
            deadline(&headers).ok().flatten()
        };
        assert_eq!(deadline("1"), Some(1));
        for wrong in ["", "0", "-1", "1.5", "604800001", "18446744073709551616"] {
            assert_eq!(deadline(wrong), None, "{wrong}");
        }
    }
}
