//! What was counted, and what of it since an earlier look.

use std::collections::BTreeMap;

use refunction_protocol::host as api;
use serde_json::{Value, json};

use crate::display::duration_us;

/// How long things took, over a while.
#[derive(Debug, Default)]
pub(super) struct Took {
    counts: Vec<u64>,
    /// From how many microseconds on each counts.
    bounds: Vec<u64>,
}

impl Took {
    /// What was added since. Fewer than before are counted anew.
    pub(super) fn since(now: &[u64], before: &[u64], bounds: &[u64]) -> Self {
        let earlier = |index: usize| before.get(index).copied().unwrap_or(0);
        let grew = before.len() <= now.len()
            && (now.iter().enumerate()).all(|(index, count)| *count >= earlier(index));
        let counts = now.iter().enumerate().map(|(index, count)| {
            let before = if grew { earlier(index) } else { 0 };
            count - before
        });
        Self {
            counts: counts.collect(),
            bounds: bounds.to_vec(),
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Microseconds that one part of them stayed below, `percent` of a hundred, as near as the
    /// buckets tell; None if there were none.
    pub(super) fn percentile(&self, percent: u64) -> Option<u64> {
        let total = self.count();
        let rank = (total.saturating_mul(percent)).div_ceil(100).max(1);
        let mut below = 0;
        for (index, count) in self.counts.iter().enumerate() {
            if below + count >= rank && *count > 0 {
                let lower = self.bounds.get(index).copied()?;
                let upper = self.bounds.get(index + 1).copied().unwrap_or(lower);
                // As if they were spread evenly over their bucket.
                let part = u128::from(upper - lower) * u128::from(rank - below);
                return u64::try_from(part / u128::from(*count))
                    .map_or(Some(upper), |it| Some(lower + it));
            }
            below += count;
        }
        None
    }

    /// One percentile, for people.
    pub(super) fn shown(&self, percent: u64) -> String {
        self.percentile(percent)
            .map_or_else(|| "-".into(), duration_us)
    }

    pub(super) fn document(&self) -> Value {
        json!({
            "count": self.count(),
            "p50_us": self.percentile(50),
            "p99_us": self.percentile(99),
        })
    }
}

/// Calls over a while.
#[derive(Debug, Default)]
pub(super) struct Calls {
    pub(super) outcomes: BTreeMap<String, u64>,
    pub(super) refusals: BTreeMap<String, u64>,
    pub(super) starts: BTreeMap<String, u64>,
    pub(super) waited: Took,
    pub(super) ran: Took,
}

impl Calls {
    pub(super) fn since(
        now: &api::CallCounts,
        before: Option<&api::CallCounts>,
        bounds: &[u64],
    ) -> Self {
        let nothing = api::CallCounts::default();
        let before = before.unwrap_or(&nothing);
        Self {
            outcomes: grown(&now.outcomes, &before.outcomes),
            refusals: grown(&now.refusals, &before.refusals),
            starts: grown(&now.starts, &before.starts),
            waited: Took::since(&now.waited, &before.waited, bounds),
            ran: Took::since(&now.ran, &before.ran, bounds),
        }
    }

    pub(super) fn ended(&self) -> u64 {
        self.outcomes.values().sum()
    }

    /// Those that ended otherwise than well.
    pub(super) fn failed(&self) -> u64 {
        self.ended() - self.outcomes.get("ok").copied().unwrap_or(0)
    }

    pub(super) fn refused(&self) -> u64 {
        self.refusals.values().sum()
    }

    pub(super) fn document(&self) -> Value {
        json!({
            "outcomes": self.outcomes,
            "refusals": self.refusals,
            "starts": self.starts,
            "waited": self.waited.document(),
            "ran": self.ran.document(),
        })
    }
}

fn grown(now: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let since = |word: &String, count: u64| {
        let before = before.get(word).copied().unwrap_or(0);
        count.checked_sub(before).unwrap_or(count)
    };
    now.iter()
        .map(|(word, count)| (word.clone(), since(word, *count)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [u64; 4] = [0, 100, 200, 400];

    #[test]
    fn a_percentile_lies_within_its_bucket() {
        let took = Took::since(&[0, 50, 50], &[], &BOUNDS);
        assert_eq!(took.percentile(50), Some(200));
        assert_eq!(took.percentile(25), Some(150));
        assert_eq!(took.percentile(99), Some(396));
        // What the last bucket has is as long as it begins, at least.
        let took = Took::since(&[1, 0, 0, 1], &[], &BOUNDS);
        assert_eq!(took.percentile(99), Some(400));
        assert_eq!(Took::since(&[], &[], &BOUNDS).percentile(50), None);
        assert_eq!(Took::since(&[0, 0], &[], &BOUNDS).shown(50), "-");
    }

    #[test]
    fn only_what_came_since_counts() {
        let took = Took::since(&[1, 5], &[1, 3], &BOUNDS);
        assert_eq!(took.count(), 2);
        assert_eq!(took.percentile(1), Some(150));
        // A function that was deleted and deployed again begins anew.
        assert_eq!(Took::since(&[1], &[1, 3], &BOUNDS).count(), 1);
        assert_eq!(Took::since(&[1, 2], &[2, 0], &BOUNDS).count(), 3);
        let counts = |ok, timeout| api::CallCounts {
            outcomes: [("ok".into(), ok), ("timeout".into(), timeout)].into(),
            ..api::CallCounts::default()
        };
        let calls = Calls::since(&counts(10, 4), Some(&counts(7, 3)), &BOUNDS);
        assert_eq!((calls.ended(), calls.failed()), (4, 1));
    }
}
