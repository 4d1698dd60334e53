//! The daemon's life: find containerd, adopt what is there, serve, end in order.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::stat::{Mode, umask};
use refunction_protocol::host::MAX_MESSAGE_BYTES;
use refunction_protocol::host::functions_server::FunctionsServer;
use refunction_protocol::host::refunction_server::RefunctionServer;
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tracing::{info, warn};

use crate::config::Config;
use crate::containerd::private::{Private, PrivateError};
use crate::containerd::{Containerd, ContainerdError, events};
use crate::cri::{self, CriError};
use crate::gateway::{self, Bound, Gateway, PlaceError, Token, TokenError};
use crate::host;
use crate::lock::{self, Lock};
use crate::network::Network;
use crate::node::Node;
use crate::notify;
use crate::registry::Registry;
use crate::service::{Functions, Service};
use crate::store::{Store, StoreError};
use crate::traces::Traces;

/// Runtimes that a function can name in an image's place.
const RUNTIMES: [&str; 5] = ["python", "javascript", "lua", "node", "java"];

/// How long a daemon that was killed may take to be gone.
const KILLED: Duration = Duration::from_secs(1);

/// How long open calls may go on after the daemon was asked to end.
const DRAIN: Duration = Duration::from_secs(5);

/// Why the daemon does not run, or ended.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// It needs to make containers.
    #[error("refunctiond makes containers and must be run as root")]
    NotRoot,
    /// Two daemons would take each other's containers for their own.
    #[error("another refunctiond is running on {}; stop it, or give this one a --state-dir, a --root-dir and a --socket of its own", what.display())]
    InUse {
        /// The socket or directory that it has.
        what: PathBuf,
    },
    /// A file or directory of its own.
    #[error("{doing} {}: {source}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// containerd is not there, or refuses.
    #[error(transparent)]
    Containerd(#[from] ContainerdError),
    /// There is no private containerd.
    #[error(transparent)]
    Private(#[from] PrivateError),
    /// What it remembers cannot be had.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The gateway cannot listen.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// Nobody could show who they are.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Kubelet cannot be served.
    #[error("serving kubelet: {0}")]
    Cri(#[from] CriError),
    /// Traces cannot be sent anywhere.
    #[error("sending traces: {0}")]
    Traces(#[from] opentelemetry_otlp::ExporterBuildError),
    /// There are no threads to run on.
    #[error("starting threads: {0}")]
    Threads(#[from] io::Error),
    /// Signals cannot be received.
    #[error("waiting for signals: {0}")]
    Signals(io::Error),
    /// The control socket broke.
    #[error("serving the control socket: {0}")]
    Serve(#[from] tonic::transport::Error),
}

fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DaemonError {
    let path = path.to_owned();
    move |source| DaemonError::File {
        doing,
        path,
        source,
    }
}

/// Runs until a signal ends it.
///
/// # Errors
/// See [`DaemonError`]; each is one sentence that says what to do.
pub async fn run(config: Config) -> Result<(), DaemonError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(DaemonError::NotRoot);
    }
    host::raise_descriptors();
    let mut interrupted = Interrupted::new().map_err(DaemonError::Signals)?;
    let state = absolute(&config.state_dir)?;
    let root = absolute(&config.root_dir)?;
    private_directory(&state)?;
    let _lock = match Lock::take(&state, KILLED).await {
        Ok(Some(lock)) => lock,
        Ok(None) => return Err(DaemonError::InUse { what: state }),
        Err(source) => return Err(file("locking", &state.join(lock::FILE))(source)),
    };
    let listener = listen(&config.socket).await?;

    let store = Store::open(&root).await?;

    let private = if config.containerd.private {
        Some(Private::start(&root, &state).await?)
    } else {
        None
    };
    let served = serve(
        &config,
        [&state, &root],
        store.clone(),
        listener,
        private.as_ref(),
        &mut interrupted,
    )
    .await;
    if let Some(private) = private {
        private.stop().await;
    }
    store.close().await;
    let _ = std::fs::remove_file(&config.socket);
    served
}

async fn serve(
    config: &Config,
    [state, root]: [&Path; 2],
    store: Store,
    listener: UnixListener,
    private: Option<&Private>,
    interrupted: &mut Interrupted,
) -> Result<(), DaemonError> {
    let address = private.map_or(config.containerd.address.as_path(), Private::address);
    let network = Network::new(config.network.clone(), root, state);
    let beginning = async {
        let containerd = Containerd::connect(address, &config.containerd.namespace).await?;
        info!(version = containerd.version(), address = %address.display(), "connected to containerd");
        let news = events::watch(containerd.clone()).await?;
        let registry = Arc::new(Registry::new(containerd, state, private.is_some(), network));
        // After the subscription: what ends meanwhile is not missed.
        registry.adopt().await?;
        Ok::<_, DaemonError>((registry, news))
    };
    let (registry, news) = tokio::select! {
        begun = beginning => begun?,
        () = interrupted.wait() => return Ok(()),
    };
    let following = tokio::spawn({
        let registry = Arc::clone(&registry);
        async move { registry.follow(news).await }
    });

    let tidying = tokio::spawn({
        let registry = Arc::clone(&registry);
        async move { registry.tidy().await }
    });
    let traces = match &config.traces.endpoint {
        Some(endpoint) => {
            info!(endpoint, "sending traces");
            Traces::to(endpoint)?
        }
        None => Traces::default(),
    };
    let settings = config.into();
    let node = Node::start(Arc::clone(&registry), store, settings, traces.clone()).await?;

    let (stop, mut stopping) = watch::channel(false);
    let service = Service::new(
        Arc::clone(&registry),
        state,
        private.is_some(),
        stopping.clone(),
    );
    let functions = Functions::new(Arc::clone(&node), Arc::clone(&registry), stopping.clone());
    let kubelets = match &config.cri.socket {
        Some(socket) => {
            let pods = cri::Pods::begin(Arc::clone(&registry), state).await?;
            let listener = listen(socket).await?;
            info!(socket = %socket.display(), "serving kubelet");
            Some(tokio::spawn(cri::serve(
                listener,
                address.to_owned(),
                pods,
                stopping.clone(),
            )))
        }
        None => None,
    };
    let gateway = open_gateway(config, &node, stopping.clone()).await?;
    let mut server = tokio::spawn(
        Server::builder()
            .add_service(
                RefunctionServer::new(service)
                    .max_decoding_message_size(MAX_MESSAGE_BYTES)
                    .max_encoding_message_size(MAX_MESSAGE_BYTES),
            )
            .add_service(
                FunctionsServer::new(functions)
                    .max_decoding_message_size(MAX_MESSAGE_BYTES)
                    .max_encoding_message_size(MAX_MESSAGE_BYTES),
            )
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), async move {
                let _ = stopping.wait_for(|stopping| *stopping).await;
            }),
    );
    info!(socket = %config.socket.display(), "serving");
    notify::say(notify::READY);
    let mut result = Ok(());
    tokio::select! {
        () = interrupted.wait() => {
            info!("ending");
            notify::say(notify::STOPPING);
            stop.send_replace(true);
            tokio::select! {
                drained = tokio::time::timeout(DRAIN, node.drain()) => {
                    if drained.is_err() {
                        warn!("some calls did not end in time; they are cut off");
                    }
                }
                () = interrupted.wait() => {}
            }
            tokio::select! {
                () = registry.settle() => {}
                () = interrupted.wait() => {}
            }
            tokio::select! {
                ended = tokio::time::timeout(DRAIN, &mut server) => {
                    if ended.is_err() {
                        warn!("some calls did not end in time; they are cut off");
                    }
                }
                () = interrupted.wait() => {}
            }
            server.abort();
        }
        ended = &mut server => {
            if let Ok(Err(error)) = ended {
                result = Err(error.into());
            }
        }
    }
    stop.send_replace(true);
    if let (Some(kubelets), Some(socket)) = (kubelets, &config.cri.socket) {
        let _ = kubelets.await;
        let _ = std::fs::remove_file(socket);
    }
    if let Some(gateway) = gateway {
        let _ = gateway.await;
    }
    following.abort();
    tidying.abort();
    traces.close().await;
    if private.is_some() {
        // They cannot outlive their containerd in any useful way.
        for container in registry.all() {
            if let Err(error) = registry.remove(&container.id).await {
                warn!(container = container.id, %error, "something is left");
            }
        }
    }
    result
}

/// Lets in who comes for functions over HTTP, if that is wanted.
async fn open_gateway(
    config: &Config,
    node: &Arc<Node>,
    stopping: watch::Receiver<bool>,
) -> Result<Option<JoinHandle<()>>, DaemonError> {
    let token = config.gateway.token_file.as_deref().map(Token::read);
    let token = token.transpose()?;
    let mut places = Vec::new();
    for place in &config.gateway.listen {
        let bound = Bound::listen(place, token.as_ref()).await?;
        if let Some(place) = bound.place() {
            info!(%place, "serving functions over HTTP");
        }
        places.push(bound);
    }
    if places.is_empty() {
        return Ok(None);
    }
    let wanted = &config.gateway;
    let mut images: BTreeMap<_, _> = RUNTIMES
        .map(|runtime| (runtime.to_owned(), format!("refunction/{runtime}")))
        .into();
    images.extend(wanted.images.clone());
    let settings = gateway::Settings {
        images,
        patience: wanted.patience,
        grace: wanted.grace,
        results: gateway::Bounds {
            most: wanted.max_results,
            most_bytes: usize::try_from(wanted.results_memory.0).unwrap_or(usize::MAX),
            age: wanted.keep_results,
        },
    };
    let invoke = Arc::new(Arc::clone(node));
    let gateway = Gateway::new(node.store().clone(), invoke, settings);
    Ok(Some(tokio::spawn(gateway.serve(places, stopping))))
}

pub(crate) fn absolute(path: &Path) -> Result<PathBuf, DaemonError> {
    std::path::absolute(path).map_err(file("resolving", path))
}

fn private_directory(path: &Path) -> Result<(), DaemonError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(file("making", path))
}

async fn listen(socket: &Path) -> Result<UnixListener, DaemonError> {
    if tokio::net::UnixStream::connect(socket).await.is_ok() {
        return Err(DaemonError::InUse {
            what: socket.to_owned(),
        });
    }
    // Nobody listens: it is a dead daemon's.
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(file("replacing", socket)(error));
        }
        _ => {}
    }
    if let Some(parent) = socket.parent() {
        private_directory(parent)?;
    }
    // For root only from its first moment. Not longer: a private containerd would
    // inherit it, and its root filesystems would be closed to a worker's user.
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(socket);
    umask(before);
    let listener = bound.map_err(file("listening on", socket))?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))
        .map_err(file("protecting", socket))?;
    Ok(listener)
}

/// SIGINT and SIGTERM.
struct Interrupted {
    int: Signal,
    term: Signal,
}

impl Interrupted {
    fn new() -> io::Result<Self> {
        Ok(Self {
            int: signal(SignalKind::interrupt())?,
            term: signal(SignalKind::terminate())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
        }
    }
}
