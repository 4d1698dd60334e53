//! When trying again may help.

use std::time::Duration;

use crate::pool::{Pool, USUAL_CREATION};

const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(60);

/// A run where none was observed yet.
const USUAL_RUN: Duration = Duration::from_millis(10);

/// How long the containers of a pool need for so many more calls.
pub(crate) fn wait(pool: &Pool, calls: u64) -> Duration {
    let alive = u64::from(pool.alive());
    let run = pool.runs.or(USUAL_RUN).saturating_add(1);
    if alive == 0 {
        let creation = pool.creations.or(USUAL_CREATION);
        return limit(creation.saturating_add(run));
    }
    limit(run.saturating_mul(calls) / alive)
}

/// How long a function needs for its own, when it may only run so many at once.
pub(crate) fn own(run: Option<u64>, calls: u64, at_once: u32) -> Duration {
    let run = run.unwrap_or(10_000).saturating_add(1);
    limit(run.saturating_mul(calls) / u64::from(at_once.max(1)))
}

fn limit(micros: u64) -> Duration {
    Duration::from_micros(micros).clamp(SHORTEST, LONGEST)
}
