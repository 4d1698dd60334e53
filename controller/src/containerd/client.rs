//! The connection to containerd, and calls with their failures named.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::api::containerd::services::containers::v1::{
    Container as Record, ListContainersRequest,
};
use super::api::containerd::services::{
    containers::v1::containers_client::ContainersClient,
    content::v1::content_client::ContentClient, diff::v1::diff_client::DiffClient,
    events::v1::events_client::EventsClient, images::v1::images_client::ImagesClient,
    leases::v1::leases_client::LeasesClient, namespaces::v1::namespaces_client::NamespacesClient,
    snapshots::v1::snapshots_client::SnapshotsClient, tasks::v1::tasks_client::TasksClient,
    version::v1::version_client::VersionClient,
};

impl Record {
    /// When it was made.
    pub(crate) fn created_unix_ms(&self) -> i64 {
        self.created_at
            .as_ref()
            .map_or(0, |at| at.seconds * 1000 + i64::from(at.nanos) / 1_000_000)
    }
}

/// How long a dial may take; the socket is local.
const DIAL: Duration = Duration::from_secs(5);

/// What went wrong between here and containerd.
#[derive(Debug, thiserror::Error)]
pub enum ContainerdError {
    /// Nobody answers at the socket.
    #[error(
        "containerd does not answer at {}: {cause}; start containerd, name its socket with --containerd-address, or let refunctiond start one of its own with --private-containerd",
        address.display()
    )]
    Unreachable {
        /// The socket.
        address: PathBuf,
        /// What dialling it said.
        cause: String,
    },
    /// A call failed.
    #[error("{doing}: {}", said(status))]
    Call {
        /// What was being done.
        doing: String,
        /// What containerd answered.
        status: Box<Status>,
    },
    /// A value cannot be said to containerd.
    #[error("{what} is not something that containerd takes")]
    Invalid {
        /// The value and what it was for.
        what: String,
    },
}

fn said(status: &Status) -> String {
    match status.code() {
        Code::Unavailable => "containerd does not answer any more".into(),
        // The transport's word for a socket that cannot be dialled.
        Code::Unknown if std::error::Error::source(status).is_some() => {
            format!("containerd does not answer any more: {}", status.message())
        }
        _ => format!("containerd says: {}", status.message()),
    }
}

impl ContainerdError {
    /// True if what was asked for does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Call { status, .. } if status.code() == Code::NotFound)
    }
}

/// Names what was being done in a failed call.
pub(crate) trait Doing<T> {
    /// # Errors
    /// The call's, with `doing` in front.
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, ContainerdError>;
}

impl<T> Doing<T> for Result<tonic::Response<T>, Status> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, ContainerdError> {
        self.map(tonic::Response::into_inner)
            .map_err(|status| ContainerdError::Call {
                doing: doing(),
                status: Box::new(status),
            })
    }
}

/// Takes a refusal that says the wish is already fulfilled as fulfilled.
pub(crate) fn unless(
    code: Code,
    result: Result<(), ContainerdError>,
) -> Result<(), ContainerdError> {
    match result {
        Err(ContainerdError::Call { status, .. }) if status.code() == code => Ok(()),
        other => other,
    }
}

/// A name in a filter, whatever is in it (containerd's filters/quote.go reads a Go string,
/// which one of JSON is, too).
pub(crate) fn quoted(text: &str) -> serde_json::Value {
    text.into()
}

/// Puts the namespace, and perhaps a lease, on every call.
#[derive(Debug, Clone)]
pub struct Headers {
    namespace: MetadataValue<Ascii>,
    lease: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert("containerd-namespace", self.namespace.clone());
        if let Some(lease) = &self.lease {
            metadata.insert("containerd-lease", lease.clone());
        }
        Ok(request)
    }
}

type Transport = InterceptedService<Channel, Headers>;

/// A connection to containerd in one namespace. Cheap to clone; it dials anew by
/// itself after containerd was restarted.
#[derive(Debug, Clone)]
pub struct Containerd {
    address: PathBuf,
    channel: Channel,
    headers: Headers,
    version: String,
}

macro_rules! services {
    ($($(#[$doc:meta])* $name:ident: $client:ident),* $(,)?) => {
        $($(#[$doc])* pub(crate) fn $name(&self) -> $client<Transport> {
            $client::with_interceptor(self.channel.clone(), self.headers.clone())
                .max_decoding_message_size(64 * 1024 * 1024)
        })*
    };
}

impl Containerd {
    /// Connects and asks for the version.
    ///
    /// # Errors
    /// Nobody answers, or the namespace's name is malformed.
    pub async fn connect(address: &Path, namespace: &str) -> Result<Self, ContainerdError> {
        let headers = Headers {
            namespace: namespace.parse().map_err(|_| ContainerdError::Invalid {
                what: format!("the namespace {namespace:?}"),
            })?,
            lease: None,
        };
        let unreachable = |cause: String| ContainerdError::Unreachable {
            address: address.to_owned(),
            cause,
        };
        // Dialled by hand first: the transport's own error hides the cause.
        UnixStream::connect(address)
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        let path = address.to_owned();
        let channel = Endpoint::from_static("http://containerd")
            .connect_timeout(DIAL)
            .connect_with_connector_lazy(tower::service_fn(move |_| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            }));
        let mut this = Self {
            address: address.to_owned(),
            channel,
            headers,
            version: String::new(),
        };
        this.version = this.answers(DIAL).await?;
        Ok(this)
    }

    /// The socket.
    #[must_use]
    pub fn address(&self) -> &Path {
        &self.address
    }

    /// containerd's own version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The namespace in which everything is done.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.headers.namespace.to_str().unwrap_or_default()
    }

    /// The same connection with what it makes held by a lease, so that the garbage
    /// collector leaves alone what nothing refers to yet.
    pub(crate) fn with_lease(&self, lease: &str) -> Result<Self, ContainerdError> {
        let mut leased = self.clone();
        leased.headers.lease = Some(lease.parse().map_err(|_| ContainerdError::Invalid {
            what: format!("the lease {lease:?}"),
        })?);
        Ok(leased)
    }

    /// Asks containerd for its version, to see whether it is there at all: it may hang, and then
    /// no call ends.
    ///
    /// # Errors
    /// It does not answer in time.
    pub async fn answers(&self, within: Duration) -> Result<String, ContainerdError> {
        let silent = |cause| ContainerdError::Unreachable {
            address: self.address.clone(),
            cause,
        };
        tokio::time::timeout(within, self.version_service().version(()))
            .await
            .map_err(|_| silent(format!("no answer within {} s", within.as_secs())))?
            .map_err(|status| silent(status.message().to_owned()))
            .map(|version| version.into_inner().version)
    }

    /// The same connection in another namespace.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Result<Self, ContainerdError> {
        let mut elsewhere = self.clone();
        elsewhere.headers.namespace = namespace.parse().map_err(|_| ContainerdError::Invalid {
            what: format!("the namespace {namespace:?}"),
        })?;
        Ok(elsewhere)
    }

    /// All container records of the namespace.
    pub(crate) async fn records(&self) -> Result<Vec<Record>, ContainerdError> {
        self.records_that(Vec::new()).await
    }

    /// A container's record, if there is one.
    pub(crate) async fn record(&self, id: &str) -> Result<Option<Record>, ContainerdError> {
        let filter = format!("id=={}", quoted(id));
        Ok(self.records_that(vec![filter]).await?.pop())
    }

    async fn records_that(&self, filters: Vec<String>) -> Result<Vec<Record>, ContainerdError> {
        Ok(self
            .containers()
            .list(ListContainersRequest { filters })
            .await
            .doing(|| "listing containers".into())?
            .containers)
    }

    services! {
        /// Its version.
        version_service: VersionClient,
        /// Container records.
        containers: ContainersClient,
        /// Running containers.
        tasks: TasksClient,
        /// News.
        events: EventsClient,
        /// Image records.
        images: ImagesClient,
        /// Blobs.
        content: ContentClient,
        /// Root filesystems.
        snapshots: SnapshotsClient,
        /// Unpacking.
        diff: DiffClient,
        /// Holding on to things.
        leases: LeasesClient,
        /// Namespaces.
        namespaces: NamespacesClient,
    }
}
