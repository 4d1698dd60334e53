//! What a worker's system calls mean for a rewind: four classes, as data.
//!
//! - *free*: whatever it changes, the rewind covers, or nothing outlives the call;
//! - *noted*: allowed, and the engine hears of it (`SECCOMP_RET_TRACE`): the rewind puts
//!   back, or compares, what it concerns, and need not where there was none;
//! - *recorded*: allowed, and the engine hears of it in the same way; the worker is then
//!   not rewound, for the reason that stands in the table;
//! - *denied*, with an error that programs live with.
//!
//! A call that is in no list is recorded: a new kernel can make workers refork
//! more often, never let state through.

mod architecture;
mod arguments;
mod filter;
mod note;
mod table;

use std::collections::BTreeSet;

pub(crate) use arguments::NOTED_DESCRIPTORS;
pub use filter::{filter, filter_among_others};
pub(crate) use note::Note;

use crate::row::{Row, Taint};
use crate::tracer::Recorded;
use architecture::NATIVE;
use table::{OPENING, RECORDED, RECORDED_WHEN, SETS_ATTRIBUTES};

/// Every entry of the table that denies, records or notes a call of this architecture: its
/// class, and the call.
#[cfg(feature = "sabotage")]
pub(crate) fn entries() -> impl Iterator<Item = (&'static str, &'static str)> {
    use table::{DENIED, DENIED_WHEN, NOTED, NOTED_WHEN};

    let is_here = |name: &str| (0..NATIVE.end).any(|number| (NATIVE.name)(number) == Some(name));
    let denied = DENIED.iter().flat_map(|(_, names)| *names);
    let recorded = RECORDED.iter().flat_map(|(_, names)| *names);
    let recorded_when: BTreeSet<&str> = RECORDED_WHEN.iter().map(|(name, ..)| *name).collect();
    denied
        .map(|name| ("denied", *name))
        .chain(DENIED_WHEN.iter().map(|(name, ..)| ("denied-when", *name)))
        .chain(recorded.map(|name| ("recorded", *name)))
        .chain(
            recorded_when
                .into_iter()
                .map(|name| ("recorded-when", name)),
        )
        .chain((NOTED.iter().flat_map(|(_, names)| *names)).map(|name| ("noted", *name)))
        .chain(NOTED_WHEN.iter().map(|(name, ..)| ("noted-when", *name)))
        .filter(move |(_, name)| is_here(name))
}

/// What recorded calls say against a rewind.
pub(crate) fn taints(recorded: &BTreeSet<Recorded>) -> Vec<Taint> {
    recorded
        .iter()
        .map(|call| {
            let name = u32::try_from(call.number).ok().and_then(NATIVE.name);
            let row = name.map_or(Row::Unknown, row);
            let name = name.map_or_else(|| format!("system call {}", call.number), str::to_owned);
            let who = if call.by_worker {
                ""
            } else {
                " in a process it started"
            };
            let [first, second] = call.arguments;
            Taint::new(row, format!("{name}({first:#x}, {second:#x}, …){who}"))
        })
        .collect()
}

/// True if one of these calls may have let others write to what its maker owns.
pub(crate) fn opens(recorded: &BTreeSet<Recorded>) -> bool {
    let is_opening = |name: &str| {
        SETS_ATTRIBUTES.contains(&name) || OPENING.iter().any(|(opening, _)| *opening == name)
    };
    let name = |call: &Recorded| u32::try_from(call.number).ok().and_then(NATIVE.name);
    // What is not known may do so, too.
    recorded
        .iter()
        .any(|call| name(call).is_none_or(is_opening))
}

/// What a call changes that no rewind puts back.
fn row(name: &str) -> Row {
    let always = RECORDED
        .iter()
        .find_map(|(row, names)| names.contains(&name).then_some(*row));
    let by_arguments = || {
        RECORDED_WHEN
            .iter()
            .find_map(|(it, _, row)| (*it == name).then_some(*row))
    };
    let by_opening = || {
        let is_it = OPENING.iter().any(|(it, _)| *it == name);
        is_it.then_some(Row::Files)
    };
    always
        .or_else(by_arguments)
        .or_else(by_opening)
        .unwrap_or(Row::Unknown)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::architecture::{AARCH64, X86_64};
    use super::table::{DENIED, DENIED_WHEN, FREE, FREE_WHEN, NOTED, NOTED_WHEN, OPENING};
    use super::*;

    fn known() -> BTreeSet<&'static str> {
        let calls = X86_64.calls().chain(AARCH64.calls());
        calls.map(|(_, name)| name).collect()
    }

    /// The classes in which each name stands.
    fn classes() -> BTreeMap<&'static str, Vec<&'static str>> {
        let mut classes: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let free = FREE.iter().map(|name| (*name, "free"));
        let recorded = RECORDED.iter().flat_map(|(_, names)| *names);
        let denied = DENIED.iter().flat_map(|(_, names)| *names);
        let noted = NOTED.iter().flat_map(|(_, names)| *names);
        for (name, class) in free
            .chain(noted.map(|name| (*name, "noted")))
            .chain(recorded.map(|name| (*name, "recorded")))
            .chain(denied.map(|name| (*name, "denied")))
        {
            classes.entry(name).or_default().push(class);
        }
        classes
    }

    #[test]
    fn every_known_call_is_in_one_class() {
        let classes = classes();
        let unclassed: Vec<_> = known()
            .into_iter()
            .filter(|name| !classes.contains_key(name))
            .collect();
        assert!(unclassed.is_empty(), "decide on {unclassed:?}");
        for (name, classes) in classes {
            assert_eq!(classes.len(), 1, "{name} is {classes:?}");
        }
    }

    #[test]
    fn every_name_is_a_calls() {
        let known = known();
        for name in classes().keys() {
            assert!(known.contains(name), "no architecture has {name}");
        }
    }

    #[test]
    fn exceptions_are_to_the_rule_of_another_class() {
        let classes = classes();
        for (name, _) in FREE_WHEN {
            assert_eq!(classes[name], ["recorded"], "{name}");
        }
        for (name, ..) in RECORDED_WHEN {
            assert_eq!(classes[name], ["free"], "{name}");
        }
        for (name, _) in OPENING {
            assert_eq!(classes[name], ["noted"], "{name}");
        }
        for (name, ..) in NOTED_WHEN {
            assert_ne!(classes[name], ["denied"], "{name}");
        }
        for (name, ..) in DENIED_WHEN {
            assert_ne!(classes[name], ["denied"], "{name}");
        }
    }

    fn taint(number: i64) -> Taint {
        let recorded = Recorded {
            number,
            arguments: [1, 0x5402],
            by_worker: true,
        };
        taints(&BTreeSet::from([recorded])).remove(0)
    }

    #[test]
    fn a_known_call_is_named_with_its_row() {
        let ioctl = taint(libc::SYS_ioctl);
        assert_eq!(ioctl.row, Row::Descriptors);
        assert_eq!(ioctl.detail, "ioctl(0x1, 0x5402, …)");
        assert_eq!(taint(libc::SYS_mmap).row, Row::Mappings);
    }

    #[test]
    fn an_unknown_call_is_named_by_its_number() {
        for number in [9999, -1] {
            let taint = taint(number);
            assert_eq!(taint.row, Row::Unknown);
            assert!(taint.detail.starts_with(&format!("system call {number}(")));
        }
    }
}
