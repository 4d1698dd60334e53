//! The time as functions see it. It starts anew after each restore: an origin that the
//! template took would tell for how long it has been running.

use std::cell::Cell;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

const MS: f64 = 1000.0;

pub(crate) struct Clock {
    origin: Cell<(Instant, f64)>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            origin: Cell::new((Instant::now(), wall_ms())),
        }
    }

    /// Lets the time begin now.
    pub(crate) fn reset(&self) {
        self.origin.set((Instant::now(), wall_ms()));
    }

    /// Milliseconds since the beginning; never goes back.
    pub(crate) fn now_ms(&self) -> f64 {
        self.origin.get().0.elapsed().as_secs_f64() * MS
    }

    /// The beginning, in milliseconds since the Unix epoch.
    pub(crate) fn origin_ms(&self) -> f64 {
        self.origin.get().1
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn wall_ms() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64() * MS)
}
