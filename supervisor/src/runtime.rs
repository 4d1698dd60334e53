//! The runtimes that this supervisor was built with.

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
}

impl RuntimeName {
    /// The adapter, not yet booted.
    pub(crate) fn adapter(self) -> Box<dyn Adapter> {
        match self {
            #[cfg(feature = "python")]
            Self::Python => Box::new(refunction_python::Python::new()),
            #[cfg(feature = "javascript")]
            Self::JavaScript => Box::new(refunction_javascript::JavaScript::new()),
        }
    }
}
