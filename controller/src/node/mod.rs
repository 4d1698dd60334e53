//! The node: named functions, called through containers that are scheduled.

mod call;

pub use call::{Answer, Call, Refusal, Start};
