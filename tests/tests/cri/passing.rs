//! What passes: calls of any service and size, in all directions, and their ends.

use std::path::Path;

use k8s_cri::v1 as cri;
use prost::Message;
use refunction_tests::cri::Node;
use refunction_tests::{PATIENCE, environment, eventually, process};
use tokio::net::UnixStream;
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

use crate::client::{Cri, pod, script};

/// Any call, by its path.
async fn call(
    cri: &Cri,
    path: &'static str,
    request: Request<cri::VersionRequest>,
) -> Result<cri::VersionResponse, tonic::Status> {
    let mut client = tonic::client::Grpc::new(cri.channel.clone());
    client.ready().await.expect("a connection");
    let codec = ProstCodec::default();
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
    let answer = client.unary(request, path, codec).await?;
    Ok(answer.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_nobody_knows_are_containerds_to_refuse() {
    let node = Node::start();
    let (direct, proxied) = (Cri::direct(&node).await, Cri::proxied(&node).await);
    for path in [
        "/no.such.Service/Method",
        "/runtime.v1.RuntimeService/NotYetInvented",
        "/runtime.v2.RuntimeService/Version",
    ] {
        let of = async |cri: &Cri| {
            let refused = call(cri, path, Request::new(cri::VersionRequest::default())).await;
            let refused = refused.expect_err("nobody knows it");
            (refused.code(), refused.message().to_owned())
        };
        let (one, other) = (of(&direct).await, of(&proxied).await);
        assert_eq!(one.0, Code::Unimplemented);
        assert_eq!(one, other, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_fifteen_megabytes_pass_and_larger_ones_are_containerds_to_refuse() {
    let node = Node::start();
    let mut cri = Cri::proxied(&node).await;
    let large = |megabytes: usize| cri::VersionRequest {
        version: "1".repeat(megabytes << 20),
    };
    let version = cri.runtime.version(large(15)).await.expect("an answer");
    assert_eq!(version.into_inner().runtime_name, "containerd");
    let mut direct = Cri::direct(&node).await;
    let one = direct
        .runtime
        .version(large(17))
        .await
        .expect_err("too large");
    let other = cri.runtime.version(large(17)).await.expect_err("too large");
    assert_eq!(one.code(), Code::ResourceExhausted);
    assert_eq!((one.code(), one.message()), (other.code(), other.message()));

    let config = pod(&node, "large", None);
    let pod = cri.run_pod(&config).await;
    let id = cri
        .create(&pod, &script("a", "exec sleep 1000"), &config)
        .await;
    let id = id.expect("made");
    cri.start(&id).await.expect("started");
    let printed = cri
        .exec(
            &id,
            &["sh", "-c", "head -c 15728640 /dev/zero | tr '\\0' x"],
        )
        .await;
    assert_eq!(printed.len(), 15 << 20);
    cri.drain().await;
    node.assert_no_pod_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_and_a_cancellation_reach_containerd() {
    let node = Node::start();
    let mut cri = Cri::proxied(&node).await;
    let config = pod(&node, "waiting", None);
    let pod = cri.run_pod(&config).await;
    let id = cri
        .create(&pod, &script("a", "exec sleep 1000"), &config)
        .await;
    let id = id.expect("made");
    cri.start(&id).await.expect("started");
    let sleep = |seconds: &str| cri::ExecSyncRequest {
        container_id: id.clone(),
        // containerd forgets what is cancelled while it is being started.
        cmd: ["sh", "-c", &format!("sleep 1; exec sleep {seconds}")]
            .map(str::to_owned)
            .to_vec(),
        timeout: 0,
    };
    let sleeps = |seconds: &str| {
        process::all().into_iter().any(|pid| {
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            arguments == format!("sleep\0{seconds}\0").into_bytes()
        })
    };

    // By hand, for a client that knows of the deadline would keep it itself: here
    // containerd says when it is over.
    let unique = format!("{}", 500_000 + std::process::id());
    let mut ends = Vec::new();
    for socket in [node.containerd_socket(), node.cri_socket()] {
        let over = exec_with_deadline(&socket, sleep(&unique), "3S");
        let over = tokio::time::timeout(PATIENCE, over).await;
        ends.push(over.expect("containerd keeps the deadline"));
        eventually("what the deadline ended ends", || !sleeps(&unique));
    }
    // In containerd's words, with the id of what was executed.
    let words: Vec<_> = ends.iter().map(|(status, _)| status).collect();
    assert_eq!(words[0], words[1]);
    assert!(
        ends.iter()
            .all(|(_, message)| message.contains("deadline exceeded")),
        "{ends:?}"
    );

    let unique = format!("{}", 600_000 + std::process::id());
    let mut other = cri.clone();
    let request = sleep(&unique);
    let asking = tokio::spawn(async move { other.runtime.exec_sync(request).await });
    eventually("it sleeps", || sleeps(&unique));
    asking.abort();
    eventually("what was cancelled ends", || !sleeps(&unique));
    // Nobody else's calls suffered.
    assert_eq!(cri.exec(&id, &["echo", "there"]).await, "there\n");
    cri.drain().await;
    node.assert_no_pod_left();
}

/// Executes a command with nothing but HTTP/2: the call's status and its message.
async fn exec_with_deadline(
    socket: &Path,
    command: cri::ExecSyncRequest,
    deadline: &str,
) -> (String, String) {
    let socket = UnixStream::connect(socket).await.expect("a connection");
    let (client, connection) = h2::client::handshake(socket).await.expect("HTTP/2");
    tokio::spawn(connection);
    let request = http::Request::post("http://localhost/runtime.v1.RuntimeService/ExecSync")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", deadline)
        .body(())
        .expect("a request");
    let mut client = client.ready().await.expect("a stream");
    let (answer, mut body) = client.send_request(request, false).expect("sent");
    let message = command.encode_to_vec();
    let length = u32::try_from(message.len()).expect("a short one");
    let framed = [&[0], &length.to_be_bytes()[..], &message].concat();
    body.send_data(framed.into(), true).expect("sent");
    let (head, mut body) = answer.await.expect("an answer").into_parts();
    while let Some(data) = body.data().await {
        data.expect("data");
    }
    let trailers = body
        .trailers()
        .await
        .expect("an end")
        .unwrap_or(head.headers);
    let said = |name: &str| trailers[name].to_str().expect("a text").to_owned();
    (said("grpc-status"), said("grpc-message"))
}

/// `ctr` speaks containerd's own services, which stream in each direction and in both.
#[tokio::test(flavor = "multi_thread")]
async fn containerds_own_client_works_through_the_proxy() {
    let node = Node::start();
    let proxied = |arguments: &[&str]| node.ctr_at(&node.cri_socket(), arguments);
    let version = proxied(&["version"]);
    assert_eq!(version.text, node.ctr(&["version"]).text);
    // Both ways: what is written is acknowledged piece by piece.
    let archive = environment::image("lua");
    let archive = archive.to_str().expect("a path in UTF-8");
    let imported = proxied(&["images", "import", archive]);
    assert_eq!(imported.code, 0, "{imported:?}");
    // One way, tens of megabytes.
    let blobs = node
        .scratch()
        .join("data/io.containerd.content.v1.content/blobs/sha256");
    let largest = std::fs::read_dir(blobs).expect("content").flatten();
    let largest = largest.max_by_key(|blob| blob.metadata().expect("a size").len());
    let largest = largest
        .expect("one")
        .file_name()
        .into_string()
        .expect("a digest");
    let read = std::process::Command::new("sh")
        .arg("-c")
        .arg("ctr --address $0 --namespace k8s.io content get sha256:$1 | sha256sum")
        .arg(node.cri_socket())
        .arg(&largest)
        .output()
        .expect("a digest");
    let read = String::from_utf8_lossy(&read.stdout).into_owned();
    assert!(read.starts_with(&largest), "{read} {largest}");
}
