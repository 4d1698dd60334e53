//! The snapshot engine: freezes a process, forks it for next to nothing, and puts
//! its children back to the moment before they did anything. It knows nothing of
//! functions, messages or containers.
//!
//! A *template* is a single-threaded process that called
//! [`inside::Template::serve`]. The [`Engine`] freezes it: its private memory moves
//! into a sealed memfd and is mapped from there, so that a page that was never
//! written is the memfd's own. A *worker* is forked from it and stops once at its
//! [`inside::ready_point`]. [`Engine::rewind`] brings it back there: complete, or
//! refused with the [`Taint`]s that say why, never in part.
//!
//! Needs no privilege over its own children: ptrace(2), `/proc/<pid>/{mem,maps,
//! pagemap,fd,fdinfo}` and memfd_create(2) are what an ordinary container has.

mod arch;
mod birth;
mod descriptors;
mod diff;
mod engine;
mod image;
pub mod inside;
mod kernel_state;
mod maps;
mod mend;
mod pagemap;
mod pages;
mod process;
mod ptrace;
mod report;
mod row;
mod runner;
pub mod sabotage;
mod span;
mod stub;
pub mod syscalls;
mod tracer;
mod verify;
mod wait;
mod worker;

pub use engine::{Booting, Engine, EngineError, Holding, Template};
pub use pagemap::Scan;
pub use process::unread_bytes;
pub use report::{Phases, Refused, Rewound};
pub use row::{Row, Taint};
pub use tracer::{End, News};
pub use wait::block_sigchld;
pub use worker::Worker;
