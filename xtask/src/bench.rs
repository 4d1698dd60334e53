//! `cargo xtask bench`: what a restore costs, next to what it replaces.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::shell;
use crate::terminal::step;
use crate::workspace::Workspace;

/// Which of them, and where.
#[derive(Args)]
pub(crate) struct Options {
    /// Only these runtimes, and not what Python alone is measured for
    runtimes: Vec<String>,

    /// The processors to stay on, as taskset(1) has them; all if empty
    #[arg(long, default_value = "1")]
    on: String,
}

/// Builds with every processor, and measures on those given.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let cargo = || shell::cargo(workspace.root());
    let bench = ["bench", "--locked", "--package=refunction-bench"];
    step("programs to measure", || {
        shell::run(cargo().args([
            "build",
            "--locked",
            "--release",
            "--package=refunction-node-addon",
        ]))?;
        shell::run(cargo().args(bench).arg("--no-run"))
    })?;
    let measured = |arguments: &[&str]| {
        let cargo = cargo();
        let mut command = if options.on.is_empty() {
            cargo
        } else {
            let mut command = Command::new("taskset");
            command.args(["--cpu-list", &options.on]);
            command
                .arg(cargo.get_program())
                .current_dir(workspace.root());
            command
        };
        command.args(bench).args(arguments);
        command.env(
            "FUNCTION_NODE_ADDON",
            workspace.release("librefunction_node_addon.so"),
        );
        command
    };
    let mut runtimes = measured(&["--bench=runtimes", "--"]);
    shell::run(runtimes.args(&options.runtimes))?;
    if options.runtimes.is_empty() {
        shell::run(&mut measured(&["--bench=restore"]))?;
    }
    Ok(())
}
