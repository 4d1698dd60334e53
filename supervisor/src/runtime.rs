//! The runtimes that this supervisor was built with.

use std::io;
use std::process::Command;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use refunction_adapter::Adapter;

/// A runtime that can be asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Runtime {
    name: &'static str,
    origin: fn() -> Origin,
    /// What a function's source imports, where layers of libraries can be grown.
    imports: fn(&str) -> Vec<String>,
}

/// How a runtime's workers come about.
// A supervisor with one runtime has one kind of them.
#[allow(dead_code)]
pub(crate) enum Origin {
    /// Forked from a template into which this adapter loaded the runtime.
    Template(Box<dyn Adapter>),
    /// The program that this makes. It is snapshotted where it stands: it has threads, and
    /// a fork would lose them.
    Program(Program),
}

/// Makes a program that loads these libraries, and the function that the container's
/// command names, by itself.
pub(crate) type Program = fn(&[String], Option<&str>) -> io::Result<Command>;

/// All of them; the first is meant where nobody names one.
const RUNTIMES: &[Runtime] = &[
    #[cfg(feature = "python")]
    Runtime {
        name: "python",
        origin: || Origin::Template(Box::new(refunction_python::Python::new())),
        imports: refunction_python::imported,
    },
    #[cfg(feature = "javascript")]
    Runtime {
        name: "javascript",
        origin: || Origin::Template(Box::new(refunction_javascript::JavaScript::new())),
        imports: |_| Vec::new(),
    },
    #[cfg(feature = "node")]
    Runtime {
        name: "node",
        origin: || Origin::Program(refunction_node::command),
        imports: |_| Vec::new(),
    },
    #[cfg(feature = "java")]
    Runtime {
        name: "java",
        origin: || Origin::Program(refunction_java::command),
        imports: |_| Vec::new(),
    },
    #[cfg(feature = "lua")]
    Runtime {
        name: "lua",
        origin: || Origin::Template(Box::new(refunction_lua::Lua::new())),
        imports: |_| Vec::new(),
    },
];

impl Runtime {
    /// The runtime, not yet booted.
    pub(crate) fn origin(self) -> Origin {
        (self.origin)()
    }

    /// As `--runtime` calls it.
    pub(crate) fn name(self) -> &'static str {
        self.name
    }

    /// The top-level names of what a function's source imports.
    pub(crate) fn imports(self, source: &str) -> Vec<String> {
        (self.imports)(source)
    }

    /// True if its workers are programs of their own.
    pub(crate) fn is_program(self) -> bool {
        matches!(self.origin(), Origin::Program(_))
    }
}

impl Default for Runtime {
    fn default() -> Self {
        const { RUNTIMES[0] }
    }
}

impl ValueEnum for Runtime {
    fn value_variants<'a>() -> &'a [Self] {
        RUNTIMES
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name))
    }
}
