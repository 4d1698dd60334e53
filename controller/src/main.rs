//! `refunctiond`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use refunction_controller::{cli::Arguments, daemon};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()))
        .init();
    match daemon::run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("refunctiond: {error}");
            ExitCode::FAILURE
        }
    }
}
