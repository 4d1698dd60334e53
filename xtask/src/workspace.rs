//! Where things are.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The source tree and the directory that builds go to.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// The workspace that this program was built from.
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask's manifest has no parent directory")?
            .to_path_buf();
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(directory) => env::current_dir()?.join(directory),
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// The source tree.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A release binary.
    pub(crate) fn release(&self, name: &str) -> PathBuf {
        self.target.join("release").join(name)
    }

    /// What benchmarks found.
    pub(crate) fn reports(&self) -> PathBuf {
        self.target.join("bench")
    }

    /// What the demo compiles.
    pub(crate) fn demo(&self) -> PathBuf {
        self.target.join("demo")
    }

    /// Where programs are installed that others publish.
    pub(crate) fn published(&self) -> PathBuf {
        self.target.join("published")
    }

    /// Programs with handlers left out.
    pub(crate) fn mutants(&self) -> PathBuf {
        self.target.join("mutants")
    }

    /// Image archives, and what their builds keep.
    pub(crate) fn images(&self) -> PathBuf {
        self.target.join("images")
    }

    /// The bulky part of the sandboxes: unpacked images.
    pub(crate) fn sandboxes(&self) -> PathBuf {
        self.target.join("sandboxes")
    }
}
