//! Containers whose command names a function, and what they speak over HTTP. A case runs
//! for each runtime as a test of its own, `case [runtime]`; what is the same for all runs
//! for the first.

#![forbid(unsafe_code)]

mod applications;
mod concurrency;
mod context;
mod examples;
mod isolation;
mod lambda;
mod language;
mod manners;
mod named;
mod openwhisk;
mod plain;
mod published_client;
mod runtime_api;
mod streaming;

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
        runtime_api::CASES,
    ];
    let once = [
        manners::CASES,
        isolation::ONCE,
        named::ONCE,
        concurrency::queue::CASES,
        concurrency::apart::CASES,
        concurrency::ends::CASES,
        concurrency::leak::CASES,
        lambda::ONCE,
        runtime_api::ONCE,
        streaming::ONCE,
        applications::CASES,
        examples::ONCE,
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
        if language.streams {
            trials.extend(streaming::CASES.iter().map(|case| trial(language, case)));
        }
        let more: &[Case] = match language.name {
            "node" => &[streaming::SCRIPTS, streaming::NODE].concat(),
            "javascript" => streaming::SCRIPTS,
            _ => &[],
        };
        trials.extend(more.iter().map(|case| trial(language, case)));
    }
    trials.extend(
        once.iter()
            .copied()
            .flatten()
            .map(|case| trial(&LANGUAGES[0], case)),
    );
    let is_installed = published_client::installed().is_some();
    if !is_installed {
        eprintln!(
            "not compared with the published client of Lambda's runtime API: it is not installed; `cargo xtask test` does it where there is a package index"
        );
    }
    let compared = published_client::CASES
        .iter()
        .map(|case| trial(&LANGUAGES[0], case).with_ignored_flag(!is_installed));
    trials.extend(compared);
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
