//! The control channel's messages.

use arbitrary::{Arbitrary, Unstructured};
use refunction_protocol::{
    Command, Failure, FailureKind, Function, Limits, Loaded, Log, Method, Phase, Report, Request,
    Restored, Stream, Taint,
};

use crate::json::Json;

/// Any bytes as a command.
pub fn commands(input: &[u8]) {
    if let Ok(command) = Command::parse(input) {
        let line = command.to_line();
        is_one_line(&line);
        let again = Command::parse(&line).expect("what was said can be read");
        assert_eq!(again.to_line(), line);
    }
}

/// Any bytes as a report.
pub fn reports(input: &[u8]) {
    if let Ok(report) = Report::parse(input) {
        let line = report.to_line();
        is_one_line(&line);
        let again = Report::parse(&line).expect("what was said can be read");
        assert_eq!(again.to_line(), line);
    }
}

/// Any message comes back as it was sent.
pub fn messages(input: &[u8]) {
    match Unstructured::new(input).arbitrary() {
        Ok(Message::Command(said)) => {
            let command = said.command();
            let line = command.to_line();
            is_one_line(&line);
            let heard = Command::parse(&line).expect("what was said can be read");
            assert_eq!(format!("{heard:?}"), format!("{command:?}"));
        }
        Ok(Message::Report(said)) => {
            let report = said.report();
            let line = report.to_line();
            is_one_line(&line);
            let heard = Report::parse(&line).expect("what was said can be read");
            assert_eq!(format!("{heard:?}"), format!("{report:?}"));
        }
        Err(_) => {}
    }
}

/// Or the peer would take the rest for the next message.
fn is_one_line(line: &[u8]) {
    let end = line.iter().position(|byte| *byte == b'\n');
    assert_eq!(end, Some(line.len() - 1));
}

#[derive(Debug, Arbitrary)]
enum Message {
    Command(SomeCommand),
    Report(SomeReport),
}

#[derive(Debug, Arbitrary)]
enum SomeCommand {
    Function {
        code: String,
        binary: bool,
        main: Option<String>,
        handler: Option<String>,
        env: Vec<(String, String)>,
        deadline_ms: Option<u64>,
    },
    Request {
        id: Option<Json>,
        deadline_ms: Option<u64>,
        pieces: bool,
        data: Json,
    },
    Restore,
    Status,
    Shutdown,
}

impl SomeCommand {
    fn command(self) -> Command {
        match self {
            Self::Function {
                code,
                binary,
                main,
                handler,
                env,
                deadline_ms,
            } => Command::Function(Box::new(Function {
                code,
                binary,
                main,
                handler,
                env: env.into_iter().collect(),
                limits: Limits { deadline_ms },
                libraries: None,
            })),
            Self::Request {
                id,
                deadline_ms,
                pieces,
                data,
            } => Command::Request(Request {
                id: id.and_then(Json::id),
                deadline_ms,
                pieces,
                data: data.raw(),
            }),
            Self::Restore => Command::Restore,
            Self::Status => Command::Status,
            Self::Shutdown => Command::Shutdown,
        }
    }
}

#[derive(Debug, Arbitrary)]
enum SomeReport {
    Loaded,
    NotLoaded(SomeFailure),
    Response {
        id: Option<Json>,
        data: Json,
    },
    Error {
        id: Option<Json>,
        failure: SomeFailure,
    },
    Restored {
        total_us: u64,
        phases: Vec<(String, u64)>,
        dirty_pages: u64,
        taints: Vec<(String, String)>,
    },
    Log {
        id: Option<Json>,
        line: String,
        truncated: bool,
    },
}

#[derive(Debug, Arbitrary)]
struct SomeFailure {
    message: String,
    error_type: Option<String>,
    stack: Option<String>,
}

impl SomeFailure {
    fn failure(self) -> Failure {
        Failure {
            kind: FailureKind::OutOfMemory,
            message: self.message,
            error_type: self.error_type,
            stack: self.stack,
        }
    }
}

impl SomeReport {
    fn report(self) -> Report {
        match self {
            Self::Loaded => Report::FunctionLoaded(Ok(Loaded::default())),
            Self::NotLoaded(failure) => Report::FunctionLoaded(Err(failure.failure())),
            Self::Response { id, data } => Report::Response {
                id: id.and_then(Json::id),
                data: data.raw(),
            },
            Self::Error { id, failure } => Report::Error {
                id: id.and_then(Json::id),
                failure: failure.failure(),
            },
            Self::Restored {
                total_us,
                phases,
                dirty_pages,
                taints,
            } => Report::Restored(Restored {
                method: Method::Refork,
                total_us,
                phases: phases
                    .into_iter()
                    .map(|(name, ns)| Phase { name, ns })
                    .collect(),
                dirty_pages,
                taints: taints
                    .into_iter()
                    .map(|(row, detail)| Taint { row, detail })
                    .collect(),
            }),
            Self::Log {
                id,
                line,
                truncated,
            } => Report::Log(Log {
                id: id.and_then(Json::id),
                stream: Stream::Stderr,
                line,
                truncated,
            }),
        }
    }
}
