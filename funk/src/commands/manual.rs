//! What shells and `man` know of funk, made of the command line itself.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Arguments;
use crate::error::{Error, Exit};

pub(super) fn completions(shell: Shell) -> Result<Exit, Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "funk", &mut script);
    io::stdout().write_all(&script)?;
    Ok(Exit::Ok)
}

/// One page for funk, and one for each command.
pub(super) fn pages(folder: &Path) -> Result<Exit, Error> {
    fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), folder))
        .map_err(|error| Error::Usage(format!("{}: {error}", folder.display())))?;
    Ok(Exit::Ok)
}
