//! A daemon that serves functions by name over HTTP.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::host::Host;
use crate::http::{Answer, Connection};
use crate::process::Handle;
use crate::{PATIENCE, eventually};

/// The image of the functions.
pub const IMAGE: &str = "refunction/python";

/// A daemon with a gateway, and what it was told.
pub struct Node {
    /// The daemon.
    pub host: Host,
    config: PathBuf,
}

impl Node {
    /// Starts one with these settings, in TOML, and Python's image.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start(name: &str, settings: &str) -> Self {
        Self::start_by(name, settings, Host::start_with)
    }

    /// As [`start`](Self::start), in a way of one's own.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start_by(name: &str, settings: &str, start: impl FnOnce(&[&str]) -> Host) -> Self {
        let file = format!("refunction-named-{name}-{}.toml", std::process::id());
        let config = std::env::temp_dir().join(file);
        fs::write(&config, with_gateway(settings)).expect("a configuration file");
        let path = config.to_str().expect("UTF-8");
        let host = start(&["--config", path]);
        host.import(&["python"]);
        Self { host, config }
    }

    /// What a daemon that is started later is to be told.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn configure(&self, settings: &str) {
        fs::write(&self.config, with_gateway(settings)).expect("a configuration file");
    }

    /// Where its gateway listens: the last that it said.
    ///
    /// # Panics
    /// It does not say.
    #[must_use]
    pub fn port(&self) -> u16 {
        let mut port = None;
        eventually("the gateway says where it listens", || {
            let log = self.host.log();
            let line = log
                .lines()
                .rfind(|line| line.contains("serving functions over HTTP"));
            port = line.and_then(|line| {
                let (_, rest) = line.rsplit_once("127.0.0.1:")?;
                let digits = rest.split(|it: char| !it.is_ascii_digit()).next()?;
                digits.parse().ok()
            });
            port.is_some()
        });
        port.expect("a port")
    }

    /// Asks its gateway.
    #[must_use]
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        ask(self.port(), method, path, body)
    }

    /// Deploys a function of Python's.
    ///
    /// # Panics
    /// It is refused.
    #[allow(clippy::must_use_candidate)]
    #[track_caller]
    pub fn put(&self, name: &str, code: &str, more: &Value) -> Value {
        let mut function = json!({"image": IMAGE, "code": code});
        for (key, value) in more.as_object().expect("an object") {
            function[key] = value.clone();
        }
        let answer = self.ask("PUT", &format!("/functions/{name}"), &function);
        assert!([200, 201].contains(&answer.status), "{}", answer.text());
        answer.json()
    }

    /// Calls a function.
    #[must_use]
    pub fn call(&self, name: &str, argument: &Value) -> Answer {
        self.ask("POST", &format!("/functions/{name}"), argument)
    }

    /// Calls one that answers: its value, and what was done before it ran.
    ///
    /// # Panics
    /// It does not.
    #[allow(clippy::must_use_candidate)]
    #[track_caller]
    pub fn ok(&self, name: &str, argument: &Value) -> (Value, String) {
        let answer = self.call(name, argument);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let start = answer.header("x-refunction-start").to_owned();
        (answer.json(), start)
    }

    /// Ids of the containers that live.
    ///
    /// # Panics
    /// They are not listed.
    #[must_use]
    pub fn containers(&self) -> Vec<String> {
        let listed = self.host.funk(&["list"]).ok();
        let all = listed["containers"].as_array().expect("a list");
        all.iter()
            .filter(|it| it["state"] != "ended")
            .map(|it| it["id"].as_str().expect("an id").to_owned())
            .collect()
    }

    /// The init of one of them.
    ///
    /// # Panics
    /// It is not there.
    #[must_use]
    pub fn init(&self, id: &str) -> Handle {
        let listed = self.host.funk(&["list"]).ok();
        let all = listed["containers"].as_array().expect("a list");
        let one = all.iter().find(|it| it["id"] == id).expect("it is listed");
        let pid = one["pid"].as_u64().expect("a pid");
        Handle::open(u32::try_from(pid).expect("a pid")).expect("it lives")
    }

    /// Ends it in order: nothing is left.
    ///
    /// # Panics
    /// Something is.
    pub fn end(mut self) {
        assert_eq!(self.host.stop(), Some(0));
        self.host.assert_ended();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.config);
    }
}

/// Asks the gateway at a port, over a connection of its own.
#[must_use]
pub fn ask(port: u16, method: &str, path: &str, body: &Value) -> Answer {
    let text = body.to_string();
    let headers = [("content-type", "application/json")];
    Connection::to(port).ask(method, path, &headers, text.as_bytes())
}

fn with_gateway(settings: &str) -> String {
    format!("{settings}\n[gateway]\nlisten = [\"127.0.0.1:0\"]\n")
}

/// Calls a function of a daemon that may be killed meanwhile: the status and the body.
///
/// # Errors
/// There is no answer, or no whole one.
pub fn attempt(port: u16, function: &str, argument: &Value) -> io::Result<(u16, Value)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let body = argument.to_string();
    write!(
        stream,
        "POST /functions/{function} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let broken = || io::Error::new(io::ErrorKind::UnexpectedEof, "the answer is not whole");
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(broken)?;
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
    let body = serde_json::from_str(body).map_err(|_| broken())?;
    Ok((status.ok_or_else(broken)?, body))
}
