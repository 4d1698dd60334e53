//! `funk`, the command line of refunction.

#![forbid(unsafe_code)]

mod build;
mod cli;
mod client;
mod commands;
mod display;
mod error;
mod local;
mod payload;
mod source;
mod target;

use std::process::ExitCode;

use clap::Parser;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    let format = arguments.output;
    match commands::run(arguments).await {
        Ok(code) => code.into(),
        Err(error) => error.report(format).into(),
    }
}
