//! What the supervisor and whoever drives it say to each other: newline-delimited
//! JSON, one [`Command`] or [`Report`] a line. No I/O happens here.

#![forbid(unsafe_code)]

mod command;
mod framing;
mod report;

pub use command::{BadCommand, Command, Function, Limits, Request, RequestId};
pub use framing::{LineTooLong, Lines, MAX_LINE_BYTES};
pub use report::{
    Failure, FailureKind, Log, Method, Phase, Report, Restored, Started, State, Status, Stream,
    Taint,
};
