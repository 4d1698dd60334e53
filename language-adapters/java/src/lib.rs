//! Java functions. The JVM runs as the program that it is; its half of the adapter, in
//! plain Java, is a jar that stands beside the supervisor (see the README).

#![forbid(unsafe_code)]

pub mod sabotage;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs, io};

/// Names the adapter's jar where it is not at its usual place.
pub const ADAPTER_VARIABLE: &str = "FUNCTION_JAVA_ADAPTER";

/// Where the images have it.
const ADAPTER: &str = "/usr/local/lib/refunction/java.jar";

const OPTIONS: &[&str] = &[
    // The collector and the compiler with one thread each and the least memory. Threads
    // that come and go by themselves would be missed at a restore.
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:CICompilerCount=1",
    "-XX:-UseDynamicNumberOfCompilerThreads",
    // Or the thread that does the JVM's own work would wake up after each restore, because
    // the time that it waited for at the snapshot is over.
    "-XX:+UnlockDiagnosticVMOptions",
    "-XX:GuaranteedSafepointInterval=0",
    // Memory that is shared with other processes, and a socket in /tmp for them.
    "-XX:-UsePerfData",
    "-XX:+DisableAttachMechanism",
    // A collection goes over all that it keeps, and so do later ones when it is more.
    "-Xms16m",
    // What was committed once stays so: a function that had to commit it again would
    // change the list of mappings, and have it mended.
    "-XX:MetaspaceReclaimPolicy=none",
    "-XX:InitialCodeCacheSize=16m",
    "-XX:MaxRAMPercentage=60",
    // A crash in C code says what it was in some lines of the function's own output.
    "-XX:ErrorFile=/dev/null",
    "-XX:+DisplayVMOutputToStderr",
    "-Dfile.encoding=UTF-8",
    // What the adapter reaches into: descriptors by number, the environment, and the
    // random generators.
    "--add-opens=java.base/java.io=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED",
    "--add-opens=java.base/sun.security.provider=ALL-UNNAMED",
];

/// The runtime as a program to execute in this process's place, with these jars and classes
/// loaded before it says that it is ready, and the function that the container's command
/// names made. It expects to find requests on descriptor 3 and writes answers to
/// descriptor 4.
///
/// # Errors
/// The adapter's jar is not there.
pub fn command(libraries: &[String], handler: Option<&str>) -> io::Result<Command> {
    let adapter = env::var_os(ADAPTER_VARIABLE).map_or_else(|| ADAPTER.into(), PathBuf::from);
    if let Err(error) = fs::metadata(&adapter) {
        let what = format!("the adapter {}: {error}", adapter.display());
        return Err(io::Error::new(error.kind(), what));
    }
    let mut command = Command::new("java");
    command.args(OPTIONS);
    if let Some(directory) = env::var_os("TMPDIR") {
        // Java does not ask for it.
        let mut option = OsString::from("-Djava.io.tmpdir=");
        option.push(directory);
        command.arg(option);
    }
    if ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .all(|name| env::var_os(name).is_none())
    {
        // File names and arguments are bytes of this encoding.
        command.env("LANG", "C.UTF-8");
    }
    // Each thread that allocates would have an arena of its own.
    command.env("MALLOC_ARENA_MAX", "1");
    command.env_remove(ADAPTER_VARIABLE);
    command.arg("-jar").arg(adapter);
    command.arg(handler.unwrap_or_default()).args(libraries);
    Ok(command)
}
