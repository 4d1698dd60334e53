//! One end of a control channel.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::PATIENCE;

/// Whoever drives a supervisor.
pub struct Peer {
    writer: Option<Box<dyn Write + Send>>,
    /// To hang up with: the reading thread has a handle of its own.
    socket: Option<UnixStream>,
    lines: Receiver<Value>,
    /// What was printed, in order; taken out with [`take_logs`](Self::take_logs).
    logs: Vec<Value>,
    /// What came before something else that was waited for.
    early: VecDeque<Value>,
}

/// How a restore went.
#[derive(Debug, Clone)]
pub struct Restored {
    /// `rewind` or `refork`.
    pub method: String,
    /// The rows of the state table that refused a rewind.
    pub rows: Vec<String>,
    /// All of it.
    pub report: Value,
}

impl Restored {
    /// Reads what a supervisor, or `funk`, said of a restore.
    ///
    /// # Panics
    /// It is no such report.
    #[must_use]
    #[track_caller]
    pub fn from_report(report: Value) -> Self {
        let taints = report["taints"].as_array().expect("a list of taints");
        Self {
            method: report["method"].as_str().expect("a method").to_owned(),
            rows: taints
                .iter()
                .map(|taint| taint["row"].as_str().expect("a row").to_owned())
                .collect(),
            report,
        }
    }
}

impl Peer {
    /// Speaks over this pair of streams.
    pub fn new(reader: impl Read + Send + 'static, writer: impl Write + Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).split(b'\n') {
                // A stream that breaks has ended.
                let Ok(line) = line else { return };
                let message = serde_json::from_slice(&line).unwrap_or_else(|error| {
                    json!({
                        "type": "not JSON",
                        "data": format!("{error}: {}", String::from_utf8_lossy(&line)),
                    })
                });
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Self {
            writer: Some(Box::new(writer)),
            socket: None,
            lines,
            logs: Vec::new(),
            early: VecDeque::new(),
        }
    }

    /// Connects to a supervisor's socket.
    ///
    /// # Panics
    /// Nobody listens there.
    #[must_use]
    pub fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("connecting to the control socket");
        stream
            .set_write_timeout(Some(PATIENCE))
            .expect("a time limit on writing");
        let handle = || stream.try_clone().expect("another handle");
        let (reader, socket) = (handle(), handle());
        let mut peer = Self::new(reader, stream);
        peer.socket = Some(socket);
        peer
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// They could not be written.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let writer = self.writer.as_mut().expect("not closed yet");
        writer
            .write_all(bytes)
            .and_then(|()| writer.flush())
            .expect("writing to the supervisor");
    }

    /// Sends one message.
    pub fn send(&mut self, message: &Value) {
        let mut line = message.to_string();
        line.push('\n');
        self.send_bytes(line.as_bytes());
    }

    /// Says goodbye: nothing more is sent.
    pub fn close(&mut self) {
        self.writer = None;
    }

    /// The next message that is no log line, if one comes in time.
    #[must_use]
    pub fn receive_within(&mut self, patience: Duration) -> Option<Value> {
        if let Some(message) = self.early.pop_front() {
            return Some(message);
        }
        let deadline = Instant::now() + patience;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(message) if message["type"] == "log" => self.logs.push(message["data"].clone()),
                Ok(message) => return Some(message),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// The next message that is no log line.
    ///
    /// # Panics
    /// None came in time.
    #[track_caller]
    pub fn receive(&mut self) -> Value {
        match self.receive_within(PATIENCE) {
            Some(message) => message,
            None => panic!("no message from the supervisor, or it ended"),
        }
    }

    /// The next message, which is to be of this type.
    ///
    /// # Panics
    /// It is of another.
    #[track_caller]
    pub fn expect(&mut self, kind: &str) -> Value {
        let message = self.receive();
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    /// True if the supervisor closed its end and sent nothing more before.
    #[must_use]
    pub fn is_over(&mut self) -> bool {
        self.receive_within(PATIENCE).is_none()
    }

    /// Waits until a log line comes for which `is_it` holds; everything else that
    /// comes is kept.
    ///
    /// # Panics
    /// None came in time.
    #[track_caller]
    pub fn wait_for_log(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        if let Some(log) = self.logs.iter().find(|log| is_it(log)) {
            return log.clone();
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(message) if message["type"] == "log" => {
                    let log = message["data"].clone();
                    self.logs.push(log.clone());
                    if is_it(&log) {
                        return log;
                    }
                }
                Ok(message) => self.early.push_back(message),
                Err(error) => panic!(
                    "no such log line ({error}); came: {:?} {:?}",
                    self.logs, self.early
                ),
            }
        }
    }

    /// The log lines that came until now.
    pub fn take_logs(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.logs)
    }

    /// Sends a function and waits for the answer.
    #[track_caller]
    pub fn try_load(&mut self, function: &Value) -> Value {
        self.send(&json!({"type": "function", "data": function}));
        self.expect("function_loaded")
    }

    /// Loads a function from its source.
    ///
    /// # Panics
    /// It could not be loaded.
    #[track_caller]
    pub fn load(&mut self, source: &str) {
        let answer = self.try_load(&json!(source));
        assert_eq!(answer["data"], true, "{answer}");
    }

    /// Sends a request; its answer is to be received.
    pub fn ask(&mut self, id: &Value, data: &Value) {
        self.send(&json!({"type": "request", "id": id, "data": data}));
    }

    /// Calls the loaded function and returns the whole answer.
    #[track_caller]
    pub fn answer(&mut self, data: &Value) -> Value {
        self.ask(&json!("the-call"), data);
        let answer = self.receive();
        assert_eq!(answer["id"], "the-call", "{answer}");
        answer
    }

    /// Calls the loaded function and returns what it returned.
    ///
    /// # Panics
    /// It failed.
    #[track_caller]
    pub fn call(&mut self, data: &Value) -> Value {
        let mut answer = self.answer(data);
        assert_eq!(answer["type"], "response", "{answer}");
        answer["data"].take()
    }

    /// Calls the loaded function and returns its failure.
    ///
    /// # Panics
    /// It did not fail.
    #[track_caller]
    pub fn fail(&mut self, data: &Value) -> Value {
        let mut answer = self.answer(data);
        assert_eq!(answer["type"], "error", "{answer}");
        answer["data"].take()
    }

    /// Puts the container back to its snapshot.
    #[track_caller]
    pub fn restore(&mut self) -> Restored {
        self.send(&json!({"type": "restore"}));
        Restored::from_report(self.expect("restored")["data"].take())
    }

    /// Asks what the container is doing.
    #[track_caller]
    pub fn status(&mut self) -> Value {
        self.send(&json!({"type": "status"}));
        self.expect("status")["data"].take()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            // It may have been closed from the other side.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Asserts that an error is of this kind and says all of this.
///
/// # Panics
/// It is not, or does not.
#[track_caller]
pub fn assert_failure(failure: &Value, kind: &str, words: &[&str]) {
    assert_eq!(failure["kind"], kind, "{failure}");
    let message = failure["message"].as_str().expect("a message");
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
}
