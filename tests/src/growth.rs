//! Many tenants in one worker: how long their restores took, and that the last left no
//! more than the first.

use serde_json::json;

use crate::process::{self, Size};
use crate::supervisor::Supervisor;

/// What a supervisor and its worker take.
#[derive(Debug)]
pub struct Sizes {
    supervisor: Size,
    worker: Size,
}

/// Times that a size is looked at: which pages a worker keeps at hand depends on what
/// its runtime last swept up, and when.
const LOOKS: u64 = 12;

impl Sizes {
    /// The most that there was at any of some looks, with tenants in between.
    pub fn most(supervisor: &mut Supervisor, tenants: impl FnMut(&mut Supervisor)) -> Self {
        Self::among(supervisor, tenants, u64::max)
    }

    /// The least that there was: what has grown for good is in each of them.
    pub fn least(supervisor: &mut Supervisor, tenants: impl FnMut(&mut Supervisor)) -> Self {
        Self::among(supervisor, tenants, u64::min)
    }

    fn among(
        supervisor: &mut Supervisor,
        mut tenants: impl FnMut(&mut Supervisor),
        choose: fn(u64, u64) -> u64,
    ) -> Self {
        let mut chosen = Self::of(supervisor);
        for _ in 1..LOOKS {
            tenants(supervisor);
            let now = Self::of(supervisor);
            for (chosen, now) in [
                (&mut chosen.supervisor, now.supervisor),
                (&mut chosen.worker, now.worker),
            ] {
                chosen.own_kib = choose(chosen.own_kib, now.own_kib);
            }
        }
        chosen
    }

    /// Measures both. Pages that the last tenants wrote are kept at hand until it shows
    /// that they are not needed: some that write little are to have been there before.
    #[must_use]
    pub fn of(supervisor: &mut Supervisor) -> Self {
        let worker = supervisor.worker();
        Self {
            supervisor: Size::of(supervisor.pid()),
            worker: Size::of(worker),
        }
    }

    /// Fails if there is more than there was, but for so many KiB that an allocator of a
    /// process that is not rewound may come and go by.
    #[track_caller]
    pub fn assert_no_more_than(&self, early: &Self, kib: u64) {
        self.assert_within(early, kib, kib);
    }

    /// The same, where the worker's memory may come and go by another measure.
    #[track_caller]
    pub fn assert_within(&self, early: &Self, of_supervisor: u64, of_worker: u64) {
        println!("{early:?}\n{self:?}");
        for (name, early, late, kib) in [
            (
                "the supervisor",
                early.supervisor,
                self.supervisor,
                of_supervisor,
            ),
            ("the worker", early.worker, self.worker, of_worker),
        ] {
            assert_eq!(late.descriptors, early.descriptors, "{name}'s descriptors");
            assert_eq!(late.threads, early.threads, "{name}'s threads");
            assert_eq!(late.processes, early.processes, "{name}'s processes");
            assert!(
                late.mappings <= early.mappings + 4,
                "{name}'s mappings: {} and {}",
                early.mappings,
                late.mappings
            );
            assert!(
                late.own_kib <= early.own_kib + kib,
                "{name}'s memory: {} KiB and {} KiB",
                early.own_kib,
                late.own_kib
            );
        }
    }
}

/// Prints median and tail of some restores, in microseconds, and forgets them.
pub fn print_times(what: &str, times: &mut Vec<u64>) {
    times.sort_unstable();
    if let Some(worst) = times.last() {
        println!(
            "{what}: restores of {} µs in the median, {} µs at p99, {worst} µs at worst",
            times[times.len() / 2],
            times[times.len() * 99 / 100],
        );
    }
    times.clear();
}

/// Ends a supervisor in order, and fails if it complained of anything, or left anything
/// but its one worker, which ends with it.
#[track_caller]
pub fn end_quietly(mut supervisor: Supervisor) {
    let of_user = process::of_user(supervisor.uid);
    assert_eq!(of_user.len(), 1, "{of_user:?}");
    supervisor.send(&json!({"type": "shutdown"}));
    assert_eq!(supervisor.wait(), 0);
    assert_eq!(supervisor.errors(), "");
    supervisor.assert_nothing_left();
}
