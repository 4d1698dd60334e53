//! The container's own standard streams, where they are for people and not for a peer:
//! what functions print, as it comes or as JSON. Nobody who reads slowly, or not at all,
//! holds anything up.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use refunction_protocol::Stream;
use serde_json::{Value, json};

use crate::front::now_in_words;
use crate::logs::Line;
use crate::settings::LogFormat;

/// Bytes that may wait to be read; lines that come then are dropped, and counted.
const MOST_UNREAD: usize = 8 * 1024 * 1024;

/// Bytes written at a time to a descriptor that may block: poll(2) promises no more.
const PIPE_BUF: usize = 4096;

/// Both streams.
pub(crate) struct Output {
    format: LogFormat,
    stdout: Sink,
    stderr: Sink,
}

/// One stream.
struct Sink {
    file: File,
    waiting: Vec<u8>,
    written: usize,
    dropped: u64,
    /// Nobody will ever read it.
    is_closed: bool,
}

impl Output {
    pub(crate) fn open(format: LogFormat) -> io::Result<Self> {
        Ok(Self {
            format,
            stdout: Sink::of(io::stdout().as_fd().try_clone_to_owned()?.into()),
            stderr: Sink::of(io::stderr().as_fd().try_clone_to_owned()?.into()),
        })
    }

    /// Where something waits to be written.
    pub(crate) fn wanting(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [&self.stdout, &self.stderr]
            .into_iter()
            .filter(|sink| sink.is_waiting())
            .map(|sink| sink.file.as_fd())
    }

    /// Writes once to each stream that `is_ready`.
    pub(crate) fn write(&mut self, is_ready: impl Fn(BorrowedFd<'_>) -> bool) {
        for sink in [&mut self.stdout, &mut self.stderr] {
            if sink.is_waiting() && is_ready(sink.file.as_fd()) {
                sink.write();
            }
        }
    }

    /// Writes until everything is out, or this moment has come.
    pub(crate) fn flush(&mut self, until: Instant) {
        loop {
            let mut fds: Vec<PollFd<'_>> = self
                .wanting()
                .map(|stream| PollFd::new(stream, PollFlags::POLLOUT))
                .collect();
            let left = until.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            if fds.is_empty() || !matches!(poll(&mut fds, timeout), Ok(1..)) {
                return;
            }
            let ready: Vec<RawFd> = fds
                .iter()
                .filter(|fd| fd.any() == Some(true))
                .map(|fd| fd.as_fd().as_raw_fd())
                .collect();
            self.write(|stream| ready.contains(&stream.as_raw_fd()));
        }
    }

    /// A line that a function printed.
    pub(crate) fn print(&mut self, request: Option<&str>, stream: Stream, line: &Line) {
        match self.format {
            LogFormat::Text => {
                let cut = if line.truncated { " [cut]" } else { "" };
                self.sink(stream).line(&format!("{}{cut}", line.text));
            }
            LogFormat::Json => {
                let mut entry = json!({
                    "time": now_in_words(),
                    "type": "function",
                    "stream": stream,
                    "message": line.text,
                });
                if let Some(request) = request {
                    entry["requestId"] = request.into();
                }
                if line.truncated {
                    entry["truncated"] = true.into();
                }
                self.stdout.line(&entry.to_string());
            }
        }
    }

    /// Something of the platform's own: in words, and as a record.
    pub(crate) fn note(&mut self, words: &str, kind: &str, record: &Value) {
        match self.format {
            LogFormat::Text => self.stdout.line(words),
            LogFormat::Json => {
                let entry = json!({"time": now_in_words(), "type": kind, "record": record});
                self.stdout.line(&entry.to_string());
            }
        }
    }

    /// Ends the log of an activation on both streams, whatever the format.
    pub(crate) fn end_activation(&mut self, sentinel: &str) {
        for sink in [&mut self.stdout, &mut self.stderr] {
            // Whoever waits for it would wait for good.
            sink.push(sentinel);
        }
    }

    fn sink(&mut self, stream: Stream) -> &mut Sink {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

impl Sink {
    fn of(file: File) -> Self {
        Self {
            file,
            waiting: Vec::new(),
            written: 0,
            dropped: 0,
            is_closed: false,
        }
    }

    fn is_waiting(&self) -> bool {
        self.written < self.waiting.len()
    }

    fn line(&mut self, line: &str) {
        if self.waiting.len() - self.written + line.len() > MOST_UNREAD {
            self.dropped += 1;
        } else {
            self.push(line);
        }
    }

    fn push(&mut self, line: &str) {
        if self.is_closed {
            return;
        }
        if self.dropped > 0 {
            let dropped = std::mem::take(&mut self.dropped);
            let words = format!("[{dropped} lines were dropped: nobody read them]\n");
            self.waiting.extend_from_slice(words.as_bytes());
        }
        self.waiting.extend_from_slice(line.as_bytes());
        self.waiting.push(b'\n');
    }

    fn write(&mut self) {
        let rest = &self.waiting[self.written..];
        match self.file.write(&rest[..rest.len().min(PIPE_BUF)]) {
            Ok(written) => self.written += written,
            Err(error) => match error.kind() {
                ErrorKind::Interrupted | ErrorKind::WouldBlock => {}
                _ => {
                    self.is_closed = true;
                    self.written = self.waiting.len();
                }
            },
        }
        if !self.is_waiting() {
            self.waiting.clear();
            self.written = 0;
        } else if self.written > MOST_UNREAD {
            self.waiting.drain(..self.written);
            self.written = 0;
        }
    }
}
