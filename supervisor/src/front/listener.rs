//! The front's thread: it listens, and has the connections.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::signal::{SigSet, SigmaskHow};
use refunction_protocol::Failure;
use tokio::io::AsyncWriteExt;
use tokio::runtime;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::LocalSet;

use super::application::Ends;
use super::bridge::{Inbox, bridge};
use super::place::{Bound, Place, Stream};
use super::poll;
use super::route::{Site, answer};
use super::runtime_api::{RuntimeApi, RuntimeApiError};
use super::stage::{Course, Following, Stage};

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
    #[error("listening for HTTP on {0}: {1}")]
    Listen(Place, io::Error),
    #[error("preparing to speak HTTP: {0}")]
    Prepare(io::Error),
    #[error(transparent)]
    RuntimeApi(#[from] RuntimeApiError),
}

/// How it is to be.
#[derive(Debug, Clone)]
pub(crate) struct Manners {
    /// Where to listen, if that is to be.
    pub(crate) place: Option<Place>,
    /// Where Lambda's runtime API is, if calls come from there.
    pub(crate) runtime_api: Option<String>,
    /// Requests that wait at most, beside those that run.
    pub(crate) queue: usize,
    /// Requests that run at most.
    pub(crate) concurrency: usize,
    /// What a client gets to send the headers of a request, or its body, or to take an
    /// answer.
    pub(crate) patience: Duration,
    /// The function that the container is for, if it is for one.
    pub(crate) handler: Option<String>,
    /// What functions are written in.
    pub(crate) runtime: &'static str,
    /// The function is an application, which answers whole requests.
    pub(crate) is_application: bool,
}

/// The front, as the main thread has it.
pub(crate) struct Front {
    inbox: Inbox,
    /// Where it listens, if others are to know.
    address: Option<SocketAddr>,
    course: Course,
    failure: Option<oneshot::Sender<Failure>>,
    thread: Option<JoinHandle<()>>,
}

impl Front {
    /// Listens from now on.
    pub(crate) fn start(manners: Manners) -> Result<Self, FrontError> {
        let (bridge, inbox) = bridge(manners.queue + manners.concurrency)
            .map_err(|errno| FrontError::Prepare(errno.into()))?;
        let listen = |place: &Place| {
            let failed = |error| FrontError::Listen(place.clone(), error);
            place.listen().map_err(failed)
        };
        let listener = manners.place.as_ref().map(listen).transpose()?;
        let address = listener.as_ref().and_then(Bound::address);
        let (course, stage) = Course::begin();
        let (failure, failed) = oneshot::channel();
        // A signal is the main thread's to take, whichever thread the kernel would choose.
        let mut before = SigSet::empty();
        let swapped = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
        if let Ok(mask) = swapped {
            before = mask;
        }
        let thread = Builder::new().name("front".into()).spawn(move || {
            // Connections share the bridge, and none leaves this thread.
            let site = Rc::new(Site::new(bridge, &manners));
            let polling = manners.runtime_api.map(|address| Polling {
                api: RuntimeApi::new(&address, manners.runtime, manners.patience),
                failed,
            });
            if let Err(error) = run(listener, polling, site, stage) {
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
            course,
            failure: Some(failure),
            thread: Some(thread.map_err(FrontError::Prepare)?),
        })
    }

    /// What comes from it.
    pub(crate) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Where it listens, if others are to know.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// There is a worker from now on.
    pub(crate) fn open(&self) {
        self.course.reach(Stage::Serving);
    }

    /// Nothing more is taken up.
    pub(crate) fn drain(&self) {
        self.course.reach(Stage::Draining);
    }

    /// There will be no worker, for this reason: to be told when it finishes.
    pub(crate) fn fail(&mut self, failure: Failure) {
        if let Some(teller) = self.failure.take() {
            // The thread ended by itself, and has said why.
            let _ = teller.send(failure);
        }
    }

    /// Has what was answered go out, and ends it.
    pub(crate) fn finish(&mut self) {
        self.course.reach(Stage::Over);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("refunction-supervisor: the HTTP front panicked");
        }
    }
}

/// What polling takes.
struct Polling {
    api: RuntimeApi,
    failed: oneshot::Receiver<Failure>,
}

fn run(
    listener: Option<Bound>,
    polling: Option<Polling>,
    site: Rc<Site>,
    stage: Following,
) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tasks = LocalSet::new();
    runtime.block_on(tasks.run_until(async {
        let polled = async {
            if let Some(Polling { api, failed }) = polling {
                let mut end = stage.clone();
                tokio::select! {
                    () = poll::serve(Rc::clone(&site), api, stage.clone(), failed) => {}
                    () = async {
                        end.reaches(Stage::Over).await;
                        tokio::time::sleep(LAST_WORDS).await;
                    } => {}
                }
            }
        };
        let listened = async {
            match listener {
                Some(listener) => accept(listener, Rc::clone(&site), stage.clone()).await,
                None => Ok(()),
            }
        };
        let (listened, ()) = tokio::join!(listened, polled);
        listened
    }))
}

async fn accept(listener: Bound, site: Rc<Site>, mut stage: Following) -> io::Result<()> {
    let listener = listener.enter()?;
    let patience = site.patience;
    let seats = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let over = watch::Sender::new(false);
    let serve = async {
        loop {
            let Ok(seat) = Arc::clone(&seats).acquire_owned().await else {
                return;
            };
            match listener.accept(patience).await {
                Ok((stream, ends)) => {
                    let (site, over) = (Rc::clone(&site), over.subscribe());
                    tokio::task::spawn_local(async move {
                        converse(stream, ends, site, patience, over).await;
                        drop(seat);
                    });
                }
                // One that left at once, or descriptors are used up.
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    };
    tokio::select! {
        _ = stage.reaches(Stage::Over) => {}
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
    stream: Stream,
    ends: Ends,
    site: Rc<Site>,
    patience: Duration,
    mut over: watch::Receiver<bool>,
) {
    // As HTTP/1.0 was: the end of an answer without a length is that of its connection.
    let is_old = Rc::new(Cell::new(false));
    let sets_old = Rc::clone(&is_old);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let site = Rc::clone(&site);
        sets_old.set(request.version() == Version::HTTP_10);
        request.extensions_mut().insert(ends.clone());
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
    if served.as_ref().is_err_and(|error| error.is_timeout()) && !parts.read_buf.is_empty() {
        let _ = stream.write_all(TOO_SLOW).await;
    }
    if is_old.get() && served.is_err_and(|error| error.is_user()) {
        // An answer that broke off is not to end as one that is whole: it is reset.
        stream.break_off();
        return;
    }
    // Whatever is left of it: the other side has all or has left.
    let _ = stream.shutdown().await;
}
