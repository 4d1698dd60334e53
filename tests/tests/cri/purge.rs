//! On a node whose containerd is not refunction's: what refunction made goes, and what is
//! others' stays.

use nix::sys::signal::Signal;
use refunction_tests::cri::Node;
use refunction_tests::environment;
use serde_json::json;

use crate::client::{Cri, function, pod};

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_takes_what_is_refunctions_and_leaves_what_is_not() {
    let mut node = Node::start();
    let mut cri = Cri::proxied(&node).await;
    let config = pod(&node, "lasting", Some("true"));
    let sandbox = cri.run_pod(&config).await;
    let running = cri.create(&sandbox, &function("running"), &config).await;
    let running = running.expect("made");
    cri.start(&running).await.expect("started");
    let archive = environment::image("python");
    let archive = archive.to_str().expect("UTF-8");
    node.funk(&["image", "import", archive], "").ok();
    let create = ["create", "--image", "refunction/python", "--name"];
    node.funk(&[&create[..], &["ours"]].concat(), "").ok();
    // Somebody else's, in the very same namespace.
    let others = ["run", "--detach", "--null-io"];
    let image = "docker.io/refunction/python:latest";
    let theirs = [&others[..], &[image, "theirs", "sleep", "1000"]].concat();
    let answer = node.ctr_of_ours(&theirs);
    assert_eq!(answer.code, 0, "{answer:?}");
    node.end_refunctiond(Signal::SIGKILL);

    let purged = node.purge(&[]);
    assert_eq!(purged.code, 0, "{purged:?}");
    for words in [
        "removed the container ours",
        "left 1 containers of pods",
        "where others have something",
    ] {
        assert!(
            purged.text.contains(words),
            "{words:?} is not in {purged:?}"
        );
    }
    assert_eq!(node.places(), [""; 0].map(std::path::PathBuf::from));
    let listed = node.ctr_of_ours(&["tasks", "ls"]).text;
    assert!(
        listed.contains("theirs") && listed.contains("RUNNING"),
        "{listed}"
    );
    assert!(!listed.contains("ours"), "{listed}");
    // The pod is as any other.
    let mut direct = Cri::direct(&node).await;
    assert_eq!(direct.exec(&running, &["echo", "here"]).await, "here\n");
    direct.drain().await;
    // When theirs is gone, so is the rest.
    node.ctr_of_ours(&["tasks", "kill", "--signal", "SIGKILL", "theirs"]);
    refunction_tests::eventually("theirs ends", || {
        node.ctr_of_ours(&["tasks", "rm", "theirs"]).code == 0
    });
    assert_eq!(node.ctr_of_ours(&["containers", "rm", "theirs"]).code, 0);
    let again = node.purge(&[]);
    assert_eq!(again.code, 0, "{again:?}");
    let namespaces = node.ctr(&["namespaces", "ls", "--quiet"]).text;
    assert_eq!(json!(namespaces.trim()), json!("k8s.io"));

    // Without its containerd nobody knows what there is, and the purge says so.
    node.start_refunctiond();
    node.end_refunctiond(Signal::SIGTERM);
    node.end_containerd(Signal::SIGTERM);
    node.purge(&[])
        .fails(1, &["containerd does not answer", "are left"]);
    node.start_containerd();
    let last = node.purge(&[]);
    assert_eq!(last.code, 0, "{last:?}");
    assert_eq!(node.places(), [""; 0].map(std::path::PathBuf::from));
}
