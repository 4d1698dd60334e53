//! What must hold of everything that reads what others wrote, whatever they wrote:
//! one function for each target. It panics if it does not hold.

#![forbid(unsafe_code)]

mod json;
mod kernel;
/// The supervisor is a program without a library: its readers are compiled here again.
#[path = "../../supervisor/src/logs.rs"]
#[allow(dead_code, unreachable_pub)]
mod logs;
mod messages;
#[path = "../../supervisor/src/pipes.rs"]
#[allow(dead_code, unreachable_pub)]
mod pipes;
#[path = "../../supervisor/src/sabotage.rs"]
mod sabotage;
mod streams;

pub use kernel::{fdinfo, mapping_list, mappings};
pub use messages::{commands, messages, reports};
pub use streams::{answers, frames, lines, logs};

/// What takes any bytes.
pub type Target = fn(&[u8]);

/// All of them, by the names of their directories of seeds.
pub const TARGETS: &[(&str, Target)] = &[
    ("commands", commands),
    ("reports", reports),
    ("messages", messages),
    ("lines", lines),
    ("frames", frames),
    ("answers", answers),
    ("logs", logs),
    ("mapping_list", mapping_list),
    ("mappings", mappings),
    ("fdinfo", fdinfo),
];
