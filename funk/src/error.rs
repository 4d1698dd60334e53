//! What can go wrong, what a person is told, and what a script gets.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use refunction_protocol::host::Failure;
use serde_json::json;
use tonic::{Code, Status};

use crate::cli::Format;

/// What the process ends with; documented in `funk --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Ok = 0,
    Raised = 1,
    Usage = 2,
    NotFound = 3,
    Unreachable = 4,
    Timeout = 5,
    Crashed = 6,
    Busy = 7,
    Other = 8,
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// The code for a failure of the function's.
    pub(crate) fn of(failure: &Failure) -> Self {
        match failure.kind.as_str() {
            "exception" => Self::Raised,
            "timeout" => Self::Timeout,
            "out_of_memory" | "crashed" => Self::Crashed,
            "bad_request" | "not_loaded" => Self::Usage,
            _ => Self::Other,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Raised => "exception",
            Self::Usage => "usage",
            Self::NotFound => "not_found",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Crashed => "crashed",
            Self::Busy => "busy",
            Self::Other => "error",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command, or what it was given, is wrong.
    #[error("{0}")]
    Usage(String),
    /// There is no such image.
    #[error("{0}")]
    NoImage(String),
    /// The daemon does not answer.
    #[error("{0}")]
    Unreachable(String),
    /// The daemon refused.
    #[error("{}", .0.message())]
    Refused(Box<Status>),
    /// The function did not do what it should.
    #[error("{}", .0.message)]
    Function(Box<Failure>),
    /// Somebody pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// Something on this side.
    #[error("{0}")]
    Here(String),
    /// Standard output is gone or full.
    #[error("writing the result: {0}")]
    Output(#[from] io::Error),
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Function(Box::new(failure))
    }
}

impl Error {
    pub(crate) fn file(doing: &str, path: &Path, error: &io::Error) -> Self {
        let message = format!("{doing} {}: {error}", path.display());
        if error.kind() == io::ErrorKind::NotFound {
            Self::Usage(message)
        } else {
            Self::Here(message)
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::NoImage(_) => Exit::NotFound,
            Self::Unreachable(_) => Exit::Unreachable,
            Self::Refused(status) => match status.code() {
                Code::NotFound => Exit::NotFound,
                Code::Unavailable => Exit::Unreachable,
                Code::DeadlineExceeded => Exit::Timeout,
                Code::Aborted => Exit::Crashed,
                Code::ResourceExhausted => Exit::Busy,
                Code::InvalidArgument | Code::AlreadyExists | Code::OutOfRange => Exit::Usage,
                _ => Exit::Other,
            },
            Self::Function(failure) => Exit::of(failure),
            Self::Interrupted => Exit::Interrupted,
            Self::Here(_) => Exit::Other,
            // The reader had enough; that is its right.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
            Self::Output(_) => Exit::Other,
        }
    }

    /// Tells standard error, and with JSON wanted standard output too.
    pub(crate) fn report(&self, format: Format) -> Exit {
        let exit = self.exit();
        if exit == Exit::Ok {
            return exit;
        }
        let mut errors = io::stderr().lock();
        let _ = match self {
            Self::Function(failure) => write_failure(&mut errors, failure),
            other => writeln!(errors, "funk: {other}"),
        };
        if format == Format::Json {
            let document = match self {
                Self::Function(failure) => json!({"error": failure_json(failure)}),
                other => json!({"error": {"kind": exit.word(), "message": other.to_string()}}),
            };
            let _ = writeln!(io::stdout().lock(), "{document}");
        }
        exit
    }
}

/// The tenant's own lines first, as the runtime prints them.
fn write_failure(to: &mut impl Write, failure: &Failure) -> io::Result<()> {
    if let Some(stack) = failure.stack.as_deref().filter(|it| !it.trim().is_empty()) {
        writeln!(to, "{}", stack.trim_end())?;
    }
    match failure.error_type.as_deref() {
        Some(kind) => writeln!(to, "funk: {}: {kind}: {}", failure.kind, failure.message)?,
        None => writeln!(to, "funk: {}: {}", failure.kind, failure.message)?,
    }
    match failure.kind.as_str() {
        "not_loaded" => writeln!(to, "funk: load one with `funk function -c ID -f FILE`"),
        _ => Ok(()),
    }
}

/// A failure with the names it has on the control channel.
fn failure_json(failure: &Failure) -> serde_json::Value {
    json!({
        "kind": failure.kind,
        "message": failure.message,
        "error_type": failure.error_type,
        "stack": failure.stack,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(kind: &str) -> Error {
        Error::from(Failure {
            kind: kind.into(),
            message: "m".into(),
            error_type: Some("ValueError".into()),
            stack: Some("Traceback\n  line 1\n".into()),
        })
    }

    #[test]
    fn each_cause_has_its_code() {
        assert_eq!(failure("exception").exit(), Exit::Raised);
        assert_eq!(failure("timeout").exit(), Exit::Timeout);
        assert_eq!(failure("out_of_memory").exit(), Exit::Crashed);
        assert_eq!(failure("not_loaded").exit(), Exit::Usage);
        assert_eq!(failure("new_in_a_later_version").exit(), Exit::Other);
        let refused = |status: Status| Error::from(status).exit();
        assert_eq!(refused(Status::not_found("")), Exit::NotFound);
        assert_eq!(refused(Status::resource_exhausted("")), Exit::Busy);
        assert_eq!(refused(Status::aborted("")), Exit::Crashed);
        let pipe = Error::Output(io::ErrorKind::BrokenPipe.into());
        assert_eq!(pipe.exit(), Exit::Ok);
    }

    #[test]
    fn the_tenants_lines_come_first() {
        let Error::Function(failure) = failure("exception") else {
            unreachable!()
        };
        let mut text = Vec::new();
        write_failure(&mut text, &failure).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "Traceback\n  line 1\nfunk: exception: ValueError: m\n"
        );
    }
}
