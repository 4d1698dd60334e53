//! The control API: each call checked, carried out, and answered in its types.

mod functions;
mod node;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use refunction_protocol::host as api;
use refunction_protocol::{Failure, Function, Limits};
use serde_json::value::RawValue;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::warn;

use crate::channel::ChannelError;
use crate::container::remove::RemoveError;
use crate::container::{Condition, Container, ContainerError, CreateError, Recipe, create};
use crate::containerd::images::{self, ImageError};
use crate::containerd::import::{self, ImportError};
use crate::containerd::{Containerd, ContainerdError};
use crate::logs::LogRing;
use crate::registry::Registry;

pub use functions::Functions;

/// Bytes that a request may have as JSON; Lambda's limit.
const MAX_REQUEST_BYTES: usize = 6 * 1024 * 1024;

/// Log lines under way to one reader.
const LOG_LINES: usize = 256;

/// Answers the control socket's calls.
#[derive(Debug)]
pub struct Service {
    registry: Arc<Registry>,
    state: PathBuf,
    private: bool,
    stopping: watch::Receiver<bool>,
}

impl Service {
    /// Over these containers; `private` if their containerd ends with the daemon.
    /// Calls that would go on for ever end when `stopping` is true.
    #[must_use]
    pub fn new(
        registry: Arc<Registry>,
        state: &Path,
        private: bool,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            registry,
            state: state.to_owned(),
            private,
            stopping,
        }
    }

    fn containerd(&self) -> &Containerd {
        self.registry.containerd()
    }

    // A tonic::Status is what these calls answer with, however large it is.
    #[allow(clippy::result_large_err)]
    fn container(&self, id: &str) -> Result<Arc<Container>, Status> {
        self.registry.find(id).ok_or_else(|| {
            let all = self.registry.all();
            let known: Vec<_> = all.iter().map(|it| it.id.as_str()).collect();
            Status::not_found(if known.is_empty() {
                format!("there is no container {id:?}, and no other; `funk create` makes one")
            } else {
                format!(
                    "there is no container {id:?}; there are: {}",
                    known.join(", ")
                )
            })
        })
    }

    /// One that nobody but the caller loads, calls and puts back.
    #[allow(clippy::result_large_err)]
    fn unscheduled(&self, id: &str) -> Result<Arc<Container>, Status> {
        let container = self.container(id)?;
        match &container.pool {
            None => Ok(container),
            Some(pool) => Err(Status::failed_precondition(format!(
                "the container {id} belongs to the pool of {pool}, and runs what is scheduled; \
                 `funk invoke` calls a function by its name"
            ))),
        }
    }
}

#[tonic::async_trait]
impl api::refunction_server::Refunction for Service {
    async fn info(&self, _: Request<api::InfoRequest>) -> Result<Response<api::InfoReply>, Status> {
        Ok(Response::new(api::InfoReply {
            version: env!("CARGO_PKG_VERSION").into(),
            containerd_version: self.containerd().version().into(),
            containerd_address: self.containerd().address().display().to_string(),
            private_containerd: self.private,
            namespace: self.containerd().namespace().into(),
            containers: u32::try_from(self.registry.all().len()).unwrap_or(u32::MAX),
        }))
    }

    async fn create_container(
        &self,
        request: Request<api::CreateContainerRequest>,
    ) -> Result<Response<api::Container>, Status> {
        let request = request.into_inner();
        let recipe = Recipe {
            image: request.image,
            name: Some(request.name).filter(|name| !name.is_empty()),
            memory_bytes: Some(request.memory_bytes).filter(|bytes| *bytes > 0),
            pids: Some(request.pids).filter(|pids| *pids > 0),
            env: request.env,
            pool: None,
        };
        let registry = Arc::clone(&self.registry);
        let (mut sender, created) = oneshot::channel();
        // On its own: a caller who hangs up must not leave half a container.
        tokio::spawn(async move {
            let result = create(&registry, recipe, sender.closed()).await;
            if let Err(Ok(container)) = sender.send(result) {
                warn!(container = container.id, "its creator hung up; removing it");
                if let Err(error) = registry.remove(&container.id).await {
                    warn!(container = container.id, %error, "something is left");
                }
            }
        });
        let container = created
            .await
            .map_err(|_| Status::internal("the creation was abandoned"))?
            .map_err(|error| creation(&error))?;
        Ok(Response::new(shown(&container)))
    }

    async fn list_containers(
        &self,
        _: Request<api::ListContainersRequest>,
    ) -> Result<Response<api::ListContainersReply>, Status> {
        let containers = self.registry.all().iter().map(|it| shown(it)).collect();
        Ok(Response::new(api::ListContainersReply { containers }))
    }

    async fn remove_container(
        &self,
        request: Request<api::RemoveContainerRequest>,
    ) -> Result<Response<api::RemoveContainerReply>, Status> {
        let id = self.container(&request.into_inner().container)?.id.clone();
        let registry = Arc::clone(&self.registry);
        // On its own, for the same reason as a creation.
        tokio::spawn(async move { registry.remove(&id).await })
            .await
            .map_err(|_| Status::internal("the removal was abandoned"))?
            .map_err(|error| removal(&error))?;
        Ok(Response::new(api::RemoveContainerReply {}))
    }

    async fn send_function(
        &self,
        request: Request<api::SendFunctionRequest>,
    ) -> Result<Response<api::SendFunctionReply>, Status> {
        let request = request.into_inner();
        let container = self.unscheduled(&request.container)?;
        let function = Function {
            code: request.code,
            binary: request.binary,
            main: request.main,
            handler: request.handler,
            env: request.env,
            limits: Limits {
                deadline_ms: request.deadline_ms,
            },
            libraries: None,
        };
        let begun = Instant::now();
        let loaded = container.load(function).await.map_err(|it| refusal(&it))?;
        Ok(Response::new(api::SendFunctionReply {
            failure: loaded.err().map(told),
            duration_us: micros(begun),
        }))
    }

    async fn send_request(
        &self,
        request: Request<api::SendRequestRequest>,
    ) -> Result<Response<api::SendRequestReply>, Status> {
        let request = request.into_inner();
        let container = self.unscheduled(&request.container)?;
        let data = json(request.json)?;
        // The function sees it as its request's id: unique over all containers.
        let id = uuid::Uuid::new_v4().to_string();
        let begun = Instant::now();
        let outcome = container
            .request(&id, data, request.deadline_ms, None)
            .await
            .map_err(|it| refusal(&it))?;
        Ok(Response::new(api::SendRequestReply {
            request_id: id,
            outcome: Some(match outcome {
                Ok(value) => api::send_request_reply::Outcome::Json(value.get().to_owned()),
                Err(failure) => api::send_request_reply::Outcome::Failure(told(failure)),
            }),
            duration_us: micros(begun),
        }))
    }

    async fn restore(
        &self,
        request: Request<api::RestoreRequest>,
    ) -> Result<Response<api::RestoreReply>, Status> {
        let container = self.unscheduled(&request.into_inner().container)?;
        let restored = container.restore().await.map_err(|it| refusal(&it))?;
        Ok(Response::new(api::RestoreReply {
            method: word(restored.method),
            total_us: restored.total_us,
            phases: restored
                .phases
                .into_iter()
                .map(|phase| api::Phase {
                    name: phase.name,
                    ns: phase.ns,
                })
                .collect(),
            dirty_pages: restored.dirty_pages,
            taints: restored
                .taints
                .into_iter()
                .map(|taint| api::Taint {
                    row: taint.row,
                    detail: taint.detail,
                })
                .collect(),
        }))
    }

    async fn status(
        &self,
        request: Request<api::StatusRequest>,
    ) -> Result<Response<api::StatusReply>, Status> {
        let container = self.container(&request.into_inner().container)?;
        let status = container.status().await.map_err(|it| refusal(&it))?;
        Ok(Response::new(api::StatusReply {
            state: word(status.state),
            runtime: status.runtime,
            worker_pid: status.worker_pid,
            requests: status.requests,
            rewinds: status.rewinds,
            reforks: status.reforks,
            queued: status.queued,
        }))
    }

    type LogsStream = LogStream;

    async fn logs(
        &self,
        request: Request<api::LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        let request = request.into_inner();
        let container = self.container(&request.container)?;
        let logs = Arc::clone(&container.logs);
        drop(container);
        let stopping = self.stopping.clone();
        Ok(Response::new(lines(logs, request.follow, stopping)))
    }

    async fn import_image(
        &self,
        request: Request<Streaming<api::ImportImageRequest>>,
    ) -> Result<Response<api::ImportImageReply>, Status> {
        let mut pieces = request.into_inner();
        let spool = Spool::new(&self.state);
        let broken =
            |error: std::io::Error| Status::internal(format!("keeping the archive: {error}"));
        let mut file = tokio::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&spool.0)
            .await
            .map_err(broken)?;
        while let Some(piece) = pieces.message().await? {
            file.write_all(&piece.data).await.map_err(broken)?;
        }
        file.flush().await.map_err(broken)?;
        drop(file);
        let names =
            import::import(self.containerd(), &spool.0)
                .await
                .map_err(|error| match error {
                    ImportError::NotAnArchive(_) => Status::invalid_argument(error.to_string()),
                    other => Status::internal(other.to_string()),
                })?;
        Ok(Response::new(api::ImportImageReply { names }))
    }

    async fn list_images(
        &self,
        _: Request<api::ListImagesRequest>,
    ) -> Result<Response<api::ListImagesReply>, Status> {
        let images = images::list(self.containerd())
            .await
            .map_err(|error| image(&error))?
            .into_iter()
            .map(|image| api::Image {
                name: image.name,
                digest: image.digest,
                size_bytes: image.size_bytes,
                created_unix_ms: image.created_unix_ms,
            })
            .collect();
        Ok(Response::new(api::ListImagesReply { images }))
    }
}

type LogStream = Pin<Box<dyn Stream<Item = Result<api::LogLine, Status>> + Send>>;

/// The lines that are kept, and those to come.
fn lines(logs: Arc<LogRing>, follow: bool, mut stopping: watch::Receiver<bool>) -> LogStream {
    let (sender, lines) = mpsc::channel(LOG_LINES);
    tokio::spawn(async move {
        let mut place = 0;
        loop {
            let batch = logs.from(place);
            place = batch.next;
            let mut dropped = batch.dropped;
            for line in batch.lines {
                let line = api::LogLine {
                    unix_ms: line.unix_ms,
                    stream: line.source.as_str().into(),
                    request_id: line.request.unwrap_or_default(),
                    line: line.text,
                    truncated: line.truncated,
                    dropped: std::mem::take(&mut dropped),
                };
                if sender.send(Ok(line)).await.is_err() {
                    return;
                }
            }
            if !follow {
                return;
            }
            tokio::select! {
                more = logs.more(place) => if !more { return },
                () = sender.closed() => return,
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
        }
    });
    Box::pin(ReceiverStream::new(lines))
}

/// A request's argument.
#[allow(clippy::result_large_err)]
fn json(text: String) -> Result<Box<RawValue>, Status> {
    if text.len() > MAX_REQUEST_BYTES {
        return Err(Status::out_of_range(format!(
            "the request has {} bytes; the limit is {MAX_REQUEST_BYTES}",
            text.len()
        )));
    }
    RawValue::from_string(text)
        .map_err(|error| Status::invalid_argument(format!("the request is not JSON: {error}")))
}

/// A file that goes when this does.
struct Spool(PathBuf);

impl Spool {
    fn new(state: &Path) -> Self {
        // Archives are large, and the state directory usually lies in memory.
        let directory = if Path::new("/var/tmp").is_dir() {
            Path::new("/var/tmp")
        } else {
            state
        };
        Self(directory.join(format!(
            "refunction-import-{}.tar",
            uuid::Uuid::new_v4().simple()
        )))
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn shown(container: &Container) -> api::Container {
    let view = container.view();
    let state = match view.condition {
        Condition::Starting => api::ContainerState::Starting,
        Condition::Ready => api::ContainerState::Ready,
        Condition::Loaded => api::ContainerState::Loaded,
        Condition::Running => api::ContainerState::Running,
        Condition::Restoring => api::ContainerState::Restoring,
        Condition::Unreachable => api::ContainerState::Unreachable,
        Condition::Ended => api::ContainerState::Ended,
    };
    let started = view.started.as_deref();
    api::Container {
        id: container.id.clone(),
        image: container.image.clone(),
        state: state.into(),
        runtime: started.map_or_else(String::new, |it| it.runtime.clone()),
        runtime_version: started.map_or_else(String::new, |it| it.version.clone()),
        snapshot_bytes: started.map_or(0, |it| it.snapshot_bytes),
        boot_us: started.map_or(0, |it| it.boot_us),
        create_us: container.create_us.load(Ordering::Relaxed),
        created_unix_ms: container.created_unix_ms,
        memory_bytes: container.memory_bytes,
        pids: container.pids,
        function_loaded: view.loaded,
        in_flight: u32::try_from(view.in_flight).unwrap_or(u32::MAX),
        ended: view.ended.unwrap_or_default(),
        pid: view.pid,
        pod: container
            .pod
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
    }
}

fn told(failure: Failure) -> api::Failure {
    api::Failure {
        kind: failure.kind.as_str().into(),
        message: failure.message,
        error_type: failure.error_type,
        stack: failure.stack,
    }
}

/// The word that a plain enum has on the wire.
fn word(value: impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn micros(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn creation(error: &CreateError) -> Status {
    let message = error.to_string();
    match error {
        CreateError::Invalid(_) | CreateError::Spec(_) => Status::invalid_argument(message),
        CreateError::Exists(_) => Status::already_exists(message),
        CreateError::Image(error) => image(error),
        CreateError::Containerd(error) => containerd(error),
        CreateError::Network(_) => Status::failed_precondition(message),
        CreateError::Ended(_) => Status::aborted(message),
        CreateError::Abandoned => Status::cancelled(message),
        CreateError::NotReady { .. } => Status::deadline_exceeded(message),
        CreateError::NoRoom { .. } | CreateError::Encode(_) | CreateError::File { .. } => {
            Status::internal(message)
        }
    }
}

fn removal(error: &RemoveError) -> Status {
    match error {
        RemoveError::Kubelets(_) => Status::failed_precondition(error.to_string()),
        _ => Status::internal(error.to_string()),
    }
}

fn image(error: &ImageError) -> Status {
    match error {
        ImageError::Unknown { .. } => Status::not_found(error.to_string()),
        ImageError::NoPlatform { .. } => Status::failed_precondition(error.to_string()),
        ImageError::Malformed { .. } => Status::data_loss(error.to_string()),
        ImageError::Containerd(error) => containerd(error),
    }
}

/// Never `unavailable`: that would say refunctiond itself cannot be reached.
fn containerd(error: &ContainerdError) -> Status {
    Status::internal(error.to_string())
}

fn refusal(error: &ContainerError) -> Status {
    let message = error.to_string();
    match error {
        ContainerError::Ended { .. } => Status::aborted(message),
        ContainerError::Unreachable { .. } => Status::failed_precondition(message),
        ContainerError::Channel(ChannelError::Busy) => Status::resource_exhausted(message),
        ContainerError::Channel(ChannelError::TooLong { .. }) => Status::out_of_range(message),
        ContainerError::Channel(_) => Status::failed_precondition(message),
    }
}
