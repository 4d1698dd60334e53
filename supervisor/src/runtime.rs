//! The runtimes that this supervisor was built with.

use std::io;
use std::process::Command;

use clap::ValueEnum;
use refunction_adapter::Adapter;

/// A runtime by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum RuntimeName {
    /// CPython.
    #[cfg(feature = "python")]
    #[cfg_attr(feature = "python", default)]
    Python,
    /// QuickJS.
    #[cfg(feature = "javascript")]
    #[cfg_attr(not(feature = "python"), default)]
    #[value(name = "javascript")]
    JavaScript,
    /// Node.js.
    #[cfg(feature = "node")]
    #[cfg_attr(not(any(feature = "python", feature = "javascript")), default)]
    Node,
    /// The JVM.
    #[cfg(feature = "java")]
    #[cfg_attr(
        not(any(feature = "python", feature = "javascript", feature = "node")),
        default
    )]
    Java,
}

/// How a runtime's workers come about.
#[allow(dead_code)] // Of one runtime alone there is one way.
pub(crate) enum Origin {
    /// Forked from a template into which this adapter loaded the runtime.
    Template(Box<dyn Adapter>),
    /// The program that this makes, which loads the libraries given by itself. It is
    /// snapshotted where it stands: it has threads, and a fork would lose them.
    Program(fn(&[String]) -> io::Result<Command>),
}

impl RuntimeName {
    /// The runtime, not yet booted.
    pub(crate) fn origin(self) -> Origin {
        match self {
            #[cfg(feature = "python")]
            Self::Python => Origin::Template(Box::new(refunction_python::Python::new())),
            #[cfg(feature = "javascript")]
            Self::JavaScript => {
                Origin::Template(Box::new(refunction_javascript::JavaScript::new()))
            }
            #[cfg(feature = "node")]
            Self::Node => Origin::Program(refunction_node::command),
            #[cfg(feature = "java")]
            Self::Java => Origin::Program(refunction_java::command),
        }
    }

    /// True if its workers are programs of their own.
    pub(crate) fn is_program(self) -> bool {
        matches!(self.origin(), Origin::Program(_))
    }
}
