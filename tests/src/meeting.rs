//! Requests that are brought to any point by a conversation with each, not by waiting: their
//! function is `tests/http/programs/python/beside.py`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

use crate::PATIENCE;
use crate::http::Connection;

/// The function, for who puts it somewhere else than where it stands.
pub const PROGRAM: &str = include_str!("../tests/http/programs/python/beside.py");

/// Where requests are met.
pub struct Meeting(TcpListener);

/// A request that was met: it waits for what it is told.
pub struct Guest {
    lines: BufReader<TcpStream>,
    /// The one that it was sent with.
    pub name: String,
    /// Its worker, as that sees itself.
    pub pid: u32,
    /// The worker's user.
    pub uid: u32,
}

impl Default for Meeting {
    fn default() -> Self {
        Self::new()
    }
}

impl Meeting {
    /// At a port of its own.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").expect("a port"))
    }

    /// The event that has a request come here.
    ///
    /// # Panics
    /// The port is not known.
    #[must_use]
    pub fn event(&self, name: &str) -> Value {
        let port = self.0.local_addr().expect("an address").port();
        json!({"port": port, "name": name})
    }

    /// Sends requests of these names to a port, each over a connection of its own.
    #[track_caller]
    pub fn invite(&self, port: u16, names: &[&str]) -> BTreeMap<String, Connection> {
        names
            .iter()
            .map(|name| {
                let mut connection = Connection::to(port);
                let body = self.event(name).to_string();
                let headers = [("x-request-id", *name)];
                connection.request("POST", "/", &headers, body.as_bytes());
                (name.to_string(), connection)
            })
            .collect()
    }

    /// The next that comes.
    ///
    /// # Panics
    /// None comes in time, or it is none.
    #[must_use]
    #[track_caller]
    pub fn meet(&self) -> Guest {
        let mut waited_for = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(PATIENCE).expect("short");
        assert_eq!(poll(&mut waited_for, limit), Ok(1), "no request comes");
        let (stream, _) = self.0.accept().expect("a request comes");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        let mut guest = Guest {
            lines: BufReader::new(stream),
            name: String::new(),
            pid: 0,
            uid: 0,
        };
        let said = guest.hear();
        let number = |name: &str| u32::try_from(said[name].as_u64().expect("a number"));
        guest.name = said["name"].as_str().expect("a name").to_owned();
        guest.pid = number("pid").expect("a pid");
        guest.uid = number("uid").expect("a user");
        guest
    }

    /// As many as there are to come.
    #[must_use]
    #[track_caller]
    pub fn meet_all(&self, count: usize) -> Vec<Guest> {
        (0..count).map(|_| self.meet()).collect()
    }
}

impl Guest {
    #[track_caller]
    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("it says something");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// Tells it what to do, when nothing is to come of it.
    ///
    /// # Panics
    /// It is gone.
    #[track_caller]
    pub fn tell(&mut self, step: &Value) {
        let line = format!("{step}\n");
        let told = self.lines.get_mut().write_all(line.as_bytes());
        told.expect("it listens");
    }

    /// Has it do something; what comes of it.
    #[track_caller]
    pub fn ask(&mut self, step: &Value) -> Value {
        self.tell(step);
        self.hear()
    }

    /// Has it answer its request.
    #[track_caller]
    pub fn answer(&mut self, answer: &Value) {
        self.tell(&json!({"answer": answer}));
    }
}
