//! `cargo xtask`: builds the images, shows refunction at work, tests all of it,
//! and installs what that needs first.

#![forbid(unsafe_code)]

mod bench;
mod clean;
mod demo;
mod images;
mod mutants;
mod published;
mod sandbox;
mod setup;
mod shell;
mod terminal;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::terminal::Paint;
use crate::workspace::Workspace;

/// Builds, shows and tests refunction; installs the Debian packages it needs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the base images that changed, as archives in target/images
    Images {
        /// Which, by their directories' names under images/; all if none is named
        names: Vec<String>,
    },
    /// Two tenants, one container: what the first leaves, the second cannot find
    Demo(demo::Options),
    /// Format, lints, unit and engine tests, images, end-to-end tests
    Test,
    /// A million tenants in one container, verified: nothing differs, nothing grows
    Soak {
        /// How many
        #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1000..))]
        tenants: u64,
    },
    /// kill -9 of daemon, containerd, supervisors and workers in random order, under load
    Chaos {
        /// For how long
        #[arg(default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
    },
    /// What a restore costs, next to what it replaces: target/bench/report.html and results.json
    Bench(bench::Options),
    /// Leave out each handler of the state table in turn, and list the tests that notice
    Mutants(mutants::Options),
    /// Remove what the other tasks left: images, processes, mounts
    Clean,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let paint = Paint::stderr();
            eprintln!("{} {error:#}", paint.bad("xtask:"));
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    shell::watch_signals()?;
    let workspace = Workspace::find()?;
    match task {
        Task::Images { names } => {
            setup::ensure(&[setup::IMAGES])?;
            images::build(&workspace, &names).map(drop)
        }
        Task::Demo(options) => {
            setup::ensure(&[setup::HOST, setup::IMAGES])?;
            demo::run(&workspace, &options)
        }
        Task::Test => {
            setup::ensure(&[setup::HOST, setup::IMAGES])?;
            test::run(&workspace)
        }
        Task::Soak { tenants } => {
            setup::require_root()?;
            test::soak(&workspace, tenants)
        }
        Task::Chaos { seconds } => {
            setup::ensure(&[setup::HOST, setup::IMAGES])?;
            test::chaos(&workspace, seconds)
        }
        Task::Bench(options) => {
            setup::ensure(&[setup::HOST, setup::IMAGES, setup::BENCH])?;
            bench::run(&workspace, &options)
        }
        Task::Mutants(options) => {
            setup::require_root()?;
            mutants::run(&workspace, &options)
        }
        Task::Clean => {
            setup::require_root()?;
            clean::run(&workspace)
        }
    }
}
