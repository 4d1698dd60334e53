//! Node.js functions. Node.js is no library to embed: it runs as the program that it
//! is, and its half of the adapter, in plain JavaScript, speaks the worker's frames
//! itself.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::os::fd::IntoRawFd;
use std::process::Command;

/// The adapter that runs inside Node.js.
const ADAPTER: &str = include_str!("adapter.js");

/// Where OpenSSL finds randomness.
const OPENSSL: &str = include_str!("openssl.cnf");

/// The runtime as a program to execute in this process's place, with these packages
/// loaded before it says that it is ready. It expects to find requests on descriptor 3
/// and writes answers to descriptor 4.
///
/// # Errors
/// Its configuration could not be written.
pub fn command(packages: &[String]) -> io::Result<Command> {
    let mut configuration = memfd::MemfdOptions::default()
        .close_on_exec(false)
        .create("openssl.cnf")
        .map_err(io::Error::other)?
        .into_file();
    configuration.write_all(OPENSSL.as_bytes())?;
    // Node.js reads it, and the adapter closes it.
    let configuration = format!("/proc/self/fd/{}", configuration.into_raw_fd());
    let mut command = Command::new("node");
    // Fewer threads are fewer to stop and to put back: V8's own have work only while
    // it collects or compiles a lot.
    command.args(["--v8-pool-size=1", "--eval", ADAPTER, "--"]);
    command.args(packages).env("OPENSSL_CONF", configuration);
    Ok(command)
}
