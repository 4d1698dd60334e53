//! The connection to the daemon.

use std::io;

use hyper_util::rt::TokioIo;
use refunction_protocol::host::MAX_MESSAGE_BYTES;
use refunction_protocol::host::functions_client::FunctionsClient;
use refunction_protocol::host::refunction_client::RefunctionClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::error::Error;
use crate::target::Target;

/// The daemon's calls about containers and images.
pub(crate) type Client = RefunctionClient<Channel>;

/// Those about functions that are called by their names.
pub(crate) type Functions = FunctionsClient<Channel>;

/// Connects to the daemon.
///
/// # Errors
/// It does not answer; the message says what to do.
pub(crate) async fn connect(target: &Target) -> Result<Client, Error> {
    Ok(RefunctionClient::new(channel(target).await?)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES))
}

/// The same for functions.
///
/// # Errors
/// As there.
pub(crate) async fn connect_functions(target: &Target) -> Result<Functions, Error> {
    Ok(FunctionsClient::new(channel(target).await?)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES))
}

async fn channel(target: &Target) -> Result<Channel, Error> {
    // Dialled by hand first: the transport's own error hides the cause.
    UnixStream::connect(&target.path)
        .await
        .map_err(|error| Error::Unreachable(unreachable(target, &error)))?;
    let path = target.path.clone();
    Ok(
        Endpoint::from_static("http://refunctiond").connect_with_connector_lazy(tower::service_fn(
            move |_| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            },
        )),
    )
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
