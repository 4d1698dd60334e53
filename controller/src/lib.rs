//! refunctiond: the host daemon that mediates containerd.
//!
//! `funk` ─gRPC→ [`service`] → [`registry`] → [`container`] ─JSON lines→ supervisor
//! (through [`channel`]), with [`containerd`] beside them to make, watch and remove
//! containers. The library is what the `refunctiond` binary is made of; nothing else
//! depends on it.

#![forbid(unsafe_code)]

pub mod channel;
pub mod cli;
pub mod config;
pub mod container;
pub mod containerd;
pub mod cri;
pub mod daemon;
pub mod gateway;
pub mod host;
mod lock;
pub mod logs;
pub mod network;
pub mod node;
mod notify;
mod output;
pub mod purge;
pub mod registry;
pub mod service;
pub mod store;
pub mod traces;
mod watch;
