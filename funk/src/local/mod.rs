//! Functions on this machine without a container: the same supervisor, started by hand.

mod channel;
mod errors;
mod proxy;
mod supervisor;
mod watch;

pub(crate) use proxy::{Backend, Proxy};
pub(crate) use supervisor::{Local, Output, Plan, find};
pub(crate) use watch::TreeWatch;
