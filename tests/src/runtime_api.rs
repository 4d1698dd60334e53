//! Lambda's runtime API, played for whoever polls it: over real connections, and with what
//! the service does when something is wrong.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::supervisor::{Supervisor, collect};
use crate::{PATIENCE, eventually};

const VERSION: &str = "/2018-06-01/runtime";

/// The service, on a port of its own.
pub struct Service {
    shared: Arc<Shared>,
    address: SocketAddr,
    posted: Receiver<Posted>,
}

/// What connections share.
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    posts: Mutex<Sender<Posted>>,
}

#[derive(Default)]
struct State {
    invocations: VecDeque<Invocation>,
    /// How the next requests of a method are answered, other than well.
    refusals: VecDeque<(&'static str, u16)>,
    polls: usize,
    waiting: usize,
    agents: Vec<String>,
    connections: Vec<TcpStream>,
    is_over: bool,
}

/// What is given to whoever polls.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// What is said of it beside its payload.
    pub headers: Vec<(String, String)>,
    /// The event.
    pub payload: Vec<u8>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Posted {
    /// Below the API's version.
    pub path: String,
    /// Its headers, their names in small letters.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Posted {
    /// The body as JSON.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A header, or nothing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The result of this invocation.
    ///
    /// # Panics
    /// It is another's, or an error.
    #[must_use]
    #[track_caller]
    pub fn result_of(&self, id: &str) -> Value {
        assert_eq!(
            self.path,
            format!("/invocation/{id}/response"),
            "{}",
            self.json()
        );
        self.json()
    }

    /// Why this invocation has none.
    ///
    /// # Panics
    /// It is another's, or has one.
    #[must_use]
    #[track_caller]
    pub fn error_of(&self, id: &str) -> Value {
        assert_eq!(
            self.path,
            format!("/invocation/{id}/error"),
            "{}",
            self.json()
        );
        let error = self.json();
        assert_eq!(
            self.header("lambda-runtime-function-error-type"),
            error["errorType"]
        );
        error
    }
}

impl Invocation {
    /// An event under this id, with a minute's time.
    #[must_use]
    pub fn new(id: &str, event: &Value) -> Self {
        Self::raw(id, event.to_string().as_bytes())
    }

    /// The same with any payload.
    #[must_use]
    pub fn raw(id: &str, payload: &[u8]) -> Self {
        Self {
            headers: Vec::new(),
            payload: payload.to_owned(),
        }
        .with("Lambda-Runtime-Aws-Request-Id", id)
        .with(
            "Lambda-Runtime-Invoked-Function-Arn",
            "arn:aws:lambda:eu-west-3:012345678912:function:mine",
        )
        .within(Duration::from_secs(60))
    }

    /// With this much time.
    ///
    /// # Panics
    /// The clock is before 1970.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let end = now.expect("after 1970") + limit;
        self.with("Lambda-Runtime-Deadline-Ms", &end.as_millis().to_string())
    }

    /// With this header, in the place of one of its name.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(other, _)| other != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl Service {
    /// Listens on any port.
    #[must_use]
    pub fn start() -> Self {
        Self::listening_on(0)
    }

    /// Listens on this port.
    ///
    /// # Panics
    /// It is taken.
    #[must_use]
    pub fn listening_on(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let (sender, posted) = channel();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            posts: Mutex::new(sender),
        });
        let server = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut state = server.state();
                if state.is_over {
                    return;
                }
                let Ok(handle) = stream.try_clone() else {
                    continue;
                };
                state.connections.push(handle);
                drop(state);
                let server = Arc::clone(&server);
                thread::spawn(move || server.converse(stream));
            }
        });
        Self {
            shared,
            address,
            posted,
        }
    }

    /// For `AWS_LAMBDA_RUNTIME_API`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Gives an invocation to who polls next.
    pub fn send(&self, invocation: Invocation) {
        self.shared.state().invocations.push_back(invocation);
        self.shared.changed.notify_all();
    }

    /// Has the next request of this method answered with this status.
    pub fn refuse(&self, method: &'static str, status: u16) {
        self.shared.state().refusals.push_back((method, status));
    }

    /// How many of those are still to come.
    #[must_use]
    pub fn refusals(&self) -> usize {
        self.shared.state().refusals.len()
    }

    /// The next that comes back.
    ///
    /// # Panics
    /// Nothing does.
    #[must_use]
    #[track_caller]
    pub fn posted(&self) -> Posted {
        match self.posted.recv_timeout(PATIENCE) {
            Ok(posted) => posted,
            Err(_) => panic!("nothing came back"),
        }
    }

    /// What came back already, if anything did.
    #[must_use]
    pub fn posted_by_now(&self) -> Option<Posted> {
        self.posted.try_recv().ok()
    }

    /// What comes of an event.
    #[track_caller]
    pub fn ask(&self, invocation: Invocation) -> Posted {
        self.send(invocation);
        self.posted()
    }

    /// How often it was polled.
    #[must_use]
    pub fn polls(&self) -> usize {
        self.shared.state().polls
    }

    /// Waits until somebody waits for an invocation.
    #[track_caller]
    pub fn await_poll(&self) {
        eventually("the API is polled", || self.shared.state().waiting > 0);
    }

    /// What those who polled called themselves.
    #[must_use]
    pub fn agents(&self) -> Vec<String> {
        self.shared.state().agents.clone()
    }

    /// Closes the connections that there are.
    pub fn hang_up(&self) {
        for stream in self.shared.state().connections.drain(..) {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.shared.changed.notify_all();
    }

    /// Is there no more.
    pub fn stop(&self) {
        self.shared.state().is_over = true;
        // Its `accept` returns once more.
        let _ = TcpStream::connect(self.address);
        self.hang_up();
    }
}

/// A supervisor that polls the service.
pub struct Polling {
    /// The service.
    pub service: Service,
    /// The supervisor; its standard streams are not a peer.
    pub supervisor: Supervisor,
    output: Arc<Mutex<String>>,
}

impl Polling {
    /// Starts one, and waits for nothing.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn spawn(service: Service, arguments: &[&str], set: impl FnOnce(&mut Command)) -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let supervisor = Supervisor::spawn(arguments, |command| {
            set(command);
            command
                .env("AWS_LAMBDA_RUNTIME_API", service.address())
                .stdout(writer);
        });
        Self {
            service,
            supervisor,
            output: collect(Some(reader)),
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

    /// The result of an event.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    #[track_caller]
    pub fn call(&self, event: &Value) -> Value {
        let posted = self.service.ask(Invocation::new("a-call", event));
        posted.result_of("a-call")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no server thread panicked")
    }

    fn converse(&self, mut stream: TcpStream) {
        let mut read = Vec::new();
        while let Some((method, path, headers)) = head(&mut stream, &mut read) {
            let length = headers.get("content-length").map_or("0", String::as_str);
            let length = length.parse().expect("a length");
            while read.len() < length {
                if !read_more(&mut stream, &mut read) {
                    return;
                }
            }
            let body = read.drain(..length).collect();
            let answer = self.answer(&stream, &method, &path, headers, body);
            let Some(answer) = answer else { return };
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
    }

    /// The answer to a request; none on a connection that is closed.
    fn answer(
        &self,
        stream: &TcpStream,
        method: &str,
        path: &str,
        headers: BTreeMap<String, String>,
        body: Vec<u8>,
    ) -> Option<Vec<u8>> {
        let path = path.strip_prefix(VERSION).unwrap_or(path).to_owned();
        let mut state = self.state();
        let place = state
            .refusals
            .iter()
            .position(|(refused, _)| *refused == method);
        let refusal = place.and_then(|place| state.refusals.remove(place));
        let refused = refusal.map(|(_, status)| {
            let said = format!("{{\"errorMessage\":\"said with {status}\"}}");
            response(status, &[], said.as_bytes())
        });
        if method == "POST" {
            drop(state);
            let posted = Posted {
                path,
                headers,
                body,
            };
            let posts = self.posts.lock().expect("no server thread panicked");
            // The test may be over.
            let _ = posts.send(posted);
            return Some(refused.unwrap_or_else(|| response(202, &[], b"{\"status\":\"OK\"}\n")));
        }
        state.polls += 1;
        state.agents.extend(headers.get("user-agent").cloned());
        if path != "/invocation/next" {
            return Some(response(404, &[], b""));
        }
        if refused.is_some() {
            return refused;
        }
        state.waiting += 1;
        let invocation = loop {
            // Nobody is there any more to take one.
            let is_gone = state.is_over || is_closed(stream);
            if is_gone {
                break None;
            }
            if let Some(given) = state.invocations.pop_front() {
                break Some(given);
            }
            let woken = self.changed.wait_timeout(state, Duration::from_millis(50));
            state = woken.expect("no server thread panicked").0;
        };
        state.waiting -= 1;
        let invocation = invocation?;
        Some(response(200, &invocation.headers, &invocation.payload))
    }
}

/// True if the other side has left.
fn is_closed(stream: &TcpStream) -> bool {
    if stream.set_nonblocking(true).is_err() {
        return true;
    }
    let closed = matches!(stream.peek(&mut [0]), Ok(0));
    stream.set_nonblocking(false).is_err() || closed
}

fn response(status: u16, headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// The next request's method, path and headers; nothing if there is none.
fn head(
    stream: &mut TcpStream,
    read: &mut Vec<u8>,
) -> Option<(String, String, BTreeMap<String, String>)> {
    let end = loop {
        if let Some(end) = read.windows(4).position(|it| it == b"\r\n\r\n") {
            break end;
        }
        if !read_more(stream, read) {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&read[..end]).into_owned();
    read.drain(..end + 4);
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Some((method, path, headers))
}

fn read_more(stream: &mut TcpStream, read: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 64 * 1024];
    match stream.read(&mut buffer) {
        Ok(length @ 1..) => {
            read.extend_from_slice(&buffer[..length]);
            true
        }
        _ => false,
    }
}
