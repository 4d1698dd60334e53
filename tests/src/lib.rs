//! What the end-to-end tests share: a supervisor driven as a peer drives it, a
//! daemon driven with `funk`, and looks at what the kernel says of both.
//!
//! The messages are read and written as plain JSON here, not with the project's
//! own types: what is tested is what stands on the wire.
//!
//! Every wait has a deadline, and everything started is ended by the `Drop` of the
//! value that stands for it, so that a test which panics leaves nothing behind.

#![forbid(unsafe_code)]

pub mod cri;
pub mod environment;
pub mod growth;
pub mod host;
pub mod http;
pub mod java;
pub mod meeting;
pub mod node;
pub mod peer;
pub mod process;
pub mod random;
pub mod runtime_api;
pub mod supervisor;

use std::time::{Duration, Instant};

/// How long anything may take before the test fails: generous, because a machine
/// that tests everything at once is a slow one.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks until it is so, and fails when [`PATIENCE`] is over. Only for what the
/// kernel announces to nobody but the parent of a process, such as its end, or to
/// nobody at all, such as a control group that becomes empty.
///
/// # Panics
/// It did not become so.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(
            Instant::now() < deadline,
            "{what}: not within {} s",
            PATIENCE.as_secs()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
