//! Containers whose command names a function, and what they speak over HTTP. A case runs
//! for each runtime as a test of its own, `case [runtime]`; what is the same for all runs
//! for the first.

#![forbid(unsafe_code)]

mod concurrency;
mod examples;
mod isolation;
mod lambda;
mod language;
mod manners;
mod named;
mod openwhisk;
mod plain;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use crate::language::{LANGUAGES, Language};

/// A name, and what is tried with one runtime.
type Case = (&'static str, fn(&Language));

fn main() -> ExitCode {
    let each = [
        named::CASES,
        lambda::CASES,
        openwhisk::CASES,
        plain::CASES,
        isolation::CASES,
        examples::CASES,
    ];
    let once = [
        manners::CASES,
        isolation::ONCE,
        named::ONCE,
        concurrency::CASES,
    ];
    let trial = |language: &'static Language, (name, run): &Case| {
        let run = *run;
        Trial::test(format!("{name} [{}]", language.name), move || {
            run(language);
            Ok(())
        })
    };
    let mut trials = Vec::new();
    for language in LANGUAGES {
        trials.extend(
            each.iter()
                .copied()
                .flatten()
                .map(|case| trial(language, case)),
        );
    }
    trials.extend(
        once.iter()
            .copied()
            .flatten()
            .map(|case| trial(&LANGUAGES[0], case)),
    );
    let (name, long) = concurrency::LONG;
    trials.push(trial(&LANGUAGES[0], &(name, long)).with_ignored_flag(true));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
