//! An application: it is given whole requests, and what it answers is the answer.

use std::net::SocketAddr;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version};
use refunction_protocol::{Failure, FailureKind, Request, drop_hop_by_hop};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::net::TcpStream;

use super::body::Text;
use super::bridge::{Answered, Contract, Extras, NoRoom};
use super::plain::raw;
use super::reply::{self, Reply};
use super::route::{MOST_BODY, Site, request_id};

/// The two ends of a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Ends {
    client: Option<SocketAddr>,
    server: Option<SocketAddr>,
}

impl Ends {
    pub(super) fn of(stream: &TcpStream) -> Self {
        Self {
            client: stream.peer_addr().ok(),
            server: stream.local_addr().ok(),
        }
    }
}

/// A request, as the adapter has it.
#[derive(Debug, Serialize)]
struct Given<'a> {
    method: &'a str,
    /// As it came: percent-encoded.
    path: &'a str,
    query: &'a str,
    version: &'static str,
    /// A character of a value is a byte (ISO 8859-1).
    headers: Vec<(&'a str, String)>,
    client: Option<(String, u16)>,
    server: Option<(String, u16)>,
    /// In base64.
    body: String,
}

/// Has the application answer.
pub(super) async fn call(site: &Rc<Site>, mut parts: Parts, body: Incoming) -> Reply {
    if parts.method == Method::CONNECT {
        return reply::closing(refusal(StatusCode::METHOD_NOT_ALLOWED));
    }
    let text = match site.read(body, MOST_BODY).await {
        Ok(text) => text,
        Err(bad) => {
            let (status, message) = reply::why_bad_body(&bad);
            return reply::closing(words(status, &message));
        }
    };
    let request = Request {
        id: Some(raw(&request_id(&parts.headers, "x-request-id"))),
        deadline_ms: None,
        pieces: false,
        data: given(&mut parts, text),
    };
    let extras = Extras {
        contract: Contract::Application,
        ..Extras::default()
    };
    match site.bridge.stream(request, extras).await {
        Ok(Answered::Streamed(head, pieces)) => {
            let is_head = parts.method == Method::HEAD;
            match reply::streamed(head, pieces, is_head).await {
                Ok(reply) => reply,
                Err(failure) => failed(failure.as_ref()),
            }
        }
        Ok(Answered::Whole(outcome)) => match outcome.result {
            // It speaks for itself past its adapter.
            Ok(_) => refusal(StatusCode::BAD_GATEWAY),
            Err(failure) => failed(Some(&failure)),
        },
        Err(reason) => {
            let (status, message) = reply::why_no_room(&reason);
            reply::later(words(status, message))
        }
    }
}

/// The request as JSON, without what is for one connection only.
fn given(parts: &mut Parts, text: Text) -> Box<RawValue> {
    let ends = parts.extensions.remove::<Ends>().unwrap_or_default();
    let was_in_chunks = parts.headers.contains_key(TRANSFER_ENCODING);
    drop_hop_by_hop(&mut parts.headers);
    if was_in_chunks {
        // It has a length by now.
        let length = HeaderValue::from(text.bytes.len());
        parts.headers.insert(CONTENT_LENGTH, length);
    }
    let in_words = |end: SocketAddr| (end.ip().to_canonical().to_string(), end.port());
    let body = STANDARD.encode(&text.bytes);
    // It may be large, and is here twice by now.
    drop(text);
    raw(&Given {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        version: match parts.version {
            Version::HTTP_10 => "1.0",
            _ => "1.1",
        },
        headers: in_characters(&parts.headers),
        client: ends.client.map(in_words),
        server: ends.server.map(in_words),
        body,
    })
}

/// Who asks is not its author: what went wrong is in the container's log.
fn failed(failure: Option<&Failure>) -> Reply {
    match failure.map(|failure| failure.kind) {
        Some(FailureKind::NotLoaded | FailureKind::BadRequest) | None => {
            let (status, message) = reply::why_no_room(&NoRoom::Ending);
            words(status, message)
        }
        Some(kind) => refusal(reply::status_of(kind)),
    }
}

fn refusal(status: StatusCode) -> Reply {
    words(status, status.canonical_reason().unwrap_or_default())
}

fn words(status: StatusCode, message: &str) -> Reply {
    reply::of_type(status, "text/plain; charset=utf-8", format!("{message}\n"))
}

fn in_characters(headers: &HeaderMap) -> Vec<(&str, String)> {
    headers
        .iter()
        .map(|(name, value)| {
            let value = value.as_bytes().iter().copied().map(char::from).collect();
            (name.as_str(), value)
        })
        .collect()
}
