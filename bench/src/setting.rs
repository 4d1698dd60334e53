//! What is played on a stage, by a fork server, or by a plain process: which runtime, with
//! what in it, and which function.

use std::io;
use std::path::Path;
use std::process::Command;

use refunction_protocol::Function;

use crate::runtime::Runtime;
use crate::{Failure, LIBRARIES_VARIABLE, guest, this_program};

/// One of them.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The runtime.
    pub runtime: Runtime,
    /// The function that is loaded.
    pub function: Function,
    /// Variables of the process in which the runtime boots.
    variables: Vec<(&'static str, String)>,
}

impl Setting {
    /// A function that gives back what it is given.
    ///
    /// # Errors
    /// There is no Java compiler.
    pub fn no_op(runtime: Runtime) -> Result<Self, Failure> {
        Ok(Self {
            runtime,
            function: runtime.no_op()?,
            variables: Vec::new(),
        })
    }

    /// A function in Python. It finds the modules of `bench/functions`.
    #[must_use]
    pub fn python(code: &str) -> Self {
        let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("functions");
        Self {
            runtime: Runtime::Python,
            function: Function::from_source(code),
            variables: vec![("PYTHONPATH", modules.to_string_lossy().into_owned())],
        }
    }

    /// With a variable.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.variables.push((name, value.to_string()));
        self
    }

    /// With these libraries imported before any function is loaded.
    #[must_use]
    pub fn importing(self, libraries: &str) -> Self {
        self.with(LIBRARIES_VARIABLE, libraries)
    }

    /// Without the filter that workers have. Such a worker cannot be rewound: nobody notes
    /// what it does.
    #[must_use]
    pub fn without_filter(self) -> Self {
        self.with(guest::NO_FILTER_VARIABLE, "1")
    }

    /// This program, in that part.
    pub(crate) fn program(&self, flag: &str) -> io::Result<Command> {
        let mut command = this_program(flag, self.runtime)?;
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }
}
