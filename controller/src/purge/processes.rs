//! Processes that outlived what started them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use super::tally::Tally;

/// How long a killed process may take to be gone.
pub(super) const DEATH: Duration = Duration::from_secs(30);

/// Shims that answer to this containerd, and all below them.
pub(super) async fn of_private(tally: &mut Tally, address: &Path) {
    let parents: BTreeMap<i32, i32> = numbers()
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    for shim in parents.keys().filter(|pid| is_shim(**pid, address)) {
        let mut family = vec![*shim];
        let mut looked_at = 0;
        while let Some(&one) = family.get(looked_at) {
            looked_at += 1;
            family.extend(parents.iter().filter(|it| *it.1 == one).map(|it| *it.0));
        }
        let what = format!(
            "the process {shim}, a shim of the containerd at {}, and {} below it",
            address.display(),
            family.len() - 1
        );
        // From the bottom: a shim that still lives reaps and notes what happened.
        family.reverse();
        tally.remove(what, end(&family)).await;
    }
}

fn numbers() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may itself hold spaces and brackets.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

fn is_shim(pid: i32, address: &Path) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = line.split(|byte| *byte == 0).collect();
    let program = words.first().copied().unwrap_or_default();
    let name = program.rsplit(|byte| *byte == b'/').next();
    let address = address.as_os_str().as_encoded_bytes();
    name.is_some_and(|it| it.starts_with(b"containerd-shim"))
        && words
            .windows(2)
            .any(|pair| pair == [&b"-address"[..], address])
}

/// Kills these, and waits until they are gone.
pub(super) async fn end(family: &[i32]) -> io::Result<()> {
    for pid in family {
        match kill(Pid::from_raw(*pid), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let until = Instant::now() + DEATH;
    // Not children of this process, so there is no wait for them.
    while family.iter().any(|pid| is_alive(*pid)) {
        if Instant::now() > until {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "killed, and not gone; it waits for the kernel",
            ));
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
