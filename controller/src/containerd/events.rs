//! News of tasks: who ended, whose memory ran out, and what was made.

use std::time::Duration;

use prost::Message;
use tokio::sync::mpsc;
use tracing::warn;

use super::api::containerd::events::{
    ContainerCreate, SnapshotPrepare, TaskCreate, TaskExit, TaskOom,
};
use super::api::containerd::services::events::v1::{PublishRequest, SubscribeRequest};
use super::api::containerd::types::Envelope;
use super::client::{Containerd, ContainerdError, Doing, quoted};

/// How long to wait before asking again after containerd went away.
const RETRY: Duration = Duration::from_millis(500);

/// How long a subscription may take to stand before it is knocked at again.
const KNOCK: Duration = Duration::from_millis(10);

/// One piece of news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskEvent {
    /// A container's init ended.
    Exit {
        /// The container.
        container: String,
        /// Its exit code, 128 + n after signal n.
        status: u32,
    },
    /// The kernel killed a process of the container for memory.
    OutOfMemory {
        /// The container.
        container: String,
    },
    /// A root filesystem, a record or a task was made, by whomever.
    Made {
        /// What it is called.
        id: String,
    },
    /// An image came, or is another now.
    Image,
    /// News may have been missed: look at everything.
    Resumed,
}

/// Subscribes; the first subscription stands when this returns, so that nothing
/// done afterwards is missed. Ends when the receiver is dropped.
///
/// # Errors
/// containerd refuses the subscription.
pub async fn watch(
    containerd: Containerd,
) -> Result<mpsc::UnboundedReceiver<TaskEvent>, ContainerdError> {
    let mut stream = subscribe(&containerd).await?;
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let news = tokio::select! {
                news = stream.message() => news,
                () = sender.closed() => return,
            };
            match news {
                Ok(Some(envelope)) => {
                    if let Some(event) = read(&envelope)
                        && sender.send(event).is_err()
                    {
                        return;
                    }
                    continue;
                }
                Ok(None) => warn!("containerd ended the stream of task events"),
                Err(status) => warn!(cause = status.message(), "the stream of task events broke"),
            }
            stream = loop {
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    () = sender.closed() => return,
                }
                if let Ok(stream) = subscribe(&containerd).await {
                    break stream;
                }
            };
            if sender.send(TaskEvent::Resumed).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// Subscribes, and returns once the subscription stands.
///
/// containerd answers a subscription with its first event and not before, so that
/// a quiet one cannot be told from none: an event of our own is published until
/// one comes through.
async fn subscribe(containerd: &Containerd) -> Result<tonic::Streaming<Envelope>, ContainerdError> {
    let mut events = containerd.events();
    let subscription = events.subscribe(SubscribeRequest {
        filters: vec![format!("namespace=={}", quoted(containerd.namespace()))],
    });
    tokio::pin!(subscription);
    loop {
        tokio::select! {
            stream = &mut subscription => {
                return stream.doing(|| "subscribing to task events".into());
            }
            () = tokio::time::sleep(KNOCK) => {}
        }
        containerd
            .events()
            .publish(PublishRequest {
                topic: "/refunction/subscribed".into(),
                event: Some(prost_types::Any {
                    type_url: "google.protobuf.Empty".into(),
                    value: Vec::new(),
                }),
            })
            .await
            .doing(|| "publishing an event".into())?;
    }
}

fn read(envelope: &Envelope) -> Option<TaskEvent> {
    let payload = envelope.event.as_ref()?.value.as_slice();
    match envelope.topic.as_str() {
        "/tasks/exit" => {
            let exit = TaskExit::decode(payload).ok()?;
            // An exec's end is not the container's.
            (exit.id == exit.container_id).then_some(TaskEvent::Exit {
                container: exit.container_id,
                status: exit.exit_status,
            })
        }
        "/tasks/oom" => Some(TaskEvent::OutOfMemory {
            container: TaskOom::decode(payload).ok()?.container_id,
        }),
        "/tasks/create" => Some(TaskEvent::Made {
            id: TaskCreate::decode(payload).ok()?.container_id,
        }),
        "/images/create" | "/images/update" => Some(TaskEvent::Image),
        "/containers/create" => Some(TaskEvent::Made {
            id: ContainerCreate::decode(payload).ok()?.id,
        }),
        "/snapshot/prepare" => Some(TaskEvent::Made {
            id: SnapshotPrepare::decode(payload).ok()?.key,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(topic: &str, event: &impl Message) -> Envelope {
        Envelope {
            namespace: "refunction".into(),
            topic: topic.into(),
            event: Some(prost_types::Any {
                type_url: String::new(),
                value: event.encode_to_vec(),
            }),
        }
    }

    #[test]
    fn only_the_inits_end_counts() {
        let mut exit = TaskExit {
            container_id: "a".into(),
            id: "a".into(),
            exit_status: 137,
        };
        let ended = Some(TaskEvent::Exit {
            container: "a".into(),
            status: 137,
        });
        assert_eq!(read(&envelope("/tasks/exit", &exit)), ended);
        exit.id = "an-exec".into();
        assert_eq!(read(&envelope("/tasks/exit", &exit)), None);
        assert_eq!(read(&envelope("/tasks/start", &exit)), None);
    }

    #[test]
    fn whatever_is_made_is_told_by_its_name() {
        let id = "a".to_owned();
        let made = Some(TaskEvent::Made { id: id.clone() });
        let container_id = id.clone();
        let task = envelope("/tasks/create", &TaskCreate { container_id });
        assert_eq!(read(&task), made);
        let record = envelope("/containers/create", &ContainerCreate { id: id.clone() });
        assert_eq!(read(&record), made);
        let image = envelope("/images/create", &());
        assert_eq!(read(&image), Some(TaskEvent::Image));
        let snapshot = envelope("/snapshot/prepare", &SnapshotPrepare { key: id });
        assert_eq!(read(&snapshot), made);
    }
}
