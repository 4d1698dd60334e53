//! What `/proc` says of processes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process that cannot be mistaken for one that gets its number later: an open
/// `stat` stays bound to the process it was opened for.
#[derive(Debug)]
pub struct Handle {
    /// Its number, for as long as it [is there](Self::is_there).
    pub pid: u32,
    stat: File,
}

impl Handle {
    /// Takes hold of a process; nothing if there is none of that number.
    #[must_use]
    pub fn open(pid: u32) -> Option<Self> {
        let stat = File::open(format!("/proc/{pid}/stat")).ok()?;
        let handle = Self { pid, stat };
        handle.is_there().then_some(handle)
    }

    /// True until it is reaped: a zombie is there.
    #[must_use]
    pub fn is_there(&self) -> bool {
        let mut bytes = [0; 512];
        self.stat
            .read_at(&mut bytes, 0)
            .is_ok_and(|length| length > 0)
    }

    /// True while it can run: neither reaped nor a zombie.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let mut bytes = [0; 512];
        let Ok(length) = self.stat.read_at(&mut bytes, 0) else {
            return false;
        };
        let text = String::from_utf8_lossy(&bytes[..length]);
        text.rsplit_once(") ")
            .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    }

    /// Sends it a signal, if it is still there.
    pub fn signal(&self, signal: Signal) {
        if self.is_there() {
            // It may end in between, and then there is nobody to signal.
            let _ = kill(Pid::from_raw(self.pid.cast_signed()), signal);
        }
    }
}

/// Every process number there is.
#[must_use]
pub fn all() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn stat_field(pid: u32, index: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may itself hold spaces and brackets.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(index).map(str::to_owned)
}

/// A process's parent.
#[must_use]
pub fn parent(pid: u32) -> Option<u32> {
    stat_field(pid, 1)?.parse().ok()
}

/// A process's children, their children, and so on, zombies too.
#[must_use]
pub fn descendants(of: u32) -> BTreeSet<u32> {
    let parents: BTreeMap<u32, u32> = all()
        .into_iter()
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    let mut found = BTreeSet::new();
    loop {
        let before = found.len();
        for (pid, parent) in &parents {
            if *parent == of || found.contains(parent) {
                found.insert(*pid);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

/// A line of `/proc/<pid>/status`, such as `VmRSS`, without its name.
#[must_use]
pub fn status(pid: u32, name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(|value| value.trim().to_owned())
}

/// Processes that run with this user id, as `pid command`, zombies too.
#[must_use]
pub fn of_user(uid: u32) -> Vec<String> {
    all()
        .into_iter()
        .filter(|pid| {
            status(*pid, "Uid").is_some_and(|ids| {
                ids.split_whitespace()
                    .any(|id| id.parse::<u32>() == Ok(uid))
            })
        })
        .map(|pid| format!("{pid} {}", status(pid, "Name").unwrap_or_default()))
        .collect()
}

/// Files of this user's in the directories that everybody may write to.
#[must_use]
pub fn files_of_user(uid: u32) -> Vec<PathBuf> {
    ["/tmp", "/var/tmp", "/dev/shm"]
        .iter()
        .filter_map(|directory| fs::read_dir(directory).ok())
        .flatten()
        .flatten()
        .filter(|entry| entry.metadata().is_ok_and(|file| file.uid() == uid))
        .map(|entry| entry.path())
        .collect()
}

/// Numbers of a process that must not grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Open descriptors.
    pub descriptors: usize,
    /// Mappings.
    pub mappings: usize,
    /// Threads.
    pub threads: usize,
    /// Descendants.
    pub processes: usize,
    /// Memory of its own in KiB: what is a file's or a snapshot's comes and goes as it is
    /// looked at.
    pub own_kib: u64,
}

impl Size {
    /// Measures a process.
    ///
    /// # Panics
    /// There is none of that number.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        let count = |directory: &str| {
            fs::read_dir(format!("/proc/{pid}/{directory}"))
                .unwrap_or_else(|error| panic!("listing /proc/{pid}/{directory}: {error}"))
                .count()
        };
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("its mappings");
        let own = status(pid, "RssAnon").expect("its own memory");
        Self {
            descriptors: count("fd"),
            mappings: maps.lines().count(),
            threads: count("task"),
            processes: descendants(pid).len(),
            own_kib: own
                .split_whitespace()
                .next()
                .and_then(|number| number.parse().ok())
                .expect("a number of KiB"),
        }
    }
}
