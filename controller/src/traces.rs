//! Traces of calls, in OpenTelemetry's form, where an operator names a collector.
//!
//! A call's spans are made when it has ended, from the times that were taken anyway: what goes
//! on for a call goes on in several tasks, and which call a container was made or put back for
//! is known when one runs in it. Without a collector there is nothing here but a `None`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use axum::http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{
    Link, Span, SpanContext, SpanKind, Status, TraceContextExt, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use refunction_scheduler::ContainerId;

/// How long what was done to a container is kept for a call that waits for it, and how often
/// that is looked at.
const UNCLAIMED: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_secs(5);

/// How long the last spans may take to a collector that does not answer.
const LAST: Duration = Duration::from_secs(2);

/// Where traces go, if anywhere.
#[derive(Debug, Clone, Default)]
pub struct Traces(Option<Arc<Exporter>>);

#[derive(Debug)]
struct Exporter {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    containers: Mutex<HashMap<ContainerId, Past>>,
}

/// What is remembered of a container until its next call.
#[derive(Debug, Default)]
struct Past {
    /// Not in any trace yet.
    steps: Vec<Step>,
    /// The last call that ran in it: what is done then is done after that.
    last: Option<SpanContext>,
}

/// Something that was done to a container.
#[derive(Debug)]
pub(crate) struct Step {
    /// `creation`, `load` or `restore`.
    pub(crate) what: &'static str,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) attributes: Vec<KeyValue>,
    /// Why it failed, if it did.
    pub(crate) error: Option<String>,
}

/// A call that ended.
#[derive(Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) parent: Option<&'a SpanContext>,
    pub(crate) request: &'a str,
    pub(crate) function: &'a str,
    pub(crate) arrived: Instant,
    pub(crate) how: How<'a>,
}

/// How a call ended.
#[derive(Debug)]
pub(crate) enum How<'a> {
    /// In its function.
    Ran {
        number: ContainerId,
        container: &'a str,
        pool: &'a str,
        start: &'static str,
        outcome: &'static str,
        began: Instant,
        ended: Instant,
        error: Option<String>,
    },
    /// Without it.
    Refused { reason: &'static str, error: String },
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}

/// The span of the caller's that a request names, by W3C's `traceparent` and `tracestate`.
/// What cannot be read is taken for nothing, as that specification has it.
pub(crate) fn parent(headers: &HeaderMap) -> Option<SpanContext> {
    headers.get("traceparent")?;
    let context =
        TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
    let parent = context.span().span_context().clone();
    parent.is_valid().then_some(parent)
}

impl Traces {
    /// Sends to the collector at this address, by OTLP over gRPC. It need not be there: what it
    /// does not take is lost, and the log says so.
    ///
    /// # Errors
    /// The address is none.
    pub fn to(endpoint: &str) -> Result<Self, ExporterBuildError> {
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .build()?;
        // OTEL_RESOURCE_ATTRIBUTES and OTEL_TRACES_SAMPLER are read by the library itself.
        let resource = Resource::builder()
            .with_service_name("refunctiond")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build();
        let exporter = Arc::new(Exporter {
            tracer: provider.tracer("refunction"),
            provider,
            containers: Mutex::default(),
        });
        let weak = Arc::downgrade(&exporter);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                let Some(exporter) = weak.upgrade() else {
                    return;
                };
                exporter.flush(|step| step.ended.elapsed() > UNCLAIMED);
            }
        });
        Ok(Self(Some(exporter)))
    }

    /// True if somebody takes them: what only they need is not to be made otherwise.
    pub(crate) fn are_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Something was done to a container.
    pub(crate) fn step(&self, container: ContainerId, step: impl FnOnce() -> Step) {
        if let Some(exporter) = &self.0 {
            let mut containers = exporter.lock();
            containers.entry(container).or_default().steps.push(step());
        }
    }

    /// A container is no more.
    pub(crate) fn gone(&self, container: ContainerId) {
        if let Some(exporter) = &self.0 {
            let past = exporter.lock().remove(&container);
            if let Some(past) = past {
                for step in past.steps {
                    exporter.alone(step, past.last.as_ref());
                }
            }
        }
    }

    /// A call ended.
    pub(crate) fn ended<'a>(&self, call: impl FnOnce() -> Ended<'a>) {
        if let Some(exporter) = &self.0 {
            exporter.call(call());
        }
    }

    /// Sends what is left, and ends.
    pub async fn close(&self) {
        let Some(exporter) = self.0.clone() else {
            return;
        };
        exporter.flush(|_| true);
        // It waits for a thread of its own, which needs this one's runtime.
        let closed =
            tokio::task::spawn_blocking(move || exporter.provider.shutdown_with_timeout(LAST));
        if let Ok(Err(error)) = closed.await {
            tracing::warn!(%error, "the last traces may be lost");
        }
    }
}

impl Exporter {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ContainerId, Past>> {
        self.containers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what no call waited for.
    fn flush(&self, is_due: impl Fn(&Step) -> bool) {
        let mut due = Vec::new();
        for past in self.lock().values_mut() {
            let (now, later) = std::mem::take(&mut past.steps)
                .into_iter()
                .partition(&is_due);
            past.steps = later;
            let steps: Vec<Step> = now;
            due.extend(steps.into_iter().map(|step| (step, past.last.clone())));
        }
        for (step, last) in due {
            self.alone(step, last.as_ref());
        }
    }

    /// A trace of its own, for what was done for no call; it leads to the call before.
    fn alone(&self, step: Step, last: Option<&SpanContext>) {
        let links = last.map(|last| Link::new(last.clone(), Vec::new(), 0));
        self.span(step, &Context::new(), links.into_iter().collect());
    }

    fn span(&self, step: Step, parent: &Context, links: Vec<Link>) {
        let builder = self
            .tracer
            .span_builder(step.what)
            .with_kind(SpanKind::Internal)
            .with_start_time(at(step.began))
            .with_attributes(step.attributes)
            .with_links(links);
        let mut span = self.tracer.build_with_context(builder, parent);
        if let Some(error) = step.error {
            span.set_status(Status::error(error));
        }
        span.end_with_timestamp(at(step.ended));
    }

    fn call(&self, call: Ended<'_>) {
        let mut outside = Context::new();
        if let Some(parent) = call.parent {
            outside = outside.with_remote_span_context(parent.clone());
        }
        let is_known = !matches!(
            call.how,
            How::Refused {
                reason: "unknown",
                ..
            }
        );
        let name = if is_known {
            format!("call {}", call.function)
        } else {
            // Whoever calls could make names.
            "call".to_owned()
        };
        let builder = self
            .tracer
            .span_builder(name)
            .with_kind(SpanKind::Server)
            .with_start_time(at(call.arrived))
            .with_attributes([
                KeyValue::new("request", call.request.to_owned()),
                KeyValue::new("function", call.function.to_owned()),
            ]);
        let span = self.tracer.build_with_context(builder, &outside);
        // Its own spans are below it.
        let inside = outside.with_span(span);
        let own = inside.span();
        match call.how {
            How::Ran {
                number,
                container,
                pool,
                start,
                outcome,
                began,
                ended,
                error,
            } => {
                own.set_attributes([
                    KeyValue::new("container", container.to_owned()),
                    KeyValue::new("pool", pool.to_owned()),
                    KeyValue::new("start", start),
                    KeyValue::new("outcome", outcome),
                ]);
                let wait = self
                    .tracer
                    .span_builder("wait")
                    .with_start_time(at(call.arrived))
                    .with_attributes([KeyValue::new("start", start)]);
                let wait = self.tracer.build_with_context(wait, &inside);
                let waiting = inside.with_span(wait);
                let (steps, last) = {
                    let mut containers = self.lock();
                    let past = containers.entry(number).or_default();
                    let last = past.last.replace(own.span_context().clone());
                    (std::mem::take(&mut past.steps), last)
                };
                for step in steps {
                    if step.ended > call.arrived {
                        self.span(step, &waiting, Vec::new());
                    } else {
                        self.alone(step, last.as_ref());
                    }
                }
                waiting.span().end_with_timestamp(at(began));
                self.span(
                    Step {
                        what: "run",
                        began,
                        ended,
                        attributes: vec![
                            KeyValue::new("container", container.to_owned()),
                            KeyValue::new("outcome", outcome),
                        ],
                        error: error.clone(),
                    },
                    &inside,
                    Vec::new(),
                );
                if let Some(error) = error {
                    own.set_status(Status::error(error));
                }
                own.end_with_timestamp(at(ended));
            }
            How::Refused { reason, error } => {
                let now = Instant::now();
                self.span(
                    Step {
                        what: "wait",
                        began: call.arrived,
                        ended: now,
                        attributes: vec![KeyValue::new("reason", reason)],
                        error: None,
                    },
                    &inside,
                    Vec::new(),
                );
                own.set_attribute(KeyValue::new("reason", reason));
                own.set_status(Status::error(error));
                own.end_with_timestamp(at(now));
            }
        }
    }
}

/// What other hosts' clocks are compared with.
fn at(instant: Instant) -> SystemTime {
    let now = SystemTime::now();
    now.checked_sub(instant.elapsed()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_span_is_read_and_nonsense_is_nothing() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", text.parse().unwrap());
            parent(&headers)
        };
        let fine = read("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
        assert_eq!(
            fine.trace_id().to_string(),
            "0af7651916cd43dd8448eb211c80319c"
        );
        assert!(fine.is_sampled() && fine.is_remote());
        let unsampled = read("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00");
        assert!(!unsampled.unwrap().is_sampled());
        for nonsense in [
            "",
            "00-0-0-0",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        ] {
            assert!(read(nonsense).is_none(), "{nonsense}");
        }
        assert!(parent(&HeaderMap::new()).is_none());
    }
}
