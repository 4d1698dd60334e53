//! What a peer may ask of the supervisor.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The name a peer gave its request; it comes back in the answer unchanged.
///
/// A peer may number its requests or name them, so any JSON is kept as it came.
pub type RequestId = Box<RawValue>;

/// One message to the supervisor.
#[derive(Debug)]
pub enum Command {
    /// Load this function into the worker.
    Function(Box<Function>),
    /// Call the loaded function.
    Request(Request),
    /// Put the container back to its snapshot.
    Restore,
    /// Say what the container is doing.
    Status,
    /// End the container, in-flight work first.
    Shutdown,
}

/// The variable of a function's that says what its [`libraries`](Function::libraries) are,
/// separated by commas.
pub const LIBRARIES_VARIABLE: &str = "REFUNCTION_LIBRARIES";

/// A tenant's function.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Source text, or with [`binary`](Self::binary) a base64 archive.
    pub code: String,
    /// True if `code` is a base64 zip with the entry module and what it needs.
    #[serde(default, skip_serializing_if = "is_false")]
    pub binary: bool,
    /// The entry: a function's name, called as `main(args)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main: Option<String>,
    /// The entry as `module.function`, called as `handler(event, context)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// Environment variables of this function.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// What its calls may use.
    #[serde(default, skip_serializing_if = "Limits::is_default")]
    pub limits: Limits,
    /// Libraries that it imports, to be found imported already; where nothing is said, those
    /// that its source shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub libraries: Option<Vec<String>>,
}

/// What a function's calls may use; absent means the container's own setting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Milliseconds a call may take unless the request names its own deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

impl Limits {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

// serde's `skip_serializing_if` hands over a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Function {
    /// A function that is nothing but its source text.
    #[must_use]
    pub fn from_source(code: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            ..Self::default()
        }
    }
}

/// One call of the loaded function.
#[derive(Debug)]
pub struct Request {
    /// Comes back with the answer.
    pub id: Option<RequestId>,
    /// Milliseconds from arrival until the call is given up.
    pub deadline_ms: Option<u64>,
    /// True if an answer in pieces is to come piece by piece, as [`Report::Head`](crate::Report::Head)
    /// says; joined otherwise.
    pub pieces: bool,
    /// The argument, passed on as it came.
    pub data: Box<RawValue>,
}

/// A message that is no [`Command`], with the request it belonged to if it said so.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct BadCommand {
    /// The message's `id`, if one could be read.
    pub id: Option<RequestId>,
    /// What was wrong, in a phrase for the peer.
    pub reason: String,
}

/// The envelope as it stands on the wire; `data` is read once its type is known.
#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "is_false")]
    pieces: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum FunctionForm {
    Source(String),
    Full(Box<Function>),
}

impl Command {
    /// Reads one line of the control channel.
    ///
    /// # Errors
    /// [`BadCommand`] names what was wrong: not JSON, no or an unknown type, or
    /// data that its type does not allow.
    pub fn parse(line: &[u8]) -> Result<Self, BadCommand> {
        let envelope: Envelope<'_> = serde_json::from_slice(line).map_err(|error| BadCommand {
            id: None,
            reason: format!("the message is not a JSON object with a \"type\": {error}"),
        })?;
        let id = envelope.id.map(ToOwned::to_owned);
        match envelope.kind.as_ref() {
            "function" => match function(envelope.data) {
                Ok(function) => Ok(Self::Function(function)),
                Err(reason) => Err(BadCommand { id, reason }),
            },
            "request" => Ok(Self::Request(Request {
                id,
                deadline_ms: envelope.deadline_ms,
                pieces: envelope.pieces,
                data: envelope.data.map_or_else(null, ToOwned::to_owned),
            })),
            "restore" => Ok(Self::Restore),
            "status" => Ok(Self::Status),
            "shutdown" => Ok(Self::Shutdown),
            unknown => Err(BadCommand {
                id,
                reason: format!(
                    "unknown message type {unknown:?}: expected function, request, restore, status or shutdown"
                ),
            }),
        }
    }

    /// The line to send, newline included.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let function;
        let (kind, data, id, deadline_ms) = match self {
            Self::Function(it) => {
                function = raw(it);
                ("function", Some(&*function), None, None)
            }
            Self::Request(it) => ("request", Some(&*it.data), it.id.as_deref(), it.deadline_ms),
            Self::Restore => ("restore", None, None, None),
            Self::Status => ("status", None, None, None),
            Self::Shutdown => ("shutdown", None, None, None),
        };
        crate::framing::line(&Envelope {
            kind: kind.into(),
            data,
            id,
            deadline_ms,
            pieces: matches!(self, Self::Request(it) if it.pieces),
        })
    }
}

fn function(data: Option<&RawValue>) -> Result<Box<Function>, String> {
    let Some(data) = data else {
        return Err(
            "a function message needs \"data\": a source string, or an object with \"code\"".into(),
        );
    };
    let form = serde_json::from_str::<FunctionForm>(data.get()).map_err(|_| {
        // The untagged error says only "did not match"; ask again for the real cause.
        match serde_json::from_str::<Function>(data.get()) {
            Err(error) => {
                format!("the function is neither a source string nor a function object: {error}")
            }
            Ok(_) => "the function could not be read".into(),
        }
    })?;
    Ok(match form {
        FunctionForm::Source(code) => Box::new(Function::from_source(code)),
        FunctionForm::Full(function) => function,
    })
}

fn raw<T: Serialize>(value: &T) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("plain data always serializes")
}

fn null() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}
