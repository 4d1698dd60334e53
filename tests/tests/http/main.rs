//! Containers whose command names a function, and what they speak over HTTP. A case runs
//! for each runtime as a test of its own, `case [runtime]`.

#![forbid(unsafe_code)]

mod language;
mod named;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use crate::language::{LANGUAGES, Language};

/// A name, and what is tried with one runtime.
type Case = (&'static str, fn(&Language));

fn main() -> ExitCode {
    let cases = [named::CASES];
    let trials = LANGUAGES.iter().flat_map(|language| {
        cases.iter().copied().flatten().map(move |(name, run)| {
            Trial::test(format!("{name} [{}]", language.name), move || {
                run(language);
                Ok(())
            })
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
