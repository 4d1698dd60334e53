//! `cargo xtask test`: everything, in the order in which it is cheapest to fail.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::terminal::{seconds, step};
use crate::workspace::Workspace;
use crate::{demo, images, published, shell};

/// The package of the end-to-end tests; without images it has nothing to test.
const END_TO_END: &str = "refunction-tests";

/// Runs all of it; the first failure ends it.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let root = workspace.root();
    let mut times = Times::default();
    times.step("format", || {
        shell::run(shell::cargo(root).args(["fmt", "--all", "--check"]))
    })?;
    times.step("lints", || {
        shell::run(
            shell::cargo(root)
                .args(["clippy", "--locked", "--workspace", "--all-targets"])
                .args(["--", "--deny", "warnings"]),
        )
    })?;
    times.step("unit and engine tests", || {
        shell::run(
            shell::cargo(root)
                .args(["test", "--locked", "--no-fail-fast", "--workspace"])
                .args(["--exclude", END_TO_END]),
        )
    })?;
    // A workspace of its own, and another lock file.
    times.step("fuzz seeds", || {
        shell::run(shell::cargo(&root.join("fuzz")).args([
            "test",
            "--locked",
            "--no-default-features",
        ]))
    })?;
    times.step("release binaries", || build_release(workspace))?;
    times.step("images", || images::build(workspace, &[]))?;
    // Fails if a tenant finds anything of the one before it.
    times.step("the demo, with every runtime", || {
        demo::run(workspace, &demo::Options::quick())
    })?;
    times.step("end-to-end tests, compiled", || {
        shell::run(shell::cargo(root).args([
            "test",
            "--locked",
            "--no-run",
            "--package",
            END_TO_END,
        ]))
    })?;
    let mut published = None;
    times.step("the published client of Lambda's runtime API", || {
        published = published::install(workspace, &published::CLIENT)?;
        Ok(())
    })?;
    let mut schemathesis = None;
    times.step("the tester that goes by the OpenAPI document", || {
        schemathesis = published::install(workspace, &published::SCHEMATHESIS)?;
        Ok(())
    })?;
    times.print();
    // Nothing is printed after the tests' own closing line.
    eprintln!("==> end-to-end tests");
    shell::run(
        shell::cargo(root)
            // All that fails is to be seen, not only the first.
            .args(["test", "--locked", "--no-fail-fast"])
            .args(["--package", END_TO_END])
            .envs(published.map(|python| ("REFUNCTION_PUBLISHED_CLIENT", python)))
            .envs(schemathesis.map(|program| ("REFUNCTION_SCHEMATHESIS", program)))
            .envs(what_is_tested(workspace)),
    )
}

/// Where the end-to-end tests find what they test.
fn what_is_tested(workspace: &Workspace) -> [(&'static str, PathBuf); 4] {
    [
        (
            "REFUNCTION_IMAGE_TAR",
            workspace.images().join("python.tar"),
        ),
        ("REFUNCTIOND", workspace.release("refunctiond")),
        ("FUNK", workspace.release("funk")),
        (
            "REFUNCTION_SUPERVISOR",
            workspace.release("refunction-supervisor"),
        ),
    ]
}

/// Kills daemon, containerd, supervisors and workers for so long, under load; fails if a call
/// is lost, or anything is left.
pub(crate) fn chaos(workspace: &Workspace, seconds: u64) -> Result<()> {
    build_release(workspace)?;
    images::build(workspace, &["python".to_owned()])?;
    shell::run(
        shell::cargo(workspace.root())
            .args(["test", "--locked", "--package", END_TO_END])
            .args(["--test=chaos", "--", "--nocapture"])
            .env("REFUNCTION_CHAOS_SECONDS", seconds.to_string())
            .envs(what_is_tested(workspace)),
    )
}

/// Has so many tenants come one after the other into one container, each rewind
/// verified; fails if anything differs or grows.
pub(crate) fn soak(workspace: &Workspace, tenants: u64) -> Result<()> {
    let root = workspace.root();
    shell::run(shell::cargo(root).args([
        "build",
        "--locked",
        "--release",
        "--package=refunction-supervisor",
    ]))?;
    shell::run(
        shell::cargo(root)
            .args(["test", "--locked", "--release", "--package", END_TO_END])
            .args(["--test=endurance", "--", "--ignored", "--nocapture", "soak"])
            .env("REFUNCTION_SOAK_TENANTS", tenants.to_string())
            .env(
                "REFUNCTION_SUPERVISOR",
                workspace.release("refunction-supervisor"),
            ),
    )
}

/// Builds the programs that the demo and the end-to-end tests start.
pub(crate) fn build_release(workspace: &Workspace) -> Result<()> {
    shell::run(shell::cargo(workspace.root()).args([
        "build",
        "--locked",
        "--release",
        "--package=funk",
        "--package=refunction-controller",
        "--package=refunction-supervisor",
        "--package=refunction-node-addon",
    ]))
}

#[derive(Default)]
struct Times(Vec<(String, Duration)>);

impl Times {
    fn step<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let (done, took) = step(name, work)?;
        self.0.push((name.to_owned(), took));
        Ok(done)
    }

    fn print(&self) {
        for (name, took) in &self.0 {
            eprintln!("    {:>8}  {name}", seconds(*took));
        }
    }
}
