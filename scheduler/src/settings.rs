//! What an operator or a deployer decides.

use std::time::Duration;

use crate::{FunctionName, PoolName};

/// What all pools share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSettings {
    /// Bytes that containers may have together, those under way to or from life included.
    pub memory: u64,
    /// Containers at most, over all pools, those under way included.
    pub containers: u32,
    /// Creations under way at once. Each costs the node a tenth of a second of a core, which
    /// running functions would miss.
    pub creations: u32,
    /// Calls that wait at most, over all functions, beyond those for which a container is
    /// loading. At least one.
    pub queue: u32,
    /// Calls of one function that wait at most, in the same sense. At least one.
    pub queue_per_function: u32,
    /// No call waits longer, whatever its deadline.
    pub longest_wait: Duration,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            memory: u64::MAX,
            containers: 24,
            creations: 4,
            queue: 10_000,
            queue_per_function: 1_000,
            longest_wait: Duration::from_secs(60),
        }
    }
}

/// What becomes of a container that held a function, once another is to run or it is not to be
/// kept any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Reuse {
    /// It is put back to its snapshot, for whatever function comes next.
    #[default]
    Always,
    /// It is removed, and another is made: no container ever holds two functions, or two
    /// revisions of one. A call that finds no container of its function waits for a cold start.
    Never,
}

/// The containers of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSettings {
    /// Containers that are kept, also with nothing to do.
    pub minimum: u32,
    /// Containers at most. With fewer than `minimum`, this counts.
    pub maximum: u32,
    /// Containers that are kept free beyond those that run calls, as long as any does: made
    /// before a call needs them, not for it.
    pub spare: u32,
    /// Whether a container is used for one function after another.
    pub reuse: Reuse,
    /// What one container is accounted for, in bytes. A change concerns containers made later.
    pub memory: u64,
    /// A container above `minimum` that stood at its snapshot unused for so long is removed.
    pub shrink_after: Duration,
    /// The pool grows when calls would wait longer than this for the containers it has, or when
    /// all of them, but for `spare`, were taken for as long. What is over sooner is over before
    /// a new container is there.
    pub grow_after: Duration,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            minimum: 1,
            maximum: 24,
            spare: 1,
            reuse: Reuse::Always,
            memory: 128 << 20,
            shrink_after: Duration::from_secs(300),
            grow_after: Duration::from_millis(10),
        }
    }
}

/// A deployed function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionSettings {
    /// Where it runs.
    pub pool: PoolName,
    /// Which code and settings of it. A container that holds another revision does not hold
    /// this function.
    pub revision: u64,
    /// How long an idle container goes on holding it, unless a waiting call needs the place.
    pub keep_warm: Duration,
    /// Calls of it that run at once; any number if absent. At least one.
    pub at_once: Option<u32>,
    /// Its share of the containers beside others that wait too. At least one.
    pub weight: u32,
}

impl FunctionSettings {
    /// The first revision of a function for this pool; a minute warm, any number at once.
    #[must_use]
    pub fn new(pool: impl Into<PoolName>) -> Self {
        Self {
            pool: pool.into(),
            revision: 1,
            keep_warm: Duration::from_secs(60),
            at_once: None,
            weight: 1,
        }
    }
}

/// A call that arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its number.
    pub id: crate::CallId,
    /// What is called.
    pub function: FunctionName,
    /// When waiting for a container has no more sense. What runs by then is the driver's and
    /// the supervisor's to end.
    pub deadline: crate::Moment,
}
