//! A client that sends what it is told to: what no client library would send, too.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Stream for S {}

/// A connection, and what was read of it and belongs to a later answer.
pub struct Connection {
    stream: Box<dyn Stream>,
    read: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// A header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(it, _)| it == name);
        found.map_or("", |(_, value)| value)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts that it is an error of this status and kind that says these words.
    #[track_caller]
    pub fn fails(&self, status: u16, kind: &str, words: &str) -> Value {
        let error = self.json()["error"].clone();
        let message = error["message"].as_str().unwrap_or("");
        assert_eq!(
            (self.status, error["kind"].as_str()),
            (status, Some(kind)),
            "{error}"
        );
        assert!(message.contains(words), "{words:?} is not in {message:?}");
        assert_eq!(self.header("content-type"), "application/json");
        error
    }
}

impl Connection {
    pub async fn to(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        Self {
            stream: Box::new(stream),
            read: Vec::new(),
        }
    }

    pub async fn to_socket(path: &std::path::Path) -> Self {
        Self {
            stream: Box::new(UnixStream::connect(path).await.unwrap()),
            read: Vec::new(),
        }
    }

    /// Sends bytes as they are; the other side may have closed already.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Sends a request.
    pub async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| *name == "host") {
            head += "host: localhost\r\n";
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("content-length: {}\r\n\r\n", body.len());
        self.send(&[head.as_bytes(), body].concat()).await;
    }

    /// The next answer.
    pub async fn answer(&mut self) -> Answer {
        timeout(PATIENCE, self.next(false))
            .await
            .expect("an answer in time")
    }

    /// The next answer, which is to a HEAD.
    pub async fn head(&mut self) -> Answer {
        timeout(PATIENCE, self.next(true))
            .await
            .expect("an answer in time")
    }

    async fn next(&mut self, is_head: bool) -> Answer {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|it| it == b"\r\n\r\n") {
                break end;
            }
            assert!(self.read_more().await, "closed after {:?}", self.read);
        };
        let head = String::from_utf8_lossy(&self.read[..end]).into_owned();
        self.read.drain(..end + 4);
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let mut answer = Answer {
            status: status.and_then(|it| it.parse().ok()).expect("a status"),
            headers: lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect(),
            body: Vec::new(),
        };
        assert_eq!(answer.header("transfer-encoding"), "");
        let length = answer.header("content-length").parse().unwrap_or(0);
        while !is_head && self.read.len() < length {
            assert!(self.read_more().await, "closed within a body");
        }
        if !is_head {
            answer.body = self.read.drain(..length).collect();
        }
        answer
    }

    /// True if the other side closes it, and sends nothing more before.
    pub async fn is_closed(&mut self) -> bool {
        let closed = async {
            while self.read.is_empty() {
                if !self.read_more().await {
                    return true;
                }
            }
            false
        };
        timeout(PATIENCE, closed)
            .await
            .expect("it is closed in time")
    }

    async fn read_more(&mut self) -> bool {
        let mut buffer = vec![0; 64 * 1024];
        match self.stream.read(&mut buffer).await {
            Ok(length) => {
                self.read.extend_from_slice(&buffer[..length]);
                length > 0
            }
            Err(_) => false,
        }
    }
}
