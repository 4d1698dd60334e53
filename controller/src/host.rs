//! What this host is like: its control groups.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::statvfs::statvfs;

const ROOT: &str = "/sys/fs/cgroup";

/// Lets this process have as many descriptors as it may: the usual limit is a thousand, for
/// programs that use `select`.
pub(crate) fn raise_descriptors() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // With what it has it goes on.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Less is no room for a container's files.
const ROOM_BYTES: u64 = 256 * 1024;

/// The first of these whose filesystem is full.
pub(crate) fn without_room<'a>(places: impl IntoIterator<Item = &'a Path>) -> Option<&'a Path> {
    places.into_iter().find(|place| {
        statvfs(*place).is_ok_and(|it| {
            // Some filesystems do not count inodes.
            it.blocks_available().saturating_mul(it.fragment_size()) < ROOM_BYTES
                || (it.files() > 0 && it.files_available() == 0)
        })
    })
}

/// How many descriptors this process may have open.
pub(crate) fn descriptors() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// How the host lays out control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cgroups {
    /// A hierarchy per controller; the hybrid layout too, whose version 2 part
    /// has no controllers.
    V1 {
        /// Memory and swap can be limited together.
        swap: bool,
    },
    /// One hierarchy.
    V2,
}

impl Cgroups {
    /// Looks.
    #[must_use]
    pub fn detect() -> Self {
        let root = Path::new(ROOT);
        if root.join("cgroup.controllers").exists() {
            Self::V2
        } else {
            Self::V1 {
                swap: root.join("memory/memory.memsw.limit_in_bytes").exists(),
            }
        }
    }

    /// True if swap can be forbidden.
    #[must_use]
    pub fn can_limit_swap(self) -> bool {
        match self {
            Self::V1 { swap } => swap,
            // Without swap accounting runc leaves the value out by itself.
            Self::V2 => true,
        }
    }

    fn memory(self, group: &str) -> PathBuf {
        let controller = match self {
            Self::V1 { .. } => "memory",
            Self::V2 => "",
        };
        Path::new(ROOT)
            .join(controller)
            .join(group.trim_start_matches('/'))
    }

    /// How often the kernel killed for memory in a group, and the peak in
    /// bytes where the kernel keeps it. None once the control group is gone.
    #[must_use]
    pub fn memory_deaths(self, group: &str) -> Option<MemoryDeaths> {
        let directory = self.memory(group);
        let (events, peak) = match self {
            // `oom` counts limits met, also where reclaim helped: `oom_kill` kills.
            Self::V1 { .. } => ("memory.oom_control", "memory.max_usage_in_bytes"),
            Self::V2 => ("memory.events", "memory.peak"),
        };
        Some(MemoryDeaths {
            kills: oom_kills(&fs::read_to_string(directory.join(events)).ok()?)?,
            peak_bytes: fs::read_to_string(directory.join(peak))
                .ok()
                .and_then(|text| text.trim().parse().ok()),
        })
    }

    /// The control group that holds a process's memory, from the root of its hierarchy.
    #[must_use]
    pub fn of_process(self, pid: u32) -> Option<String> {
        self.memory_group(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
    }

    fn memory_group(self, groups: &str) -> Option<String> {
        groups.lines().find_map(|line| {
            let (_, line) = line.split_once(':')?;
            let (controllers, group) = line.split_once(':')?;
            let is_it = match self {
                Self::V1 { .. } => controllers.split(',').any(|it| it == "memory"),
                Self::V2 => controllers.is_empty(),
            };
            is_it.then(|| group.to_owned())
        })
    }

    /// Removes what may be left of a control group. The runtime normally did it
    /// already; a group with processes or children refuses, and then it is in use.
    pub fn remove(self, group: &str) {
        let group = group.trim_start_matches('/');
        match self {
            Self::V2 => drop(fs::remove_dir(Path::new(ROOT).join(group))),
            Self::V1 { .. } => {
                for hierarchy in fs::read_dir(ROOT).into_iter().flatten().flatten() {
                    let _ = fs::remove_dir(hierarchy.path().join(group));
                }
            }
        }
    }
}

/// What the kernel counted in a container's control group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryDeaths {
    /// Processes killed.
    pub kills: u64,
    /// The most memory it ever held.
    pub peak_bytes: Option<u64>,
}

fn oom_kills(events: &str) -> Option<u64> {
    events
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == "oom_kill")
        .and_then(|(_, count)| count.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_tells_its_group() {
        let groups = "3:cpu,cpuacct:/a\n2:memory:/kubepods/b:c\n0::/d\n";
        let group = |cgroups: Cgroups| cgroups.memory_group(groups);
        assert_eq!(
            group(Cgroups::V1 { swap: true }).as_deref(),
            Some("/kubepods/b:c")
        );
        assert_eq!(group(Cgroups::V2).as_deref(), Some("/d"));
        assert_eq!(Cgroups::V2.memory_group("2:memory:/b\n"), None);
    }

    #[test]
    fn kills_are_counted_not_limits_met() {
        let one = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(oom_kills(one), Some(3));
        let two = "low 0\nhigh 0\nmax 17\noom 2\noom_kill 1\noom_group_kill 0\n";
        assert_eq!(oom_kills(two), Some(1));
        assert_eq!(oom_kills("max 1\n"), None);
    }
}
