//! What a collector of OpenTelemetry's gets of calls, by the service that its specification
//! has, and that nothing is sent where nobody asked for it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use refunction_tests::eventually;
use refunction_tests::http::Connection;
use refunction_tests::node::Node;
use serde_json::json;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// Keeps what it is sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().expect("it").push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Its address, and the runtime that it lives in.
    fn start(&self) -> (SocketAddr, tokio::runtime::Runtime) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listening = tokio::net::TcpListener::bind("127.0.0.1:0");
        let listener = runtime.block_on(listening).expect("a port");
        let address = listener.local_addr().expect("its address");
        let service = TraceServiceServer::new(self.clone());
        runtime.spawn(
            Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpIncoming::from(listener)),
        );
        (address, runtime)
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.0.lock().expect("it");
        let resources = requests.iter().flat_map(|it| &it.resource_spans);
        let scopes = resources.flat_map(|it| &it.scope_spans);
        scopes.flat_map(|it| it.spans.clone()).collect()
    }

    fn service(&self) -> String {
        let requests = self.0.lock().expect("it");
        let resource = requests[0].resource_spans[0].resource.as_ref();
        attributes(&resource.expect("a resource").attributes)
            .remove("service.name")
            .unwrap_or_default()
    }

    /// The span of the call with this request id.
    fn call(&self, request: &str) -> Span {
        let mut found = None;
        eventually("the call's span arrives", || {
            let is_it = |it: &Span| it.name.starts_with("call") && get(it, "request") == request;
            found = self.spans().into_iter().find(is_it);
            found.is_some()
        });
        found.expect("it")
    }

    /// Those right below a span, by name.
    fn below(&self, span: &Span) -> BTreeMap<String, Span> {
        let spans = self.spans().into_iter();
        let children = spans.filter(|it| it.parent_span_id == span.span_id);
        children.map(|it| (it.name.clone(), it)).collect()
    }
}

fn attributes(list: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|it| it.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        other => format!("{other:?}"),
    };
    list.iter()
        .map(|it| (it.key.clone(), text(&it.value)))
        .collect()
}

fn get(span: &Span, name: &str) -> String {
    attributes(&span.attributes)
        .remove(name)
        .unwrap_or_default()
}

fn call(node: &Node, name: &str, id: &str, parent: Option<&str>, body: &str) -> u16 {
    let mut headers = vec![("content-type", "application/json"), ("x-request-id", id)];
    headers.extend(parent.map(|it| ("traceparent", it)));
    let path = format!("/functions/{name}");
    Connection::to(node.port())
        .ask("POST", &path, &headers, body.as_bytes())
        .status
}

#[test]
fn a_collector_gets_what_each_call_waited_for_and_how_long_it_ran() {
    let collector = Collector::default();
    let (address, _runtime) = collector.start();
    let settings =
        format!("[node]\nmax_containers = 1\n[traces]\nendpoint = \"http://{address}\"\n");
    let node = Node::start("traces", &settings);
    node.put(
        "a",
        "import time\ndef main(args):\n    time.sleep(args)\n",
        &json!({}),
    );
    node.put(
        "b",
        "import os\ndef main(args):\n    os._exit(3)\n",
        &json!({}),
    );
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    assert_eq!(call(&node, "a", "created", Some(&parent), "0.05"), 200);
    assert_eq!(call(&node, "a", "warm", None, "0"), 200);
    assert_eq!(call(&node, "b", "swapped", None, "0"), 502);
    assert_eq!(call(&node, "nobody", "refused", None, "0"), 404);
    // One whose caller wants no trace.
    let unsampled = parent.replace("-01", "-00");
    assert_eq!(call(&node, "a", "unsampled", Some(&unsampled), "0"), 200);

    let created = collector.call("created");
    assert_eq!(hex(&created.trace_id), trace);
    assert_eq!(hex(&created.parent_span_id), "b7ad6b7169203331");
    assert_eq!(created.name, "call a");
    assert_eq!(get(&created, "start"), "created");
    assert_eq!(get(&created, "outcome"), "ok");
    assert_eq!(get(&created, "function"), "a");
    let below = collector.below(&created);
    assert_eq!(below.keys().collect::<Vec<_>>(), ["run", "wait"]);
    let (wait, run) = (&below["wait"], &below["run"]);
    assert_eq!(get(wait, "start"), "created");
    // One ends where the other begins, inside the call.
    assert_eq!(
        created.end_time_unix_nano / 1_000_000,
        run.end_time_unix_nano / 1_000_000
    );
    assert!(
        run.end_time_unix_nano - run.start_time_unix_nano >= 50_000_000,
        "{run:?}"
    );
    assert!(
        wait.start_time_unix_nano <= run.start_time_unix_nano,
        "{wait:?} {run:?}"
    );
    let steps = collector.below(wait);
    assert_eq!(steps.keys().collect::<Vec<_>>(), ["creation", "load"]);
    assert_eq!(get(&steps["load"], "function"), "a");
    assert_eq!(collector.service(), "refunctiond");

    let warm = collector.call("warm");
    assert!(
        warm.parent_span_id.is_empty() && hex(&warm.trace_id) != trace,
        "{warm:?}"
    );
    let below = collector.below(&warm);
    assert_eq!(get(&below["wait"], "start"), "warm");
    assert!(collector.below(&below["wait"]).is_empty());

    let swapped = collector.call("swapped");
    assert_eq!(get(&swapped, "outcome"), "crashed");
    assert!(
        swapped
            .status
            .as_ref()
            .is_some_and(|it| it.message.contains("status 3"))
    );
    let steps = collector.below(&collector.below(&swapped)["wait"]);
    assert_eq!(steps.keys().collect::<Vec<_>>(), ["load", "restore"]);
    assert_eq!(get(&steps["restore"], "method"), "rewind");
    assert_eq!(get(&steps["restore"], "function"), "a");

    let refused = collector.call("refused");
    assert_eq!(
        (refused.name.as_str(), get(&refused, "reason")),
        ("call", "unknown".into())
    );
    // What nobody has waited for is sent at the end.
    node.end();
    let all = collector.spans();
    assert!(!all.iter().any(|it| get(it, "request") == "unsampled"));
}

#[test]
fn a_collector_that_is_not_there_harms_no_call() {
    let settings = "[traces]\nendpoint = \"http://127.0.0.1:9\"\n";
    let node = Node::start("untraced", settings);
    node.put("a", "def main(args):\n    return args\n", &json!({}));
    for number in 0..20 {
        assert_eq!(node.ok("a", &json!(number)).0, json!(number));
    }
    node.end();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
