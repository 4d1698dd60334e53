//! What all pools share.

use std::collections::BTreeSet;

use crate::function::FunctionKey;
use crate::{Cause, Moment, NodeSettings, PoolName};

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) settings: NodeSettings,
    /// Containers of all pools, in any state.
    pub(crate) containers: u32,
    /// Their bytes.
    pub(crate) memory: u64,
    pub(crate) creating: u32,
    /// Whether all pools can have their minimum.
    pub(crate) minimums_fit: bool,
    pub(crate) removing: u32,
    pub(crate) removing_memory: u64,
    /// Calls that wait, for which no container is loading.
    pub(crate) unserved: u64,
    /// Calls that wait.
    pub(crate) waiting: u64,
    /// Functions by how many of those they have.
    pub(crate) longest: BTreeSet<(u64, FunctionKey)>,
    /// Pools that would create, in the order in which they may.
    pub(crate) hungry: BTreeSet<(u64, PoolName)>,
    /// Until when nothing is created, and why.
    pub(crate) hold: Option<(Moment, Cause)>,
    /// Until when those that are being created do not come either, and why.
    pub(crate) stuck: Option<(Moment, Cause)>,
    pub(crate) draining: bool,
}

impl Node {
    pub(crate) fn new(settings: NodeSettings) -> Self {
        Self {
            settings,
            containers: 0,
            memory: 0,
            creating: 0,
            minimums_fit: true,
            removing: 0,
            removing_memory: 0,
            unserved: 0,
            waiting: 0,
            longest: BTreeSet::new(),
            hungry: BTreeSet::new(),
            hold: None,
            stuck: None,
            draining: false,
        }
    }

    /// Whether so many more containers of so many bytes each fit now.
    pub(crate) fn fits(&self, count: u32, memory: u64) -> bool {
        self.allows(self.containers, self.memory, count, memory)
    }

    /// Whether they will once everything is gone that is being removed.
    pub(crate) fn will_fit(&self, count: u32, memory: u64) -> bool {
        self.allows(
            self.containers - self.removing,
            self.memory - self.removing_memory,
            count,
            memory,
        )
    }

    fn allows(&self, containers: u32, used: u64, count: u32, memory: u64) -> bool {
        containers.saturating_add(count) <= self.settings.containers
            && used.saturating_add(memory.saturating_mul(u64::from(count))) <= self.settings.memory
    }
}
