//! What the supervisor says: answers, and news that nobody asked for.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::RequestId;

/// One message from the supervisor.
#[derive(Debug)]
pub enum Report {
    /// The template is frozen and a worker waits; sent once to every peer.
    Started(Started),
    /// Whether the function sent last is ready to be called, or why not.
    FunctionLoaded(Result<Loaded, Failure>),
    /// What the function returned.
    Response {
        /// The request's own id.
        id: Option<RequestId>,
        /// The function's result, one JSON value on one line.
        data: Box<RawValue>,
    },
    /// The answer to a request that takes [pieces](crate::Request::pieces) begins, and comes
    /// piece by piece; its end is a [`Response`](Self::Response) of `null`, or an error.
    Head {
        /// The request's own id.
        id: Option<RequestId>,
        /// `status` and `headers`, as the function gave them.
        data: Box<RawValue>,
    },
    /// A piece of an answer.
    Piece {
        /// The request's own id.
        id: Option<RequestId>,
        /// Its bytes in base64 (RFC 4648, section 4).
        data: String,
    },
    /// The request, or the message, could not be answered.
    Error {
        /// The request's own id, if it is one request's error.
        id: Option<RequestId>,
        /// What happened.
        failure: Failure,
    },
    /// The container is back at its snapshot.
    Restored(Restored),
    /// The answer to `status`.
    Status(Status),
    /// A line that the function printed.
    Log(Log),
}

/// What booted, and how long it took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// `python`, `javascript`, `nodejs`, `java`.
    pub runtime: String,
    /// The runtime's own version.
    pub version: String,
    /// The worker's process id, as the supervisor's pid namespace counts.
    pub pid: u32,
    /// Bytes of memory in the snapshot.
    pub snapshot_bytes: u64,
    /// Microseconds from the supervisor's start to the first worker's ready point.
    pub boot_us: u64,
}

/// Where a function was loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// The libraries that its worker's template had imported for functions like it: the
    /// template's layer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layer: Vec<String>,
    /// Why there is no layer with all the libraries that it asked for or imports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_layer: Option<String>,
}

/// A template with libraries imported, grown from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// What is imported in it.
    pub libraries: Vec<String>,
    /// Bytes of memory that its snapshot takes.
    pub bytes: u64,
    /// Functions that were loaded into workers of it.
    pub functions: u64,
}

/// Why a request has no response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which kind of thing happened.
    pub kind: FailureKind,
    /// What happened, in a sentence.
    pub message: String,
    /// The runtime's own name of the error, such as `ValueError`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_type: Option<String>,
    /// The tenant's frames, innermost last, as the runtime prints them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
}

/// The kinds of [`Failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The function raised.
    Exception,
    /// The deadline passed.
    Timeout,
    /// The kernel killed the worker for memory.
    OutOfMemory,
    /// The worker ended or broke its channel.
    Crashed,
    /// The message itself was wrong.
    BadRequest,
    /// No function is loaded.
    NotLoaded,
}

impl FailureKind {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exception => "exception",
            Self::Timeout => "timeout",
            Self::OutOfMemory => "out_of_memory",
            Self::Crashed => "crashed",
            Self::BadRequest => "bad_request",
            Self::NotLoaded => "not_loaded",
        }
    }
}

/// How the container came back to its snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// In place, or by a new worker.
    pub method: Method,
    /// Microseconds from taking the command in hand to the worker's being ready.
    pub total_us: u64,
    /// Where they went, in order.
    pub phases: Vec<Phase>,
    /// Pages that differed from the snapshot and were put back.
    pub dirty_pages: u64,
    /// Why the worker could not be rewound; empty after a rewind.
    pub taints: Vec<Taint>,
}

/// The ways back to a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The worker itself was put back.
    Rewind,
    /// The worker was killed and another forked from the template.
    Refork,
}

/// One timed part of a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// Which part.
    pub name: String,
    /// Its duration in nanoseconds.
    pub ns: u64,
}

/// One reason why a worker may not be rewound.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Taint {
    /// The row of the state table, such as `mappings` or `exec`.
    pub row: String,
    /// What was seen.
    pub detail: String,
}

/// What the container is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Where in its life it is.
    pub state: State,
    /// `python`, `javascript`, `nodejs`, `java`.
    pub runtime: String,
    /// The worker's process id; absent while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_pid: Option<u32>,
    /// Requests answered since the start, errors included.
    pub requests: u64,
    /// Rewinds since the start.
    pub rewinds: u64,
    /// Reforks since the start.
    pub reforks: u64,
    /// Requests that wait for the one in flight.
    pub queued: u64,
    /// Workers that stand by, so that a refork has one at once.
    #[serde(default)]
    pub spares: u64,
    /// Templates with libraries imported, grown from the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Layer>,
}

/// The lifecycle of a function container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The runtime is loading; there is no snapshot yet.
    Booting,
    /// A worker waits at the snapshot.
    Ready,
    /// A function is loaded.
    Loaded,
    /// A call is in flight.
    Running,
    /// The worker is being put back. A supervisor answers nothing meanwhile, so this
    /// is for whoever keeps its state from outside, such as the controller.
    Restoring,
    /// In-flight work ends, then the container does.
    Draining,
}

/// One line that a function printed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Log {
    /// The request during which it was printed; absent outside one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RequestId>,
    /// Where it was printed.
    pub stream: Stream,
    /// The line without its end; bytes that are not UTF-8 are replaced.
    pub line: String,
    /// True if the line, or lines after it, were cut at a limit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// A standard stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

/// The body beside the fields that stand outside `data`.
#[derive(Serialize)]
struct Outgoing<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    data: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Failure>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    loaded: Option<&'a Loaded>,
}

#[derive(Deserialize)]
struct Incoming<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    id: Option<RequestId>,
    #[serde(default)]
    error: Option<Failure>,
    #[serde(default)]
    layer: Vec<String>,
    #[serde(default)]
    no_layer: Option<String>,
}

impl Report {
    /// The line to send, newline included.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        fn put<T: Serialize>(
            kind: &'static str,
            data: T,
            id: Option<&RequestId>,
            error: Option<&Failure>,
        ) -> Vec<u8> {
            crate::framing::line(&Outgoing {
                kind,
                data,
                id: id.map(AsRef::as_ref),
                error,
                loaded: None,
            })
        }
        match self {
            Self::Started(it) => put("started", it, None, None),
            Self::FunctionLoaded(it) => crate::framing::line(&Outgoing {
                kind: "function_loaded",
                data: it.is_ok(),
                id: None,
                error: it.as_ref().err(),
                loaded: it.as_ref().ok(),
            }),
            Self::Response { id, data } => put("response", data, id.as_ref(), None),
            Self::Head { id, data } => put("head", data, id.as_ref(), None),
            Self::Piece { id, data } => put("piece", data, id.as_ref(), None),
            Self::Error { id, failure } => put("error", failure, id.as_ref(), None),
            Self::Restored(it) => put("restored", it, None, None),
            Self::Status(it) => put("status", it, None, None),
            Self::Log(it) => put("log", it, None, None),
        }
    }

    /// Reads one line from a supervisor.
    ///
    /// # Errors
    /// The line is not one of these messages.
    pub fn parse(line: &[u8]) -> Result<Self, serde_json::Error> {
        let Incoming {
            kind,
            data,
            id,
            error,
            layer,
            no_layer,
        } = serde_json::from_slice(line)?;
        let data = data.unwrap_or(RawValue::NULL);
        let read = data.get();
        Ok(match kind.as_ref() {
            "started" => Self::Started(serde_json::from_str(read)?),
            "function_loaded" => Self::FunctionLoaded(if serde_json::from_str(read)? {
                Ok(Loaded { layer, no_layer })
            } else {
                Err(error.unwrap_or_else(|| Failure {
                    kind: FailureKind::Exception,
                    message: "the function was not loaded".into(),
                    error_type: None,
                    stack: None,
                }))
            }),
            "response" => Self::Response {
                id,
                data: data.to_owned(),
            },
            "head" => Self::Head {
                id,
                data: data.to_owned(),
            },
            "piece" => Self::Piece {
                id,
                data: serde_json::from_str(read)?,
            },
            "error" => Self::Error {
                id,
                failure: serde_json::from_str(read)?,
            },
            "restored" => Self::Restored(serde_json::from_str(read)?),
            "status" => Self::Status(serde_json::from_str(read)?),
            "log" => Self::Log(serde_json::from_str(read)?),
            unknown => {
                return Err(serde::de::Error::custom(format!(
                    "unknown message type {unknown:?}"
                )));
            }
        })
    }
}
