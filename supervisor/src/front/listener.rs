//! The thread that listens, and its connections.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::{Semaphore, watch};
use tokio::task::LocalSet;

use super::bridge::{Inbox, bridge};
use super::route::{Site, answer};

/// Connections that are open at a time; more wait to be accepted.
const MOST_CONNECTIONS: usize = 1024;

/// Bytes of a request's line and headers.
const MOST_HEADER_BYTES: usize = 64 * 1024;

/// How long what was answered may take to go out when the supervisor ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long to wait after `accept` failed for want of something that others use up.
const PAUSE: Duration = Duration::from_millis(50);

/// To a client that began a request and did not come to its body.
const TOO_SLOW: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Why there is no front.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrontError {
    #[error("listening for HTTP on port {0}: {1}")]
    Listen(u16, io::Error),
    #[error("preparing to speak HTTP: {0}")]
    Prepare(io::Error),
}

/// How it is to be.
#[derive(Debug, Clone)]
pub(crate) struct Manners {
    pub(crate) port: u16,
    /// Requests that wait at most, beside those that run.
    pub(crate) queue: usize,
    /// Requests that run at most.
    pub(crate) concurrency: usize,
    /// What a client gets to send the headers of a request, or its body, or to take an
    /// answer.
    pub(crate) patience: Duration,
    /// The function that the container is for, if it is for one.
    pub(crate) handler: Option<String>,
    /// Functions are written in Python.
    pub(crate) is_python: bool,
}

/// The front, as the main thread has it.
pub(crate) struct Front {
    inbox: Inbox,
    /// Where it listens.
    address: SocketAddr,
    ending: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Front {
    /// Listens from now on.
    pub(crate) fn start(manners: Manners) -> Result<Self, FrontError> {
        let (bridge, inbox) = bridge(manners.queue + manners.concurrency)
            .map_err(|errno| FrontError::Prepare(errno.into()))?;
        let listener =
            listen(manners.port).map_err(|error| FrontError::Listen(manners.port, error))?;
        let address = listener.local_addr().map_err(FrontError::Prepare)?;
        let (ending, ended) = watch::channel(false);
        // A signal is the main thread's to take, whichever thread the kernel would choose.
        let mut before = SigSet::empty();
        let swapped = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
        if let Ok(mask) = swapped {
            before = mask;
        }
        let thread = Builder::new().name("front".into()).spawn(move || {
            // Connections share the bridge, and none leaves this thread.
            let site = Site::new(bridge, &manners);
            if let Err(error) = run(listener, site, manners.patience, ended) {
                eprintln!("refunction-supervisor: the HTTP front ended: {error}");
            }
        });
        if swapped.is_ok() {
            before
                .thread_set_mask()
                .map_err(|errno| FrontError::Prepare(errno.into()))?;
        }
        Ok(Self {
            inbox,
            address,
            ending,
            thread: Some(thread.map_err(FrontError::Prepare)?),
        })
    }

    /// What comes from it.
    pub(crate) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has what was answered go out, and ends it.
    pub(crate) fn finish(&mut self) {
        self.ending.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("refunction-supervisor: the HTTP front panicked");
        }
    }
}

/// A socket for every address of both kinds, or of the one kind that there is.
fn listen(port: u16) -> io::Result<std::net::TcpListener> {
    let both = std::net::TcpListener::bind((Ipv6Addr::UNSPECIFIED, port));
    let listener = match both {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            std::net::TcpListener::bind(("0.0.0.0", port))
        }
        other => other,
    }?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn run(
    listener: std::net::TcpListener,
    site: Site,
    patience: Duration,
    ended: watch::Receiver<bool>,
) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tasks = LocalSet::new();
    runtime.block_on(tasks.run_until(accept(listener, Rc::new(site), patience, ended)))
}

async fn accept(
    listener: std::net::TcpListener,
    site: Rc<Site>,
    patience: Duration,
    mut ended: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let seats = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let ends = async move {
        // The main thread is gone without a word: an end, too.
        let _ = ended.wait_for(|ended| *ended).await;
    };
    let over = watch::Sender::new(false);
    let serve = async {
        loop {
            let Ok(seat) = Arc::clone(&seats).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (site, over) = (Rc::clone(&site), over.subscribe());
                    tokio::task::spawn_local(async move {
                        converse(stream, site, patience, over).await;
                        drop(seat);
                    });
                }
                // One that left at once, or descriptors are used up.
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    };
    tokio::select! {
        () = ends => {}
        () = serve => {}
    }
    drop(listener);
    over.send_replace(true);
    let all = u32::try_from(MOST_CONNECTIONS).unwrap_or(u32::MAX);
    // Who has not taken its answer by then does without.
    let _ = tokio::time::timeout(LAST_WORDS, seats.acquire_many(all)).await;
    Ok(())
}

/// One connection, to its end.
async fn converse(
    stream: TcpStream,
    site: Rc<Site>,
    patience: Duration,
    mut over: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    // A client that does not take its answer is given up by the kernel.
    let limit = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
    let _ = setsockopt(&stream, sockopt::TcpUserTimeout, &limit);
    let service = service_fn(move |request| {
        let site = Rc::clone(&site);
        Box::pin(async move { Ok::<_, Infallible>(answer(&site, request).await) })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_header_size(MOST_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let served = tokio::select! {
        served = poll_fn(|context| connection.poll_without_shutdown(context)) => served,
        _ = over.wait_for(|over| *over) => {
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
