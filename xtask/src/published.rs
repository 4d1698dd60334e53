//! Programs that others publish for Python, and that the tests compare ours with or have look
//! at it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::shell;
use crate::workspace::Workspace;

/// One of them.
#[derive(Debug)]
pub(crate) struct Published {
    package: &'static str,
    version: &'static str,
    /// What is started of it.
    program: &'static str,
    /// What is not done without it.
    purpose: &'static str,
}

/// The client of Lambda's runtime API that AWS publishes, in the version whose differences
/// docs/contracts.md has.
pub(crate) const CLIENT: Published = Published {
    package: "awslambdaric",
    version: "4.2.2",
    program: "python",
    purpose: "ours is not compared with it",
};

/// The tester that knows of the gateway what its OpenAPI document says.
pub(crate) const SCHEMATHESIS: Published = Published {
    package: "schemathesis",
    version: "4.32.5",
    program: "schemathesis",
    purpose: "the gateway is not tried against its document",
};

/// The program of it; nothing, and a line that says so, where it cannot be installed, as
/// without a package index.
pub(crate) fn install(workspace: &Workspace, wanted: &Published) -> Result<Option<PathBuf>> {
    let home = workspace.published().join(wanted.package);
    let program = home.join("bin").join(wanted.program);
    if is_installed(&home, wanted) {
        return Ok(Some(program));
    }
    // What was not made to its end is of no use.
    match fs::remove_dir_all(&home) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {}", home.display()));
        }
        _ => {}
    }
    match make(&home, wanted) {
        Ok(()) => Ok(Some(program)),
        Err(error) => {
            shell::check_interrupt()?;
            let Published {
                package,
                version,
                purpose,
                ..
            } = wanted;
            eprintln!("==> SKIPPED: {purpose}: {package} {version} cannot be installed: {error:#}");
            Ok(None)
        }
    }
}

fn python(home: &Path) -> PathBuf {
    home.join("bin/python")
}

fn is_installed(home: &Path, wanted: &Published) -> bool {
    let package = wanted.package;
    let program = format!(
        "import importlib.metadata, {package}; print(importlib.metadata.version('{package}'))"
    );
    let asked = shell::quiet(Command::new(python(home)).args(["-c", &program]));
    asked.is_ok_and(|version| version.trim() == wanted.version)
}

fn make(home: &Path, wanted: &Published) -> Result<()> {
    // By its full path: a version manager's Python is not the one that functions have.
    shell::quiet(
        Command::new("/usr/bin/python3")
            .args(["-m", "venv"])
            .arg(home),
    )?;
    let package = format!("{}=={}", wanted.package, wanted.version);
    shell::quiet(
        Command::new(python(home))
            .args(["-m", "pip", "install", "--quiet", "--retries=1"])
            .arg(package),
    )
    .map(drop)
}
