//! The client of Lambda's runtime API that AWS publishes for Python: the tests compare ours
//! with it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::shell;
use crate::workspace::Workspace;

const PACKAGE: &str = "awslambdaric";

/// The version whose differences docs/contracts.md has.
const VERSION: &str = "4.2.2";

/// The interpreter that has it; nothing, and a line that says so, where it cannot be
/// installed, as without a package index.
pub(crate) fn install(workspace: &Workspace) -> Result<Option<PathBuf>> {
    let home = workspace.published();
    let python = home.join("bin/python");
    if is_installed(&python) {
        return Ok(Some(python));
    }
    // What was not made to its end is of no use.
    match fs::remove_dir_all(&home) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {}", home.display()));
        }
        _ => {}
    }
    match make(&home, &python) {
        Ok(()) => Ok(Some(python)),
        Err(error) => {
            shell::check_interrupt()?;
            eprintln!(
                "==> SKIPPED: ours is not compared with {PACKAGE} {VERSION}, which cannot be installed: {error:#}"
            );
            Ok(None)
        }
    }
}

fn is_installed(python: &Path) -> bool {
    let program = format!("import {PACKAGE}; print({PACKAGE}.__version__)");
    let asked = shell::quiet(Command::new(python).args(["-c", &program]));
    asked.is_ok_and(|version| version.trim() == VERSION)
}

fn make(home: &Path, python: &Path) -> Result<()> {
    // By its full path: a version manager's Python is not the one that functions have.
    shell::quiet(
        Command::new("/usr/bin/python3")
            .args(["-m", "venv"])
            .arg(home),
    )?;
    let package = format!("{PACKAGE}=={VERSION}");
    shell::quiet(
        Command::new(python)
            .args(["-m", "pip", "install", "--quiet", "--retries=1"])
            .arg(package),
    )
    .map(drop)
}
