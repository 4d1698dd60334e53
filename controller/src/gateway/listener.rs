//! Taking connections, and keeping each within its bounds.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;
use tracing::warn;

use crate::host;

use super::patient::Patient;
use super::place::{Bound, Entrance, Listener};
use super::token::check_page;
use super::{reply, route};

/// Connections of one place that are open at a time, where there are descriptors for twice as
/// many; more wait to be accepted.
const MOST_CONNECTIONS: usize = 1024;

/// Bytes of a request's line and headers.
const MOST_HEADER_BYTES: usize = 64 * 1024;

/// How long to wait after `accept` failed for want of something that others use up.
const PAUSE: Duration = Duration::from_millis(50);

/// How long nothing is said of it then.
const QUIET: Duration = Duration::from_secs(10);

/// Descriptors that clients do not get.
const MOST_KEPT: usize = 64;

/// How long a client that is not served may take to see that.
const FAREWELL: Duration = Duration::from_millis(200);

/// To a client that comes when descriptors are short.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-type: application/json\r\ncontent-length: 110\r\n\r\n{\"error\":{\"kind\":\"busy\",\"message\":\"busy: refunctiond has as many files open as it may; try again in 1000 ms\"}}";

/// To a client that began a request and did not come to its body.
const TOO_SLOW: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection, and the number of its descriptor.
async fn accept(listener: &Listener) -> io::Result<(Box<dyn Stream>, RawFd)> {
    match listener {
        Listener::Address(listener) => {
            let (stream, _) = listener.accept().await?;
            // An answer is small, and is not to wait for more of it.
            stream.set_nodelay(true)?;
            let number = stream.as_raw_fd();
            Ok((Box::new(stream), number))
        }
        Listener::Socket(listener, _) => {
            let (stream, _) = listener.accept().await?;
            let number = stream.as_raw_fd();
            Ok((Box::new(stream), number))
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
    // Containers need descriptors, too, and clients are not to have the last.
    let most = MOST_CONNECTIONS.min(host::descriptors() / 2);
    let seats = Arc::new(Semaphore::new(most));
    let mut connections = tokio::task::JoinSet::new();
    let told = stopping.clone();
    let mut last = None;
    let take = async {
        loop {
            // Of those that ended nothing is to be kept.
            while connections.try_join_next().is_some() {}
            let Ok(seat) = Arc::clone(&seats).acquire_owned().await else {
                return;
            };
            match accept(&listener).await {
                Ok((stream, number)) if is_among_the_last(number) => {
                    if is_told(&mut last) {
                        warn!("descriptors are short: clients are told to come again");
                    }
                    // One after the other: each has one of the last.
                    refuse(stream).await;
                }
                Ok((stream, _)) => {
                    let (entrance, router) = (entrance.clone(), router.clone());
                    let stopping = told.clone();
                    connections.spawn(async move {
                        converse(stream, &entrance, router, patience, stopping).await;
                        drop(seat);
                    });
                }
                Err(error) => {
                    // One that left at once, or descriptors are used up.
                    if is_told(&mut last) {
                        warn!(%error, "connections are not accepted; they wait");
                    }
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

/// The kernel gives the lowest number that is free. The last are for containers: those that
/// clients wait for could not be made, or not be removed, where clients have them all.
fn is_among_the_last(number: RawFd) -> bool {
    let limit = host::descriptors();
    let kept = MOST_KEPT.min(limit / 4);
    usize::try_from(number).is_ok_and(|number| number >= limit - kept)
}

/// Says that it is busy, to whoever has sent what.
async fn refuse(mut stream: Box<dyn Stream>) {
    let told = async {
        stream.write_all(BUSY).await?;
        stream.shutdown().await?;
        // Closed with something unread, it would take the answer with it.
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    let _ = tokio::time::timeout(FAREWELL, told).await;
}

/// Once a while is enough, of what happens twenty times a second.
fn is_told(last: &mut Option<Instant>) -> bool {
    let is_due = last.is_none_or(|last| last.elapsed() > QUIET);
    if is_due {
        *last = Some(Instant::now());
    }
    is_due
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
