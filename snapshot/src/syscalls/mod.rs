//! What a worker's system calls mean for a rewind: three classes, as data.
//!
//! - *free*: whatever it changes, the rewind covers, or nothing outlives the call;
//! - *recorded*: allowed, and the engine hears of it (`SECCOMP_RET_TRACE`); the
//!   worker is then not rewound, for the reason that stands in the table;
//! - *denied*, with an error that programs live with.
//!
//! A call that is in no list is recorded: a new kernel can make workers refork
//! more often, never let state through.

mod filter;
mod table;

use std::collections::BTreeSet;

pub use filter::filter;

use crate::row::{Row, Taint};
use crate::tracer::Recorded;
use table::RECORDED;

/// Every entry of the table that forbids or records, by its name as a handler.
#[cfg(feature = "sabotage")]
pub(crate) fn entries() -> Vec<String> {
    Vec::new()
}

/// What recorded calls say against a rewind.
pub(crate) fn taints(recorded: &BTreeSet<Recorded>) -> Vec<Taint> {
    recorded
        .iter()
        .map(|call| {
            let known = RECORDED.iter().find(|(number, ..)| *number == call.number);
            let (name, row) = known.map_or_else(
                || (format!("system call {}", call.number), Row::Unknown),
                |(_, name, row)| ((*name).to_string(), *row),
            );
            let who = if call.by_worker {
                ""
            } else {
                " in a process it started"
            };
            Taint::new(row, format!("{name}({:#x}, …){who}", call.first_argument))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::table::{DENIED, FREE, FREE_WHEN, RECORDED_WHEN, When};
    use super::*;

    #[test]
    fn no_call_is_in_two_classes() {
        let mut seen = BTreeSet::new();
        for number in FREE {
            assert!(seen.insert(*number), "system call {number} is free twice");
        }
        for (number, name, _) in RECORDED {
            if !FREE_WHEN.iter().any(|(it, _)| it == number)
                && !RECORDED_WHEN.iter().any(|(it, _)| it == number)
            {
                assert!(
                    seen.insert(*number),
                    "{name} is recorded and something else"
                );
            }
        }
        for (_, calls) in DENIED {
            for (number, when) in *calls {
                if matches!(when, When::Any) {
                    assert!(seen.insert(*number), "system call {number} is denied twice");
                }
            }
        }
    }

    #[test]
    fn an_unknown_call_is_named_by_its_number() {
        let recorded = [Recorded {
            number: 9999,
            first_argument: 1,
            by_worker: true,
        }];
        let taints = taints(&recorded.into_iter().collect());
        assert_eq!(taints[0].row, Row::Unknown);
        assert!(taints[0].detail.contains("9999"));
    }
}
