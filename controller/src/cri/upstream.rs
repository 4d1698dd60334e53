//! The connection to containerd on behalf of one client.
//!
//! Each client has its own, as it would without a proxy: what one of them does not
//! read holds up nobody else's answers (HTTP/2 bounds a connection's data in flight,
//! not only a stream's), containerd's limits on a connection are met by whoever
//! exceeds them, and when a client goes, containerd sees its calls end.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tracing::debug;

use super::{CONNECTION_WINDOW, STREAM_WINDOW};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreachable {
    #[error("nobody answers: {0}")]
    Dial(#[from] io::Error),
    #[error("it does not speak HTTP/2: {0}")]
    Handshake(#[from] h2::Error),
}

/// Dialled with the first call, and again with the first one after it broke.
pub(super) struct Upstream {
    address: Arc<Path>,
    current: Mutex<Option<SendRequest<Bytes>>>,
}

impl Upstream {
    pub(super) fn new(address: Arc<Path>) -> Self {
        Self {
            address,
            current: Mutex::default(),
        }
    }

    /// The socket.
    pub(super) fn address(&self) -> &Path {
        &self.address
    }

    /// A place for one more stream.
    pub(super) async fn ready(&self) -> Result<SendRequest<Bytes>, Unreachable> {
        // Held while waiting for a free stream, too: whoever comes next would have to
        // wait for one as well.
        let mut current = self.current.lock().await;
        if let Some(connection) = current.take()
            && let Ok(ready) = connection.ready().await
        {
            *current = Some(ready.clone());
            return Ok(ready);
        }
        let stream = UnixStream::connect(&self.address).await?;
        let (sender, connection) = client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .enable_push(false)
            .handshake(stream)
            .await?;
        // It ends when nobody is left who could send over it.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "a connection to containerd broke");
            }
        });
        let ready = sender.ready().await?;
        *current = Some(ready.clone());
        Ok(ready)
    }
}
