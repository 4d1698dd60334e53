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
mod deadline;
mod descriptors;
mod diff;
mod engine;
mod gifts;
mod image;
mod in_place;
pub mod inside;
mod kernel_state;
mod maps;
mod mend;
mod message;
mod open;
mod own_pages;
mod pagemap;
mod pages;
mod pipe;
mod process;
mod ptrace;
mod quiet;
mod report;
mod row;
mod runner;
pub mod sabotage;
mod sibling;
mod sleeper;
mod span;
mod stack;
mod stub;
pub mod syscalls;
mod text;
mod thread_areas;
mod threads;
mod tracer;
mod verify;
mod wait;
mod worker;
#[cfg(feature = "yardstick")]
pub mod yardstick;

pub use engine::{Booting, Engine, EngineError, Holding, Template};
pub use in_place::{InPlace, Starting};
pub use pagemap::{PageScanner, Scan};
pub use process::unread_bytes;
pub use report::{Phases, Refused, Rewound, Work};
pub use row::{Row, Taint};
pub use span::{PAGE, Span};
pub use tracer::{End, News};
pub use wait::block_sigchld;
pub use worker::Worker;

/// Readers of what the kernel prints, for the fuzz targets; nobody else is to use them.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing {
    use crate::maps::{self, Backing};
    use crate::open::Info;

    /// A mapping, in the words of proc_pid_maps(5).
    #[derive(Debug, PartialEq, Eq)]
    pub struct Mapping {
        pub start: u64,
        pub end: u64,
        pub protection: i32,
        pub shared: bool,
        /// Device, inode and offset.
        pub file: Option<((u32, u32), u64, u64)>,
        pub name: String,
    }

    /// The mapping list, if every line of it could be read.
    #[must_use]
    pub fn mappings(text: &[u8]) -> Option<Vec<Mapping>> {
        let mappings = maps::parse(text).ok()?;
        let mappings = mappings.into_iter().map(|it| Mapping {
            start: it.span.start,
            end: it.span.end,
            protection: it.protection,
            shared: it.shared,
            file: match it.backing {
                Backing::File {
                    device,
                    inode,
                    offset,
                } => Some((device, inode, offset)),
                _ => None,
            },
            name: it.name.to_string(),
        });
        Some(mappings.collect())
    }

    /// Offset and flags that an `fdinfo` shows.
    #[must_use]
    pub fn descriptor(text: &[u8]) -> Option<(i64, i64)> {
        Info::parse(text).map(|it| (it.position, it.flags))
    }
}
