//! Tenant A changes something, the container is restored, tenant B looks.
//!
//! Each case runs in each mode as a test of its own, `case [mode]`. That the look
//! would see the change is tried every time, in tenant A's own process and before the
//! restore: a look that sees nothing proves nothing. After each restore the host
//! looks as well, at all that `/proc` tells of the worker.

#![forbid(unsafe_code)]

mod attributes;
mod authority;
mod c_library;
mod case;
mod container;
mod descriptors;
mod files;
mod language;
mod memory;
mod outside;
mod pipes;
mod processes;
mod programs;
mod registers;
mod residue;
mod run;
mod signals;
mod sockets;
mod uniqueness;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use refunction_tests::supervisor::Supervisor;

use crate::case::Case;
use crate::container::{InContainer, with_default_capabilities};
use crate::run::Mode;

/// The least number of cases: fewer, and a table was lost.
const FEWEST_CASES: usize = 200;

static MODES: [Mode; 4] = [
    Mode::new("by hand", false, true, || {
        Box::new(Supervisor::start(&["--scan", "ioctl"]))
    }),
    Mode::new("by hand, refork", true, true, || {
        Box::new(Supervisor::start(&["--method", "refork"]))
    }),
    // What one in a container may do, and the way of older kernels to find pages.
    Mode::new("with a container's capabilities", false, true, || {
        Box::new(with_default_capabilities(&["--scan", "file"]))
    }),
    Mode::new("in a container", false, false, || {
        Box::new(InContainer::start())
    }),
];

fn cases() -> Vec<&'static Case> {
    [
        language::CASES,
        c_library::CASES,
        registers::CASES,
        files::CASES,
        processes::CASES,
        descriptors::CASES,
        sockets::CASES,
        pipes::CASES,
        signals::CASES,
        attributes::CASES,
        memory::CASES,
        authority::CASES,
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn main() -> ExitCode {
    let cases = cases();
    assert!(cases.len() >= FEWEST_CASES, "only {} cases", cases.len());
    let mut trials = programs::trials();
    trials.extend(residue::trials());
    trials.extend(processes::trials());
    trials.extend(pipes::trials());
    trials.extend(authority::trials());
    trials.extend(uniqueness::trials());
    // A case in all its modes, then the next: what runs at the same time then runs in
    // different containers.
    for case in cases {
        for mode in &MODES {
            if case.only_in_container && mode.is_by_hand {
                continue;
            }
            trials.push(Trial::test(
                format!("{} [{}]", case.name, mode.name),
                move || mode.run(case).map_err(Into::into),
            ));
        }
    }
    let mut arguments = Arguments::from_args();
    // As many as run well beside each other; each is two or three processes.
    arguments.test_threads.get_or_insert(2);
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Nothing is to be left of any container, whatever its cases did.
    for mode in &MODES {
        mode.end();
    }
    conclusion.exit_code()
}

/// A test that is no case.
fn trial(name: &'static str, test: fn()) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}
