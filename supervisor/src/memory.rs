//! What a container's memory holds beside what the kernel can drop at any time.

use std::fs::read_to_string;

use nix::unistd::{Pid, getpid};

const CGROUP: &str = "/sys/fs/cgroup";

/// Bytes charged to the container that are no page cache; where its control group
/// cannot be read, or is not its own, those of the worker and its page tables.
pub(crate) fn held(worker: Pid) -> Option<u64> {
    let of_container = if getpid().as_raw() == 1 {
        unified().or_else(legacy)
    } else {
        None
    };
    of_container.or_else(|| of_process(worker))
}

/// Bytes that the container may have, if that is known and bounded.
pub(crate) fn limit() -> Option<u64> {
    // Started by hand this is the host.
    if getpid().as_raw() != 1 {
        return None;
    }
    let limits = ["memory.max", "memory/memory.limit_in_bytes"];
    let limit = limits
        .iter()
        .find_map(|it| number(&format!("{CGROUP}/{it}")))?;
    // Without a limit the older one is a very large number.
    (limit < 1 << 50).then_some(limit)
}

fn unified() -> Option<u64> {
    let current = number(&format!("{CGROUP}/memory.current"))?;
    let stat = read_to_string(format!("{CGROUP}/memory.stat")).ok()?;
    Some(without_cache(
        current,
        &stat,
        &["inactive_file", "active_file", "slab_reclaimable"],
    ))
}

fn legacy() -> Option<u64> {
    let current = number(&format!("{CGROUP}/memory/memory.usage_in_bytes"))?;
    let stat = read_to_string(format!("{CGROUP}/memory/memory.stat")).ok()?;
    Some(without_cache(
        current,
        &stat,
        &["total_inactive_file", "total_active_file"],
    ))
}

/// Files in memory file systems are not on the lists of files: they cannot be dropped.
fn without_cache(current: u64, stat: &str, caches: &[&str]) -> u64 {
    let cached: u64 = stat
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, _)| caches.contains(name))
        .filter_map(|(_, bytes)| bytes.trim().parse::<u64>().ok())
        .sum();
    current.saturating_sub(cached)
}

/// The most bytes that a worker had resident since its last restore.
pub(crate) fn peak(worker: Pid) -> Option<u64> {
    Some(kibibytes(&status(worker)?, "VmHWM")? * 1024)
}

fn of_process(worker: Pid) -> Option<u64> {
    let status = status(worker)?;
    Some((kibibytes(&status, "RssAnon")? + kibibytes(&status, "VmPTE")?) * 1024)
}

fn status(process: Pid) -> Option<String> {
    read_to_string(format!("/proc/{process}/status")).ok()
}

fn kibibytes(status: &str, wanted: &str) -> Option<u64> {
    let (_, value) = status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| *name == wanted)?;
    value.split_whitespace().next()?.parse().ok()
}

fn number(path: &str) -> Option<u64> {
    read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_cache_does_not_count() {
        let unified = "anon 10\nfile 500\nshmem 100\ninactive_file 300\nactive_file 100\nslab_reclaimable 7\n";
        let caches = ["inactive_file", "active_file", "slab_reclaimable"];
        assert_eq!(without_cache(1000, unified, &caches), 593);
        let legacy = "inactive_file 1\ntotal_inactive_file 300\ntotal_active_file 100\n";
        let caches = ["total_inactive_file", "total_active_file"];
        assert_eq!(without_cache(1000, legacy, &caches), 600);
        assert_eq!(without_cache(1, legacy, &caches), 0);
    }

    #[test]
    fn a_process_has_memory_and_page_tables() {
        assert!(of_process(getpid()) > Some(4096));
    }
}
