//! What the driver knows beside the scheduler: who stands behind its numbers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use refunction_protocol::Failure;
use refunction_scheduler::{CallId, ContainerId, FunctionName, NodeSettings, PoolName, Scheduler};
use tokio::sync::{oneshot, watch};

use super::{Answer, Call, PoolKey, Refusal, Settings};
use crate::container::Container;
use crate::store::Function;

/// A call that nobody runs yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) call: Call,
    pub(super) arrived: Instant,
    /// When its caller goes.
    pub(super) deadline: Option<Instant>,
    pub(super) sender: oneshot::Sender<Result<Answer, Refusal>>,
}

/// Behind one lock, which is never held while anything is waited for.
#[derive(Debug)]
pub(super) struct State {
    pub(super) scheduler: Scheduler,
    pub(super) calls: HashMap<CallId, Pending>,
    pub(super) containers: HashMap<ContainerId, Arc<Container>>,
    pub(super) functions: HashMap<FunctionName, Arc<Function>>,
    /// How a function did not load the last time, in its tenant's words.
    pub(super) failures: HashMap<FunctionName, Failure>,
    pub(super) pools: HashMap<PoolName, PoolKey>,
    /// Whether nothing is in hand; kept while the daemon ends.
    pub(super) quiet: watch::Sender<bool>,
    pub(super) is_draining: bool,
    last_call: u64,
}

impl State {
    pub(super) fn new(settings: NodeSettings) -> Self {
        Self {
            scheduler: Scheduler::new(settings),
            calls: HashMap::new(),
            containers: HashMap::new(),
            functions: HashMap::new(),
            failures: HashMap::new(),
            pools: HashMap::new(),
            quiet: watch::Sender::new(true),
            is_draining: false,
            last_call: 0,
        }
    }

    pub(super) fn next_call(&mut self) -> CallId {
        self.last_call += 1;
        CallId(self.last_call)
    }

    /// To whoever waits for it: that is while the daemon ends.
    pub(super) fn say_if_quiet(&self) {
        if self.quiet.receiver_count() > 0 {
            let is_quiet = self.scheduler.is_quiet();
            self.quiet
                .send_if_modified(|it| std::mem::replace(it, is_quiet) != is_quiet);
        }
    }

    /// Takes those pools off the list that neither the operator nor a function names.
    pub(super) fn pools_in_no_use(&mut self, settings: &Settings) -> Vec<PoolName> {
        let used: HashSet<PoolName> = self
            .functions
            .values()
            .map(|function| PoolKey::of(&function.definition).name())
            .collect();
        let (kept, gone) = std::mem::take(&mut self.pools)
            .into_iter()
            .partition(|(name, pool)| used.contains(name) || settings.names(pool));
        self.pools = kept;
        HashMap::into_keys(gone).collect()
    }
}
