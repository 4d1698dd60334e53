//! Either daemon dies: what kubelet made goes on, and is known again.

use std::fs;
use std::time::{Duration, Instant};

use k8s_cri::v1 as cri;
use nix::sys::signal::Signal;
use refunction_tests::cri::Node;
use refunction_tests::{PATIENCE, eventually};
use serde_json::{Value, json};
use tonic::Code;

use crate::client::{Cri, function, pod};

const ECHO: &str = "def main(args): return args";

fn use_it(node: &Node, id: &str) {
    let loaded = node.funk(&["function", "-c", id, "-f", "-"], ECHO).ok();
    assert_eq!(loaded["loaded"], true, "{loaded}");
    let answer = node.funk(&["request", "-c", id, "-r", "-"], "[1, 2]").ok();
    assert_eq!(answer["value"], json!([1, 2]));
    let restored = node.funk(&["restore", "-c", id], "").ok();
    assert_eq!(restored["method"], "rewind", "{restored}");
}

fn state_of(node: &Node, id: &str) -> Value {
    let listed = node.funk(&["list"], "").ok();
    let all = listed["containers"].as_array().expect("a list");
    let found = all.iter().find(|it| it["id"] == id);
    found.map_or(Value::Null, |it| it["state"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn refunctiond_dies_and_knows_kubelets_containers_again() {
    let mut node = Node::start();
    let mut cri = Cri::proxied(&node).await;
    let config = pod(&node, "lasting", Some("true"));
    let sandbox = cri.run_pod(&config).await;
    let running = cri.create(&sandbox, &function("running"), &config).await;
    let running = running.expect("made");
    cri.start(&running).await.expect("started");
    let made = cri.create(&sandbox, &function("made"), &config).await;
    let made = made.expect("made");
    use_it(&node, &running);
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        node.end_refunctiond(signal);
        // Of a creation that was cut off.
        let stale = node.shared()[0].with_file_name("stale");
        fs::create_dir_all(stale.join("control")).expect("a directory");
        node.start_refunctiond();
        assert!(!stale.exists(), "{}", stale.display());
        eventually("it is connected again", || {
            state_of(&node, &running) == "ready"
        });
        use_it(&node, &running);
        assert_eq!(state_of(&node, &made), Value::Null);
    }
    // Made before, and started now.
    let mut cri = Cri::proxied(&node).await;
    cri.start(&made).await.expect("started");
    assert_eq!(state_of(&node, &made), "ready");
    use_it(&node, &made);

    // What goes while nobody looks is gone afterwards.
    node.end_refunctiond(Signal::SIGKILL);
    Cri::direct(&node).await.remove_pod(&sandbox).await;
    node.start_refunctiond();
    assert_eq!(node.funk(&["list"], "").ok()["containers"], json!([]));
    assert_eq!(node.shared(), [] as [std::path::PathBuf; 0]);
    node.assert_no_pod_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn containerd_goes_and_calls_say_so_until_it_is_back() {
    let mut node = Node::start();
    let mut cri = Cri::proxied(&node).await;
    let config = pod(&node, "going", Some("true"));
    let sandbox = cri.run_pod(&config).await;
    let id = cri.create(&sandbox, &function("python"), &config).await;
    let id = id.expect("made");
    cri.start(&id).await.expect("started");
    // One call is under way.
    let mut other = cri.clone();
    let waiting = cri::ExecSyncRequest {
        container_id: id.clone(),
        cmd: vec!["sleep".into(), "1000".into()],
        timeout: 0,
    };
    let waiting = tokio::spawn(async move { other.runtime.exec_sync(waiting).await });
    eventually("the call is under way", || {
        node.ctr(&["tasks", "ps", &id]).text.lines().count() > 3
    });
    node.end_containerd(Signal::SIGKILL);
    let cut = waiting.await.expect("it ends").expect_err("it was cut off");
    assert_eq!(cut.code(), Code::Unavailable, "{cut:?}");
    for _ in 0..3 {
        let refused = cri.runtime.version(cri::VersionRequest::default()).await;
        let refused = refused.expect_err("containerd is not there");
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
        assert!(refused.message().contains("containerd"), "{refused:?}");
    }
    // Function containers need no containerd.
    use_it(&node, &id);
    node.start_containerd();
    // Over the connection that the client had all the time.
    let deadline = Instant::now() + PATIENCE;
    let version = loop {
        let version = cri.runtime.version(cri::VersionRequest::default()).await;
        match version {
            // containerd answers before its own part for kubelet does.
            Err(status) if status.message().contains("not initialized yet") => {
                assert!(Instant::now() < deadline, "{status:?}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            other => break other.expect("it is back").into_inner(),
        }
    };
    assert_eq!(version.runtime_name, "containerd");
    use_it(&node, &id);
    let log = fs::read_to_string(node.scratch().join("refunctiond.log")).expect("a log");
    assert!(!log.contains("panicked"), "{log}");
    // News arrive again: a death is noticed.
    eventually("containerd's news are read again", || {
        log_of(&node).matches("stream of task events").count() > 0
    });
    cri.remove_pod(&sandbox).await;
    assert_eq!(state_of(&node, &id), Value::Null);
    node.assert_no_pod_left();
}

fn log_of(node: &Node) -> String {
    fs::read_to_string(node.scratch().join("refunctiond.log")).expect("a log")
}
