//! What a restore costs, and what it replaces costs: the measured processes. The
//! benchmarks themselves are in `benches/restore.rs`.
//!
//! One program plays every part. Started as [`guest::FLAG`] it is the template and
//! its workers, as [`fork_server::FLAG`] it is a plain fork server around the same
//! embedded CPython; otherwise it measures.

pub mod fork_server;
pub mod function;
pub mod guest;
pub mod outside;
pub mod stage;
pub mod table;

use std::io;

/// Fails in a word: nothing here is worth going on without.
pub type Failure = Box<dyn std::error::Error>;

/// Plays another part than measuring, if this process was started for one.
///
/// # Errors
/// The part could not be played to its end.
pub fn play() -> Option<Result<(), Failure>> {
    match std::env::args().nth(1)?.as_str() {
        guest::FLAG => Some(guest::play()),
        fork_server::FLAG => Some(fork_server::play()),
        _ => None,
    }
}

/// Libraries that template and fork server import, from
/// `REFUNCTION_BENCH_LIBRARIES`, separated by commas.
#[must_use]
pub fn libraries() -> Vec<String> {
    std::env::var("REFUNCTION_BENCH_LIBRARIES")
        .unwrap_or_default()
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// This very program, to be started in another part.
fn this_program(flag: &str) -> io::Result<std::process::Command> {
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.arg(flag);
    Ok(command)
}
