//! The node as it stands at one moment: for `funk top`, and for metrics.

use std::collections::BTreeSet;
use std::time::Duration;

use refunction_scheduler::{Activity, FunctionName, PoolName, PoolStatus};

use super::metrics::Counted;
use super::{Node, PoolKey};

/// What there is, what it does, and what was counted.
#[derive(Debug)]
pub struct View {
    /// Since the node began.
    pub up: Duration,
    /// Nothing new is taken.
    pub draining: bool,
    /// Calls that wait.
    pub waiting: u64,
    /// Functions that are deployed.
    pub deployed: usize,
    /// Bytes that containers may have together.
    pub memory_limit: u64,
    /// How many containers there may be.
    pub container_limit: u32,
    /// In the order in which they were made.
    pub containers: Vec<ContainerView>,
    /// By name; without those that neither have a container nor may have one.
    pub pools: Vec<PoolView>,
    /// By name: those with series of their own, and those that a container or a call is there
    /// for.
    pub functions: Vec<FunctionView>,
    /// Since the node began.
    pub counted: Counted,
}

/// A container of a pool.
#[derive(Debug)]
pub struct ContainerView {
    /// Its id; absent while it is being made.
    pub id: Option<String>,
    /// Of which pool.
    pub pool: PoolName,
    /// What it does.
    pub activity: Activity,
    /// What it loads, holds, runs or is put back from.
    pub function: Option<FunctionName>,
    /// For how long it does that.
    pub since: Duration,
    /// What it is accounted for, in bytes.
    pub memory_bytes: u64,
    /// Calls that it ran.
    pub requests: u64,
}

/// A pool.
#[derive(Debug)]
pub struct PoolView {
    /// Its name.
    pub name: PoolName,
    /// What its supervisors said that they run; empty before the first.
    pub runtime: String,
    /// Containers that are kept.
    pub minimum: u32,
    /// Containers at most.
    pub maximum: u32,
    /// What its containers do, and what waits for them.
    pub status: PoolStatus,
    /// What they are accounted for, in bytes.
    pub memory_bytes: u64,
}

/// A function.
#[derive(Debug)]
pub struct FunctionView {
    /// Its name.
    pub name: FunctionName,
    /// Where it runs; empty once it is deleted.
    pub pool: String,
    /// Calls that wait.
    pub waiting: u64,
    /// Calls that run.
    pub running: u32,
    /// For how long it is still left alone, with the last cause, if it is.
    pub backing_off: Option<(Duration, String)>,
}

impl Node {
    /// Looks.
    #[must_use]
    pub fn view(&self) -> View {
        let state = self.lock();
        let now = self.now();
        let scheduler = &state.scheduler;
        let mut names: BTreeSet<PoolName> = state.pools.keys().cloned().collect();
        let mut functions: BTreeSet<FunctionName> = scheduler.queued().collect();
        let mut containers = Vec::new();
        for status in scheduler.containers() {
            names.insert(status.pool.clone());
            functions.extend(status.function.clone());
            let there = state.containers.get(&status.id);
            if let Some(started) = there.and_then(|it| it.view().started) {
                self.metrics.runs(status.pool.as_str(), &started.runtime);
            }
            containers.push((
                status.id,
                ContainerView {
                    id: there.map(|it| it.id.clone()),
                    pool: status.pool,
                    activity: status.activity,
                    function: status.function,
                    since: now.since(status.since),
                    memory_bytes: status.memory,
                    requests: 0,
                },
            ));
        }
        let counted = self.metrics.counted();
        functions.extend(counted.functions.keys().cloned());
        let containers: Vec<_> = containers
            .into_iter()
            .map(|(number, container)| ContainerView {
                requests: counted.requests.get(&number).copied().unwrap_or(0),
                ..container
            })
            .collect();
        let pools = names.into_iter().map(|name| {
            let settings = self.settings.scheduled(&PoolKey::parse(name.as_str()));
            let of_it = containers.iter().filter(|it| it.pool == name);
            PoolView {
                runtime: counted
                    .pools
                    .get(&name)
                    .map_or_else(String::new, |it| it.runtime.clone()),
                minimum: settings.minimum,
                maximum: settings.maximum,
                status: scheduler.pool(name.as_str()).unwrap_or_default(),
                memory_bytes: of_it.map(|it| it.memory_bytes).sum(),
                name,
            }
        });
        let functions = functions.into_iter().map(|name| {
            let known = state.functions.get(&name);
            let status = scheduler.function(name.as_str());
            FunctionView {
                pool: known.map_or_else(String::new, |it| {
                    PoolKey::of(&it.definition).name().as_str().to_owned()
                }),
                waiting: status.as_ref().map_or(0, |it| it.waiting),
                running: status.as_ref().map_or(0, |it| it.running),
                backing_off: status
                    .and_then(|it| it.backing_off)
                    .map(|(until, cause)| (until.since(now), cause.to_string())),
                name,
            }
        });
        View {
            up: self.begun.elapsed(),
            draining: scheduler.is_draining(),
            waiting: scheduler.waiting(),
            deployed: state.functions.len(),
            memory_limit: self.settings.node.memory,
            container_limit: self.settings.node.containers,
            pools: pools.collect(),
            functions: functions.collect(),
            containers,
            counted,
        }
    }

    /// Everything that is counted and seen, in Prometheus's text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        super::metrics::render(&self.view())
    }
}

/// How many containers of a pool do what.
#[must_use]
pub fn by_activity(status: &PoolStatus) -> [(Activity, u32); 7] {
    [
        (Activity::Creating, status.creating),
        (Activity::Ready, status.ready),
        (Activity::Loading, status.loading),
        (Activity::Idle, status.idle),
        (Activity::Running, status.running),
        (Activity::Restoring, status.restoring),
        (Activity::Removing, status.removing),
    ]
}

/// The word for what a container does.
#[must_use]
pub fn activity(activity: Activity) -> &'static str {
    match activity {
        Activity::Creating => "creating",
        Activity::Ready => "ready",
        Activity::Loading => "loading",
        Activity::Idle => "idle",
        Activity::Running => "running",
        Activity::Restoring => "restoring",
        Activity::Removing => "removing",
    }
}
