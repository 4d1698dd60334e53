//! Taking connections, and keeping each within its bounds.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;
use tracing::debug;

use super::patient::Patient;
use super::place::{Bound, Entrance, Listener};
use super::token::check_page;
use super::{reply, route};

/// Connections of one place that are open at a time; more wait to be accepted.
const MOST_CONNECTIONS: usize = 1024;

/// Bytes of a request's line and headers.
const MOST_HEADER_BYTES: usize = 64 * 1024;

/// How long to wait after `accept` failed for want of something that others use up.
const PAUSE: Duration = Duration::from_millis(50);

/// To a client that began a request and did not come to its body.
const TOO_SLOW: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn accept(listener: &Listener) -> io::Result<Box<dyn Stream>> {
    match listener {
        Listener::Address(listener) => {
            let (stream, _) = listener.accept().await?;
            // An answer is small, and is not to wait for more of it.
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        Listener::Socket(listener, _) => {
            let (stream, _) = listener.accept().await?;
            Ok(Box::new(stream))
        }
    }
}

/// Takes connections until it is told to stop, and then waits for those that have a request.
pub(super) async fn serve(
    bound: Bound,
    router: Router,
    patience: Duration,
    mut stopping: watch::Receiver<bool>,
) {
    let Bound { listener, entrance } = bound;
    let seats = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    let told = stopping.clone();
    let take = async {
        loop {
            // Of those that ended nothing is to be kept.
            while connections.try_join_next().is_some() {}
            let Ok(seat) = Arc::clone(&seats).acquire_owned().await else {
                return;
            };
            match accept(&listener).await {
                Ok(stream) => {
                    let (entrance, router) = (entrance.clone(), router.clone());
                    let stopping = told.clone();
                    connections.spawn(async move {
                        converse(stream, &entrance, router, patience, stopping).await;
                        drop(seat);
                    });
                }
                Err(error) => {
                    // One that left at once, or descriptors are used up.
                    debug!(%error, "a connection was not accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        _ = stopping.wait_for(|stopping| *stopping) => {}
        () = take => {}
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// One connection, to its end.
async fn converse(
    stream: Box<dyn Stream>,
    entrance: &Entrance,
    router: Router,
    patience: Duration,
    mut stopping: watch::Receiver<bool>,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let router = router.clone();
        Box::pin(async move { Ok::<_, Infallible>(answer(entrance, router, request).await) })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_header_size(MOST_HEADER_BYTES)
        .serve_connection(TokioIo::new(Patient::new(stream, patience)), service);
    // What is waited for holds a lock until it is dropped.
    let told = async { drop(stopping.wait_for(|stopping| *stopping).await) };
    let served = tokio::select! {
        served = poll_fn(|context| connection.poll_without_shutdown(context)) => served,
        () = told => {
            Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|context| connection.poll_without_shutdown(context)).await
        }
    };
    let parts = connection.into_parts();
    let mut stream = parts.io.into_inner();
    // Without a byte of another request it was only a connection kept for later.
    if served.is_err_and(|error| error.is_timeout()) && !parts.read_buf.is_empty() {
        let _ = stream.write_all(TOO_SLOW).await;
    }
    // Whatever is left of it: the other side has all or has left.
    let _ = stream.shutdown().await;
}

async fn answer(entrance: &Entrance, router: Router, request: Request<Incoming>) -> Response<Body> {
    let headers = request.headers();
    let refused = match entrance {
        Entrance::Token(token) => {
            let is_open = route::OPEN.contains(&request.uri().path());
            (!is_open && !token.is_in(headers)).then(reply::unauthorized)
        }
        Entrance::Loopback => check_page(headers).err().map(reply::forbidden),
        Entrance::Socket => None,
    };
    match refused {
        Some(reply) => reply.map(Body::new),
        None => {
            let Ok(reply) = router.oneshot(request.map(Body::new)).await;
            reply
        }
    }
}
