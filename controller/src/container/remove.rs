//! Taking a container apart. Each step takes "it is not there" for done, so that
//! the same steps undo half a creation and finish an interrupted removal.

use std::io;
use std::time::Duration;

use tokio::time::timeout;
use tonic::Code;

use super::{Container, Pod, label};
use crate::containerd::api::containerd::services::containers::v1::DeleteContainerRequest;
use crate::containerd::api::containerd::services::snapshots::v1::{
    ListSnapshotsRequest, RemoveSnapshotRequest,
};
use crate::containerd::api::containerd::services::tasks::v1::{
    DeleteTaskRequest, KillRequest, WaitRequest,
};
use crate::containerd::client::{Containerd, Doing, quoted, unless};
use crate::containerd::{ContainerdError, SNAPSHOTTER};
use crate::network::NetworkError;
use crate::registry::Registry;

const SIGKILL: u32 = 9;

/// How long a killed container may take to be gone: the kernel frees its memory
/// first, and a process in an uninterruptible wait holds that up.
const DEATH: Duration = Duration::from_secs(30);

/// The parts of a container, in the order of their making.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Directory,
    Snapshot,
    Record,
    Network,
    Task,
}

/// All of them. The network is undone when nothing runs in it any more.
pub(crate) const ALL: [Part; 5] = [
    Part::Directory,
    Part::Snapshot,
    Part::Record,
    Part::Network,
    Part::Task,
];

/// Why something is left.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// containerd refused.
    #[error(transparent)]
    Containerd(#[from] ContainerdError),
    /// Killed, and still there.
    #[error("the container was killed and is not gone after {} s; a process in it waits for the kernel", DEATH.as_secs())]
    WillNotDie,
    /// It is still attached to its network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// It is not ours to remove.
    #[error("the container belongs to kubelet's pod {0}: delete the pod, and kubelet removes it")]
    Kubelets(Pod),
    /// Its directory cannot be removed.
    #[error("removing the container's directory: {0}")]
    Directory(#[from] io::Error),
}

/// Removes these parts, last made first. Goes on after a failure and returns the
/// first: less is left that way.
pub(crate) async fn parts(
    registry: &Registry,
    container: &Container,
    parts: &[Part],
) -> Result<(), RemoveError> {
    let mut first = Ok(());
    for part in parts.iter().rev() {
        let removed = remove_part(registry, container, *part).await;
        if first.is_ok() {
            first = removed;
        }
    }
    first
}

async fn remove_part(
    registry: &Registry,
    container: &Container,
    part: Part,
) -> Result<(), RemoveError> {
    let containerd = registry.containerd();
    let id = &container.id;
    match part {
        Part::Task => {
            task(containerd, id).await?;
            registry.cgroups().remove(&container.cgroup);
        }
        Part::Network => registry.network().detach(container.unique()).await?,
        Part::Record => {
            let deleted = containerd
                .containers()
                .delete(DeleteContainerRequest { id: id.clone() })
                .await
                .doing(|| format!("deleting the record of {id}"));
            unless(Code::NotFound, deleted)?;
        }
        Part::Snapshot => snapshot(containerd, id).await?,
        Part::Directory => match std::fs::remove_dir_all(container.directory()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        },
    }
    Ok(())
}

/// Removes a root filesystem.
pub(crate) async fn snapshot(containerd: &Containerd, id: &str) -> Result<(), ContainerdError> {
    let removed = containerd
        .snapshots()
        .remove(RemoveSnapshotRequest {
            snapshotter: SNAPSHOTTER.into(),
            key: id.to_owned(),
        })
        .await
        .doing(|| format!("removing the root filesystem of {id}"));
    unless(Code::NotFound, removed)
}

/// The root filesystems that were made for containers, also those without a record: the
/// daemon was killed between the two.
pub(crate) async fn snapshots(containerd: &Containerd) -> Result<Vec<String>, ContainerdError> {
    snapshots_with(containerd, label::MANAGED, "1").await
}

/// Those whose label says so.
pub(crate) async fn snapshots_with(
    containerd: &Containerd,
    label: &str,
    value: &str,
) -> Result<Vec<String>, ContainerdError> {
    let mut listed = containerd
        .snapshots()
        .list(ListSnapshotsRequest {
            snapshotter: SNAPSHOTTER.into(),
            filters: vec![format!("labels.{}=={}", quoted(label), quoted(value))],
        })
        .await
        .doing(|| "listing root filesystems".into())?;
    let mut names = Vec::new();
    loop {
        let page = listed.message().await.map(tonic::Response::new);
        match page.doing(|| "listing root filesystems".into())? {
            Some(page) => names.extend(page.info.into_iter().map(|it| it.name)),
            None => return Ok(names),
        }
    }
}

async fn task(containerd: &Containerd, id: &str) -> Result<(), RemoveError> {
    let mut tasks = containerd.tasks();
    let killed = tasks
        .kill(KillRequest {
            container_id: id.to_owned(),
            signal: SIGKILL,
            // The rest dies with its pid namespace's init.
            all: false,
        })
        .await
        .doing(|| format!("killing {id}"));
    // "Not found" is also said of a task whose process has ended already.
    unless(Code::NotFound, killed)?;
    let waited = timeout(
        DEATH,
        tasks.wait(WaitRequest {
            container_id: id.to_owned(),
        }),
    )
    .await
    .map_err(|_| RemoveError::WillNotDie)?
    .doing(|| format!("waiting for the end of {id}"))
    .map(drop);
    unless(Code::NotFound, waited)?;
    let deleted = tasks
        .delete(DeleteTaskRequest {
            container_id: id.to_owned(),
        })
        .await
        .doing(|| format!("deleting the task of {id}"))
        .map(drop);
    Ok(unless(Code::NotFound, deleted)?)
}
