//! What the daemon takes itself.

use std::fs;

/// From `/proc/self`; each absent if it cannot be read.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) resident_bytes: Option<u64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
    pub(super) threads: Option<u64>,
}

impl Own {
    pub(super) fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        Self {
            resident_bytes: number_after(&status, "VmRSS:").map(|kib| kib * 1024),
            // Without the one that lists them.
            open_fds: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|it| (it.count() as u64).saturating_sub(1)),
            max_fds: number_after(&limits, "Max open files"),
            threads: number_after(&status, "Threads:"),
        }
    }
}

/// The number that follows these words at the beginning of a line.
fn number_after(text: &str, words: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(words))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_sees_itself() {
        let own = Own::read();
        assert!(own.resident_bytes.is_some_and(|it| it > 1 << 20), "{own:?}");
        assert!(own.threads.is_some_and(|it| it >= 1), "{own:?}");
        assert!(own.max_fds.is_some_and(|it| it > 3), "{own:?}");
        let before = own.open_fds.expect("a number");
        let held: Vec<_> = (0..100)
            .map(|_| fs::File::open("/dev/null").expect("opened"))
            .collect();
        // Other tests open and close files too.
        let with = Own::read().open_fds.expect("a number");
        assert!(with + 50 > before + held.len() as u64, "{before} {with}");
    }
}
