//! One client's connection, and the connection to containerd that is its own.

use std::path::Path;
use std::sync::Arc;

use h2::server;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tracing::debug;

use super::forward::forward;
use super::pods::Pods;
use super::upstream::Upstream;
use super::{CONNECTION_WINDOW, STREAM_WINDOW, ended};

/// Streams that a client may give up before they were looked at. Its calls are
/// cancelled by the dozen when a node is drained; the library's 20 are for strangers.
const GIVEN_UP: usize = 1024;

/// Passes a client's calls on until it hangs up, or `stopping` is true and its calls
/// have ended.
pub(super) async fn serve(
    stream: UnixStream,
    containerd: Arc<Path>,
    pods: Arc<Pods>,
    mut stopping: watch::Receiver<bool>,
) {
    let handshake = server::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_pending_accept_reset_streams(GIVEN_UP)
        .max_concurrent_reset_streams(GIVEN_UP)
        .handshake(stream)
        .await;
    let mut connection = match handshake {
        Ok(connection) => connection,
        // A knock at the socket, as of a health check, says nothing.
        Err(error) => return debug!(%error, "a client of the CRI socket does not speak HTTP/2"),
    };
    let upstream = Arc::new(Upstream::new(containerd));
    let mut ending = false;
    loop {
        let call = tokio::select! {
            call = connection.accept() => call,
            () = ended(&mut stopping), if !ending => {
                ending = true;
                connection.graceful_shutdown();
                continue;
            }
        };
        match call {
            Some(Ok((request, respond))) => {
                let (upstream, pods) = (Arc::clone(&upstream), Arc::clone(&pods));
                // It ends with the connection: every frame to or from it fails then.
                tokio::spawn(async move { forward(request, respond, &upstream, &pods).await });
            }
            Some(Err(error)) => return debug!(%error, "a client of the CRI socket went away"),
            None => return,
        }
    }
}
