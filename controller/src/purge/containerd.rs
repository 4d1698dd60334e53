//! What containerd has of refunction's, in the namespace that is its own.

use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;
use tonic::Code;

use super::tally::Tally;
use crate::container::remove::{self, RemoveError};
use crate::container::{Container, label, stray};
use crate::containerd::api::containerd::services::content::v1::{
    AbortRequest, ListStatusesRequest,
};
use crate::containerd::api::containerd::services::images::v1::{
    DeleteImageRequest, ListImagesRequest,
};
use crate::containerd::api::containerd::services::leases::v1::{
    CreateRequest, DeleteRequest, ListRequest,
};
use crate::containerd::api::containerd::services::namespaces::v1::{
    DeleteNamespaceRequest, ListNamespacesRequest,
};
use crate::containerd::client::{Doing, unless};
use crate::containerd::{Containerd, ContainerdError, import, leases};
use crate::cri;
use crate::lock;
use crate::registry::Registry;

/// How long containerd may take over one thing: it may hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bounds what containerd is asked for.
async fn soon<T, E: From<ContainerdError>>(
    containerd: &Containerd,
    asked: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match timeout(PATIENCE, asked).await {
        Ok(answered) => answered,
        Err(_) => Err(ContainerdError::Unreachable {
            address: containerd.address().to_owned(),
            cause: format!("no answer within {} s", PATIENCE.as_secs()),
        }
        .into()),
    }
}

/// Removes all of it. What others have in the same namespace stays.
pub(super) async fn everything(registry: &Registry, tally: &mut Tally) {
    let containerd = registry.containerd();
    if let Err(error) = all(registry, tally).await {
        tally.leave(format_args!(
            "some of what containerd has in its namespace {}: {error}",
            containerd.namespace()
        ));
    }
}

async fn all(registry: &Registry, tally: &mut Tally) -> Result<(), ContainerdError> {
    let containerd = registry.containerd();
    let there = containerd
        .namespaces()
        .list(ListNamespacesRequest::default())
        .await
        .doing(|| "listing namespaces".into())?;
    let namespace = containerd.namespace();
    if !there.namespaces.iter().any(|it| it.name == namespace) {
        return Ok(());
    }
    if !tally.is_dry {
        // What has no record gets one, and is removed with the rest.
        stray::take_all(registry).await?;
    }
    let mut others = 0;
    let mut spared = Vec::new();
    for record in registry.records().await? {
        let Some(container) = registry.recognise(&record) else {
            others += 1;
            continue;
        };
        // Another state directory's, whose daemon runs.
        let state = container.directory().parent().and_then(Path::parent);
        if state.is_some_and(|it| it != registry.state() && lock::is_held(it)) {
            tally.spare(format_args!(
                "the container {}: the refunctiond on {} has it, and runs",
                container.id,
                state.unwrap_or(Path::new("/")).display()
            ));
            spared.push(record.snapshot_key);
            continue;
        }
        let what = format!("the container {} of {}", container.id, container.image);
        tally.remove(what, container_of(registry, &container)).await;
        tally.groups.push(container.cgroup.clone());
    }
    for name in remove::snapshots(containerd).await? {
        if !spared.contains(&name) {
            let what = format!("the root filesystem of {name}");
            tally
                .remove(what, remove::snapshot(containerd, &name))
                .await;
        }
    }
    if spared.is_empty() {
        images(containerd, tally).await?;
    }
    if tally.is_dry || !spared.is_empty() {
        return Ok(());
    }
    collect(containerd).await?;
    // containerd refuses while somebody else has something in it.
    let deleted = containerd
        .namespaces()
        .delete(DeleteNamespaceRequest {
            name: namespace.to_owned(),
        })
        .await;
    match deleted {
        Err(status) if status.code() == Code::FailedPrecondition => tally.spare(format_args!(
            "the namespace {namespace} of containerd, where others have something{}",
            if others > 0 {
                format!(", {others} containers among it")
            } else {
                String::new()
            }
        )),
        deleted => {
            let deleted = deleted.doing(|| "deleting the namespace".into());
            let what = format!("the namespace {namespace} of containerd");
            let done = async { unless(Code::NotFound, deleted.map(drop)) };
            tally.remove(what, done).await;
        }
    }
    Ok(())
}

/// Has containerd collect what nothing refers to any more: that, too, fills a namespace. It
/// does so whenever a lease is given up by somebody who waits for it.
async fn collect(containerd: &Containerd) -> Result<(), ContainerdError> {
    let doing = || "having containerd collect what is not needed".to_owned();
    let id = format!("{}purge", leases::PREFIX);
    let request = CreateRequest {
        id: id.clone(),
        ..CreateRequest::default()
    };
    let created = containerd.leases().create(request).await;
    unless(Code::AlreadyExists, created.doing(doing).map(drop))?;
    let request = DeleteRequest { id, sync: true };
    let deleted = containerd.leases().delete(request).await;
    deleted.doing(doing)
}

async fn container_of(registry: &Registry, container: &Container) -> Result<(), RemoveError> {
    soon(
        registry.containerd(),
        remove::parts(registry, container, &remove::ALL),
    )
    .await
}

/// Images that were imported, and what imports hold that did not come to their end.
async fn images(containerd: &Containerd, tally: &mut Tally) -> Result<(), ContainerdError> {
    let leases = containerd
        .leases()
        .list(ListRequest::default())
        .await
        .doing(|| "listing leases".into())?;
    for lease in leases.leases {
        if !lease.id.starts_with(leases::PREFIX) {
            continue;
        }
        let what = format!("the lease {}", lease.id);
        let deleting = async {
            let request = DeleteRequest {
                id: lease.id,
                sync: true,
            };
            let deleted = containerd.leases().delete(request).await;
            unless(Code::NotFound, deleted.doing(|| "deleting it".into()))
        };
        tally.remove(what, deleting).await;
    }
    let writing = containerd
        .content()
        .list_statuses(ListStatusesRequest::default())
        .await
        .doing(|| "listing what is being written".into())?;
    for status in writing.statuses {
        if !status.r#ref.starts_with(import::WRITING) {
            continue;
        }
        let what = format!("what is written of {}", status.r#ref);
        let aborting = async {
            let request = AbortRequest {
                r#ref: status.r#ref,
            };
            let aborted = containerd.content().abort(request).await;
            unless(Code::NotFound, aborted.doing(|| "aborting it".into()))
        };
        tally.remove(what, aborting).await;
    }
    let images = containerd
        .images()
        .list(ListImagesRequest::default())
        .await
        .doing(|| "listing images".into())?;
    for image in images.images {
        if !image.labels.contains_key(label::IMPORTED) {
            tally.spare(format_args!(
                "the image {}: others put it there",
                image.name
            ));
            continue;
        }
        let what = format!("the image {}", image.name);
        let deleting = async {
            let request = DeleteImageRequest {
                name: image.name,
                // With all that only it needs.
                sync: true,
            };
            let deleted = containerd.images().delete(request).await;
            unless(Code::NotFound, deleted.doing(|| "deleting it".into()))
        };
        tally.remove(what, deleting).await;
    }
    Ok(())
}

/// Kubelet's containers are kubelet's: they go on, as plain containers.
pub(super) async fn pods(registry: &Registry, state: &Path, tally: &mut Tally) {
    let base = state.join("cri");
    let Ok(base) = base.canonicalize() else {
        return;
    };
    let counted = async {
        let records = registry.kubelets_containerd()?.records().await?;
        Ok::<_, ContainerdError>(cri::function_containers(&records, &base))
    };
    match soon(registry.containerd(), counted).await {
        Ok(0) => {}
        Ok(count) => tally.spare(format_args!(
            "{count} containers of pods: they are kubelet's, and go on as plain containers"
        )),
        Err(error) => tally.leave(format_args!("kubelet's containers unseen: {error}")),
    }
}
