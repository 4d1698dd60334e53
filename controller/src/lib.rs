//! refunctiond: the host daemon that mediates containerd.
//!
//! `funk` ─gRPC→ [`service`] → [`registry`] → [`container`] ─JSON lines→ supervisor
//! (through [`channel`]), with [`containerd`] beside them to make, watch and remove
//! containers. The library is what the `refunctiond` binary is made of; nothing else
//! depends on it.

#![forbid(unsafe_code)]

pub mod channel;
pub mod cli;
pub mod container;
pub mod containerd;
pub mod daemon;
pub mod host;
pub mod logs;
pub mod node;
mod output;
pub mod registry;
pub mod service;
mod watch;
