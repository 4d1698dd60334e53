//! What the proxy adds to a call of the CRI: the same calls to containerd and through
//! refunctiond, taking turns, so that a noisy minute is everybody's.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use hyper_util::rt::TokioIo;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{ListContainersRequest, StatusRequest, VersionRequest};
use refunction_bench::Failure;
use refunction_bench::table::{self, Name, Promise, Report, Samples};
use refunction_tests::cri::Node;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

/// Calls of each kind, and as many before that are not counted.
const CALLS: usize = 2000;
const WARM_UP: usize = 200;

/// What the proxy may add: the larger of this share of the call and these microseconds.
const SHARE: f64 = 1.1;
const ADDED_US: f64 = 200.0;

const KINDS: [&str; 3] = ["Version", "ListContainers", "Status"];
const DIRECT: &str = "direct";
const PROXIED: &str = "through refunctiond";

fn main() -> ExitCode {
    refunction_bench::run(measure)
}

fn name(kind: &str, way: &str) -> String {
    format!("{kind}: {way}")
}

fn measure() -> Result<(), Failure> {
    let node = Node::start();
    let mut samples = Samples::default();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(take(&node, &mut samples))?;
    let mut report = Report {
        conditions: table::conditions(),
        results: samples.rows(|name| {
            let kind = name.strip_suffix(PROXIED)?;
            Some(Name::from(format!("{kind}{DIRECT}")))
        }),
        ..Report::default()
    };
    for kind in KINDS {
        let (direct, proxied) = (name(kind, DIRECT), name(kind, PROXIED));
        let median = report.results.iter().find(|row| row.name == direct);
        let at_most = median.map_or(SHARE, |row| SHARE.max(1.0 + ADDED_US / row.median));
        let promise = Promise::of(proxied.clone(), &report.results, &proxied, &direct, at_most);
        report.promises.extend(promise);
    }
    report.publish(env!("CARGO_TARGET_TMPDIR"), "cri")
}

async fn take(node: &Node, samples: &mut Samples) -> Result<(), Failure> {
    let mut clients = [
        (DIRECT, connect(&node.containerd_socket()).await?),
        (PROXIED, connect(&node.cri_socket()).await?),
    ];
    for turn in 0..WARM_UP + CALLS {
        for kind in KINDS {
            for (way, client) in &mut clients {
                let began = Instant::now();
                match kind {
                    "Version" => drop(client.version(VersionRequest::default()).await?),
                    "Status" => drop(client.status(StatusRequest::default()).await?),
                    _ => drop(
                        client
                            .list_containers(ListContainersRequest::default())
                            .await?,
                    ),
                }
                if turn >= WARM_UP {
                    samples.add(&name(kind, way), began.elapsed());
                }
            }
        }
    }
    Ok(())
}

async fn connect(socket: &Path) -> Result<RuntimeServiceClient<Channel>, Failure> {
    let socket = socket.to_owned();
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        }))
        .await?;
    Ok(RuntimeServiceClient::new(channel))
}
