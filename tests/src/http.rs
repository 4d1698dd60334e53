//! A supervisor that speaks HTTP, and a client for it that sends what it is told to: what
//! no client library would send, too.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::supervisor::{Supervisor, collect};
use crate::{PATIENCE, eventually};

/// Lambda's local invocation.
pub const LAMBDA: &str = "/2015-03-31/functions/function/invocations";

/// A supervisor that speaks HTTP on a port of its own.
pub struct Site {
    /// The supervisor; its standard streams are not a peer.
    pub supervisor: Supervisor,
    /// Where it listens.
    pub port: u16,
    output: Arc<Mutex<String>>,
}

impl Site {
    /// Starts one and waits until it is ready.
    #[must_use]
    #[track_caller]
    pub fn start(arguments: &[&str], set: impl FnOnce(&mut Command)) -> Self {
        let site = Self::listening(arguments, set);
        eventually("the container is ready", || {
            site.get("/_/ready").status == 200
        });
        site
    }

    /// Starts one and waits until it listens.
    ///
    /// # Panics
    /// It does not.
    #[must_use]
    #[track_caller]
    pub fn listening(arguments: &[&str], set: impl FnOnce(&mut Command)) -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let supervisor = Supervisor::spawn(arguments, |command| {
            command.env("PORT", "0").stdout(writer);
            set(command);
        });
        let output = collect(Some(reader));
        let mut port = None;
        eventually("it says where it listens", || {
            let said = supervisor.errors();
            // What is not yet a line may be cut within the number.
            let (whole, _) = said.rsplit_once('\n').unwrap_or_default();
            let line = whole
                .lines()
                .find(|line| line.contains("listening for HTTP"));
            port = line.and_then(|line| line.rsplit_once(':')?.1.parse().ok());
            port.is_some()
        });
        Self {
            supervisor,
            port: port.expect("a port"),
            output,
        }
    }

    /// What it printed on its standard output.
    #[must_use]
    pub fn output(&self) -> String {
        self.output
            .lock()
            .map(|text| text.clone())
            .unwrap_or_default()
    }

    /// Connections that it has open, as the kernel lists them: those that its clients have
    /// closed, too, until it has done so itself.
    ///
    /// # Panics
    /// The kernel does not say.
    #[must_use]
    #[track_caller]
    pub fn open_connections(&self) -> usize {
        // The states, by their number (tcp_states.h).
        const ESTABLISHED: &str = "01";
        const CLOSE_WAIT: &str = "08";
        let table = std::fs::read_to_string("/proc/net/tcp").expect("the connections");
        let own = format!(":{:04X}", self.port);
        let is_open = |line: &&str| {
            let mut fields = line.split_whitespace().skip(1);
            let is_its = fields.next().is_some_and(|local| local.ends_with(&own));
            let state = fields.nth(1);
            is_its && [Some(ESTABLISHED), Some(CLOSE_WAIT)].contains(&state)
        };
        table.lines().filter(is_open).count()
    }

    /// A connection of one's own.
    #[must_use]
    #[track_caller]
    pub fn connect(&self) -> Connection {
        Connection::to(self.port)
    }

    /// One request on a connection of its own.
    #[must_use]
    #[track_caller]
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.connect().ask(method, path, headers, body)
    }

    /// Asks for a path.
    #[must_use]
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    /// Sends JSON.
    #[must_use]
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.connect().post(path, body)
    }

    /// Calls the function.
    ///
    /// # Panics
    /// It failed.
    #[must_use]
    #[track_caller]
    pub fn call(&self, event: &Value) -> Value {
        self.connect().call(event)
    }
}

/// A connection, and what was read of it and belongs to a later answer.
pub struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

/// What comes next of a body in chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk {
    /// Bytes of it.
    Piece(Vec<u8>),
    /// There are no more.
    Last,
    /// The connection ended before that.
    Broken,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers, their names in small letters.
    pub headers: BTreeMap<String, String>,
    /// All of them in their order, those that come more than once, too.
    pub lines: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// All values of a header.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        let of_name = self.lines.iter().filter(|(it, _)| it == name);
        of_name.map(|(_, value)| value.as_str()).collect()
    }

    /// A header, or nothing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

impl Connection {
    /// Connects.
    ///
    /// # Panics
    /// Nobody listens.
    #[must_use]
    #[track_caller]
    pub fn to(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connecting");
        for limit in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
            limit(&stream, Some(PATIENCE)).expect("a time limit");
        }
        Self {
            stream,
            read: Vec::new(),
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// They cannot be sent.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sending");
    }

    /// Sends a request.
    #[track_caller]
    pub fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("content-length: {}\r\n\r\n", body.len());
        self.send(&[head.as_bytes(), body].concat());
    }

    /// Sends a request and waits for its answer.
    #[track_caller]
    pub fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.request(method, path, headers, body);
        if method == "HEAD" {
            return self.head();
        }
        self.answer()
    }

    /// Sends JSON and waits for the answer.
    #[track_caller]
    pub fn post(&mut self, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.ask("POST", path, &headers, body.to_string().as_bytes())
    }

    /// Calls the function.
    ///
    /// # Panics
    /// It failed.
    #[track_caller]
    pub fn call(&mut self, event: &Value) -> Value {
        let answer = self.post("/", event);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// The next answer.
    ///
    /// # Panics
    /// None came, or it is none.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        if answer.header("transfer-encoding") == "chunked" {
            let (body, end) = self.rest();
            assert_eq!(end, Chunk::Last, "{answer:?}");
            answer.body = body;
            return answer;
        }
        let length = answer
            .headers
            .get("content-length")
            .map_or(0, |length| length.parse().expect("a length"));
        while self.read.len() < length {
            assert!(self.read_more(), "closed within a body: {answer:?}");
        }
        answer.body = self.read.drain(..length).collect();
        answer
    }

    /// The next chunk of a body, after its answer's [head](Self::head).
    #[track_caller]
    pub fn chunk(&mut self) -> Chunk {
        let Some(size) = self.line() else {
            return Chunk::Broken;
        };
        let length = usize::from_str_radix(&size, 16).expect("a size");
        while self.read.len() < length + 2 {
            if !self.read_more() {
                return Chunk::Broken;
            }
        }
        let piece: Vec<u8> = self.read.drain(..length).collect();
        assert_eq!(self.line().as_deref(), Some(""), "the end of a chunk");
        if piece.is_empty() {
            return Chunk::Last;
        }
        Chunk::Piece(piece)
    }

    /// All that still comes of a body in chunks, and how it ends.
    #[track_caller]
    pub fn rest(&mut self) -> (Vec<u8>, Chunk) {
        let mut body = Vec::new();
        loop {
            match self.chunk() {
                Chunk::Piece(piece) => body.extend_from_slice(&piece),
                end => return (body, end),
            }
        }
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.windows(2).position(|it| it == b"\r\n") {
                let line = String::from_utf8_lossy(&self.read[..end]).into_owned();
                self.read.drain(..end + 2);
                return Some(line);
            }
            if !self.read_more() {
                return None;
            }
        }
    }

    /// The next answer but for its body.
    ///
    /// # Panics
    /// None came, or it is none.
    #[track_caller]
    pub fn head(&mut self) -> Answer {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|it| it == b"\r\n\r\n") {
                break end;
            }
            assert!(self.read_more(), "closed after {:?}", self.read);
        };
        let head = String::from_utf8_lossy(&self.read[..end]).into_owned();
        self.read.drain(..end + 4);
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let status = status.and_then(|status| status.parse().ok());
        let lines: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Answer {
            status: status.unwrap_or_else(|| panic!("no status: {head}")),
            headers: lines.iter().cloned().collect(),
            lines,
            body: Vec::new(),
        }
    }

    /// True if the other side closes it, and sends nothing more before.
    #[must_use]
    #[track_caller]
    pub fn is_closed(&mut self) -> bool {
        while self.read.is_empty() {
            if !self.read_more() {
                return true;
            }
        }
        false
    }

    fn read_more(&mut self) -> bool {
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(length) => {
                self.read.extend_from_slice(&buffer[..length]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("reading: {error}"),
        }
    }

    /// Leaves, without waiting for anything.
    pub fn leave(self) {
        // It may have been closed from the other side.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
