//! The engine against the real kernel. Each case runs in a process of its own,
//! because the engine wants SIGCHLD blocked in every thread; that process starts
//! this same program once more as its template. Needs root: workers get a uid of
//! their own.

mod cases;
mod guest;
mod host;
mod mutations;
mod unseen;

use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};

const CASE: &str = "--case";
const TEMPLATE: &str = "--template";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some(TEMPLATE) => guest::main(),
        Some(unseen::SHARING_TEMPLATE) => unseen::sharing_template(),
        Some(CASE) => return host::run_case(&args.next().unwrap_or_default()),
        _ => {}
    }
    let trials = cases::all()
        .into_iter()
        .map(|case| Trial::test(case.name.clone(), move || run_apart(&case.name)))
        .collect();
    let mut arguments = Arguments::from_args();
    // One core for the engine and its worker is enough to share.
    arguments.test_threads.get_or_insert(1);
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn run_apart(name: &str) -> Result<(), Failed> {
    let output = Command::new(std::env::current_exe()?)
        .args([CASE, name])
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
    .into())
}
