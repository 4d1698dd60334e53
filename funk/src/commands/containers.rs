//! Making, listing, restoring and removing containers.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use refunction_protocol::host::{self as api, ContainerState};
use serde_json::{Value, json};

use super::Show;
use crate::cli::{Create, Format};
use crate::client::Client;
use crate::display::{age, bytes, duration_ns, duration_us, table};
use crate::error::{Error, Exit};

/// Milliseconds since the Unix epoch.
pub(super) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}

fn state(container: &api::Container) -> &'static str {
    match container.state() {
        ContainerState::Unspecified => "unknown",
        ContainerState::Starting => "starting",
        ContainerState::Ready => "ready",
        ContainerState::Loaded => "loaded",
        ContainerState::Running => "running",
        ContainerState::Restoring => "restoring",
        ContainerState::Unreachable => "unreachable",
        ContainerState::Ended => "ended",
    }
}

fn document(container: &api::Container) -> Value {
    json!({
        "id": container.id,
        "image": container.image,
        "state": state(container),
        "runtime": container.runtime,
        "runtime_version": container.runtime_version,
        "snapshot_bytes": container.snapshot_bytes,
        "boot_us": container.boot_us,
        "create_us": container.create_us,
        "created_unix_ms": container.created_unix_ms,
        "memory_bytes": container.memory_bytes,
        "pids": container.pids,
        "function_loaded": container.function_loaded,
        "in_flight": container.in_flight,
        "pid": container.pid,
        "pod": Some(&container.pod).filter(|pod| !pod.is_empty()),
        "ended": Some(&container.ended).filter(|cause| !cause.is_empty()),
    })
}

pub(super) async fn create(show: Show, client: &mut Client, create: Create) -> Result<Exit, Error> {
    let container = client
        .create_container(api::CreateContainerRequest {
            image: create.image,
            name: create.name.unwrap_or_default(),
            memory_bytes: create.memory.map_or(0, |size| size.0),
            pids: create.pids.unwrap_or(0),
            env: create.env.into_iter().collect(),
        })
        .await?
        .into_inner();
    // The id alone, so that a script can take it as it is.
    show.result(
        || document(&container),
        |out| writeln!(out, "{}", container.id),
    )?;
    Ok(Exit::Ok)
}

pub(super) async fn list(show: Show, client: &mut Client) -> Result<Exit, Error> {
    let containers = client
        .list_containers(api::ListContainersRequest {})
        .await?
        .into_inner()
        .containers;
    let now = now_ms();
    show.result(
        || json!({"containers": containers.iter().map(document).collect::<Vec<_>>()}),
        |out| {
            let rows: Vec<_> = containers
                .iter()
                .map(|it| {
                    [
                        it.id.clone(),
                        it.image.clone(),
                        state(it).to_owned(),
                        format!("{} {}", it.runtime, it.runtime_version)
                            .trim()
                            .to_owned(),
                        bytes(it.memory_bytes),
                        age(it.created_unix_ms, now),
                        it.in_flight.to_string(),
                    ]
                })
                .collect();
            let headings = [
                "ID",
                "IMAGE",
                "STATE",
                "RUNTIME",
                "MEMORY",
                "AGE",
                "IN FLIGHT",
            ];
            table(out, headings, &rows)?;
            for ended in containers.iter().filter(|it| !it.ended.is_empty()) {
                writeln!(out, "{} ended: {}", ended.id, ended.ended)?;
            }
            Ok(())
        },
    )?;
    Ok(Exit::Ok)
}

pub(super) async fn restore(
    show: Show,
    client: &mut Client,
    container: String,
) -> Result<Exit, Error> {
    let restored = client
        .restore(api::RestoreRequest { container })
        .await?
        .into_inner();
    show.result(
        || {
            let phases: Vec<_> = restored
                .phases
                .iter()
                .map(|phase| json!({"name": phase.name, "ns": phase.ns}))
                .collect();
            let taints: Vec<_> = restored
                .taints
                .iter()
                .map(|taint| json!({"row": taint.row, "detail": taint.detail}))
                .collect();
            json!({
                "method": restored.method,
                "total_us": restored.total_us,
                "dirty_pages": restored.dirty_pages,
                "phases": phases,
                "taints": taints,
            })
        },
        |out| {
            writeln!(
                out,
                "{} in {}, {} dirty pages",
                restored.method,
                duration_us(restored.total_us),
                restored.dirty_pages
            )?;
            let width = restored
                .phases
                .iter()
                .map(|phase| phase.name.chars().count())
                .max()
                .unwrap_or(0);
            for phase in &restored.phases {
                writeln!(out, "  {:<width$}  {}", phase.name, duration_ns(phase.ns))?;
            }
            for taint in &restored.taints {
                writeln!(
                    out,
                    "  not rewound because of {}: {}",
                    taint.row, taint.detail
                )?;
            }
            Ok(())
        },
    )?;
    Ok(Exit::Ok)
}

pub(super) async fn status(
    show: Show,
    client: &mut Client,
    container: String,
) -> Result<Exit, Error> {
    let status = client
        .status(api::StatusRequest { container })
        .await?
        .into_inner();
    show.result(
        || {
            json!({
                "state": status.state,
                "runtime": status.runtime,
                "worker_pid": status.worker_pid,
                "requests": status.requests,
                "rewinds": status.rewinds,
                "reforks": status.reforks,
                "queued": status.queued,
            })
        },
        |out| {
            writeln!(out, "state     {}", status.state)?;
            writeln!(out, "runtime   {}", status.runtime)?;
            if let Some(pid) = status.worker_pid {
                writeln!(out, "worker    process {pid} in the container")?;
            }
            writeln!(out, "requests  {}", status.requests)?;
            writeln!(out, "rewinds   {}", status.rewinds)?;
            writeln!(out, "reforks   {}", status.reforks)?;
            writeln!(out, "queued    {}", status.queued)
        },
    )?;
    Ok(Exit::Ok)
}

/// Removes each, whatever becomes of the others.
pub(super) async fn remove(
    show: Show,
    client: &mut Client,
    mut ids: Vec<String>,
    all: bool,
) -> Result<Exit, Error> {
    if all {
        ids = client
            .list_containers(api::ListContainersRequest {})
            .await?
            .into_inner()
            .containers
            .into_iter()
            // Those of kubelet's pods are kubelet's to remove.
            .filter(|container| container.pod.is_empty())
            .map(|container| container.id)
            .collect();
    }
    let mut exit = Exit::Ok;
    let mut removed = Vec::new();
    let mut failed = Vec::new();
    for id in ids {
        let container = id.clone();
        let outcome = client
            .remove_container(api::RemoveContainerRequest { container })
            .await;
        match outcome {
            Ok(_) => removed.push(id),
            Err(status) => {
                let error = Error::from(status);
                if exit == Exit::Ok {
                    exit = error.exit();
                }
                // The document tells it too, and there is only to be one.
                error.report(Format::Text);
                failed.push(json!({"id": id, "message": error.to_string()}));
            }
        }
    }
    show.result(
        || json!({"removed": removed, "failed": failed}),
        |out| removed.iter().try_for_each(|id| writeln!(out, "{id}")),
    )?;
    Ok(exit)
}
