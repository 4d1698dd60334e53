//! Leaving alone what keeps failing.

use std::time::Duration;

use crate::moment::micros;
use crate::{Cause, Moment};

/// From how many strikes on, and how long.
#[derive(Debug)]
pub(crate) struct Rule {
    /// Fewer strikes are an accident.
    pub(crate) strikes: u32,
    /// The first time; each further strike doubles it.
    pub(crate) first: Duration,
    /// Never longer.
    pub(crate) longest: Duration,
}

/// A function that crashes. Three in a row, or nearly, since a success takes back half of the
/// strikes: what fails for every second request goes on being served, what fails for four of
/// five does not.
pub(crate) const FUNCTION: Rule = Rule {
    strikes: 3,
    first: Duration::from_secs(1),
    longest: Duration::from_secs(60),
};

/// A pool whose containers cannot be made.
pub(crate) const CREATION: Rule = Rule {
    strikes: 1,
    first: Duration::from_millis(500),
    longest: Duration::from_secs(30),
};

/// A pool whose containers die, or refuse loads and restores.
pub(crate) const HEALTH: Rule = Rule {
    strikes: 3,
    first: Duration::from_millis(500),
    longest: Duration::from_secs(30),
};

/// Strikes that are this old are forgotten.
const MEMORY: Duration = Duration::from_secs(600);

/// Strikes count no further: the delay is at its longest long before.
const MOST: u32 = 16;

/// The strikes of one thing, and until when it is left alone.
#[derive(Debug)]
pub(crate) struct Backoff {
    rule: &'static Rule,
    strikes: u32,
    last: Moment,
    until: Moment,
    cause: Option<Cause>,
}

impl Backoff {
    pub(crate) fn new(rule: &'static Rule) -> Self {
        Self {
            rule,
            strikes: 0,
            last: Moment::ORIGIN,
            until: Moment::ORIGIN,
            cause: None,
        }
    }

    /// Something failed that had been begun at `begun`. What was begun before the last strike
    /// that made it back off says nothing new: twenty calls that crash together are one lesson.
    pub(crate) fn strike(&mut self, now: Moment, begun: Moment, cause: &Cause) {
        self.forget(now);
        self.cause = Some(cause.clone());
        if self.on_trial() && begun < self.last {
            return;
        }
        self.strikes = (self.strikes + 1).min(MOST);
        self.last = now;
        if let Some(doublings) = self.strikes.checked_sub(self.rule.strikes) {
            let delay = micros(self.rule.first).saturating_mul(1 << doublings);
            self.until = now + Duration::from_micros(delay).min(self.rule.longest);
        }
    }

    /// A strike that is none of chance: at once as bad as the last allowed one.
    pub(crate) fn strike_out(&mut self, now: Moment, cause: &Cause) {
        self.forget(now);
        self.strikes = self.strikes.max(self.rule.strikes - 1);
        self.strike(now, now, cause);
    }

    /// Something succeeded.
    pub(crate) fn heal(&mut self) {
        self.strikes /= 2;
    }

    /// Until when it is left alone, and why.
    pub(crate) fn active(&self, now: Moment) -> Option<(Moment, Cause)> {
        if self.until <= now {
            return None;
        }
        self.cause.clone().map(|cause| (self.until, cause))
    }

    /// Whether the next attempt is to show whether it is any better: then one at a time.
    pub(crate) fn on_trial(&self) -> bool {
        self.strikes >= self.rule.strikes
    }

    fn forget(&mut self, now: Moment) {
        if now.since(self.last) > MEMORY {
            self.strikes = 0;
        }
    }
}

/// How much container time may go into reforks for one function, for long.
///
/// A function that taints its worker is not at fault: a refork is a slower restore, it is on
/// the function's bill like its run, and mostly that is all. Only one that keeps a whole
/// container busy by it, for so long that five seconds have piled up above that, is slowed.
#[derive(Debug, Default)]
pub(crate) struct Taints {
    level: u64,
    at: Moment,
}

/// What may pile up, in microseconds.
const BURST: u64 = 5_000_000;

/// One refork counts no more: a single one that hung says nothing.
const ONE: u64 = 500_000;

impl Taints {
    /// A refork took so many microseconds; is it too much?
    pub(crate) fn add(&mut self, now: Moment, micros: u64) -> bool {
        let drained = crate::moment::micros(now.since(self.at));
        self.level = self.level.saturating_sub(drained) + micros.min(ONE);
        self.at = now;
        if self.level <= BURST {
            return false;
        }
        self.level = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_micros(millis * 1000)
    }

    fn remaining(backoff: &Backoff, now: Moment) -> Option<u128> {
        backoff
            .active(now)
            .map(|(until, _)| until.since(now).as_millis())
    }

    #[test]
    fn doubles_from_the_third_strike_to_a_minute() {
        let mut function = Backoff::new(&FUNCTION);
        let cause: Cause = "it crashed".into();
        let mut delays = Vec::new();
        let mut now = at(1);
        for _ in 0..11 {
            function.strike(now, now, &cause);
            let delay = remaining(&function, now).unwrap_or(0);
            delays.push(delay);
            now = now + Duration::from_millis(u64::try_from(delay).unwrap() + 1);
        }
        assert_eq!(
            delays,
            [
                0, 0, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000
            ]
        );
    }

    #[test]
    fn what_was_begun_before_does_not_strike_again() {
        let mut function = Backoff::new(&FUNCTION);
        let cause: Cause = "it crashed".into();
        for millis in 0..24 {
            function.strike(at(100 + millis), at(50), &cause);
        }
        assert_eq!(remaining(&function, at(102)), Some(1000));
    }

    #[test]
    fn a_success_takes_back_half() {
        let mut function = Backoff::new(&FUNCTION);
        let cause: Cause = "it crashed".into();
        for millis in 1..100 {
            function.strike(at(millis), at(millis), &cause);
            assert!(!function.on_trial());
            function.heal();
        }
    }

    #[test]
    fn old_strikes_are_forgotten() {
        let mut function = Backoff::new(&FUNCTION);
        let cause: Cause = "it crashed".into();
        for strike in 0..10 {
            let now = at(601_000 * (strike + 1));
            function.strike(now, now, &cause);
            assert_eq!(remaining(&function, now), None);
        }
    }

    #[test]
    fn reforks_are_tolerated_up_to_a_container() {
        let mut taints = Taints::default();
        // 2 ms each, 400 in a second: four fifths.
        for refork in 0..100_000 {
            assert!(!taints.add(Moment::from_micros(refork * 2500), 2000));
        }
        // 1000 in a second: two containers, which is too much after five seconds.
        let start = 1_000_000_000;
        let first = (0..100_000)
            .find(|refork| taints.add(Moment::from_micros(start + refork * 1000), 2000))
            .unwrap();
        assert!((4900..5100).contains(&first), "{first}");
    }

    #[test]
    fn one_refork_that_hung_is_no_reason() {
        let mut taints = Taints::default();
        assert!(!taints.add(at(60_000), 60_000_000));
    }
}
