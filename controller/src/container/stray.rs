//! Parts of containers that nobody wants any more. containerd goes on with what it was asked
//! for when the daemon that asked has died: a root filesystem, a record or a task may come to
//! be after the next daemon looked at what there is.

use std::collections::{BTreeSet, HashMap};

use tracing::info;

use super::create::{self, RUNTIME};
use super::spec::CGROUP_PARENT;
use super::{label, remove};
use crate::containerd::ContainerdError;
use crate::containerd::api::containerd::services::containers::v1::{
    Container as Record, CreateContainerRequest, container::Runtime,
};
use crate::containerd::api::containerd::services::tasks::v1::ListTasksRequest;
use crate::containerd::api::containerd::v1::types::Process;
use crate::containerd::client::{Containerd, Doing};
use crate::registry::Registry;

/// Has everything removed that is ours and that the registry does not know.
pub(crate) async fn take_all(registry: &Registry) -> Result<(), ContainerdError> {
    let containerd = registry.containerd();
    let mut ids: BTreeSet<String> = remove::snapshots(containerd).await?.into_iter().collect();
    ids.extend(tasks(containerd).await?.into_iter().map(|task| task.id));
    ids.extend(registry.records().await?.into_iter().map(|it| it.id));
    for id in ids {
        take(registry, &id).await?;
    }
    Ok(())
}

/// Has removed what is there under this name, if it is ours and the registry does not know it.
pub(crate) async fn take(registry: &Registry, id: &str) -> Result<(), ContainerdError> {
    if registry.get(id).is_some() {
        return Ok(());
    }
    let Some(record) = record(registry, id).await? else {
        return Ok(());
    };
    let Some(container) = registry.recognise(&record) else {
        return Ok(());
    };
    // Another daemon's, or made anew meanwhile.
    if !container.directory().starts_with(registry.state()) || !registry.reserve(&container) {
        return Ok(());
    }
    info!(container = id, "nobody wants it any more");
    registry.leave(id);
    Ok(())
}

/// The record of what is there under this name. A task without one is given one: containerd
/// does nothing with it otherwise.
async fn record(registry: &Registry, id: &str) -> Result<Option<Record>, ContainerdError> {
    let containerd = registry.containerd();
    if let Some(record) = containerd.record(id).await? {
        return Ok(Some(record));
    }
    let found = tasks(containerd).await?.into_iter().find(|it| it.id == id);
    let group = found.as_ref().and_then(|task| {
        let group = registry.cgroups().of_process(task.pid)?;
        group
            .contains(&format!("{CGROUP_PARENT}/"))
            .then_some(group)
    });
    let mut labels = HashMap::from([(label::MANAGED.to_owned(), "1".to_owned())]);
    labels.extend(group.clone().map(|it| (label::CGROUP.to_owned(), it)));
    let record = Record {
        id: id.to_owned(),
        labels,
        runtime: Some(Runtime {
            name: RUNTIME.into(),
            options: create::options(registry),
        }),
        spec: Some(create::specification(b"{}".to_vec())),
        ..Record::default()
    };
    if found.is_none() {
        // Another daemon may be about to record its own.
        let directory = registry.directory_of(id).display().to_string();
        let snapshots = remove::snapshots_with(containerd, label::DIRECTORY, &directory).await?;
        return Ok(snapshots.iter().any(|it| it == id).then_some(record));
    }
    // In a containerd that others use too, a task that is not in our group is theirs.
    if group.is_none() && !registry.is_private() {
        return Ok(None);
    }
    let request = CreateContainerRequest {
        container: Some(record.clone()),
    };
    let created = containerd.containers().create(request).await;
    created.doing(|| format!("recording {id} again, to remove it"))?;
    Ok(Some(record))
}

async fn tasks(containerd: &Containerd) -> Result<Vec<Process>, ContainerdError> {
    let listed = containerd.tasks().list(ListTasksRequest::default()).await;
    Ok(listed.doing(|| "listing tasks".into())?.tasks)
}
