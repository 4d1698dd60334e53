//! What the supervisor and whoever drives it say to each other: newline-delimited
//! JSON, one [`Command`] or [`Report`] a line. No I/O happens here.

#![forbid(unsafe_code)]

mod command;
mod framing;
#[cfg(feature = "http")]
mod head;
mod report;
#[cfg(feature = "host")]
mod size;

/// The control API that `refunctiond` serves and `funk` calls.
#[cfg(feature = "host")]
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod host {
    tonic::include_proto!("refunction.v1");

    /// Bytes that one gRPC message may have: a control channel's longest line
    /// and room for the envelope.
    pub const MAX_MESSAGE_BYTES: usize = crate::MAX_LINE_BYTES + 64 * 1024;
}

pub use command::{BadCommand, Command, Function, LIBRARIES_VARIABLE, Limits, Request, RequestId};
pub use framing::{LineTooLong, Lines, MAX_LINE_BYTES};
#[cfg(feature = "http")]
pub use head::{Head, drop_hop_by_hop};
pub use report::{
    Failure, FailureKind, Layer, Loaded, Log, Method, Phase, Report, Restored, Started, State,
    Status, Stream, Taint,
};
#[cfg(feature = "host")]
pub use size::Size;
