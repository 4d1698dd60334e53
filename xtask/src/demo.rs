//! `cargo xtask demo`.

use anyhow::Result;

use crate::workspace::Workspace;

/// What to show.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The base image to show it with
    #[arg(long, default_value = "python")]
    image: String,
}

pub(crate) fn run(_workspace: &Workspace, _options: &Options) -> Result<()> {
    Ok(())
}
