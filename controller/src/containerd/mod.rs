//! Everything that is said to containerd.

pub mod client;
pub mod events;
pub mod images;
pub mod import;
pub(crate) mod leases;
pub mod private;

/// containerd's own messages and clients, as far as they are used.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod api {
    include!(concat!(env!("OUT_DIR"), "/containerd.rs"));
}

pub use client::{Containerd, ContainerdError};

/// The snapshotter whose snapshots are stacked without copying.
pub const SNAPSHOTTER: &str = "overlayfs";
