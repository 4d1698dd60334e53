//! What this host is like: its control groups.

use std::fs;
use std::path::{Path, PathBuf};

use crate::container::spec::CGROUP_PARENT;

const ROOT: &str = "/sys/fs/cgroup";

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

    fn memory(self, container: &str) -> PathBuf {
        let controller = match self {
            Self::V1 { .. } => "memory",
            Self::V2 => "",
        };
        Path::new(ROOT)
            .join(controller)
            .join(CGROUP_PARENT.trim_start_matches('/'))
            .join(container)
    }

    /// How often the kernel killed for memory in a container, and the peak in
    /// bytes where the kernel keeps it. None once the control group is gone.
    #[must_use]
    pub fn memory_deaths(self, container: &str) -> Option<MemoryDeaths> {
        let directory = self.memory(container);
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

    /// Removes what may be left of a container's control groups, and the parent
    /// when it is empty. The runtime normally did the first already.
    pub fn remove(self, container: &str) {
        let parent = CGROUP_PARENT.trim_start_matches('/');
        let roots = match self {
            Self::V2 => vec![PathBuf::from(ROOT)],
            Self::V1 { .. } => fs::read_dir(ROOT)
                .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
                .unwrap_or_default(),
        };
        for root in roots {
            let group = root.join(parent);
            // A group with processes or children refuses; then it is in use.
            let _ = fs::remove_dir(group.join(container));
            let _ = fs::remove_dir(group);
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
    fn kills_are_counted_not_limits_met() {
        let one = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(oom_kills(one), Some(3));
        let two = "low 0\nhigh 0\nmax 17\noom 2\noom_kill 1\noom_group_kill 0\n";
        assert_eq!(oom_kills(two), Some(1));
        assert_eq!(oom_kills("max 1\n"), None);
    }
}
