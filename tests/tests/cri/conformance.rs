//! One list of calls, made to containerd and through the proxy: the answers are equal.

use k8s_cri::v1 as cri;
use refunction_tests::cri::{Node, PYTHON, stream, stream_telling};
use tonic::{Response, Status};

use crate::client::{Cri, pod, script};

/// What was asked, and what came of it.
type Transcript = Vec<(&'static str, String)>;

/// What an answer says, or a refusal in all its parts.
fn told<T>(answer: Result<Response<T>, Status>, tell: impl FnOnce(T) -> String) -> String {
    match answer {
        Ok(answer) => {
            let content_type = answer.metadata().get("content-type").cloned();
            format!("{} ({content_type:?})", tell(answer.into_inner()))
        }
        Err(status) => format!(
            "{:?} {:?} {:?} {:?}",
            status.code(),
            status.message(),
            status.details(),
            status.metadata().clone().into_headers().get("content-type")
        ),
    }
}

async fn transcript(node: &Node, mut cri: Cri) -> Transcript {
    let mut seen = Transcript::new();
    let runtime = &mut cri.runtime;
    let version = runtime.version(cri::VersionRequest::default()).await;
    seen.push(("version", told(version, |it| format!("{it:?}"))));
    let status = runtime.status(cri::StatusRequest { verbose: false }).await;
    seen.push(("status", told(status, |it| format!("{:?}", it.status))));
    let image = cri::ImageStatusRequest {
        image: Some(cri::ImageSpec {
            image: PYTHON.into(),
            ..cri::ImageSpec::default()
        }),
        verbose: false,
    };
    let image = cri.images.image_status(image).await;
    seen.push(("image", told(image, |it| format!("{:?}", it.image))));
    // In 1.6 there is none; what there is not is refused in the same words.
    let runtime = &mut cri.runtime;
    let config = runtime.runtime_config(cri::RuntimeConfigRequest {}).await;
    seen.push(("runtime config", told(config, |it| format!("{it:?}"))));

    let pod = pod(node, "same", None);
    let request = cri::RunPodSandboxRequest {
        config: Some(pod.clone()),
        runtime_handler: "none-such".into(),
    };
    let refused = runtime.run_pod_sandbox(request).await;
    seen.push(("no such handler", told(refused, |it| format!("{it:?}"))));
    let sandbox = cri.run_pod(&pod).await;
    let request = cri::PodSandboxStatusRequest {
        pod_sandbox_id: sandbox.clone(),
        verbose: false,
    };
    let status = cri.runtime.pod_sandbox_status(request).await;
    seen.push((
        "pod",
        told(status, |it| {
            let it = it.status.expect("a status");
            format!("{:?} {:?} {:?}", it.metadata, it.state, it.annotations)
        }),
    ));

    let missing = cri::ContainerStatusRequest {
        container_id: "none-such".into(),
        verbose: false,
    };
    let missing = cri.runtime.container_status(missing).await;
    seen.push(("no container", told(missing, |it| format!("{it:?}"))));
    let refused = cri.start("none-such").await;
    seen.push(("start nothing", format!("{refused:?}")));
    let mut unknown = script("unknown", "true");
    unknown.image.as_mut().expect("one").image = "docker.io/none/such:1".into();
    let refused = cri.create(&sandbox, &unknown, &pod).await;
    seen.push(("no such image", format!("{refused:?}")));

    let speaker = script("speaker", "echo one; echo two >&2; exec sleep 1000");
    let id = cri.create(&sandbox, &speaker, &pod).await.expect("made");
    cri.start(&id).await.expect("started");
    let again = cri.start(&id).await;
    seen.push(("start twice", format!("{again:?}")));
    let request = cri::ContainerStatusRequest {
        container_id: id.clone(),
        verbose: false,
    };
    let status = cri.runtime.container_status(request).await;
    seen.push((
        "container",
        told(status, |it| {
            let it = it.status.expect("a status");
            format!(
                "{:?} {:?} {:?} {:?}",
                it.metadata, it.state, it.image, it.mounts
            )
        }),
    ));
    seen.push((
        "exec",
        cri.exec(&id, &["sh", "-c", "echo $((6 * 7))"]).await,
    ));
    let slow = cri::ExecSyncRequest {
        container_id: id.clone(),
        cmd: vec!["sleep".into(), "20".into()],
        timeout: 1,
    };
    let slow = cri.runtime.exec_sync(slow).await;
    seen.push(("exec too long", told(slow, |it| format!("{it:?}"))));
    let failed = cri::ExecSyncRequest {
        container_id: id.clone(),
        cmd: ["sh", "-c", "echo no >&2; exit 3"]
            .map(str::to_owned)
            .to_vec(),
        timeout: 20,
    };
    let failed = cri.runtime.exec_sync(failed).await;
    seen.push(("exec fails", told(failed, |it| format!("{it:?}"))));

    let exec = cri::ExecRequest {
        container_id: id.clone(),
        cmd: ["echo", "streamed"].map(str::to_owned).to_vec(),
        stdout: true,
        ..cri::ExecRequest::default()
    };
    let url = cri
        .runtime
        .exec(exec)
        .await
        .expect("a URL")
        .into_inner()
        .url;
    seen.push(("exec at its URL", streamed(url).await));
    let pinger = script("pinger", "while sleep 0.1; do echo ping; done");
    let pinging = cri.create(&sandbox, &pinger, &pod).await.expect("made");
    cri.start(&pinging).await.expect("started");
    let attach = cri::AttachRequest {
        container_id: pinging.clone(),
        stdout: true,
        ..cri::AttachRequest::default()
    };
    let url = cri
        .runtime
        .attach(attach)
        .await
        .expect("a URL")
        .into_inner()
        .url;
    // It ends with the container.
    let (heard, ping) = tokio::sync::oneshot::channel();
    let mut heard = Some(heard);
    let attached = tokio::task::spawn_blocking(move || {
        stream_telling(&url, |output| {
            if output.contains("ping\n")
                && let Some(heard) = heard.take()
            {
                let _ = heard.send(());
            }
        })
    });
    let forward = cri::PortForwardRequest {
        pod_sandbox_id: sandbox.clone(),
        port: vec![80],
    };
    let forward = cri.runtime.port_forward(forward).await;
    seen.push((
        "port forward",
        told(forward, |it| it.url.contains("/portforward/").to_string()),
    ));
    let log = cri::ReopenContainerLogRequest {
        container_id: id.clone(),
    };
    let log = cri.runtime.reopen_container_log(log).await;
    seen.push(("reopen log", told(log, |it| format!("{it:?}"))));
    let log = std::fs::read_to_string(node.scratch().join("logs/same/speaker.log"));
    let mut lines: Vec<String> = log
        .expect("a log")
        .lines()
        .map(|line| line.split_once(' ').expect("a time").1.to_owned())
        .collect();
    lines.sort();
    seen.push(("log", format!("{lines:?}")));
    let stats = cri::ContainerStatsRequest {
        container_id: id.clone(),
    };
    let stats = cri.runtime.container_stats(stats).await;
    seen.push((
        "stats",
        told(stats, |it| {
            let it = it.stats.expect("some");
            format!("{:?}", it.memory.is_some() && it.cpu.is_some())
        }),
    ));
    let listed = cri::ListContainersRequest::default();
    let listed = cri.runtime.list_containers(listed).await;
    seen.push((
        "list",
        told(listed, |it| {
            let mut names: Vec<_> = it.containers.into_iter().map(|it| it.metadata).collect();
            names.sort_by_key(|it| it.as_ref().map(|it| it.name.clone()));
            format!("{names:?}")
        }),
    ));
    let events = cri
        .runtime
        .get_container_events(cri::GetEventsRequest {})
        .await;
    seen.push(("events", told(events, |_| "a stream".into())));

    // Ended without, it is seen below.
    let _ = ping.await;
    for container in [&id, &pinging] {
        let stop = cri::StopContainerRequest {
            container_id: container.clone(),
            timeout: 0,
        };
        let stopped = cri.runtime.stop_container(stop).await;
        seen.push(("stop", told(stopped, |it| format!("{it:?}"))));
        for attempt in ["remove", "remove again"] {
            let remove = cri::RemoveContainerRequest {
                container_id: container.clone(),
            };
            let removed = cri.runtime.remove_container(remove).await;
            seen.push((attempt, told(removed, |it| format!("{it:?}"))));
        }
    }
    let attached = attached.await.expect("it was attached to");
    seen.push(("attach", attached.contains("ping\n").to_string()));
    cri.remove_pod(&sandbox).await;
    for (_, answer) in &mut seen {
        for (id, name) in [(&sandbox, "POD"), (&id, "SPEAKER"), (&pinging, "PINGER")] {
            *answer = answer.replace(&**id, name);
        }
    }
    seen
}

async fn streamed(url: String) -> String {
    tokio::task::spawn_blocking(move || stream(&url))
        .await
        .expect("a stream")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_has_the_same_answer_with_and_without_the_proxy() {
    let node = Node::start();
    let direct = transcript(&node, Cri::direct(&node).await).await;
    std::fs::remove_dir_all(node.scratch().join("logs")).expect("the first one's logs");
    let proxied = transcript(&node, Cri::proxied(&node).await).await;
    let said = |name: &str| {
        &direct
            .iter()
            .find(|it| it.0 == name)
            .expect("it was asked")
            .1
    };
    assert!(said("exec").contains("42"), "{direct:#?}");
    assert!(said("exec at its URL").contains("streamed"), "{direct:#?}");
    assert_eq!(said("attach"), "true");
    assert!(said("log").contains("stderr F two"), "{direct:#?}");
    assert!(said("no container").contains("NotFound"), "{direct:#?}");
    for (one, other) in direct.iter().zip(&proxied) {
        assert_eq!(one, other);
    }
    assert_eq!(direct.len(), proxied.len());
    node.assert_no_pod_left();
}
