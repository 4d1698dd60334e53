//! The supervisor's control channel: newline-delimited JSON on a Unix socket.

use std::io;
use std::path::Path;

use inotify::{EventStream, Inotify, WatchMask};
use refunction_protocol::Report;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio_stream::StreamExt;

/// A conversation with a supervisor.
pub(super) struct Channel {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

/// A directory in which a supervisor is about to listen.
pub(super) struct Expected {
    changes: EventStream<[u8; 1024]>,
}

impl Expected {
    /// To be made before the supervisor is started.
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        // It closes the socket to others when it listens already.
        inotify
            .watches()
            .add(directory, WatchMask::CREATE | WatchMask::ATTRIB)?;
        let changes = inotify.into_event_stream([0; 1024])?;
        Ok(Self { changes })
    }

    /// Connects as soon as somebody listens there.
    pub(super) async fn connect(mut self, socket: &Path) -> io::Result<Channel> {
        loop {
            if let Ok(stream) = UnixStream::connect(socket).await {
                let (reader, writer) = stream.into_split();
                return Ok(Channel {
                    reader: BufReader::new(reader),
                    writer,
                });
            }
            match self.changes.next().await {
                Some(change) => drop(change?),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}

impl Channel {
    /// The next message; nothing if the supervisor has ended.
    pub(super) async fn next(&mut self) -> io::Result<Option<Report>> {
        let mut line = Vec::new();
        match self.reader.read_until(b'\n', &mut line).await {
            Ok(0) => Ok(None),
            Ok(_) => Report::parse(&line).map(Some).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a request.
    pub(super) async fn request(
        &mut self,
        id: &str,
        json: &str,
        deadline_ms: Option<u64>,
    ) -> io::Result<()> {
        // Between values an end of line is a blank like any other, and within one it cannot be.
        let data = json.replace(['\n', '\r'], " ");
        let deadline = deadline_ms.map_or_else(String::new, |ms| format!(r#","deadline_ms":{ms}"#));
        let line = format!("{{\"type\":\"request\",\"id\":\"{id}\",\"data\":{data}{deadline}}}\n");
        self.writer.write_all(line.as_bytes()).await
    }
}
