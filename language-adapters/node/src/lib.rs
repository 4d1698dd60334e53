//! Node.js functions. Node.js is no library to embed: it runs as the program that it
//! is, and its half of the adapter, in plain JavaScript, speaks the worker's frames
//! itself.

#![forbid(unsafe_code)]

pub mod sabotage;

use std::path::PathBuf;
use std::process::Command;
use std::{env, io};

use refunction_adapter::sabotage::altered;

/// The adapter that runs inside Node.js.
const ADAPTER: &str = include_str!("adapter.js");

/// Names the native add-on where it is not at its usual place.
pub const ADDON_VARIABLE: &str = "FUNCTION_NODE_ADDON";

/// Where the images have it.
const ADDON: &str = "/usr/local/lib/refunction/node.so";

/// As cargo calls it, beside the supervisor.
const BUILT_ADDON: &str = "librefunction_node_addon.so";

/// The runtime as a program to execute in this process's place, with these packages
/// loaded before it says that it is ready, and the function that the container's command
/// names imported. It expects to find requests on descriptor 3
/// and writes answers to descriptor 4.
///
/// # Errors
/// The add-on is not there.
pub fn command(packages: &[String], handler: Option<&str>) -> io::Result<Command> {
    let addon = addon()?;
    let mut command = Command::new("node");
    // Fewer threads are fewer to stop and to put back: V8's own have work only while
    // it collects or compiles a lot.
    // And WebAssembly's code would be protected by keys, which no rewind puts back.
    command.args([
        "--v8-pool-size=1",
        "--no-wasm-memory-protection-keys",
        "--eval",
    ]);
    command.arg(&*altered(ADAPTER, sabotage::LINES)).arg("--");
    command.arg(addon).arg(handler.unwrap_or_default());
    command.args(packages).env_remove(ADDON_VARIABLE);
    Ok(command)
}

fn addon() -> io::Result<PathBuf> {
    let named = env::var_os(ADDON_VARIABLE).map(PathBuf::from);
    let places = match named {
        Some(place) => vec![place],
        None => vec![
            env::current_exe()?.with_file_name(BUILT_ADDON),
            ADDON.into(),
        ],
    };
    places
        .iter()
        .find(|place| place.is_file())
        .cloned()
        .ok_or_else(|| {
            let what = format!("the native add-on of Node.js is in none of {places:?}");
            io::Error::new(io::ErrorKind::NotFound, what)
        })
}
