//! Which contract a request is for.

use std::rc::Rc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Method, Request, StatusCode};

use super::body::{self, BadBody, InHand, Text};
use super::bridge::Bridge;
use super::listener::Manners;
use super::reply::{self, Reply};
use super::{application, health, lambda, openwhisk, plain};

/// Bytes of a body where a contract names no limit of its own.
pub(super) const MOST_BODY: usize = 32 * 1024 * 1024;

/// What all requests share.
pub(super) struct Site {
    pub(super) bridge: Rc<Bridge>,
    pub(super) in_hand: InHand,
    pub(super) patience: Duration,
    /// The function that the container is for, if it is for one.
    pub(super) handler: Option<String>,
    /// Functions are written in Python, and told of as Lambda tells of Python's.
    pub(super) is_python: bool,
    /// It is an application, which answers whole requests.
    pub(super) is_application: bool,
}

impl Site {
    pub(super) fn new(bridge: Bridge, manners: &Manners) -> Self {
        Self {
            bridge: Rc::new(bridge),
            in_hand: InHand::default(),
            patience: manners.patience,
            handler: manners.handler.clone(),
            is_python: manners.runtime == "python",
            is_application: manners.is_application,
        }
    }

    pub(super) async fn read(&self, body: Incoming, most: usize) -> Result<Text, BadBody> {
        body::read(body, most, self.patience, &self.in_hand).await
    }
}

/// Answers one request.
pub(super) async fn answer(site: &Rc<Site>, request: Request<Incoming>) -> Reply {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    if site.is_application && !health::PATHS.contains(&path) {
        return application::call(site, parts, body).await;
    }
    let is_get = parts.method == Method::GET || parts.method == Method::HEAD;
    let is_post = parts.method == Method::POST;
    match path {
        "/" if is_post => plain::call(site, &parts.headers, body).await,
        "/" => reply::wrong_method("POST"),
        "/init" if is_post => openwhisk::init(site, body).await,
        "/run" if is_post => openwhisk::run(site, body).await,
        "/init" | "/run" => reply::wrong_method("POST"),
        "/_/health" if is_get => health::health(site).await,
        "/_/ready" if is_get => health::ready(site).await,
        "/_/metrics" if is_get => health::metrics(site).await,
        "/_/health" | "/_/ready" | "/_/metrics" => reply::wrong_method("GET, HEAD"),
        path => match lambda::function_of(path) {
            Some(name) if is_post => lambda::invoke(site, name, &parts.headers, body).await,
            Some(_) => reply::wrong_method("POST"),
            None => reply::refusal(
                StatusCode::NOT_FOUND,
                "not_found",
                "there is nothing under this path: a function is called by POST /",
            ),
        },
    }
}

/// A header's value as text, if it is there and is text.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The id by which a request is known: the client's own, if it is one that can stand in a
/// header and a log line, or a new one.
pub(super) fn request_id(headers: &HeaderMap, name: &str) -> String {
    header(headers, name)
        .filter(|id| {
            (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
        })
        .map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned)
}
