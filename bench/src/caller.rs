//! A client of the gateway that adds as little as can be to what it measures: a connection that
//! is kept, a request that is written with one call, and an answer of which only the status,
//! the length and the way in which the call was begun are read.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::Failure;

/// Nothing that is measured takes so long.
const PATIENCE: Duration = Duration::from_secs(90);

/// Where a gateway listens.
#[derive(Debug, Clone)]
pub enum Place {
    /// On this port of 127.0.0.1.
    Port(u16),
    /// On this Unix socket.
    Socket(PathBuf),
}

trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

/// A connection.
pub struct Caller {
    stream: Box<dyn Stream>,
    read: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Status and headers.
    pub head: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header, or nothing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.head
            .split("\r\n")
            .filter_map(|line| line.split_once(": "))
            .find(|(it, _)| it.eq_ignore_ascii_case(name))
            .map_or("", |(_, value)| value)
    }

    /// Itself, if the call worked.
    ///
    /// # Errors
    /// It did not.
    pub fn ok(self) -> Result<Self, Failure> {
        if self.status == 200 {
            return Ok(self);
        }
        Err(format!("the gateway answered {}: {}", self.status, self.text()).into())
    }
}

/// The bytes of a request.
#[must_use]
pub fn request(method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut bytes = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n"
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// The bytes of a call.
#[must_use]
pub fn call(function: &str, argument: &str) -> Vec<u8> {
    request(
        "POST",
        &format!("/functions/{function}"),
        argument.as_bytes(),
    )
}

impl Caller {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn to(place: &Place) -> Result<Self, Failure> {
        let stream: Box<dyn Stream> = match place {
            Place::Port(port) => {
                let stream = TcpStream::connect(("127.0.0.1", *port))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
            Place::Socket(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
        };
        Ok(Self {
            stream,
            read: Vec::with_capacity(4096),
        })
    }

    /// Sends a request, and waits for its answer.
    ///
    /// # Errors
    /// The connection ended, or what came is no answer.
    pub fn exchange(&mut self, request: &[u8]) -> Result<Answer, Failure> {
        self.stream.write_all(request)?;
        self.read.clear();
        let end = loop {
            let found = self.read.windows(4).position(|it| it == b"\r\n\r\n");
            if let Some(end) = found {
                break end;
            }
            self.read_more()?;
        };
        let head = String::from_utf8_lossy(&self.read[..end]).into_owned();
        let mut answer = Answer {
            status: head
                .split(' ')
                .nth(1)
                .and_then(|it| it.parse().ok())
                .ok_or("no status")?,
            head,
            body: Vec::new(),
        };
        let length: usize = answer.header("content-length").parse()?;
        while self.read.len() < end + 4 + length {
            self.read_more()?;
        }
        answer.body = self.read[end + 4..].to_vec();
        Ok(answer)
    }

    fn read_more(&mut self) -> Result<(), Failure> {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err("the gateway closed the connection".into()),
                Ok(got) => {
                    self.read.extend_from_slice(&buffer[..got]);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
