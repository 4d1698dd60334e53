//! What can be seen from outside, for `funk top` and metrics.

use crate::{ContainerId, FunctionName, Moment, PoolName};

/// What a container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activity {
    /// It is being made.
    Creating,
    /// At its snapshot.
    Ready,
    /// It takes a function.
    Loading,
    /// It holds a function that nobody calls.
    Idle,
    /// It runs a call.
    Running,
    /// It is being put back.
    Restoring,
    /// It is being removed.
    Removing,
}

/// A container as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerStatus {
    /// Which.
    pub id: ContainerId,
    /// Of which pool.
    pub pool: PoolName,
    /// What it does.
    pub activity: Activity,
    /// What it loads, holds, runs or is put back from.
    pub function: Option<FunctionName>,
    /// Since when it does that.
    pub since: Moment,
    /// What it is accounted for, in bytes.
    pub memory: u64,
}

/// A pool as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolStatus {
    /// Containers being made.
    pub creating: u32,
    /// At their snapshot.
    pub ready: u32,
    /// Taking a function.
    pub loading: u32,
    /// Holding a function that nobody calls.
    pub idle: u32,
    /// Running a call.
    pub running: u32,
    /// Being put back.
    pub restoring: u32,
    /// Being removed.
    pub removing: u32,
    /// Calls that wait for a container of it.
    pub waiting: u64,
}

/// A function as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionStatus {
    /// Calls that wait.
    pub waiting: u64,
    /// Calls that run.
    pub running: u32,
    /// Until when it is left alone, with the last cause, if it is.
    pub backing_off: Option<(Moment, crate::Cause)>,
}
