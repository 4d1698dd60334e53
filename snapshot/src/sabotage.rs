//! One handler of the state table left out on purpose, to see which test notices
//! (docs/mutants.md).
//!
//! Without the feature `sabotage` nothing can be left out: [`leaves_out`] is the
//! constant false, and the compiler takes what it guards at its word.

/// True if this handler is the one to be left out.
#[cfg(not(feature = "sabotage"))]
#[must_use]
pub(crate) const fn leaves_out(_handler: &str) -> bool {
    false
}

#[cfg(feature = "sabotage")]
pub(crate) use chosen::leaves_out;
#[cfg(feature = "sabotage")]
pub use chosen::{choose, is_chosen};
#[cfg(feature = "sabotage")]
pub use handlers::{Handler, handlers};
#[cfg(feature = "sabotage")]
pub(crate) use operations::leave_out;

#[cfg(feature = "sabotage")]
mod chosen;
#[cfg(feature = "sabotage")]
mod handlers;
#[cfg(feature = "sabotage")]
mod operations;
