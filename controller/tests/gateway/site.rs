//! A gateway over a real store, and calls that end as their function's name says.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use refunction_controller::gateway::{Bound, Gateway, Invoke, Place, Settings, Token};
use refunction_controller::node::{Answer as Called, Asked, Call, Refusal, Start};
use refunction_controller::store::{Store, StoreError};
use refunction_protocol::{Failure, FailureKind};
use serde_json::json;
use serde_json::value::RawValue;
use tempfile::TempDir;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::client::{Answer, Connection, PATIENCE};

/// Ends calls as their function's name says. What really runs them is tried with containers.
#[derive(Debug)]
pub struct Trial {
    /// Calls of `waits` end when they have one of these.
    pub ends: Semaphore,
    /// Calls of `waits` that were begun, and those that were given up.
    pub begun: AtomicUsize,
    pub given_up: AtomicUsize,
    pub changed: Mutex<Vec<String>>,
    pub calls: Mutex<Vec<(String, String, Option<u64>)>>,
    pub readiness: Mutex<Result<(), String>>,
}

impl Default for Trial {
    fn default() -> Self {
        Self {
            ends: Semaphore::new(0),
            begun: AtomicUsize::default(),
            given_up: AtomicUsize::default(),
            changed: Mutex::default(),
            calls: Mutex::default(),
            readiness: Mutex::new(Ok(())),
        }
    }
}

/// Counts a call that is dropped before it ends.
struct Watched<'a>(&'a Trial, bool);

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.given_up.fetch_add(1, Ordering::SeqCst);
        }
    }
}

pub fn failure(kind: FailureKind) -> Failure {
    Failure {
        kind,
        message: format!("it is {}", kind.as_str()),
        error_type: Some("ValueError".into()),
        stack: Some("line 1\nline 2".into()),
    }
}

#[tonic::async_trait]
impl Invoke for Trial {
    async fn invoke(&self, call: Call) -> Result<Called, Refusal> {
        let seen = (call.function.clone(), call.id.clone(), call.deadline_ms);
        self.calls.lock().unwrap().push(seen);
        let retry_after = Duration::from_millis(1500);
        let failed = |kind| Err(failure(kind));
        let outcome = match call.function.as_str() {
            "echo" => Ok(call.payload),
            "waits" => {
                self.begun.fetch_add(1, Ordering::SeqCst);
                let mut watched = Watched(self, false);
                self.ends.acquire().await.unwrap().forget();
                watched.1 = true;
                Ok(call.payload)
            }
            "large" => {
                let size = 64 * 1024 * 1024;
                Ok(RawValue::from_string(format!("\"{}\"", "x".repeat(size))).unwrap())
            }
            "exception" => failed(FailureKind::Exception),
            "timeout" => failed(FailureKind::Timeout),
            "out_of_memory" => failed(FailureKind::OutOfMemory),
            "crashed" => failed(FailureKind::Crashed),
            "busy" => {
                return Err(Refusal::Busy {
                    reason: "4 containers".into(),
                    retry_after,
                });
            }
            "backing_off" => {
                return Err(Refusal::BackingOff {
                    function: call.function,
                    cause: "it crashed 5 times".into(),
                    retry_after,
                });
            }
            "not_loaded" => {
                return Err(Refusal::NotLoaded {
                    function: call.function,
                    failure: failure(FailureKind::Exception),
                });
            }
            "no_container" => {
                return Err(Refusal::NoContainer {
                    image: "refunction/python".into(),
                    cause: "containerd is not there".into(),
                });
            }
            "ending" => return Err(Refusal::Ending),
            _ => return Err(Refusal::Unknown(call.function)),
        };
        Ok(Called {
            outcome,
            asked: Asked {
                container: "python-1".into(),
                start: Start::Restored,
                waited: Duration::from_micros(12),
            },
            ran: Duration::from_millis(3),
        })
    }

    async fn changed(&self, name: &str) -> Result<(), StoreError> {
        self.changed.lock().unwrap().push(name.into());
        Ok(())
    }

    fn ready(&self) -> Result<(), String> {
        self.readiness.lock().unwrap().clone()
    }

    fn metrics(&self) -> String {
        "# TYPE up gauge\nup 1\n".into()
    }
}

/// A gateway that listens on loopback and on a socket.
pub struct Site {
    pub port: u16,
    pub root: TempDir,
    pub trial: Arc<Trial>,
    pub store: Store,
    pub stop: watch::Sender<bool>,
    pub serving: JoinHandle<()>,
}

impl Site {
    pub async fn start() -> Self {
        Self::with(None, |_| ()).await
    }

    pub async fn with(token: Option<&str>, set: impl FnOnce(&mut Settings)) -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).await.unwrap();
        let trial = Arc::new(Trial::default());
        let mut settings = Settings {
            images: BTreeMap::from([("python".into(), "refunction/python".into())]),
            ..Settings::default()
        };
        set(&mut settings);
        let token = token.map(|token| Token::new(token).unwrap());
        let gateway = Gateway::new(store.clone(), trial.clone(), settings);
        let own = "127.0.0.1:0".parse().unwrap();
        let bound = Bound::listen(&own, token.as_ref()).await.unwrap();
        let Some(Place::Address(address)) = bound.place() else {
            panic!("{bound:?}");
        };
        let socket = Place::Socket(root.path().join("gateway.sock"));
        let socket = Bound::listen(&socket, token.as_ref()).await.unwrap();
        let (stop, stopping) = watch::channel(false);
        let serving = tokio::spawn(gateway.serve(vec![bound, socket], stopping));
        Self {
            port: address.port(),
            root,
            trial,
            store,
            stop,
            serving,
        }
    }

    pub async fn connect(&self) -> Connection {
        Connection::to(self.port).await
    }

    /// One request on a connection of its own.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut connection = self.connect().await;
        connection.request(method, path, headers, body).await;
        if method == "HEAD" {
            return connection.head().await;
        }
        connection.answer().await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"").await
    }

    pub async fn post(&self, path: &str, body: &str) -> Answer {
        let headers = [("content-type", "application/json")];
        self.send("POST", path, &headers, body.as_bytes()).await
    }

    /// Deploys a function that is to be taken.
    pub async fn deploy(&self, name: &str) -> Answer {
        let function = json!({"code": "def main(args): return args", "runtime": "python"});
        let path = format!("/functions/{name}");
        let body = function.to_string();
        let answer = self.send("PUT", &path, &[], body.as_bytes()).await;
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        answer
    }

    /// Waits until so many calls of `waits` were begun.
    pub async fn begun(&self, count: usize) {
        self.counted(&self.trial.begun, count).await;
    }

    /// Waits until so many calls of `waits` were given up.
    pub async fn given_up(&self, count: usize) {
        self.counted(&self.trial.given_up, count).await;
    }

    async fn counted(&self, counter: &AtomicUsize, count: usize) {
        let reached = async {
            while counter.load(Ordering::SeqCst) < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, reached).await.expect("it is counted");
        assert_eq!(counter.load(Ordering::SeqCst), count);
    }

    /// Tells it to stop, and waits for that.
    pub async fn stopped(self) {
        self.stop.send_replace(true);
        timeout(PATIENCE, self.serving)
            .await
            .expect("it stops")
            .unwrap();
    }
}
