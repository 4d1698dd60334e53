//! What a restore costs, and what it replaces costs: the measured processes. The
//! benchmarks themselves are in `benches/restore.rs`.
//!
//! One program plays every part. Started as [`guest::FLAG`] it is a runtime's template and
//! its workers, as [`fork_server::FLAG`] it is a plain fork server around the same
//! runtime; otherwise it measures.

#![forbid(unsafe_code)]

pub mod asked;
pub mod caller;
pub mod criu;
mod embedded;
pub mod figure;
pub mod floor;
pub mod fork_server;
pub mod functions;
pub mod growth;
pub mod guest;
pub mod node;
pub mod outside;
pub mod paper;
pub mod pipe;
pub mod plain;
pub mod player;
pub mod random;
pub mod report;
pub mod runtime;
pub mod server;
pub mod setting;
pub mod stage;
pub mod table;

use std::io;
use std::process::ExitCode;

use refunction_snapshot::block_sigchld;
use refunction_tests::java;
use runtime::Runtime;

/// Fails in a word: nothing here is worth going on without.
pub type Failure = Box<dyn std::error::Error>;

/// What a benchmark's `main` does: plays the part that this process was started for, or
/// measures if cargo benchmarks and does not only want to see that it would.
pub fn run(measure: fn() -> Result<(), Failure>) -> ExitCode {
    let outcome = play().unwrap_or_else(|| {
        if !std::env::args().any(|argument| argument == "--bench") {
            return Ok(());
        }
        // Before there can be another thread: the engine rests on it.
        block_sigchld()?;
        if !nix::unistd::geteuid().is_root() {
            return Err("needs root: workers run as a user of their own".into());
        }
        measure()
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Plays another part than measuring, if this process was started for one.
///
/// # Errors
/// The part could not be played to its end.
pub fn play() -> Option<Result<(), Failure>> {
    let part: fn(Runtime) -> Result<(), Failure> = match std::env::args().nth(1)?.as_str() {
        floor::FLAG => return Some(floor::play()),
        guest::FLAG => guest::play,
        fork_server::FLAG => fork_server::play,
        plain::FLAG => plain::play,
        player::FLAG => player::play,
        _ => return None,
    };
    let runtime = std::env::args().nth(2).unwrap_or_default();
    Some(runtime.parse().and_then(part))
}

/// Names libraries that template and fork server import, separated by commas.
pub const LIBRARIES_VARIABLE: &str = "REFUNCTION_BENCH_LIBRARIES";

/// Those libraries.
#[must_use]
pub fn libraries() -> Vec<String> {
    std::env::var(LIBRARIES_VARIABLE)
        .unwrap_or_default()
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// This very program, to be started in another part.
fn this_program(flag: &str, runtime: Runtime) -> io::Result<std::process::Command> {
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.args([flag, runtime.name()]);
    if runtime == Runtime::Java {
        command.env(refunction_java::ADAPTER_VARIABLE, java::adapter());
    }
    Ok(command)
}
