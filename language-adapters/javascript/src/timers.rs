//! When each timer of a function is due. What is then called, JavaScript keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What an event loop does next.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// Call this timer.
    Fire(u64),
    /// Nothing is due so early.
    Wait(Duration),
    /// No timer that anybody waits for.
    Nothing,
}

#[derive(Default)]
pub(crate) struct Timers {
    /// By time, and by number where the time is the same.
    queue: BTreeSet<(Time, u64)>,
    by_id: BTreeMap<u64, Timer>,
}

struct Timer {
    due: Time,
    /// Whether the event loop waits for it.
    keeps: bool,
}

/// Nanoseconds since the clock's origin; those of `setImmediate` come in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Time(u64);

fn nanoseconds(ms: f64) -> u64 {
    // Negative and absurd ones are cut off at the ends.
    (ms * 1e6) as u64
}

impl Timers {
    /// Has a timer fire after so long, and no more when it was to before.
    pub(crate) fn schedule(&mut self, id: u64, now_ms: f64, delay_ms: f64, keeps: bool) {
        self.cancel(id);
        let due = Time(nanoseconds(now_ms).saturating_add(nanoseconds(delay_ms)));
        self.queue.insert((due, id));
        self.by_id.insert(id, Timer { due, keeps });
    }

    pub(crate) fn keep(&mut self, id: u64, keeps: bool) {
        if let Some(timer) = self.by_id.get_mut(&id) {
            timer.keeps = keeps;
        }
    }

    pub(crate) fn cancel(&mut self, id: u64) {
        if let Some(timer) = self.by_id.remove(&id) {
            self.queue.remove(&(timer.due, id));
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes the timer that is due.
    pub(crate) fn next(&mut self, now_ms: f64) -> Next {
        let Some((due, id)) = self.queue.first().copied() else {
            return Next::Nothing;
        };
        let now = nanoseconds(now_ms);
        if due.0 <= now {
            self.cancel(id);
            return Next::Fire(id);
        }
        if self.by_id.values().any(|timer| timer.keeps) {
            Next::Wait(Duration::from_nanos(due.0 - now))
        } else {
            Next::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_fire_in_the_order_of_their_times() {
        let mut timers = Timers::default();
        timers.schedule(1, 0.0, 20.0, true);
        timers.schedule(2, 0.0, 10.0, true);
        timers.schedule(3, 0.0, 10.0, true);
        assert_eq!(timers.next(0.0), Next::Wait(Duration::from_millis(10)));
        assert_eq!(timers.next(30.0), Next::Fire(2));
        assert_eq!(timers.next(30.0), Next::Fire(3));
        assert_eq!(timers.next(30.0), Next::Fire(1));
        assert_eq!(timers.next(30.0), Next::Nothing);
    }

    #[test]
    fn a_timer_may_be_moved_and_cancelled() {
        let mut timers = Timers::default();
        timers.schedule(1, 0.0, 10.0, true);
        timers.schedule(1, 0.0, 20.0, true);
        assert_eq!(timers.next(15.0), Next::Wait(Duration::from_millis(5)));
        timers.cancel(1);
        assert_eq!(timers.next(30.0), Next::Nothing);
    }

    #[test]
    fn nobody_waits_for_one_that_keeps_nothing() {
        let mut timers = Timers::default();
        timers.schedule(1, 0.0, 10.0, false);
        assert_eq!(timers.next(0.0), Next::Nothing);
        // But it fires if something else waits for longer.
        timers.schedule(2, 0.0, 20.0, true);
        assert_eq!(timers.next(0.0), Next::Wait(Duration::from_millis(10)));
        assert_eq!(timers.next(12.0), Next::Fire(1));
        timers.keep(2, false);
        assert_eq!(timers.next(12.0), Next::Nothing);
        timers.schedule(3, 12.0, f64::INFINITY, true);
        assert_eq!(timers.next(21.0), Next::Fire(2));
    }
}
