//! `cargo xtask clean`.

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{images, sandbox};

/// Removes what the other tasks made. Cargo's own directories are `cargo clean`'s.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    sandbox::clean(workspace)?;
    images::clean(workspace)
}
