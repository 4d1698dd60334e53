//! How the container is: for whoever keeps it alive, sends it work, or watches it.

use std::fmt::Write;
use std::rc::Rc;
use std::time::Duration;

use hyper::StatusCode;
use serde_json::json;

use super::bridge::{NoRoom, Picture};
use super::reply::{self, Reply};
use super::route::Site;

/// How long the main thread may be busy: with a restore, or in between two events.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where that is asked.
pub(super) const PATHS: [&str; 3] = ["/_/health", "/_/ready", "/_/metrics"];

async fn look(site: &Rc<Site>) -> Result<Picture, Reply> {
    let message = "the supervisor does not answer";
    let silent = || reply::refusal(StatusCode::SERVICE_UNAVAILABLE, "silent", message);
    site.bridge.look(PATIENCE).await.ok_or_else(silent)
}

/// True as long as the supervisor does its work, whatever it is.
pub(super) async fn health(site: &Rc<Site>) -> Reply {
    match look(site).await {
        Ok(_) => reply::json(StatusCode::OK, &json!({"status": "ok"})),
        Err(silent) => silent,
    }
}

/// True if a request would be taken now.
pub(super) async fn ready(site: &Rc<Site>) -> Reply {
    let picture = match look(site).await {
        Ok(picture) => picture,
        Err(silent) => return silent,
    };
    if picture.is_draining {
        return reply::no_room(&NoRoom::Ending);
    }
    if !picture.is_ready {
        let message = "the runtime is not there yet";
        return reply::later(reply::refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "booting",
            message,
        ));
    }
    if site.bridge.is_full() {
        return reply::no_room(&NoRoom::Busy);
    }
    reply::json(StatusCode::OK, &json!({"status": "ready"}))
}

/// Prometheus's text format, 0.0.4.
pub(super) async fn metrics(site: &Rc<Site>) -> Reply {
    match look(site).await {
        Ok(picture) => reply::of_type(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            in_prometheus_text(&picture),
        ),
        Err(silent) => silent,
    }
}

fn in_prometheus_text(picture: &Picture) -> String {
    let counts = &picture.counts;
    let calls: u64 = counts.outcomes.values().sum();
    let restores = counts.rewinds + counts.reforks;
    let outcomes = counts
        .outcomes
        .iter()
        .map(|(outcome, count)| (format!("{{outcome=\"{outcome}\"}}"), count.to_string()));
    let single = |value: String| vec![(String::new(), value)];
    let method = |name: &str, count: u64| (format!("{{method=\"{name}\"}}"), count.to_string());
    let summary = |seconds: f64, count: u64| {
        vec![
            ("_sum".to_string(), seconds.to_string()),
            ("_count".to_string(), count.to_string()),
        ]
    };
    let families = [
        (
            "refunction_requests_total",
            "counter",
            "Calls of the function that were answered, by how they ended.",
            outcomes.collect(),
        ),
        (
            "refunction_request_duration_seconds",
            "summary",
            "How long the function had its calls.",
            summary(counts.seconds, calls),
        ),
        (
            "refunction_restores_total",
            "counter",
            "Restores, by how the worker was brought back.",
            vec![
                method("rewind", counts.rewinds),
                method("refork", counts.reforks),
            ],
        ),
        (
            "refunction_restore_duration_seconds",
            "summary",
            "How long the restores took.",
            summary(counts.restore_seconds, restores),
        ),
        (
            "refunction_queue_length",
            "gauge",
            "Calls that wait.",
            single(picture.queued.to_string()),
        ),
        (
            "refunction_in_flight",
            "gauge",
            "Calls that the function has.",
            single(picture.in_flight.to_string()),
        ),
        (
            "refunction_ready",
            "gauge",
            "1 if there is a worker and the container does not stop.",
            single(u8::from(picture.is_ready && !picture.is_draining).to_string()),
        ),
        (
            "refunction_info",
            "gauge",
            "What runs here.",
            vec![(
                format!(
                    "{{runtime=\"{}\",version=\"{}\"}}",
                    picture.runtime,
                    env!("CARGO_PKG_VERSION")
                ),
                "1".into(),
            )],
        ),
    ];
    let mut text = String::new();
    for (name, kind, help, values) in families {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (rest, value) in values {
            let _ = writeln!(text, "{name}{rest} {value}");
        }
    }
    text
}
