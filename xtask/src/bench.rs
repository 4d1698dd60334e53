//! `cargo xtask bench`: what a restore costs, next to what it replaces.
//!
//! A runtime that is embedded is measured in a program that has no other, as its image has
//! none.

use std::process::Command;

use anyhow::{Result, ensure};
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

/// Runtimes that are part of the program that measures them, each a feature of it.
const EMBEDDED: [&str; 3] = ["python", "javascript", "lua"];
/// Those that are programs of their own.
const PROGRAMS: [&str; 2] = ["node", "java"];

/// Builds with every processor, and measures on those given.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    for name in &options.runtimes {
        let is_known = EMBEDDED.iter().chain(&PROGRAMS).any(|it| it == name);
        ensure!(
            is_known,
            "no runtime is called {name:?}; there are {}",
            [&EMBEDDED[..], &PROGRAMS].concat().join(", ")
        );
    }
    let is_chosen =
        |name: &&str| options.runtimes.is_empty() || options.runtimes.iter().any(|it| it == name);
    for runtime in EMBEDDED.into_iter().filter(|it| is_chosen(it)) {
        measure(
            workspace,
            &options.on,
            runtime,
            "--bench=runtimes",
            &[runtime],
        )?;
        if runtime == "python" && options.runtimes.is_empty() {
            measure(workspace, &options.on, runtime, "--bench=restore", &[])?;
        }
    }
    let programs: Vec<_> = PROGRAMS.into_iter().filter(is_chosen).collect();
    if programs.is_empty() {
        return Ok(());
    }
    measure(workspace, &options.on, "", "--bench=runtimes", &programs)
}

/// Runs one benchmark of the program with this embedded runtime, if any.
fn measure(
    workspace: &Workspace,
    processors: &str,
    embedded: &str,
    bench: &str,
    runtimes: &[&str],
) -> Result<()> {
    let cargo = || shell::cargo(workspace.root());
    let built = [
        &["bench", "--locked", "--package=refunction-bench"],
        &["--no-default-features", "--features", embedded],
        &[bench][..],
    ]
    .concat();
    step("programs to measure", || {
        let addon = ["--locked", "--release", "--package=refunction-node-addon"];
        shell::run(cargo().arg("build").args(addon))?;
        shell::run(cargo().args(&built).arg("--no-run"))
    })?;
    let mut measuring = if processors.is_empty() {
        cargo()
    } else {
        let cargo = cargo();
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", processors]);
        command
            .arg(cargo.get_program())
            .current_dir(workspace.root());
        command
    };
    measuring.args(&built).arg("--").args(runtimes);
    measuring.env(
        "FUNCTION_NODE_ADDON",
        workspace.release("librefunction_node_addon.so"),
    );
    shell::run(&mut measuring)
}
