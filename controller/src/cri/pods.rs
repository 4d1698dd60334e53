//! What the proxy does about the containers of annotated pods: a control directory
//! when they are made, an entry in the registry while they run, nothing afterwards.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{info, warn};

use super::adoption::Adoption;
use super::api;
use super::grpc::{Code, Refusal};
use super::touched::{Touched, is_annotated};
use crate::container::Container;
use crate::container::spec::{CONTROL_DIRECTORY, CONTROL_SOCKET, CONTROL_VARIABLE};
use crate::containerd::api::containerd::services::tasks::v1::GetRequest;
use crate::containerd::client::Doing;
use crate::containerd::events::{self, TaskEvent};
use crate::containerd::{Containerd, ContainerdError};
use crate::registry::Registry;

/// How long kubelet may wait for a supervisor that boots. It gives a start two
/// minutes itself; what needs longer than this gets ready behind its back.
const BOOT: Duration = Duration::from_secs(30);

/// Why kubelet cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum CriError {
    /// The directory for what kubelet's containers share with the host.
    #[error("preparing {}: {source}", path.display())]
    Directory {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// containerd refused.
    #[error(transparent)]
    Containerd(#[from] ContainerdError),
}

/// What is to be done when containerd has answered a call.
#[derive(Debug)]
pub(super) enum Task {
    /// A container may have been made with this directory.
    Created { sandbox: String, directory: PathBuf },
    /// A container may have been started.
    Started { id: String },
    /// Containers may have come to their end.
    Gone { ids: Vec<String> },
}

/// What containerd answered.
#[derive(Debug)]
pub(super) enum Outcome {
    /// This message.
    Done(Bytes),
    /// No.
    Refused,
    /// Nothing: the connection ended, or the client did not wait.
    Unknown,
}

/// A function container that kubelet made.
#[derive(Debug, Clone)]
struct Kept {
    sandbox: String,
    directory: PathBuf,
}

/// The containers of annotated pods.
#[derive(Debug)]
pub(crate) struct Pods {
    registry: Arc<Registry>,
    /// In the namespace of kubelet's containers.
    containerd: Containerd,
    /// The one name that the kernel has for it: containerd notes no other.
    base: PathBuf,
    kept: Mutex<HashMap<String, Kept>>,
    /// containerd may have done something that it could not say.
    is_unsure: AtomicBool,
}

impl Pods {
    /// Finds the containers that an earlier daemon knew, and follows the news of all.
    pub(crate) async fn begin(
        registry: Arc<Registry>,
        state: &Path,
    ) -> Result<Arc<Self>, CriError> {
        let base = state.join("cri");
        let failed = |source| CriError::Directory {
            path: base.clone(),
            source,
        };
        private_directory(&base).map_err(failed)?;
        let base = base.canonicalize().map_err(failed)?;
        let containerd = registry.kubelets_containerd()?;
        let news = events::watch(containerd.clone()).await?;
        let this = Arc::new(Self {
            registry,
            containerd,
            base,
            kept: Mutex::default(),
            is_unsure: AtomicBool::new(false),
        });
        this.reconcile().await?;
        this.sweep();
        tokio::spawn({
            let this = Arc::clone(&this);
            async move { this.follow(news).await }
        });
        Ok(this)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn follow(&self, mut news: mpsc::UnboundedReceiver<TaskEvent>) {
        while let Some(event) = news.recv().await {
            if event == TaskEvent::Resumed {
                self.is_unsure.store(true, Ordering::Relaxed);
                self.make_sure().await;
            }
            self.registry.heed(event).await;
        }
    }

    async fn make_sure(&self) {
        if self.is_unsure.swap(false, Ordering::Relaxed)
            && let Err(error) = self.reconcile().await
        {
            self.is_unsure.store(true, Ordering::Relaxed);
            warn!(%error, "kubelet's function containers cannot be listed");
        }
    }

    /// Makes what is known agree with containerd's records.
    async fn reconcile(&self) -> Result<(), ContainerdError> {
        let before: Vec<String> = self.lock().keys().cloned().collect();
        let mut found = HashMap::new();
        for record in self.containerd.records().await? {
            if let Some(adoption) = Adoption::read(&record, &self.base) {
                found.insert(record.id, adoption);
            }
        }
        let gone = before.into_iter().filter(|id| !found.contains_key(id));
        for id in gone.collect::<Vec<_>>() {
            self.dismiss(&id);
        }
        for adoption in found.into_values() {
            self.keep(&adoption);
            self.enlist(adoption).await;
        }
        Ok(())
    }

    /// Removes the directories of containers that are no more. Only before calls are
    /// served: that of one which is being made has no container yet.
    fn sweep(&self) {
        let named: Vec<PathBuf> = self
            .lock()
            .values()
            .map(|it| it.directory.clone())
            .collect();
        for entry in std::fs::read_dir(&self.base)
            .into_iter()
            .flatten()
            .flatten()
        {
            if !named.contains(&entry.path()) {
                remove(&entry.path());
            }
        }
    }

    /// Looks at a message on its way to containerd: what is to be sent instead, and
    /// what to do with the answer.
    pub(super) async fn before(
        &self,
        call: Touched,
        message: Bytes,
    ) -> Result<(Bytes, Option<Task>), Refusal> {
        self.make_sure().await;
        // What does not follow the definition is containerd's to refuse.
        let task = match call {
            Touched::CreateContainer => {
                return match api::CreateContainerRequest::decode(message.clone()) {
                    Ok(request) => self.creation(&request, message),
                    Err(_) => Ok((message, None)),
                };
            }
            Touched::StartContainer => api::StartContainerRequest::decode(message.clone())
                .ok()
                .and_then(|request| self.find(&request.container_id))
                .map(|id| Task::Started { id }),
            Touched::StopContainer => api::StopContainerRequest::decode(message.clone())
                .ok()
                .and_then(|request| self.find(&request.container_id))
                .map(|id| Task::Gone { ids: vec![id] }),
            Touched::RemoveContainer => api::RemoveContainerRequest::decode(message.clone())
                .ok()
                .and_then(|request| self.find(&request.container_id))
                .map(|id| Task::Gone { ids: vec![id] }),
            Touched::RemovePodSandbox => api::RemovePodSandboxRequest::decode(message.clone())
                .ok()
                .map(|request| self.of_sandbox(&request.pod_sandbox_id))
                .filter(|ids| !ids.is_empty())
                .map(|ids| Task::Gone { ids }),
        };
        Ok((message, task))
    }

    /// A container of ours by its id or, as containerd takes it too, the beginning.
    fn find(&self, id: &str) -> Option<String> {
        let kept = self.lock();
        let mut all = kept
            .keys()
            .filter(|it| !id.is_empty() && it.starts_with(id));
        let first = all.next()?.clone();
        all.next().is_none().then_some(first)
    }

    fn of_sandbox(&self, sandbox: &str) -> Vec<String> {
        self.lock()
            .iter()
            .filter(|(_, it)| !sandbox.is_empty() && it.sandbox.starts_with(sandbox))
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Adds the control channel to a container that is to be made.
    fn creation(
        &self,
        request: &api::CreateContainerRequest,
        message: Bytes,
    ) -> Result<(Bytes, Option<Task>), Refusal> {
        let config = request.config.clone().unwrap_or_default();
        let name = config.metadata.unwrap_or_default().name;
        let pod = request.sandbox_config.as_ref();
        if !pod.is_some_and(|pod| is_annotated(&pod.annotations, &name)) {
            return Ok((message, None));
        }
        if config
            .mounts
            .iter()
            .any(|mount| mount.container_path.trim_end_matches('/') == CONTROL_DIRECTORY)
        {
            return Err(Refusal::new(
                Code::InvalidArgument,
                format!(
                    "the container {name:?} mounts something at {CONTROL_DIRECTORY}, where a function container has its control channel; mount it elsewhere, or take the pod's annotation away"
                ),
            ));
        }
        let user = config
            .linux
            .and_then(|linux| linux.security_context)
            .and_then(|context| context.run_as_user)
            .and_then(|user| u32::try_from(user.value).ok());
        let directory = self.base.join(uuid::Uuid::new_v4().simple().to_string());
        let control = directory.join("control");
        private_directory(&directory)
            .and_then(|()| private_directory(&control))
            // Its supervisor makes a socket there, as whoever it runs.
            .and_then(|()| std::os::unix::fs::chown(&control, user, None))
            .map_err(|error| {
                remove(&directory);
                Refusal::new(
                    Code::Internal,
                    format!("preparing {}: {error}", control.display()),
                )
            })?;
        let added = api::CreateContainerRequest {
            config: Some(api::ContainerConfig {
                // After the pod's own: the last one counts.
                envs: vec![api::KeyValue {
                    key: CONTROL_VARIABLE.into(),
                    value: CONTROL_SOCKET.into(),
                }],
                mounts: vec![api::Mount {
                    container_path: CONTROL_DIRECTORY.into(),
                    host_path: control.display().to_string(),
                    selinux_relabel: true,
                }],
                ..api::ContainerConfig::default()
            }),
            ..api::CreateContainerRequest::default()
        };
        // Two messages one after the other are one that has the fields of both: what
        // this does not know of the first stays as it is.
        let whole = [message, added.encode_to_vec().into()].concat().into();
        let task = Task::Created {
            sandbox: request.pod_sandbox_id.clone(),
            directory,
        };
        Ok((whole, Some(task)))
    }

    /// Does what follows from containerd's answer.
    pub(super) async fn after(&self, task: Task, outcome: Outcome) {
        match (task, outcome) {
            (Task::Created { sandbox, directory }, Outcome::Done(message)) => {
                match api::CreateContainerResponse::decode(message) {
                    Ok(made) => {
                        let kept = Kept { sandbox, directory };
                        self.lock().insert(made.container_id, kept);
                    }
                    Err(error) => warn!(%error, "containerd's answer cannot be read"),
                }
            }
            (Task::Created { directory, .. }, Outcome::Refused) => remove(&directory),
            (Task::Started { id }, Outcome::Done(_)) => {
                if let Some(container) = self.started(&id).await
                    && let Ok(Err(ended)) = timeout(BOOT, container.ready()).await
                {
                    warn!(container = id, cause = %ended, "a container of kubelet's ended before its supervisor was ready");
                }
            }
            (Task::Gone { ids }, Outcome::Done(_)) => {
                for id in ids {
                    self.dismiss(&id);
                }
            }
            // It may have been done all the same, or be done yet: the records tell, when
            // the next call is about a container, or containerd is there again.
            (_, Outcome::Unknown) => self.is_unsure.store(true, Ordering::Relaxed),
            (_, Outcome::Refused) => {}
        }
    }

    /// Registers a container that was just started.
    async fn started(&self, id: &str) -> Option<Arc<Container>> {
        let record = match self.containerd.record(id).await {
            Ok(record) => record?,
            Err(error) => {
                warn!(container = id, %error, "kubelet's function container is not registered");
                return None;
            }
        };
        let adoption = Adoption::read(&record, &self.base)?;
        self.enlist(adoption).await
    }

    fn keep(&self, adoption: &Adoption) {
        let identity = &adoption.identity;
        let kept = Kept {
            sandbox: adoption.sandbox.clone(),
            directory: identity.directory.clone(),
        };
        self.lock().insert(identity.id.clone(), kept);
    }

    /// Registers a container if it was started, once.
    async fn enlist(&self, adoption: Adoption) -> Option<Arc<Container>> {
        let mut identity = adoption.identity;
        let id = identity.id.clone();
        if let Some(container) = self.registry.get(&id) {
            return Some(container);
        }
        let task = self
            .containerd
            .tasks()
            .get(GetRequest {
                container_id: id.clone(),
            })
            .await
            .doing(|| format!("looking at {id}"));
        let process = match task {
            Ok(found) => found.process?,
            // Made and not started, or at its end.
            Err(error) if error.is_not_found() => return None,
            Err(error) => {
                warn!(container = id, %error, "kubelet's function container is not registered");
                return None;
            }
        };
        let cgroups = self.registry.cgroups();
        identity.cgroup = cgroups.of_process(process.pid).unwrap_or_default();
        let pod = identity.pod.clone();
        let container = Container::new(identity, cgroups);
        if self.registry.take_over(&container).await {
            info!(
                container = id,
                pod = pod.map(tracing::field::display),
                "registered a container of kubelet's"
            );
        }
        self.registry.get(&id)
    }

    /// Lets go of a container that kubelet stopped or removed.
    fn dismiss(&self, id: &str) {
        let Some(kept) = self.lock().remove(id) else {
            return;
        };
        self.registry.dismiss(id);
        remove(&kept.directory);
    }
}

fn private_directory(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

fn remove(directory: &Path) {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            warn!(directory = %directory.display(), %error, "a directory is left");
        }
        _ => {}
    }
}
