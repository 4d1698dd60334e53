//! The socket through which kubelet uses refunction: containerd's own CRI, with
//! the containers of annotated pods made into function containers on the way.
//!
//! ```text
//! kubelet ─HTTP/2→ connection ─ forward ─┬─ pump ──────────────→ containerd
//!                                        └─ touched, by pods ──→ containerd
//! ```
//!
//! Nothing here lists the CRI's methods: a stream of HTTP/2 is passed on whatever it
//! is called, headers, body and trailers as they come. Five calls are looked at on
//! the way ([`touched`]), and only ever added to.

mod adoption;
mod connection;
mod forward;
mod grpc;
mod pods;
mod pump;
mod touched;
mod upstream;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::warn;

use crate::containerd::api::containerd::services::containers::v1::Container as Record;
use adoption::Adoption;

pub use pods::CriError;
pub(crate) use pods::Pods;

/// The CRI's messages, as far as they are used.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
mod api {
    include!(concat!(env!("OUT_DIR"), "/cri.rs"));
    pub(super) use runtime::v1::*;
}

/// Bytes of one stream that may be under way unread, in each direction.
const STREAM_WINDOW: u32 = 256 * 1024;

/// The same of one connection: some streams that nobody reads must not hold up the
/// others.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// How long open calls may go on after the daemon was asked to end; calls that
/// never end by themselves are among them, so it is short.
const DRAIN: Duration = Duration::from_secs(1);

/// How long to wait after a client could not be accepted: descriptors are short.
const PAUSE: Duration = Duration::from_millis(100);

/// How many of kubelet's containers have their directory below this one.
pub(crate) fn function_containers(records: &[Record], base: &Path) -> usize {
    let is_ours = |record: &&Record| Adoption::read(record, base).is_some();
    records.iter().filter(is_ours).count()
}

/// Waits until the daemon is to end.
async fn ended(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Serves clients until `stopping` is true.
pub(crate) async fn serve(
    listener: UnixListener,
    containerd: PathBuf,
    pods: Arc<Pods>,
    mut stopping: watch::Receiver<bool>,
) {
    let containerd: Arc<Path> = containerd.into();
    let mut connections = JoinSet::new();
    loop {
        let theirs = stopping.clone();
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (containerd, pods) = (Arc::clone(&containerd), Arc::clone(&pods));
                    connections.spawn(connection::serve(stream, containerd, pods, theirs));
                }
                Err(error) => {
                    warn!(%error, "a client of the CRI socket cannot be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = ended(&mut stopping) => break,
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        connections.shutdown().await;
    }
}
