//! The connection to the daemon.

use std::io;

use hyper_util::rt::TokioIo;
use refunction_protocol::host::MAX_MESSAGE_BYTES;
use refunction_protocol::host::refunction_client::RefunctionClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::error::Error;
use crate::target::Target;

/// The daemon's calls.
pub(crate) type Client = RefunctionClient<Channel>;

/// Connects to the daemon.
///
/// # Errors
/// It does not answer; the message says what to do.
pub(crate) async fn connect(target: &Target) -> Result<Client, Error> {
    // Dialled by hand first: the transport's own error hides the cause.
    UnixStream::connect(&target.path)
        .await
        .map_err(|error| Error::Unreachable(unreachable(target, &error)))?;
    let path = target.path.clone();
    let channel = Endpoint::from_static("http://refunctiond").connect_with_connector_lazy(
        tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }),
    );
    Ok(RefunctionClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES))
}

fn unreachable(target: &Target, error: &io::Error) -> String {
    let url = target.url();
    if error.kind() == io::ErrorKind::PermissionDenied {
        return format!(
            "{url} is for its owner only: {error}; run funk as the user that runs refunctiond (root)"
        );
    }
    format!(
        "refunctiond does not answer at {url}: {error}; start it with `refunctiond`, or name its socket with --target or `funk target -u`"
    )
}
