//! How long things took, counted.

use std::time::Duration;

/// Four to each power of two of microseconds, so that what is read from one is off by an
/// eighth at most; the last is for everything from 2^30 µs, eighteen minutes, on.
const BUCKETS: usize = 4 * 29 + 1;

/// A histogram over microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    micros: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: [0; BUCKETS],
            micros: 0,
        }
    }
}

impl Histogram {
    pub(super) fn add(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(micros)] += 1;
        self.micros = self.micros.saturating_add(micros);
    }

    /// How often anything was counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long all of it took.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.micros)
    }

    /// How often it was less than 2^`exponent` microseconds, which is from 2 to 30.
    pub(super) fn below(&self, exponent: u32) -> u64 {
        self.counts[..bucket(1 << exponent)].iter().sum()
    }

    /// The counts by bucket, without those at the end in which there are none.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        let used = self.counts.iter().rposition(|count| *count > 0);
        &self.counts[..used.map_or(0, |last| last + 1)]
    }

    /// From how many microseconds on each bucket counts, up to where the next begins.
    #[must_use]
    pub fn bounds() -> Vec<u64> {
        (0..BUCKETS).map(lower).collect()
    }
}

fn bucket(micros: u64) -> usize {
    if micros < 4 {
        return usize::try_from(micros).unwrap_or(0);
    }
    let exponent = micros.ilog2();
    let quarter = (micros >> (exponent - 2)) & 3;
    let bucket = u64::from(exponent - 1) * 4 + quarter;
    usize::try_from(bucket).map_or(BUCKETS - 1, |it| it.min(BUCKETS - 1))
}

fn lower(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    match bucket / 4 {
        0 => bucket,
        octave => (4 + bucket % 4) << (octave - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_begins_where_the_one_before_ends() {
        let bounds = Histogram::bounds();
        assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        for (index, lower) in bounds.iter().enumerate() {
            assert_eq!(bucket(*lower), index);
            if *lower > 0 {
                assert_eq!(bucket(*lower - 1), index - 1);
            }
        }
        assert_eq!(bounds.last(), Some(&(1 << 30)));
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn what_is_counted_is_found_below_its_bound() {
        let mut histogram = Histogram::default();
        for micros in [0, 3, 4, 63, 64, 1_000_000, u64::MAX / 2] {
            histogram.add(Duration::from_micros(micros));
        }
        assert_eq!(histogram.count(), 7);
        assert_eq!(histogram.below(2), 2);
        assert_eq!(histogram.below(6), 4);
        assert_eq!(histogram.below(7), 5);
        assert_eq!(histogram.below(20), 6);
        assert_eq!(histogram.below(30), 6);
        assert_eq!(histogram.counts().len(), BUCKETS);
        assert!(Histogram::default().counts().is_empty());
    }
}
