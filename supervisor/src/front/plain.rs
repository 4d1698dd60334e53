//! A function called by anybody: JSON in, JSON out.

use std::rc::Rc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use refunction_protocol::Request;
use serde::Serialize;
use serde_json::value::RawValue;

use super::bridge::{Answered, Contract, Extras};
use super::cloudevents;
use super::reply::{self, Reply};
use super::route::{MOST_BODY, Site, request_id};

const REQUEST_ID: &str = "x-request-id";

/// Calls the function with the body, or with the event that the request is.
pub(super) async fn call(site: &Rc<Site>, headers: &HeaderMap, body: Incoming) -> Reply {
    let id = request_id(headers, REQUEST_ID);
    let answered = try_call(site, headers, body, &id).await;
    let reply = answered.unwrap_or_else(|refused| refused);
    reply::with(reply, REQUEST_ID, &id)
}

async fn try_call(
    site: &Rc<Site>,
    headers: &HeaderMap,
    body: Incoming,
    id: &str,
) -> Result<Reply, Reply> {
    let kind = headers.get(CONTENT_TYPE).map_or(Ok(""), |it| it.to_str());
    let kind = kind.map_err(|_| unknown("that is no text"))?;
    // Before the body: one that is of no use need not come.
    let mode = cloudevents::mode_of(kind, headers);
    if mode.is_none() && !is_json(kind) {
        return Err(unknown(kind));
    }
    let text = site.read(body, MOST_BODY).await;
    let text = text.map_err(|bad| reply::bad_body(&bad))?;
    let data = match &mode {
        Some(mode) => cloudevents::event(mode, kind, headers, &text.bytes),
        None => argument(&text.bytes),
    };
    let data =
        data.map_err(|reason| reply::refusal(StatusCode::BAD_REQUEST, "bad_request", &reason))?;
    drop(text);
    let request = Request {
        id: Some(raw(&id)),
        deadline_ms: None,
        pieces: false,
        data,
    };
    let extras = Extras {
        contract: Contract::Plain,
        ..Extras::default()
    };
    let answered = site.bridge.stream(request, extras).await;
    let outcome = match answered.map_err(|reason| reply::no_room(&reason))? {
        Answered::Whole(outcome) => outcome,
        Answered::Streamed(head, pieces) => {
            return Ok(reply::streamed_or_failure(head, pieces).await);
        }
    };
    let answered = match outcome.result {
        Ok(data) if mode.is_some() => cloudevents::reply(data),
        Ok(data) => value(data),
        Err(failure) => reply::failure(&failure),
    };
    Ok(reply::with(
        answered,
        "x-duration-seconds",
        &in_text(outcome.spent),
    ))
}

/// A function's result, as it wrote it.
pub(super) fn value(data: Box<RawValue>) -> Reply {
    let text = String::from(Box::<str>::from(data));
    reply::of_type(StatusCode::OK, "application/json", text)
}

/// The body as it came, which has to be JSON; nothing is `null`.
fn argument(body: &[u8]) -> Result<Box<RawValue>, String> {
    match body.trim_ascii() {
        [] => Ok(RawValue::NULL.to_owned()),
        body => {
            serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))
        }
    }
}

/// True for JSON, for what says nothing, and for what curl says of any text.
fn is_json(kind: &str) -> bool {
    let kind = media_type(kind);
    cloudevents::is_json(&kind) || kind.is_empty() || kind == "application/x-www-form-urlencoded"
}

/// Without its parameters.
pub(super) fn media_type(kind: &str) -> String {
    let (kind, _) = kind.split_once(';').unwrap_or((kind, ""));
    kind.trim().to_ascii_lowercase()
}

fn unknown(kind: &str) -> Reply {
    let message = format!(
        "the content type {kind:?} is not known here: send application/json, or a CloudEvent"
    );
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    reply::closing(reply::refusal(status, "bad_request", &message))
}

/// Plain data as JSON text.
pub(super) fn raw(value: &impl Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Seconds, to the microsecond.
pub(super) fn in_text(duration: Duration) -> String {
    format!("{:.6}", duration.as_secs_f64())
}
