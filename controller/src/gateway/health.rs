//! How the gateway is, and what it speaks: for whoever keeps it alive or sends it work.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Gateway;
use super::reply::{self, Reply};
use super::request::Parameters;

/// The document, which the tests hold against the routes.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// What Prometheus takes.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How long the store may take to be looked into.
const PATIENCE: Duration = Duration::from_secs(5);

/// `GET /healthz`: true as long as this is answered.
pub(super) async fn health(request: Request) -> Result<Reply, Reply> {
    Parameters::of(request.uri())?.end()?;
    Ok(reply::json(StatusCode::OK, &json!({"status": "ok"})))
}

/// `GET /metrics`
pub(super) async fn metrics(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Reply, Reply> {
    Parameters::of(request.uri())?.end()?;
    let text = gateway.invoke.metrics();
    Ok(reply::of_type(StatusCode::OK, METRICS, text))
}

/// `GET /readyz`: true if a call would be taken now.
pub(super) async fn ready(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Reply, Reply> {
    Parameters::of(request.uri())?.end()?;
    if *gateway.stopping.borrow() {
        return Err(reply::stopping());
    }
    let looked = timeout(PATIENCE, gateway.store.list(None, 1)).await;
    let reason = match looked {
        Ok(Ok(_)) => match gateway.invoke.ready() {
            Ok(()) => return Ok(reply::json(StatusCode::OK, &json!({"status": "ready"}))),
            Err(reason) => reason,
        },
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the store does not answer".into(),
    };
    let refused = reply::refusal(StatusCode::SERVICE_UNAVAILABLE, "not_ready", &reason);
    Err(reply::later(refused, Duration::from_secs(1)))
}

/// `GET /openapi.json`
pub(super) async fn openapi(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Reply, Reply> {
    Parameters::of(request.uri())?.end()?;
    let document = gateway.document.clone();
    Ok(reply::of_type(StatusCode::OK, "application/json", document))
}

/// The document with the runtimes that there are.
pub(super) fn document(images: &BTreeMap<String, String>) -> Bytes {
    let Ok(mut document) = serde_json::from_str::<Value>(OPENAPI) else {
        return Bytes::from_static(OPENAPI.as_bytes());
    };
    let runtime = "/components/schemas/Deployment/properties/runtime";
    if !images.is_empty()
        && let Some(runtime) = document.pointer_mut(runtime)
    {
        runtime["enum"] = images.keys().cloned().collect();
    }
    document.to_string().into()
}
