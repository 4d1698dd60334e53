//! Node.js functions. Node.js is no library to embed: it runs as the program that it
//! is, and its half of the adapter, in plain JavaScript, speaks the worker's frames
//! itself.

#![forbid(unsafe_code)]

use std::process::Command;

/// The adapter that runs inside Node.js.
const ADAPTER: &str = include_str!("adapter.js");

/// The runtime as a program, with these packages loaded before it says that it is ready.
///
/// It expects to find requests on descriptor 3 and writes answers to descriptor 4.
#[must_use]
pub fn command(packages: &[String]) -> Command {
    let mut command = Command::new("node");
    // Fewer threads are fewer to stop and to put back: V8's own have work only while
    // it collects or compiles a lot.
    command.args(["--v8-pool-size=1", "--eval", ADAPTER, "--"]);
    command.args(packages);
    command
}
