//! Between the thread that speaks HTTP and the one that runs the supervisor: requests go
//! over a channel and a count that poll(2) waits for, answers come back one by one.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use hyper::body::Bytes;
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use refunction_adapter::Caller;
use refunction_protocol::{Failure, Function, Head, Request};
use serde_json::value::RawValue;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot::{self, error::RecvError};

use super::pieces::Pieces;

use super::runtime_api::RuntimeApiError;

/// Which of the front's requests.
pub(crate) type CallId = u64;

/// What comes with a call beside its argument.
#[derive(Debug, Default, Clone)]
pub(crate) struct Extras {
    /// Variables for this call.
    pub(crate) env: BTreeMap<String, String>,
    /// Who calls, as Lambda tells it.
    pub(crate) caller: Caller,
    /// Which conventions its log lines follow.
    pub(crate) contract: Contract,
}

/// The conventions that a call came by.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contract {
    #[default]
    Plain,
    Lambda,
    /// The same, and nobody waits for what becomes of it.
    LambdaEvent,
    /// Lambda's by its runtime API: whoever gives the call has a line for each of its stages
    /// already, Lambda as well as its emulator.
    RuntimeApi,
    OpenWhisk,
    /// Whole HTTP requests, to an application that answers them.
    Application,
}

impl Contract {
    /// True if the container's own log is to have a line for each stage of a call.
    pub(crate) fn tells_stages(self) -> bool {
        matches!(self, Self::Lambda | Self::LambdaEvent)
    }
}

/// What became of a call.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) result: Result<Box<RawValue>, Failure>,
    /// How long the function had it.
    pub(crate) spent: Duration,
}

/// An answer that has begun, and what comes of it; how it ends is its outcome.
#[derive(Debug)]
pub(crate) struct Streamed {
    pub(crate) head: Head,
    pub(crate) pieces: UnboundedReceiver<Bytes>,
}

/// What a call has come to.
pub(super) enum Answered {
    /// Its end.
    Whole(Outcome),
    /// The beginning of an answer, and the rest of it.
    Streamed(Head, Pieces),
}

/// What the main thread is asked for.
pub(crate) enum Message {
    /// Call the function.
    Call {
        id: CallId,
        request: Request,
        extras: Extras,
        /// Told once it waits its turn, which it then gets: even of a container that stops.
        queued: oneshot::Sender<()>,
        answer: oneshot::Sender<Outcome>,
        /// Where an answer begins that comes in pieces; without it they are joined.
        stream: Option<oneshot::Sender<Streamed>>,
    },
    /// So many bytes of an answer in pieces have left, and one piece.
    Took(CallId, usize),
    /// Load this function, as the first.
    Init {
        id: CallId,
        function: Box<Function>,
        answer: oneshot::Sender<Result<(), Failure>>,
    },
    /// Nobody waits for this any more.
    GaveUp(CallId),
    /// Tell how it goes.
    Look(oneshot::Sender<Picture>),
    /// Lambda's runtime API is gone, or will have nothing to do with this container.
    Lost(RuntimeApiError),
}

/// How it goes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Picture {
    pub(crate) runtime: String,
    /// A worker is there, and nothing ends.
    pub(crate) is_ready: bool,
    pub(crate) is_draining: bool,
    pub(crate) queued: u64,
    pub(crate) in_flight: u64,
    pub(crate) counts: Counts,
}

/// What was counted since the start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// Calls that were answered, by how they ended.
    pub(crate) outcomes: BTreeMap<&'static str, u64>,
    pub(crate) seconds: f64,
    pub(crate) rewinds: u64,
    pub(crate) reforks: u64,
    pub(crate) restore_seconds: f64,
}

/// The main thread's end.
pub(crate) struct Inbox {
    messages: Receiver<Message>,
    count: Arc<EventFd>,
}

impl Inbox {
    /// Readable once there is a message.
    pub(crate) fn arrivals(&self) -> BorrowedFd<'_> {
        self.count.as_fd()
    }

    /// All that came until now.
    pub(crate) fn take(&self) -> Vec<Message> {
        // First: what comes after it counts again.
        match self.count.read() {
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => eprintln!("refunction-supervisor: reading the front's count: {errno}"),
        }
        self.messages.try_iter().collect()
    }
}

/// The front's end.
pub(super) struct Bridge {
    messages: Sender<Message>,
    count: Arc<EventFd>,
    next: Cell<CallId>,
    /// Calls that were sent and not answered.
    waiting: Cell<usize>,
    most_waiting: usize,
}

/// Why a call was not even sent.
#[derive(Debug)]
pub(super) enum NoRoom {
    /// Too many wait already.
    Busy,
    /// The supervisor ends.
    Ending,
}

/// Makes both ends; this many calls may wait.
pub(super) fn bridge(most_waiting: usize) -> nix::Result<(Bridge, Inbox)> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let count = Arc::new(EventFd::from_value_and_flags(0, flags)?);
    let (sender, receiver) = channel();
    let bridge = Bridge {
        messages: sender,
        count: Arc::clone(&count),
        next: Cell::new(0),
        waiting: Cell::new(0),
        most_waiting,
    };
    let inbox = Inbox {
        messages: receiver,
        count,
    };
    Ok((bridge, inbox))
}

impl Bridge {
    fn send(&self, message: Message) {
        // Where nobody listens any more the answer's channel is closed, which says it.
        if self.messages.send(message).is_ok() {
            // Full only after 2^64 messages that nobody took.
            let _ = self.count.write(1);
        }
    }

    /// True if one more call would have to wait for too many others.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.get() >= self.most_waiting
    }

    /// A place for one call; it is given up by dropping it.
    fn place(self: &Rc<Self>) -> Result<Place, NoRoom> {
        if self.is_full() {
            return Err(NoRoom::Busy);
        }
        Ok(self.place_beyond())
    }

    /// A place, however many wait.
    fn place_beyond(self: &Rc<Self>) -> Place {
        self.waiting.set(self.waiting.get() + 1);
        let id = self.next.get();
        self.next.set(id + 1);
        Place {
            bridge: Rc::clone(self),
            id,
            is_answered: false,
        }
    }

    /// Calls the function. A future that is dropped, because the client left, gives the
    /// call up.
    pub(super) async fn call(
        self: &Rc<Self>,
        request: Request,
        extras: Extras,
    ) -> Result<Outcome, NoRoom> {
        self.place()?.ask(request, extras).answer().await
    }

    /// Calls the function for somebody who was promised that it will be, however many wait.
    pub(super) async fn call_as_promised(
        self: &Rc<Self>,
        request: Request,
        extras: Extras,
    ) -> Result<Outcome, NoRoom> {
        self.place_beyond().ask(request, extras).answer().await
    }

    /// Has the function called once it is its turn, and waits for that to be sure.
    pub(super) async fn enqueue(
        self: &Rc<Self>,
        request: Request,
        extras: Extras,
    ) -> Result<Asked, NoRoom> {
        let mut asked = self.place()?.ask(request, extras);
        match (&mut asked.queued).await {
            Ok(()) => Ok(asked),
            Err(_) => Err(NoRoom::Ending),
        }
    }

    /// As [`call`](Self::call), for a client that takes an answer in pieces.
    pub(super) async fn stream(
        self: &Rc<Self>,
        request: Request,
        extras: Extras,
    ) -> Result<Answered, NoRoom> {
        let (stream, begun) = oneshot::channel();
        let asked = self.place()?.ask_for(request, extras, Some(stream));
        // Where it does not begin this is closed, and the answer is whole.
        let Ok(Streamed { head, pieces }) = begun.await else {
            return asked.answer().await.map(Answered::Whole);
        };
        let length = head.length();
        let pieces = Pieces::new(asked.place, pieces, asked.answered, length);
        Ok(Answered::Streamed(head, pieces))
    }

    /// Loads the one function.
    pub(super) async fn init(
        self: &Rc<Self>,
        function: Box<Function>,
    ) -> Result<Result<(), Failure>, NoRoom> {
        let place = self.place()?;
        let (answer, answered) = oneshot::channel();
        let id = place.id;
        self.send(Message::Init {
            id,
            function,
            answer,
        });
        place.wait(answered).await
    }

    /// Asks how it goes; nothing if the supervisor does not say within this time.
    pub(super) async fn look(&self, patience: Duration) -> Option<Picture> {
        let (answer, answered) = oneshot::channel();
        self.send(Message::Look(answer));
        tokio::time::timeout(patience, answered).await.ok()?.ok()
    }

    /// Says that no more calls come from Lambda.
    pub(super) fn lose(&self, error: RuntimeApiError) {
        self.send(Message::Lost(error));
    }
}

/// A call that is in the main thread's hands.
pub(super) struct Place {
    bridge: Rc<Bridge>,
    id: CallId,
    /// There is nothing to give up any more.
    pub(super) is_answered: bool,
}

/// A call that was sent, and is given up by dropping it.
pub(super) struct Asked {
    place: Place,
    queued: oneshot::Receiver<()>,
    answered: oneshot::Receiver<Outcome>,
}

impl Asked {
    /// What became of it.
    pub(super) async fn answer(self) -> Result<Outcome, NoRoom> {
        self.place.wait(self.answered).await
    }
}

impl Place {
    fn ask(self, request: Request, extras: Extras) -> Asked {
        self.ask_for(request, extras, None)
    }

    /// Sends the call, whose answer begins there if it comes in pieces.
    fn ask_for(
        self,
        request: Request,
        extras: Extras,
        stream: Option<oneshot::Sender<Streamed>>,
    ) -> Asked {
        let (answer, answered) = oneshot::channel();
        let (queue, queued) = oneshot::channel();
        self.bridge.send(Message::Call {
            id: self.id,
            request,
            extras,
            queued: queue,
            answer,
            stream,
        });
        Asked {
            place: self,
            queued,
            answered,
        }
    }

    async fn wait<T>(self, answered: oneshot::Receiver<T>) -> Result<T, NoRoom> {
        let answer = answered.await;
        self.settled(answer)
    }

    fn settled<T>(mut self, answer: Result<T, RecvError>) -> Result<T, NoRoom> {
        self.is_answered = true;
        answer.map_err(|_| NoRoom::Ending)
    }

    /// Says that a piece of so many bytes has left.
    pub(super) fn took(&self, bytes: usize) {
        self.bridge.send(Message::Took(self.id, bytes));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.bridge.waiting.set(self.bridge.waiting.get() - 1);
        if !self.is_answered {
            self.bridge.send(Message::GaveUp(self.id));
        }
    }
}
