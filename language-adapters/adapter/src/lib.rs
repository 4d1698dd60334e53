//! What a language runtime must offer so that refunction can reuse its process:
//! the [`Adapter`] trait, and the [`channel`] between worker and supervisor.

#![forbid(unsafe_code)]

#[cfg(feature = "archive")]
pub mod archive;
pub mod channel;
pub mod given;
pub mod sabotage;
mod serve;

pub use serve::serve;

use std::collections::BTreeMap;

use refunction_protocol::Function;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// One runtime, embedded in the template's process.
///
/// The calls come in this order: `boot`, `preload`, `import` where the container's command
/// names a function, and `settle` once in the template; then in every worker `after_fork` once, and after each restore `after_restore`,
/// `load`, and `invoke` as often as there are requests.
pub trait Adapter {
    /// The runtime's name and its own version; valid after [`boot`](Self::boot).
    fn runtime(&self) -> Runtime;

    /// Starts the runtime. No tenant code has run, and none runs before `load`.
    ///
    /// # Errors
    /// The runtime cannot start; the container cannot serve.
    fn boot(&mut self) -> Result<(), BootError>;

    /// Imports libraries into the template, so that functions find them loaded.
    ///
    /// # Errors
    /// Names the library that could not be imported, and why.
    fn preload(&mut self, libraries: &[String]) -> Result<(), BootError>;

    /// Libraries of the image's that [`grow`](Self::grow) may be asked for, by the names under
    /// which functions import them.
    fn installed(&self) -> Vec<String> {
        Vec::new()
    }

    /// As [`preload`](Self::preload), in a fork of a template that has served, which is to
    /// become a template itself: tenants have been in its container since. Only what is
    /// [installed](Self::installed) is imported, and from where no worker can write. To be
    /// followed by another [`settle`](Self::settle).
    ///
    /// # Errors
    /// Names the library that could not be imported, and why.
    fn grow(&mut self, libraries: &[String]) -> Result<(), BootError> {
        Err(BootError {
            doing: format!("importing {}", libraries.join(", ")),
            cause: "this runtime has no layers of libraries".into(),
        })
    }

    /// Imports the function that the container's command names into the template. A later
    /// `load` without code and with this very handler finds it there, imported and never
    /// called. It is the code of the image's author, and there is no other tenant.
    ///
    /// # Errors
    /// What its module raised, or what is missing.
    fn import(&mut self, handler: &str) -> Result<(), Exception>;

    /// Makes the template's memory quiet: a full collection, and whatever keeps
    /// later collections from writing to what is there.
    ///
    /// # Errors
    /// The runtime refused.
    fn settle(&mut self) -> Result<(), BootError>;

    /// Mends, in a freshly forked worker, what a fork breaks.
    fn after_fork(&mut self);

    /// Makes the runtime's own randomness and clocks fresh. Restoring rewound
    /// them: without this two tenants would draw the same numbers.
    ///
    /// # Errors
    /// The worker must not be given a function.
    fn after_restore(&mut self) -> Result<(), BootError>;

    /// Loads a tenant's function: the first tenant code that runs.
    ///
    /// # Errors
    /// What the tenant did wrong, with the tenant's own lines.
    fn load(&mut self, function: &Function) -> Result<(), Exception>;

    /// Calls the loaded function, and makes sure that everything it printed has
    /// reached the descriptors before returning.
    ///
    /// # Errors
    /// What the function raised, or why its result is not JSON.
    fn invoke(&mut self, invocation: &Invocation) -> Result<Box<RawValue>, Exception>;

    /// As [`invoke`](Self::invoke), for a runtime whose functions may answer in pieces.
    ///
    /// # Errors
    /// The same, if it is before the first piece.
    fn answer(&mut self, invocation: &Invocation) -> Result<Answer, Exception> {
        self.invoke(invocation).map(Answer::Whole)
    }

    /// The next piece of an answer whose head was given; nothing after the last. The function
    /// goes on for as long as it takes to produce it and no longer: who does not ask for more
    /// holds it up.
    ///
    /// # Errors
    /// What the function raised: the answer ends here, and is not whole.
    fn next_piece(&mut self) -> Result<Option<Vec<u8>>, Exception> {
        Ok(None)
    }
}

/// What a call gives.
#[derive(Debug)]
pub enum Answer {
    /// Its result.
    Whole(Box<RawValue>),
    /// What is known of a result that comes in pieces.
    Streamed(Head),
}

/// What an answer in pieces begins with, in HTTP's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// The headers; a character of a value is a byte (ISO 8859-1).
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// Of a result that is this type of media.
    #[must_use]
    pub fn of_type(kind: &str) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type".into(), kind.into())],
        }
    }
}

/// A runtime's name and version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runtime {
    /// As `--runtime` calls it, or near it: `python`, `nodejs`.
    pub name: String,
    /// As the runtime gives it, such as `3.11.2`.
    pub version: String,
}

/// One call of the loaded function.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Invocation {
    /// The request's id as text, for the handler's context.
    pub id: String,
    /// When the call is given up, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_unix_ms: Option<u64>,
    /// Variables for this call and those after it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Who calls, for the handler's context.
    #[serde(default, skip_serializing_if = "Caller::is_unknown")]
    pub caller: Caller,
    /// The argument.
    pub data: Box<RawValue>,
}

/// What Lambda says of who calls, and by which name: of a local call it is little, or nothing.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Caller {
    /// What a mobile application says of itself: `client`, `custom` and `env`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_context: Option<Box<RawValue>>,
    /// Who its user is: `cognitoIdentityId` and `cognitoIdentityPoolId`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cognito_identity: Option<Box<RawValue>>,
    /// The name by which the function was called, which may be an alias or a version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invoked_function_arn: Option<String>,
    /// Whose call it is, of a function that is called for many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
}

impl Caller {
    /// True if nothing is known.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        let Self {
            client_context,
            cognito_identity,
            invoked_function_arn,
            tenant_id,
        } = self;
        client_context.is_none()
            && cognito_identity.is_none()
            && invoked_function_arn.is_none()
            && tenant_id.is_none()
    }

    /// All of it as JSON text, if there is any.
    #[must_use]
    pub fn told(&self) -> Option<String> {
        if self.is_unknown() {
            return None;
        }
        serde_json::to_string(self).ok()
    }
}

/// What a tenant's code raised, in the runtime's own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    /// Such as `ValueError`.
    pub error_type: String,
    /// What it says.
    pub message: String,
    /// The tenant's frames as the runtime prints them; empty if there are none.
    pub stack: String,
}

impl Exception {
    /// The adapter's own answer to what a tenant sent; has no frames to show.
    #[must_use]
    pub fn refusal(kind: &str, message: impl Into<String>) -> Self {
        Self {
            error_type: kind.into(),
            message: message.into(),
            stack: String::new(),
        }
    }

    /// All of it as one text: what it is, and where it came from.
    #[must_use]
    pub fn told(&self) -> String {
        let Self {
            error_type,
            message,
            stack,
        } = self;
        let stack = stack.trim_end();
        if stack.contains(message.as_str()) && !message.is_empty() {
            stack.to_string()
        } else if stack.is_empty() {
            format!("{error_type}: {message}")
        } else {
            format!("{error_type}: {message}\n{stack}")
        }
    }
}

/// Why a runtime could not be made ready.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {cause}")]
pub struct BootError {
    /// What was being done, such as `importing numpy`.
    pub doing: String,
    /// What the runtime said.
    pub cause: String,
}
