//! kubelet itself, without an API server: it runs the pods that it finds in a directory.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;
use refunction_tests::cri::{Node, PYTHON};
use refunction_tests::{environment, eventually};
use serde_json::{Value, json};

use crate::client::Cri;

/// kubelet's binary. No package of Debian's has one, so it is asked for by name.
const KUBELET: &str = "REFUNCTION_KUBELET";

/// A running kubelet; dropping it kills it, and its pods go on.
struct Kubelet {
    process: Child,
    manifests: PathBuf,
}

impl Kubelet {
    fn start(node: &Node, port: u16) -> Self {
        let root = node.scratch().join("kubelet");
        let manifests = root.join("manifests");
        fs::create_dir_all(&manifests).expect("a directory");
        let configuration = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "staticPodPath": manifests,
            "containerRuntimeEndpoint": format!("unix://{}", node.cri_socket().display()),
            "podLogsDir": root.join("logs"),
            "address": "127.0.0.1",
            "port": port,
            "healthzPort": 0,
            "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
            "authorization": {"mode": "AlwaysAllow"},
            "fileCheckFrequency": "1s",
            "syncFrequency": "1s",
            "resolvConf": "",
            // What belongs to the host is left alone: groups, tables, images, disks.
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": false,
            "enforceNodeAllocatable": [],
            "failSwapOn": false,
            "failCgroupV1": false,
            "makeIPTablesUtilChains": false,
            "oomScoreAdj": 0,
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {
                "memory.available": "1Mi", "nodefs.available": "0%", "imagefs.available": "0%",
            },
        });
        let file = root.join("kubelet.json");
        fs::write(&file, configuration.to_string()).expect("its configuration");
        let log = File::create(node.scratch().join("kubelet.log")).expect("a log");
        let process = Command::new(environment::file(KUBELET))
            .arg("--config")
            .arg(&file)
            .arg("--root-dir")
            .arg(&root)
            .arg("--cert-dir")
            .arg(root.join("pki"))
            .args(["--hostname-override", "node"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("kubelet can be run");
        Self { process, manifests }
    }

    fn add(&self, name: &str, annotations: &Value, command: &[&str]) {
        let mut container = json!({
            "name": "python",
            "image": PYTHON,
            "imagePullPolicy": "Never",
            "resources": {"limits": {"memory": "256Mi"}},
            "securityContext": {"readOnlyRootFilesystem": true},
            "volumeMounts": [
                {"name": "tmp", "mountPath": "/tmp"},
                {"name": "var-tmp", "mountPath": "/var/tmp"},
            ],
        });
        if !command.is_empty() {
            container["command"] = json!(command);
        }
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "annotations": annotations},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [container],
                "volumes": [
                    {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
                    {"name": "var-tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
                ],
            },
        });
        // Whole at once: kubelet reads whatever it finds.
        let whole = self.manifests.with_file_name("next.json");
        fs::write(&whole, pod.to_string()).expect("a manifest");
        fs::rename(&whole, self.manifests.join(format!("{name}.json"))).expect("in its place");
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.manifests.join(format!("{name}.json"))).expect("it was added");
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // It mounts its directory over itself, to share what it mounts in it.
        let root = self.manifests.parent().expect("its own directory");
        let _ = umount2(root, MntFlags::MNT_DETACH);
    }
}

fn listed(node: &Node) -> Vec<Value> {
    let listed = node.funk(&["list"], "").ok();
    listed["containers"].as_array().expect("a list").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_runs_an_annotated_and_a_plain_pod() {
    if std::env::var_os(KUBELET).is_none() {
        eprintln!("==> SKIPPED: {KUBELET} names no kubelet");
        return;
    }
    let mut node = Node::start();
    let mut cri = Cri::proxied(&node).await;
    let kubelet = Kubelet::start(
        &node,
        21_000 + u16::try_from(std::process::id() % 9_000).expect("few"),
    );
    kubelet.add("annotated", &json!({"refunction": "true"}), &[]);
    let sleep = ["/bin/sh", "-c", "echo plain; exec sleep 1000"];
    kubelet.add("plain", &json!({}), &sleep);
    eventually("kubelet starts the annotated pod", || {
        listed(&node).iter().any(|it| it["state"] == "ready")
    });
    let all = listed(&node);
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0]["pod"], "default/annotated-node/python");
    assert_eq!(all[0]["memory_bytes"], 256 << 20);
    let id = all[0]["id"].as_str().expect("an id").to_owned();
    for tenant in 0..2 {
        // Nothing that the tenant before wrote is there.
        let source = format!(
            "def main(args):\n open('/tmp/mine', 'x').write('{tenant}')\n return [args, {tenant}]"
        );
        node.funk(&["function", "-c", &id, "-f", "-"], &source).ok();
        let answer = node.funk(&["request", "-c", &id, "-r", "-"], "7").ok();
        assert_eq!(answer["value"], json!([7, tenant]));
        let restored = node.funk(&["restore", "-c", &id], "").ok();
        assert_eq!(restored["method"], "rewind", "{restored}");
    }
    // kubelet does without it for a while, and starts nothing anew because of that.
    node.end_refunctiond(Signal::SIGKILL);
    node.start_refunctiond();
    eventually("it is known again", || {
        listed(&node)
            .iter()
            .any(|it| it["id"] == id.as_str() && it["state"] == "ready")
    });
    let all = k8s_cri::v1::ListContainersRequest::default();
    let all = Cri::proxied(&node).await.runtime.list_containers(all).await;
    assert_eq!(all.expect("a list").into_inner().containers.len(), 2);

    kubelet.remove("annotated");
    eventually("the pod goes", || listed(&node).is_empty());
    kubelet.remove("plain");
    eventually("both pods' containers end", || {
        node.ctr(&["tasks", "ls", "--quiet"]).text.trim().is_empty()
    });
    let volumes = node.scratch().join("kubelet/pods").display().to_string();
    eventually("kubelet takes the pods' volumes away", || {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("the mounts");
        !mounts.contains(&volumes)
    });
    drop(kubelet);
    cri.drain().await;
    node.assert_no_pod_left();
}
