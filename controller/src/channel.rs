//! The connection to one supervisor: commands out, reports in, each answer to
//! the one who asked.

mod socket;

use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixStream as Socket;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use refunction_protocol::{
    Command, Failure, FailureKind, Head, Lines, MAX_LINE_BYTES, Report, Request, Started, Stream,
};
use serde_json::value::RawValue;
use std::os::fd::AsRawFd;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::warn;

use crate::logs::{LogRing, Source};
use socket::Reader;

/// Requests that one container may owe an answer to; the supervisor runs one at
/// a time, so a longer queue only hides that more containers are needed.
const MAX_IN_FLIGHT: usize = 256;

/// Lines waiting to be written; more wait at the sender.
const OUTGOING: usize = 16;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The connection ended, before or while the answer was awaited.
    #[error("the connection to the container's supervisor ended")]
    Closed,
    /// Too many requests wait.
    #[error("{MAX_IN_FLIGHT} requests already wait for this container")]
    Busy,
    /// The message would not be taken.
    #[error("the message has {bytes} bytes; a supervisor takes {MAX_LINE_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The supervisor answered something else.
    #[error("the supervisor refused: {0}")]
    Refused(String),
}

/// Of an answer in pieces, what is there.
#[derive(Debug)]
pub enum Part {
    /// It begins.
    Head(Head),
    /// More of it.
    Piece(Vec<u8>),
}

/// Where the parts of an answer go. A receiver that is full holds up the function, and whoever
/// else is answered over the same connection; one that is gone holds up nothing.
pub type Parts = mpsc::Sender<Part>;

/// What became of a request.
pub type Outcome = Result<Box<RawValue>, Failure>;

/// An open connection. Dropping it closes it.
#[derive(Debug)]
pub struct Channel {
    outgoing: mpsc::Sender<Vec<u8>>,
    shared: Arc<Shared>,
    /// `function`, `restore` and `status` carry no id: one at a time, held until
    /// its answer is here even if nobody waits for it any more.
    command: Arc<tokio::sync::Mutex<()>>,
    reader: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    pending: Mutex<Pending>,
    started: watch::Sender<Link>,
    logs: Arc<LogRing>,
}

#[derive(Debug, Clone)]
enum Link {
    Silent,
    Started(Started),
    Closed,
}

#[derive(Debug)]
struct Owed {
    outcome: oneshot::Sender<Outcome>,
    parts: Option<Parts>,
}

#[derive(Debug, Default)]
struct Pending {
    requests: HashMap<String, Owed>,
    command: Option<oneshot::Sender<Report>>,
    closed: bool,
}

/// Connects to the control socket in a directory that the container can write to.
///
/// What is at the name is looked at before it is used: whoever is root in the
/// container could put a link to one of the host's sockets there. It is then
/// reached through its descriptor, which also makes the length of the host's path
/// irrelevant (an address holds 108 bytes).
///
/// # Errors
/// `NotFound` while there is no socket, `ConnectionRefused` while nobody listens,
/// `InvalidData` if it is something else.
pub(crate) async fn connect(directory: &Path) -> io::Result<UnixStream> {
    let place = open(
        directory,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let socket = openat(
        &place,
        "control.sock",
        OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let kind = SFlag::from_bits_truncate(fstat(&socket)?.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFSOCK {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the container's control.sock is not a socket",
        ));
    }
    UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await
}

impl Channel {
    /// Speaks over a connection; what the supervisor logs goes to `logs`.
    ///
    /// # Errors
    /// The socket cannot be watched.
    pub(crate) fn over(socket: UnixStream, logs: Arc<LogRing>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            pending: Mutex::default(),
            started: watch::Sender::new(Link::Silent),
            logs,
        });
        let (sender, lines) = mpsc::channel(OUTGOING);
        let outgoing = socket.into_std()?;
        let incoming = Reader::of(outgoing.try_clone()?)?;
        tokio::spawn(write(outgoing, lines));
        let reader = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                read(incoming, &shared).await;
                shared.close();
            }
        });
        Ok(Self {
            outgoing: sender,
            shared,
            command: Arc::default(),
            reader,
        })
    }

    /// Waits until the supervisor is ready.
    ///
    /// # Errors
    /// The connection ended before.
    pub async fn started(&self) -> Result<Started, ChannelError> {
        let mut link = self.shared.started.subscribe();
        let link = link
            .wait_for(|link| !matches!(link, Link::Silent))
            .await
            .map_err(|_| ChannelError::Closed)?;
        match &*link {
            Link::Started(started) => Ok(started.clone()),
            _ => Err(ChannelError::Closed),
        }
    }

    /// Waits until the connection ends.
    pub async fn closed(&self) {
        let mut link = self.shared.started.subscribe();
        let _ = link.wait_for(|link| matches!(link, Link::Closed)).await;
    }

    /// Requests that wait for an answer.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.lock().requests.len()
    }

    /// Sends a request under an id of the caller's choosing, unique on this
    /// connection, and waits for its answer. One that comes in pieces goes to `parts`, its end
    /// being an outcome of `null`; without, the pieces come joined.
    ///
    /// # Errors
    /// It could not be sent, or the connection ended. What the function did wrong
    /// is an outcome, not an error.
    pub async fn request(
        &self,
        id: &str,
        data: Box<RawValue>,
        deadline_ms: Option<u64>,
        parts: Option<Parts>,
    ) -> Result<Outcome, ChannelError> {
        let name = RawValue::from_string(serde_json::Value::from(id).to_string())
            .map_err(|error| ChannelError::Refused(error.to_string()))?;
        let command = Command::Request(Request {
            id: Some(name),
            deadline_ms,
            pieces: parts.is_some(),
            data,
        });
        let line = bounded(&command)?;
        let (sender, answer) = oneshot::channel();
        {
            let mut pending = self.shared.lock();
            if pending.closed {
                return Err(ChannelError::Closed);
            }
            if pending.requests.len() >= MAX_IN_FLIGHT {
                return Err(ChannelError::Busy);
            }
            let owed = Owed {
                outcome: sender,
                parts,
            };
            pending.requests.insert(id.to_owned(), owed);
        }
        // A caller who goes away while waiting here was never on the wire.
        let mut unsent = Unsent {
            shared: &self.shared,
            id: Some(id),
        };
        self.outgoing
            .send(line)
            .await
            .map_err(|_| ChannelError::Closed)?;
        unsent.id = None;
        answer.await.map_err(|_| ChannelError::Closed)
    }

    /// Sends a command that has no id, and waits for its report.
    ///
    /// # Errors
    /// It could not be sent, was refused, or the connection ended.
    pub async fn command(&self, command: &Command) -> Result<Report, ChannelError> {
        let line = bounded(command)?;
        let turn = Arc::clone(&self.command).lock_owned().await;
        let (sender, answer) = oneshot::channel();
        {
            let mut pending = self.shared.lock();
            if pending.closed {
                return Err(ChannelError::Closed);
            }
            pending.command = Some(sender);
        }
        let outgoing = self.outgoing.clone();
        // On its own, so that a caller who goes away does not pass the turn on
        // while the answer is still to come.
        let waiting = tokio::spawn(async move {
            let _turn = turn;
            outgoing
                .send(line)
                .await
                .map_err(|_| ChannelError::Closed)?;
            answer.await.map_err(|_| ChannelError::Closed)
        });
        match waiting.await.map_err(|_| ChannelError::Closed)?? {
            Report::Error { failure, .. } => Err(ChannelError::Refused(failure.message)),
            report => Ok(report),
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.reader.abort();
        self.shared.close();
    }
}

/// Takes a request back that was not sent.
struct Unsent<'a> {
    shared: &'a Shared,
    id: Option<&'a str>,
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.shared.lock().requests.remove(id);
        }
    }
}

fn bounded(command: &Command) -> Result<Vec<u8>, ChannelError> {
    let line = command.to_line();
    if line.len() > MAX_LINE_BYTES {
        return Err(ChannelError::TooLong { bytes: line.len() });
    }
    Ok(line)
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever waits learns that no answer comes: their senders are dropped.
    fn close(&self) {
        let mut pending = self.lock();
        pending.closed = true;
        pending.requests.clear();
        pending.command = None;
        drop(pending);
        self.started.send_replace(Link::Closed);
    }

    /// Takes a message; what in it cannot be read, if anything.
    async fn take(&self, report: Report) -> Result<(), String> {
        match report {
            Report::Started(started) => {
                self.started.send_replace(Link::Started(started));
            }
            Report::Response { id, data } => self.answer(id.as_deref(), Ok(data)),
            Report::Head { id, data } => {
                let head = Head::parse(data.get().as_bytes());
                let head = head.ok_or("an answer's head is none")?;
                self.pass(id.as_deref(), Part::Head(head)).await;
            }
            Report::Piece { id, data } => {
                let piece = STANDARD.decode(data);
                let piece = piece.map_err(|error| format!("a piece of an answer: {error}"))?;
                self.pass(id.as_deref(), Part::Piece(piece)).await;
            }
            Report::Error {
                id: Some(id),
                failure,
            } => self.answer(Some(&*id), Err(failure)),
            report @ (Report::FunctionLoaded(_)
            | Report::Restored(_)
            | Report::Status(_)
            | Report::Error { id: None, .. }) => {
                let waiting = self.lock().command.take();
                match waiting {
                    Some(waiting) => drop(waiting.send(report)),
                    None => warn!(?report, "the supervisor answers what nobody asked"),
                }
            }
            Report::Log(log) => {
                let source = match log.stream {
                    Stream::Stdout => Source::Stdout,
                    Stream::Stderr => Source::Stderr,
                };
                let request = log.id.and_then(|id| id_text(&id));
                self.logs.push(source, request, log.line, log.truncated);
            }
        }
        Ok(())
    }

    /// Waits until there is room for it.
    async fn pass(&self, id: Option<&RawValue>, part: Part) {
        let asked = id.and_then(id_text);
        let parts = asked.and_then(|id| self.lock().requests.get(&id)?.parts.clone());
        match parts {
            // Whoever asked may be gone; then nobody is told.
            Some(parts) => drop(parts.send(part).await),
            None => warn!(?id, "the supervisor sends pieces that nobody asked for"),
        }
    }

    fn answer(&self, id: Option<&RawValue>, outcome: Outcome) {
        let waiting = id
            .and_then(id_text)
            .and_then(|id| self.lock().requests.remove(&id));
        match waiting {
            // Whoever asked may be gone; then nobody is told.
            Some(waiting) => drop(waiting.outcome.send(outcome)),
            None => warn!(?id, "the supervisor answers a request that was not sent"),
        }
    }
}

fn id_text(id: &RawValue) -> Option<String> {
    serde_json::from_str(id.get()).ok()
}

async fn write(to: Socket, mut lines: mpsc::Receiver<Vec<u8>>) {
    while let Some(line) = lines.recv().await {
        if socket::write_all(&to, &line).await.is_err() {
            // The reader sees the end too, and tells those who wait.
            return;
        }
    }
}

/// Until the other side ends it.
async fn read(from: Reader, shared: &Shared) {
    let mut lines = Lines::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
        lines.feed(&buffer[..read]);
        while let Some(line) = lines.next_line() {
            let parsed = line
                .map_err(|error| error.to_string())
                .and_then(|line| Report::parse(&line).map_err(|error| error.to_string()));
            let taken = match parsed {
                Ok(report) => shared.take(report).await,
                Err(cause) => Err(cause),
            };
            if let Err(cause) = taken {
                // An answer may have been in it; waiting for it would be for ever.
                warn!(cause, "a supervisor's message cannot be read; hanging up");
                return;
            }
        }
    }
}

/// A failure of the host's making, in the words a supervisor would use.
#[must_use]
pub fn failure(kind: FailureKind, message: String) -> Failure {
    Failure {
        kind,
        message,
        error_type: None,
        stack: None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.into()).unwrap()
    }

    fn pair() -> (Arc<Channel>, UnixStream, Arc<LogRing>) {
        let (here, there) = UnixStream::pair().unwrap();
        let logs = Arc::new(LogRing::default());
        (
            Arc::new(Channel::over(here, Arc::clone(&logs)).unwrap()),
            there,
            logs,
        )
    }

    #[tokio::test]
    async fn answers_find_their_requests_in_any_order_and_numbers_stay_whole() {
        let (channel, mut peer, _) = pair();
        let ask = |id: &'static str| {
            let channel = Arc::clone(&channel);
            tokio::spawn(async move {
                let outcome = channel.request(id, raw("[1]"), None, None).await.unwrap();
                outcome.unwrap().get().to_owned()
            })
        };
        let (first, second) = (ask("a"), ask("b"));
        let (reader, mut writer) = peer.split();
        let mut lines = BufReader::new(reader).lines();
        for _ in 0..2 {
            let line = lines.next_line().await.unwrap().unwrap();
            assert!(matches!(
                Command::parse(line.as_bytes()),
                Ok(Command::Request(_))
            ));
        }
        let big = "123456789012345678901234567890.10";
        writer
            .write_all(
                format!(
                    "{{\"type\":\"response\",\"id\":\"b\",\"data\":\"two\"}}\n{{\"type\":\"response\",\"id\":\"x\",\"data\":1}}\n{{\"type\":\"response\",\"id\":\"a\",\"data\":{big}}}\n"
                )
                .as_bytes(),
            )
            .await
            .unwrap();
        assert_eq!(first.await.unwrap(), big);
        assert_eq!(second.await.unwrap(), "\"two\"");
        assert_eq!(channel.in_flight(), 0);
    }

    #[tokio::test]
    async fn pieces_are_passed_on_in_their_order_and_wait_for_room() {
        let (channel, peer, _) = pair();
        let (parts, mut taken) = mpsc::channel(1);
        let asking = tokio::spawn({
            let channel = Arc::clone(&channel);
            async move { channel.request("a", raw("1"), None, Some(parts)).await }
        });
        let (reader, mut writer) = peer.into_split();
        let mut lines = BufReader::new(reader).lines();
        let asked = lines.next_line().await.unwrap().unwrap();
        let Ok(Command::Request(request)) = Command::parse(asked.as_bytes()) else {
            panic!("{asked}");
        };
        assert!(request.pieces);
        let mut said = String::from(
            "{\"type\":\"head\",\"id\":\"a\",\"data\":{\"status\":201,\"headers\":[]}}\n",
        );
        for _ in 0..20 {
            said += "{\"type\":\"piece\",\"id\":\"a\",\"data\":\"AP8=\"}\n";
        }
        said += "{\"type\":\"response\",\"id\":\"a\",\"data\":null}\n";
        writer.write_all(said.as_bytes()).await.unwrap();
        match taken.recv().await {
            Some(Part::Head(head)) => assert_eq!(head.status, 201),
            other => panic!("{other:?}"),
        }
        for _ in 0..20 {
            assert!(!asking.is_finished());
            match taken.recv().await {
                Some(Part::Piece(piece)) => assert_eq!(piece, [0, 0xff]),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(asking.await.unwrap().unwrap().unwrap().get(), "null");
        assert!(taken.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_part_that_is_none_ends_the_connection() {
        for said in [
            "{\"type\":\"head\",\"id\":\"a\",\"data\":{\"status\":7,\"headers\":[]}}\n",
            "{\"type\":\"piece\",\"id\":\"a\",\"data\":\"?\"}\n",
        ] {
            let (channel, mut peer, _) = pair();
            let (parts, mut taken) = mpsc::channel(1);
            peer.write_all(said.as_bytes()).await.unwrap();
            let outcome = channel.request("a", raw("1"), None, Some(parts)).await;
            assert!(matches!(outcome, Err(ChannelError::Closed)), "{outcome:?}");
            assert!(taken.recv().await.is_none());
        }
    }

    #[tokio::test]
    async fn whoever_leaves_holds_up_no_piece() {
        let (channel, mut peer, _) = pair();
        let (parts, taken) = mpsc::channel(1);
        drop(taken);
        let asking = channel.request("a", raw("1"), None, Some(parts));
        let piece = "{\"type\":\"piece\",\"id\":\"a\",\"data\":\"AP8=\"}\n";
        let end = "{\"type\":\"response\",\"id\":\"a\",\"data\":null}\n";
        let said = piece.repeat(20) + end;
        let (outcome, written) = tokio::join!(asking, peer.write_all(said.as_bytes()));
        written.unwrap();
        assert_eq!(outcome.unwrap().unwrap().get(), "null");
    }

    #[tokio::test]
    async fn the_end_of_the_connection_is_told_to_everybody() {
        let (channel, peer, _) = pair();
        let request = tokio::spawn({
            let channel = Arc::clone(&channel);
            async move { channel.request("a", raw("1"), None, None).await }
        });
        let command = tokio::spawn({
            let channel = Arc::clone(&channel);
            async move { channel.command(&Command::Restore).await }
        });
        tokio::task::yield_now().await;
        drop(peer);
        assert!(matches!(request.await.unwrap(), Err(ChannelError::Closed)));
        assert!(matches!(command.await.unwrap(), Err(ChannelError::Closed)));
        assert!(matches!(channel.started().await, Err(ChannelError::Closed)));
        let late = channel.request("b", raw("1"), None, None).await;
        assert!(matches!(late, Err(ChannelError::Closed)));
    }

    #[tokio::test]
    async fn a_command_whose_caller_left_keeps_its_turn() {
        let (channel, mut peer, _) = pair();
        let function = Command::Function(Box::new(refunction_protocol::Function::from_source("x")));
        let left = tokio::time::timeout(
            std::time::Duration::from_millis(20),
            channel.command(&function),
        )
        .await;
        assert!(left.is_err());
        let restore = tokio::spawn({
            let channel = Arc::clone(&channel);
            async move { channel.command(&Command::Restore).await }
        });
        let restored = r#"{"type":"restored","data":{"method":"rewind","total_us":1,"phases":[],"dirty_pages":0,"taints":[]}}"#;
        peer.write_all(b"{\"type\":\"function_loaded\",\"data\":true}\n")
            .await
            .unwrap();
        let (reader, mut writer) = peer.split();
        let mut lines = BufReader::new(reader).lines();
        assert!(
            lines
                .next_line()
                .await
                .unwrap()
                .unwrap()
                .contains("function")
        );
        assert!(
            lines
                .next_line()
                .await
                .unwrap()
                .unwrap()
                .contains("restore")
        );
        writer
            .write_all(format!("{restored}\n").as_bytes())
            .await
            .unwrap();
        assert!(matches!(restore.await.unwrap(), Ok(Report::Restored(_))));
    }

    #[tokio::test]
    async fn logs_carry_their_request() {
        let (channel, mut peer, logs) = pair();
        peer.write_all(
            b"{\"type\":\"log\",\"data\":{\"id\":\"r1\",\"stream\":\"stderr\",\"line\":\"hi\"}}\n",
        )
        .await
        .unwrap();
        assert!(logs.more(0).await);
        let line = logs.from(0).lines.remove(0);
        assert_eq!(line.request.as_deref(), Some("r1"));
        assert_eq!((line.source, line.text.as_str()), (Source::Stderr, "hi"));
        drop(channel);
    }

    #[tokio::test]
    async fn only_a_socket_is_connected_to() {
        let directory = tempfile::tempdir().unwrap();
        let error = connect(directory.path()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let elsewhere = directory.path().join("elsewhere");
        let listener = tokio::net::UnixListener::bind(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, directory.path().join("control.sock")).unwrap();
        let error = connect(directory.path()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        std::fs::remove_file(directory.path().join("control.sock")).unwrap();
        std::fs::rename(&elsewhere, directory.path().join("control.sock")).unwrap();
        connect(directory.path()).await.unwrap();
        drop(listener);
    }
}
