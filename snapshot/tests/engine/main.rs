//! The engine against the real kernel. Each case runs in a process of its own,
//! because the engine wants SIGCHLD blocked in every thread; that process starts
//! this same program once more as its template. Needs root: workers get a uid of
//! their own.
//!
//! Cases of the kind "known failure" are what the engine does not do yet as it
//! should; one that starts to pass fails here until it is taken off the list.
//!
//! `REFUNCTION_FUZZ_PROGRAMS` says how many random programs are tried
//! (`random_programs_are_undone`); the default takes half a minute.

mod cases;
mod guest;
mod host;
mod mutations;
mod siblings;
mod sleepers;
mod threads;
mod unseen;

use std::process::{Command, ExitCode};
use std::sync::RwLock;

use libtest_mimic::{Arguments, Failed, Trial};

const CASE: &str = "--case";
const TEMPLATE: &str = "--template";
const LAUNCH: &str = "--launch";
const RUNTIME: &str = "--runtime";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some(TEMPLATE) => guest::main(),
        Some(LAUNCH) => threads::launch(&args.next().unwrap_or_default()),
        Some(RUNTIME) => threads::runtime(&args.next().unwrap_or_default()),
        Some(siblings::TEMPLATE) => siblings::template(),
        Some(unseen::SHARING_TEMPLATE) => unseen::sharing_template(),
        Some(CASE) => return host::run_case(&args.next().unwrap_or_default()),
        _ => {}
    }
    let trials = cases::all()
        .into_iter()
        .map(|case| match case.known {
            None => Trial::test(case.name.clone(), move || run_apart(&case.name)),
            Some(why) => Trial::test(case.name.clone(), move || fail_apart(&case.name, why))
                .with_kind("known failure"),
        })
        .collect();
    let mut arguments = Arguments::from_args();
    // A core for each engine and its worker.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    arguments.test_threads.get_or_insert(cores.min(2));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A case that is known to fail: the worker is put back though it should not be.
fn fail_apart(name: &str, why: &str) -> Result<(), Failed> {
    match run_apart(name) {
        Err(failed) if failed.message().is_some_and(|it| it.contains(cases::LEAK)) => Ok(()),
        Err(failed) => Err(failed),
        Ok(()) => Err(format!("it passes now, and is on the list because: {why}").into()),
    }
}

/// Cases about moments, which come at other times where somebody else has the core.
fn is_about_time(name: &str) -> bool {
    let those = ["have_timers_fire_all_the_time", "start_too_many_processes"];
    sleepers::ALL.iter().any(|(it, _)| *it == name) || those.iter().any(|it| name.starts_with(it))
}

fn run_apart(name: &str) -> Result<(), Failed> {
    static OTHERS: RwLock<()> = RwLock::new(());
    // A case that fails panics in a process of its own.
    let mut turn = (None, None);
    if is_about_time(name) {
        turn.0 = OTHERS.write().ok();
    } else {
        turn.1 = OTHERS.read().ok();
    }
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
