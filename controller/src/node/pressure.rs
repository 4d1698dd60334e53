//! Looking after the host's memory: the budget says what containers may have, and others on the
//! host have what they have.

use std::sync::Weak;
use std::time::Duration;

use refunction_scheduler::Event;
use tracing::{info, warn};

use super::Node;

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Which part of the host's memory stays available if the operator does not say it.
const PART: u64 = 20;

/// Tells when less than this is available, as long as it is so and the node lives.
pub(super) async fn watch(node: Weak<Node>, least: Option<u64>) {
    let mut is_short = false;
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(node) = node.upgrade() else { return };
        // A file of the kernel's own: it does not block.
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let Some((total, available)) = read(&text) else {
            continue;
        };
        let least = least.unwrap_or(total / PART);
        let was_short = std::mem::replace(&mut is_short, available < least);
        if is_short {
            if !was_short {
                warn!(available, least, "the host runs short of memory");
            }
            node.tell(Event::MemoryPressure);
        } else if was_short {
            info!(available, least, "the host has memory again");
        }
    }
}

/// Bytes of memory, and of those that programs could have.
fn read(text: &str) -> Option<(u64, u64)> {
    let bytes = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kib * 1024)
    };
    Some((bytes("MemTotal:")?, bytes("MemAvailable:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_numbers_are_read() {
        let text = "MemTotal:  2048 kB\nMemFree: 1 kB\nMemAvailable:    512 kB\n";
        assert_eq!(read(text), Some((2 << 20, 512 << 10)));
        assert_eq!(read("MemTotal: 1 kB\n"), None);
        assert!(read(&std::fs::read_to_string("/proc/meminfo").unwrap()).is_some());
    }
}
