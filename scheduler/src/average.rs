//! How long things take, as observed.

use std::time::Duration;

/// A mean that forgets: each new value counts for an eighth.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Average(Option<u64>);

impl Average {
    pub(crate) fn add(&mut self, micros: u64) {
        self.0 = Some(match self.0 {
            None => micros,
            Some(mean) => mean - mean / 8 + micros / 8,
        });
    }

    pub(crate) fn get(self) -> Option<u64> {
        self.0
    }

    /// The mean, or what is usual where nothing was observed yet.
    pub(crate) fn or(self, usual: Duration) -> u64 {
        self.0.unwrap_or_else(|| crate::moment::micros(usual))
    }
}

#[cfg(test)]
mod tests {
    use super::Average;

    #[test]
    fn follows_what_is_observed() {
        let mut mean = Average::default();
        assert_eq!(mean.get(), None);
        mean.add(8_000);
        assert_eq!(mean.get(), Some(8_000));
        for _ in 0..100 {
            mean.add(800);
        }
        let settled = mean.get().unwrap();
        assert!((790..=810).contains(&settled), "{settled}");
    }
}
