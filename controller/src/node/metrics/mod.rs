//! What happened, counted: for Prometheus, and for `funk top`.
//!
//! The number of series has a bound, whatever is deployed: as many functions as
//! [`MOST_FUNCTIONS`] have their own, in the order of their first calls, and the others one
//! together. What is deleted takes its series with it.
//!
//! The format is written by hand, as the supervisor does it: it is a page of code, a library
//! would be a dependency more, and none of those keeps buckets that are fine enough to read a
//! percentile from.

mod histogram;
mod own;
mod render;
mod text;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use refunction_protocol::{Method, Restored};
use refunction_scheduler::{Busy, ContainerId, FunctionName, PoolName, Refusal};

use super::Start;

pub use histogram::Histogram;
pub use render::CONTENT_TYPE;
pub(super) use render::render;

/// Functions with series of their own.
const MOST_FUNCTIONS: usize = 100;

/// Pools with series of their own.
const MOST_POOLS: usize = 50;

/// Rows of the state table that are counted by name: more than it has. They come from a
/// container.
const MOST_ROWS: usize = 200;

/// What has no series of its own. Neither a function nor an image can have this name.
pub(super) const OTHER: &str = "_other";

/// Counts by a word.
pub type Counters = BTreeMap<&'static str, u64>;

/// What was counted of the calls of a function.
#[derive(Debug, Clone, Default)]
pub struct Calls {
    /// Calls that reached it, by how they ended.
    pub outcomes: Counters,
    /// Calls that did not, by the reason.
    pub refusals: Counters,
    /// What was done before they ran.
    pub starts: Counters,
    /// How containers came back from it.
    pub restores: Counters,
    /// From arrival to being run.
    pub waited: Histogram,
    /// From there to the answer.
    pub ran: Histogram,
}

/// What was counted of a pool.
#[derive(Debug, Clone, Default)]
pub struct Work {
    /// What its supervisors said that they run; empty before the first.
    pub runtime: String,
    /// Of a whole restore, by its method.
    pub restores: BTreeMap<&'static str, Histogram>,
    /// Of loading a function.
    pub loads: Histogram,
    /// Of making a container.
    pub creations: Histogram,
    /// What did not succeed.
    pub failures: Counters,
    /// Reforks by the row of the state table that did not allow a rewind; one may have several.
    pub taints: BTreeMap<String, u64>,
}

/// Everything that was counted.
#[derive(Debug, Clone, Default)]
pub struct Counted {
    /// Over all functions, those that were deleted included.
    pub all: Calls,
    /// Over all pools.
    pub restores: BTreeMap<&'static str, Histogram>,
    /// Those with series of their own.
    pub functions: BTreeMap<FunctionName, Calls>,
    /// The others together.
    pub other_functions: Calls,
    /// Those with series of their own.
    pub pools: BTreeMap<PoolName, Work>,
    /// The others together.
    pub other_pools: Work,
    /// Calls that each container ran that is there.
    pub requests: HashMap<ContainerId, u64>,
}

/// A call that was run.
pub(super) struct Ran<'a> {
    pub(super) function: &'a str,
    pub(super) container: ContainerId,
    pub(super) outcome: &'static str,
    pub(super) start: Start,
    pub(super) waited: Duration,
    pub(super) ran: Duration,
}

/// What does not succeed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Failed {
    Creation,
    /// By the function's own fault.
    Load,
    /// By the container's.
    LoadRefused,
    Restore,
}

/// Counts.
#[derive(Debug, Default)]
pub(super) struct Metrics(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    counted: Counted,
    /// Where each function runs that may have series.
    deployed: HashMap<FunctionName, PoolName>,
}

impl Metrics {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn counted(&self) -> Counted {
        self.lock().counted.clone()
    }

    pub(super) fn deployed(&self, function: &FunctionName, pool: &PoolName) {
        let mut state = self.lock();
        let before = state.deployed.insert(function.clone(), pool.clone());
        // Its series are of the pool that it ran in.
        if before.is_some_and(|before| before != *pool) {
            state.counted.functions.remove(function);
        }
    }

    pub(super) fn deleted(&self, function: &FunctionName) {
        let mut state = self.lock();
        state.deployed.remove(function);
        state.counted.functions.remove(function);
    }

    pub(super) fn pool_set(&self, pool: &PoolName) {
        let pools = &mut self.lock().counted.pools;
        if pools.len() < MOST_POOLS {
            pools.entry(pool.clone()).or_default();
        }
    }

    pub(super) fn pool_given_up(&self, pool: &PoolName) {
        self.lock().counted.pools.remove(pool);
    }

    pub(super) fn refused(&self, function: &str, reason: &'static str) {
        let mut state = self.lock();
        state.calls(function, |calls| count(&mut calls.refusals, reason));
    }

    pub(super) fn ran(&self, ran: &Ran<'_>) {
        let mut state = self.lock();
        state.calls(ran.function, |calls| {
            count(&mut calls.outcomes, ran.outcome);
            count(&mut calls.starts, ran.start.as_str());
            calls.waited.add(ran.waited);
            calls.ran.add(ran.ran);
        });
        // One that is gone already is not counted again.
        if let Some(requests) = state.counted.requests.get_mut(&ran.container) {
            *requests += 1;
        }
    }

    pub(super) fn container_there(&self, container: ContainerId) {
        self.lock().counted.requests.insert(container, 0);
    }

    pub(super) fn container_gone(&self, container: ContainerId) {
        self.lock().counted.requests.remove(&container);
    }

    pub(super) fn created(&self, pool: &str, took: Duration) {
        self.lock().work(pool).creations.add(took);
    }

    /// What a pool's supervisors say that they run.
    pub(super) fn runs(&self, pool: &str, runtime: &str) {
        if let Some(work) = self.lock().counted.pools.get_mut(pool)
            && work.runtime != runtime
        {
            runtime.clone_into(&mut work.runtime);
        }
    }

    pub(super) fn loaded(&self, pool: &str, took: Duration) {
        self.lock().work(pool).loads.add(took);
    }

    /// `function` is what the container held, if that is known.
    pub(super) fn restored(
        &self,
        pool: &str,
        function: Option<&str>,
        took: Duration,
        restored: &Restored,
    ) {
        let method = match restored.method {
            Method::Rewind => "rewind",
            Method::Refork => "refork",
        };
        let mut state = self.lock();
        if let Some(function) = function {
            state.calls(function, |calls| count(&mut calls.restores, method));
        }
        let all = &mut state.counted.restores;
        all.entry(method).or_default().add(took);
        let work = state.work(pool);
        work.restores.entry(method).or_default().add(took);
        // One row may be named several times, each with another detail.
        let mut rows: Vec<&str> = restored.taints.iter().map(|it| it.row.as_str()).collect();
        rows.sort_unstable();
        rows.dedup();
        for row in rows {
            if let Some(times) = work.taints.get_mut(row) {
                *times += 1;
            } else {
                let is_full = work.taints.len() >= MOST_ROWS;
                let row = if is_full { OTHER } else { row };
                *work.taints.entry(row.to_owned()).or_default() += 1;
            }
        }
    }

    pub(super) fn failed(&self, pool: &str, what: Failed) {
        let what = match what {
            Failed::Creation => "creation",
            Failed::Load => "load",
            Failed::LoadRefused => "load_refused",
            Failed::Restore => "restore",
        };
        count(&mut self.lock().work(pool).failures, what);
    }
}

impl State {
    /// Counts for a function, and for all of them.
    fn calls(&mut self, function: &str, mut count: impl FnMut(&mut Calls)) {
        count(&mut self.counted.all);
        let functions = &mut self.counted.functions;
        if let Some(calls) = functions.get_mut(function) {
            return count(calls);
        }
        // What is called and was never deployed, or not any more, gets no series.
        let deployed = self.deployed.get_key_value(function);
        match deployed.filter(|_| functions.len() < MOST_FUNCTIONS) {
            Some((name, _)) => count(functions.entry(name.clone()).or_default()),
            None => count(&mut self.counted.other_functions),
        }
    }

    fn work(&mut self, pool: &str) -> &mut Work {
        let counted = &mut self.counted;
        counted
            .pools
            .get_mut(pool)
            .unwrap_or(&mut counted.other_pools)
    }
}

fn count(counters: &mut Counters, word: &'static str) {
    *counters.entry(word).or_default() += 1;
}

/// The word for a refusal.
pub(super) fn reason(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Unknown => "unknown",
        Refusal::Busy { busy, .. } => match busy {
            Busy::FunctionQueue => "function_queue",
            Busy::NodeQueue => "node_queue",
            Busy::Waited => "waited",
            Busy::AtOnce => "at_once",
            Busy::Room => "room",
        },
        Refusal::BackingOff { .. } => "backing_off",
        Refusal::NotLoaded { .. } => "not_loaded",
        Refusal::NoContainer { .. } => "no_container",
        Refusal::Draining => "draining",
    }
}

#[cfg(test)]
mod tests {
    use refunction_protocol::Taint;

    use super::*;

    fn refused(metrics: &Metrics, function: &str) {
        metrics.refused(function, "waited");
    }

    #[test]
    fn the_number_of_series_has_a_bound() {
        let metrics = Metrics::default();
        let pool = PoolName::from("python");
        for number in 0..MOST_FUNCTIONS + 10 {
            let name = format!("f{number}");
            metrics.deployed(&name.as_str().into(), &pool);
            refused(&metrics, &name);
            refused(&metrics, &format!("nobody-deployed-{number}"));
        }
        let counted = metrics.counted();
        assert_eq!(counted.functions.len(), MOST_FUNCTIONS);
        let others = MOST_FUNCTIONS as u64 + 20;
        assert_eq!(counted.other_functions.refusals["waited"], others);
        let all = MOST_FUNCTIONS as u64 * 2 + 20;
        assert_eq!(counted.all.refusals["waited"], all);
        for number in 0..MOST_POOLS + 10 {
            metrics.pool_set(&format!("image{number}").into());
        }
        assert_eq!(metrics.counted().pools.len(), MOST_POOLS);
        metrics.loaded("image59", Duration::from_millis(1));
        metrics.loaded("image0", Duration::from_millis(1));
        let counted = metrics.counted();
        assert_eq!(counted.other_pools.loads.count(), 1);
        assert_eq!(counted.pools["image0"].loads.count(), 1);
    }

    #[test]
    fn what_is_deleted_takes_its_series_with_it() {
        let metrics = Metrics::default();
        let (name, pool) = (FunctionName::from("f"), PoolName::from("python"));
        metrics.deployed(&name, &pool);
        metrics.pool_set(&pool);
        refused(&metrics, "f");
        assert!(metrics.counted().functions.contains_key("f"));
        metrics.deleted(&name);
        metrics.pool_given_up(&pool);
        // One that ends now does not bring them back.
        refused(&metrics, "f");
        metrics.loaded("python", Duration::ZERO);
        let counted = metrics.counted();
        assert!(counted.functions.is_empty() && counted.pools.is_empty());
        assert_eq!(counted.all.refusals["waited"], 2);
        // In another pool it begins anew; in the same it goes on.
        for (pool, expected) in [("python", 1), ("python", 2), ("lua", 1)] {
            metrics.deployed(&name, &pool.into());
            refused(&metrics, "f");
            assert_eq!(
                metrics.counted().functions["f"].refusals["waited"],
                expected
            );
        }
    }

    #[test]
    fn a_refork_counts_once_for_each_row() {
        let metrics = Metrics::default();
        metrics.pool_set(&"python".into());
        let taint = |row: &str, detail: &str| Taint {
            row: row.into(),
            detail: detail.into(),
        };
        let mut restored = Restored {
            method: Method::Refork,
            total_us: 1,
            phases: Vec::new(),
            dirty_pages: 0,
            taints: vec![
                taint("exec", "a"),
                taint("mappings", "b"),
                taint("exec", "c"),
            ],
        };
        let took = Duration::from_millis(2);
        metrics.restored("python", None, took, &restored);
        let work = metrics.counted().pools["python"].clone();
        assert_eq!(work.taints["exec"], 1);
        assert_eq!(work.taints["mappings"], 1);
        assert_eq!(work.restores["refork"].count(), 1);
        // A container cannot make series without end.
        for number in 0..MOST_ROWS + 10 {
            restored.taints = vec![taint(&number.to_string(), "")];
            metrics.restored("python", None, took, &restored);
        }
        let work = metrics.counted().pools["python"].clone();
        assert_eq!(work.taints.len(), MOST_ROWS + 1);
        assert_eq!(work.taints[OTHER], 12);
    }
}
