//! The containers that there are: made by this daemon, or by an earlier one and
//! adopted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::container::remove::{self, RemoveError};
use crate::container::spec::CGROUP_PARENT;
use crate::container::{Container, Exit, Identity, label, stray};
use crate::containerd::api::containerd::services::containers::v1::Container as Record;
use crate::containerd::api::containerd::services::tasks::v1::GetRequest;
use crate::containerd::api::containerd::v1::types::Status;
use crate::containerd::client::Doing;
use crate::containerd::events::TaskEvent;
use crate::containerd::{Containerd, ContainerdError};
use crate::host::Cgroups;
use crate::network::Network;

/// How far apart it is tried to remove what is left.
const TIDY: Duration = Duration::from_secs(1);

/// containerd's namespace for what kubelet makes.
pub(crate) const KUBELETS_NAMESPACE: &str = "k8s.io";

/// The containers of one namespace, and those that kubelet made for us in its own.
#[derive(Debug)]
pub struct Registry {
    containerd: Containerd,
    state: PathBuf,
    cgroups: Cgroups,
    runc_root: Option<PathBuf>,
    network: Network,
    containers: Mutex<BTreeMap<String, Arc<Container>>>,
    /// Containers that could not be made and not be taken apart.
    left: mpsc::UnboundedSender<String>,
    to_tidy: Mutex<Option<mpsc::UnboundedReceiver<String>>>,
    /// How many images came.
    images: watch::Sender<u64>,
}

impl Registry {
    /// Containers that are made have their directories below `state`, and with a
    /// private containerd runc's notes on them too.
    #[must_use]
    pub fn new(containerd: Containerd, state: &Path, private: bool, network: Network) -> Self {
        let (left, to_tidy) = mpsc::unbounded_channel();
        Self {
            left,
            to_tidy: Mutex::new(Some(to_tidy)),
            containerd,
            state: state.to_owned(),
            cgroups: Cgroups::detect(),
            runc_root: private.then(|| state.join("containerd/runc")),
            network,
            containers: Mutex::default(),
            images: watch::Sender::new(0),
        }
    }

    /// Changes whenever an image came that was not there.
    pub(crate) fn images(&self) -> watch::Receiver<u64> {
        self.images.subscribe()
    }

    /// The connection to containerd.
    #[must_use]
    pub fn containerd(&self) -> &Containerd {
        &self.containerd
    }

    pub(crate) fn cgroups(&self) -> Cgroups {
        self.cgroups
    }

    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// Where runc is to keep its notes, if not at its usual place.
    pub(crate) fn runc_root(&self) -> Option<&Path> {
        self.runc_root.as_deref()
    }

    /// True if nobody else uses this containerd.
    pub(crate) fn is_private(&self) -> bool {
        self.runc_root.is_some()
    }

    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    pub(crate) fn directory_of(&self, id: &str) -> PathBuf {
        self.state.join("containers").join(id)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Container>>> {
        self.containers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The container with this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<Container>> {
        self.lock().get(id).cloned()
    }

    /// The container that somebody means: by its id, or one of kubelet's, whose ids
    /// nobody types, by as much of its beginning as no other has.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Arc<Container>> {
        let containers = self.lock();
        if let Some(container) = containers.get(id) {
            return Some(Arc::clone(container));
        }
        let mut begun = containers
            .values()
            .filter(|it| it.pod.is_some() && !id.is_empty() && it.id.starts_with(id));
        let first = begun.next()?;
        begun.next().is_none().then(|| Arc::clone(first))
    }

    /// All of them, by id.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Container>> {
        self.lock().values().cloned().collect()
    }

    /// Takes an id for a container; false if it is taken.
    pub(crate) fn reserve(&self, container: &Arc<Container>) -> bool {
        let mut containers = self.lock();
        if containers.contains_key(&container.id) {
            return false;
        }
        containers.insert(container.id.clone(), Arc::clone(container));
        true
    }

    /// Makes an id free again, and the last one gives up the common control group.
    pub(crate) fn release(&self, id: &str) {
        let mut containers = self.lock();
        containers.remove(id);
        if containers.is_empty() {
            // Under the lock: a creation that begins now would lose the group
            // between runc's making it and making its own in it.
            self.cgroups.remove(CGROUP_PARENT);
        }
    }

    /// The directories that containers' things are below.
    pub(crate) fn places(&self) -> [&Path; 2] {
        [&self.state, self.network.root()]
    }

    /// Something of a container is left that nobody wants: it is listed, and removed as soon
    /// as that can be done.
    pub(crate) fn leave(&self, id: &str) {
        // Without a daemon around it, whoever made it sees to it.
        let _ = self.left.send(id.to_owned());
    }

    /// Removes what was [left](Self::leave), until it is gone.
    pub async fn tidy(&self) {
        let taken = self.to_tidy.lock().ok().and_then(|mut it| it.take());
        let Some(mut left) = taken else { return };
        let mut waiting = Vec::new();
        loop {
            if waiting.is_empty() {
                let Some(id) = left.recv().await else { return };
                waiting.push(id);
            }
            while let Ok(id) = left.try_recv() {
                waiting.push(id);
            }
            let mut still = Vec::new();
            for id in waiting {
                if self.remove(&id).await.is_err() {
                    still.push(id);
                }
            }
            waiting = still;
            // containerd tells nobody when it can again.
            if !waiting.is_empty() {
                tokio::time::sleep(TIDY).await;
            }
        }
    }

    /// Removes a container and everything made for it; false if there is none.
    /// The creation of one that is not ready yet is broken off.
    ///
    /// # Errors
    /// Something is left; trying again continues.
    pub async fn remove(&self, id: &str) -> Result<bool, RemoveError> {
        let Some(container) = self.get(id) else {
            return Ok(false);
        };
        if let Some(pod) = &container.pod {
            return Err(RemoveError::Kubelets(pod.clone()));
        }
        container.abandon();
        let _removing = container.lifecycle.lock().await;
        // Its creator took it apart, or somebody else removed it, while this waited.
        if self.get(id).is_none_or(|it| !Arc::ptr_eq(&it, &container)) {
            return Ok(true);
        }
        container.forget();
        remove::parts(self, &container, &remove::ALL).await?;
        self.release(id);
        info!(container = id, "removed");
        // One that an earlier daemon had asked for may have been made in this very moment.
        if let Err(error) = stray::take(self, id).await {
            warn!(container = id, %error, "something of it may be left");
        }
        Ok(true)
    }

    /// Breaks off the creations under way and awaits them and the removals, so that
    /// nothing half-made is left behind.
    pub(crate) async fn settle(&self) {
        for container in self.all() {
            if container.lifecycle.try_lock().is_err() {
                container.abandon();
                drop(container.lifecycle.lock().await);
            }
        }
    }

    pub(crate) async fn records(&self) -> Result<Vec<Record>, ContainerdError> {
        self.containerd.records().await
    }

    /// containerd, as kubelet uses it.
    pub(crate) fn kubelets_containerd(&self) -> Result<Containerd, ContainerdError> {
        self.containerd.in_namespace(KUBELETS_NAMESPACE)
    }

    /// Takes over the containers that an earlier daemon made.
    ///
    /// # Errors
    /// containerd's.
    pub async fn adopt(&self) -> Result<(), ContainerdError> {
        let records = self.records().await?;
        for record in &records {
            let Some(container) = self.recognise(record) else {
                continue;
            };
            if !self.reserve(&container) {
                continue;
            }
            if self.look_at(&container).await == Some(Status::Created) {
                // Its maker died before its program was started, and nobody waits for it.
                match self.remove(&container.id).await {
                    Ok(_) => info!(container = container.id, "removed, as it is half made"),
                    Err(error) => warn!(container = container.id, %error, "half made, and left"),
                }
                continue;
            }
            container.attend();
            info!(container = container.id, "adopted");
        }
        stray::take_all(self).await?;
        self.network.sweep(|id| self.get(id).is_some()).await;
        self.sweep();
        Ok(())
    }

    /// Begins to look after a container that runs; false if that is done already.
    pub(crate) async fn take_over(&self, container: &Arc<Container>) -> bool {
        let is_new = self.reserve(container);
        if is_new {
            container.attend();
            self.look_at(container).await;
        }
        is_new
    }

    /// Stops looking after a container that somebody else removes.
    pub(crate) fn dismiss(&self, id: &str) {
        if let Some(container) = self.get(id) {
            container.forget();
            self.release(id);
        }
    }

    /// Removes the directories of containers that somebody else removed meanwhile.
    fn sweep(&self) {
        let directories = std::fs::read_dir(self.state.join("containers"));
        for entry in directories.into_iter().flatten().flatten() {
            let id = entry.file_name().to_string_lossy().into_owned();
            if self.get(&id).is_some() {
                continue;
            }
            match std::fs::remove_dir_all(entry.path()) {
                Ok(()) => info!(container = id, "removed what was left of it"),
                Err(error) => warn!(container = id, %error, "its directory is left"),
            }
        }
    }

    /// The container of a record that is one of ours.
    pub(crate) fn recognise(&self, record: &Record) -> Option<Arc<Container>> {
        record.labels.get(label::MANAGED)?;
        let number = |name: &str| record.labels.get(name).and_then(|text| text.parse().ok());
        let identity = Identity {
            id: record.id.clone(),
            image: record.image.clone(),
            memory_bytes: number(label::MEMORY).unwrap_or(0),
            pids: number(label::PIDS)
                .and_then(|pids| u32::try_from(pids).ok())
                .unwrap_or(0),
            pool: record.labels.get(label::POOL).cloned(),
            created_unix_ms: record.created_unix_ms(),
            cgroup: record
                .labels
                .get(label::CGROUP)
                .cloned()
                .unwrap_or_else(|| format!("{CGROUP_PARENT}/{}", record.id)),
            directory: record
                .labels
                .get(label::DIRECTORY)
                .map_or_else(|| self.directory_of(&record.id), PathBuf::from),
            pod: None,
        };
        Some(Container::new(identity, self.cgroups))
    }

    /// Asks containerd whether a container still runs.
    async fn look_at(&self, container: &Container) -> Option<Status> {
        let containerd = match &container.pod {
            None => Ok(self.containerd.clone()),
            Some(_) => self.kubelets_containerd(),
        };
        let containerd = match containerd {
            Ok(containerd) => containerd,
            Err(error) => {
                warn!(container = container.id, %error, "its state is unknown");
                return None;
            }
        };
        let found = containerd
            .tasks()
            .get(GetRequest {
                container_id: container.id.clone(),
            })
            .await
            .doing(|| format!("looking at {}", container.id));
        match found.map(|found| found.process) {
            Ok(Some(process)) => {
                container.runs_as(process.pid);
                if process.status() == Status::Stopped {
                    container.has_ended(Exit::Code(process.exit_status));
                }
                return Some(process.status());
            }
            Ok(None) => container.has_ended(Exit::Unknown),
            Err(error) if error.is_not_found() => container.has_ended(Exit::Unknown),
            Err(error) => warn!(container = container.id, %error, "its state is unknown"),
        }
        None
    }

    /// Passes news on to the containers they are about, until no more come.
    pub async fn follow(&self, mut news: mpsc::UnboundedReceiver<TaskEvent>) {
        while let Some(event) = news.recv().await {
            let strays = match &event {
                TaskEvent::Made { id } => stray::take(self, id).await,
                TaskEvent::Resumed => stray::take_all(self).await,
                _ => Ok(()),
            };
            if let Err(error) = strays {
                // It breaks again or is asked again: then everything is looked at.
                warn!(%error, "what nobody wants may be left");
            }
            self.heed(event).await;
        }
    }

    /// Tells the container that a piece of news is about.
    pub(crate) async fn heed(&self, event: TaskEvent) {
        match event {
            TaskEvent::Exit { container, status } => {
                if let Some(container) = self.get(&container) {
                    container.has_ended(Exit::Code(status));
                    if let Some(ended) = container.ended().filter(|it| it.status != Exit::Removed) {
                        warn!(container = container.id, cause = %ended, "a container ended");
                    }
                }
            }
            TaskEvent::OutOfMemory { container } => {
                if let Some(container) = self.get(&container) {
                    container.ran_out_of_memory();
                }
            }
            TaskEvent::Image => self.images.send_modify(|count| *count += 1),
            TaskEvent::Made { .. } => {}
            TaskEvent::Resumed => {
                for container in self.all() {
                    // One that is being made is looked at by its maker.
                    if container.lifecycle.try_lock().is_ok() {
                        self.look_at(&container).await;
                    }
                }
            }
        }
    }
}
