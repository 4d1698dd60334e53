//! Annotated pods become function containers, and no others are touched.

use k8s_cri::v1 as cri;
use refunction_tests::cri::Node;
use serde_json::{Value, json};
use tonic::Code;

use crate::client::{Cri, function, pod, script};

const COUNT: &str = "
import os
calls = []
secret = os.path.exists('/tmp/left')
def main(args):
    calls.append(args)
    open('/tmp/left', 'w').write('mine')
    print('called', args)
    return {'calls': len(calls), 'left': secret}
";

/// Runs one tenant's function, and puts the container back.
fn serve_a_tenant(node: &Node, id: &str) {
    let loaded = node.funk(&["function", "-c", id, "-f", "-"], COUNT).ok();
    assert_eq!(loaded["loaded"], true, "{loaded}");
    for calls in 1..=2 {
        let answer = node
            .funk(&["request", "-c", id, "-r", "-"], "{\"a\": 1}")
            .ok();
        // No module state and no file of the tenant before.
        assert_eq!(answer["value"], json!({"calls": calls, "left": false}));
    }
    let restored = node.funk(&["restore", "-c", id], "").ok();
    assert_eq!(restored["method"], "rewind", "{restored}");
}

fn listed(node: &Node) -> Vec<Value> {
    let listed = node.funk(&["list"], "").ok();
    listed["containers"].as_array().expect("a list").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_annotated_pod_serves_tenants_in_turn_and_goes_with_its_pod() {
    let node = Node::start();
    let mut cri = Cri::proxied(&node).await;
    let config = pod(&node, "web", Some("true"));
    let sandbox = cri.run_pod(&config).await;
    let mut wanted = function("python");
    let resources = cri::LinuxContainerResources {
        memory_limit_in_bytes: 256 << 20,
        ..cri::LinuxContainerResources::default()
    };
    wanted.linux.as_mut().expect("one").resources = Some(resources);
    let id = cri.create(&sandbox, &wanted, &config).await.expect("made");
    assert_eq!(listed(&node), [] as [Value; 0], "it was not started");
    cri.start(&id).await.expect("started");

    // Ready when kubelet is told that it was started.
    let all = listed(&node);
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0]["id"], id.as_str());
    assert_eq!(all[0]["state"], "ready", "{all:?}");
    assert_eq!(all[0]["pod"], "default/web/python");
    assert_eq!(all[0]["image"], wanted.image.as_ref().expect("one").image);
    assert_eq!(all[0]["memory_bytes"], 256 << 20);
    assert_ne!(all[0]["pid"], 0);
    serve_a_tenant(&node, &id);
    // As `crictl ps` shows it.
    serve_a_tenant(&node, &id[..13]);
    let logs = node.funk(&["logs", "-c", &id], "").text;
    assert!(logs.contains("called"), "{logs}");

    // It is kubelet's to remove.
    let refused = node.funk(&["rm", &id[..13]], "");
    assert_ne!(refused.code, 0);
    assert!(refused.errors.contains("default/web/python"), "{refused:?}");
    node.funk(&["rm", "--all"], "").ok();
    assert_eq!(listed(&node).len(), 1);

    let stop = cri::StopContainerRequest {
        container_id: id.clone(),
        timeout: 5,
    };
    cri.runtime.stop_container(stop).await.expect("stopped");
    assert_eq!(listed(&node), [] as [Value; 0]);
    cri.drain().await;
    node.assert_no_pod_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_removed_at_once_takes_its_containers_along() {
    let node = Node::start();
    let mut cri = Cri::proxied(&node).await;
    let config = pod(&node, "brief", Some("one, two"));
    let sandbox = cri.run_pod(&config).await;
    for name in ["one", "two", "three"] {
        let id = cri.create(&sandbox, &function(name), &config).await;
        cri.start(&id.expect("made")).await.expect("started");
    }
    let mut names: Vec<_> = listed(&node).iter().map(|it| it["pod"].clone()).collect();
    names.sort_by_key(ToString::to_string);
    assert_eq!(names, ["default/brief/one", "default/brief/two"]);
    assert_eq!(node.shared().len(), 2);
    cri.remove_pod(&sandbox).await;
    assert_eq!(listed(&node), [] as [Value; 0]);
    node.assert_no_pod_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_pod_is_what_it_is_without_the_proxy() {
    let node = Node::start();
    let mut specs = Vec::new();
    for mut cri in [Cri::direct(&node).await, Cri::proxied(&node).await] {
        let config = pod(&node, "plain", Some("another"));
        let sandbox = cri.run_pod(&config).await;
        let id = cri
            .create(&sandbox, &script("plain", "exec sleep 1000"), &config)
            .await;
        let id = id.expect("made");
        cri.start(&id).await.expect("started");
        let info = node.ctr(&["containers", "info", &id]).ok();
        let env = cri.exec(&id, &["env"]).await;
        assert!(!env.contains("REFUNCTION_CONTROL"), "{env}");
        // What names this pod and not another.
        let pid = node.ctr(&["tasks", "ls"]).text;
        let pause = pid
            .lines()
            .find(|line| line.starts_with(&sandbox))
            .and_then(|line| line.split_whitespace().nth(1))
            .expect("the sandbox runs")
            .to_owned();
        let spec = info["Spec"]
            .to_string()
            .replace(&sandbox, "POD")
            .replace(&id, "CONTAINER")
            .replace(&format!("/proc/{pause}/"), "/proc/PAUSE/");
        specs.push((spec, info["Labels"].clone()));
        cri.drain().await;
    }
    assert_eq!(specs[0], specs[1]);
    assert_eq!(listed(&node), [] as [Value; 0]);
    node.assert_no_pod_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_pod_wants_for_itself_is_kept_or_refused() {
    let node = Node::start();
    let mut cri = Cri::proxied(&node).await;
    let config = pod(&node, "own", Some("true"));
    let sandbox = cri.run_pod(&config).await;
    let mut taken = function("taken");
    taken.mounts.push(cri::Mount {
        container_path: "/run/refunction/".into(),
        host_path: "/tmp".into(),
        ..cri::Mount::default()
    });
    let refused = cri.create(&sandbox, &taken, &config).await;
    let refused = refused.expect_err("its place is taken");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("/run/refunction"), "{refused:?}");
    // containerd's own refusal leaves nothing behind either.
    let mut unknown = function("unknown");
    unknown.image.as_mut().expect("one").image = "docker.io/none/such:1".into();
    cri.create(&sandbox, &unknown, &config)
        .await
        .expect_err("no such image");
    assert_eq!(node.shared(), [] as [std::path::PathBuf; 0]);

    let mut wanted = function("wanted");
    for (key, value) in [("REFUNCTION_CONTROL", "/elsewhere"), ("MINE", "kept")] {
        wanted.envs.push(cri::KeyValue {
            key: key.into(),
            value: value.into(),
        });
    }
    wanted.mounts.push(cri::Mount {
        container_path: "/mine".into(),
        host_path: node.scratch().display().to_string(),
        readonly: true,
        ..cri::Mount::default()
    });
    let id = cri.create(&sandbox, &wanted, &config).await.expect("made");
    cri.start(&id).await.expect("started");
    let env = cri.exec(&id, &["env"]).await;
    assert!(env.contains("MINE=kept\n"), "{env}");
    assert!(
        env.contains("REFUNCTION_CONTROL=/run/refunction/control.sock\n"),
        "{env}"
    );
    cri.exec(&id, &["test", "-f", "/mine/containerd.toml"])
        .await;
    serve_a_tenant(&node, &id);
    cri.drain().await;
    node.assert_no_pod_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_dies_before_it_is_ready_says_why() {
    let node = Node::start();
    let mut cri = Cri::proxied(&node).await;
    let config = pod(&node, "dying", Some("true"));
    let sandbox = cri.run_pod(&config).await;
    let dying = script("dying", "sleep 0.5; exit 7");
    let id = cri.create(&sandbox, &dying, &config).await.expect("made");
    let begun = std::time::Instant::now();
    cri.start(&id).await.expect("containerd started it");
    assert!(
        begun.elapsed() < std::time::Duration::from_secs(20),
        "it waits no longer"
    );
    let all = listed(&node);
    assert_eq!(all[0]["state"], "ended", "{all:?}");
    let ended = all[0]["ended"].as_str().expect("a cause");
    assert!(ended.contains("code 7"), "{ended}");
    cri.drain().await;
    assert_eq!(listed(&node), [] as [Value; 0]);
    node.assert_no_pod_left();
}
