//! HTTP for whoever tries a function: each request goes to the supervisor that holds the
//! function as it is now, and is answered by that one whatever changes meanwhile.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1 as client;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{oneshot, watch};

/// How long to wait after `accept` failed for want of something that others use up.
const PAUSE: Duration = Duration::from_millis(50);

/// What requests are answered with.
#[derive(Clone)]
enum State {
    /// By nobody yet: they wait.
    Coming,
    Serving(Arc<Backend>),
    /// With the reason why there is nobody.
    Broken(Arc<str>),
}

/// Where a supervisor is asked. When the last of its requests is answered, and no more come,
/// it says so.
pub(crate) struct Backend {
    socket: PathBuf,
    unused: Option<oneshot::Sender<()>>,
}

impl Backend {
    /// And what hears that it is not used any more.
    pub(crate) fn new(socket: PathBuf) -> (Arc<Self>, oneshot::Receiver<()>) {
        let (unused, hears) = oneshot::channel();
        let unused = Some(unused);
        (Arc::new(Self { socket, unused }), hears)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if let Some(unused) = self.unused.take() {
            // Whoever would hear it is gone when everything ends.
            let _ = unused.send(());
        }
    }
}

/// The front.
pub(crate) struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
}

impl Proxy {
    /// Listens from now on; requests wait until there is somebody to answer them.
    pub(crate) async fn listen(host: &str, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((host, port)).await?;
        let address = listener.local_addr()?;
        let (state, states) = watch::channel(State::Coming);
        tokio::spawn(accept(listener, states));
        Ok(Self { address, state })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has requests wait that come from now on.
    pub(crate) fn hold(&self) {
        self.state.send_replace(State::Coming);
    }

    /// Has this one answer them.
    pub(crate) fn serve(&self, backend: Arc<Backend>) {
        self.state.send_replace(State::Serving(backend));
    }

    /// Answers them with the reason why nobody does.
    pub(crate) fn fail(&self, reason: &str) {
        self.state.send_replace(State::Broken(reason.into()));
    }
}

async fn accept(listener: TcpListener, states: watch::Receiver<State>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(converse(stream, states.clone()));
            }
            // One that left at once, or descriptors are used up.
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn converse(stream: TcpStream, states: watch::Receiver<State>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let mut states = states.clone();
        async move {
            let settled = states.wait_for(|state| !matches!(state, State::Coming));
            let state = settled.await.map(|state| state.clone());
            Ok::<_, Infallible>(match state {
                Ok(State::Serving(backend)) => {
                    forward(backend, request).await.unwrap_or_else(|error| {
                        let said = format!("the function's supervisor did not answer: {error}");
                        failure(StatusCode::BAD_GATEWAY, "crashed", &said)
                    })
                }
                Ok(State::Broken(reason)) => {
                    failure(StatusCode::INTERNAL_SERVER_ERROR, "not_loaded", &reason)
                }
                Ok(State::Coming) | Err(_) => failure(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "not_loaded",
                    "funk is ending",
                ),
            })
        }
    });
    // A connection that breaks is its client's own matter.
    let _ = server::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

async fn forward(backend: Arc<Backend>, mut request: Request<Incoming>) -> io::Result<Answer> {
    let stream = UnixStream::connect(&backend.socket).await?;
    let (mut sender, connection) = client::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(connection);
    *request.version_mut() = Version::HTTP_11;
    let response = sender
        .send_request(request)
        .await
        .map_err(io::Error::other)?;
    Ok(response.map(|body| {
        let held = Held {
            body,
            _backend: backend,
        };
        held.boxed()
    }))
}

fn failure(status: StatusCode, kind: &str, message: &str) -> Answer {
    let document = json!({"error": {"kind": kind, "message": message}});
    let body = Full::from(format!("{document}\n")).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed());
    *answer.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    answer
}

/// An answer on its way, which keeps who gives it.
struct Held {
    body: Incoming,
    _backend: Arc<Backend>,
}

impl Body for Held {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
