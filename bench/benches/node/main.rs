//! What a node does with many functions: a real refunctiond with a containerd of its own, real
//! images, and clients over HTTP. Arguments are subjects, all if none is named; `--quick`
//! takes fewer samples of everything.

mod cold;
mod gateway;
mod load;
mod mode;
mod ramp;
mod saturation;
mod starts;

use std::process::ExitCode;

use refunction_bench::table::{self, Report};
use refunction_bench::{Failure, node, pipe};

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    is_quick: bool,
}

impl Extent {
    /// The one number, or the other where little time is to be taken.
    pub fn of<T>(self, usual: T, quick: T) -> T {
        if self.is_quick { quick } else { usual }
    }
}

type Subject = fn(Extent, &mut Report) -> Result<(), Failure>;

/// Each is a report of its own, `node-NAME.json`.
const SUBJECTS: [(&str, Subject); 6] = [
    ("gateway", gateway::measure),
    ("load", load::measure),
    ("saturation", saturation::measure),
    ("ramp", ramp::measure),
    ("cold", cold::measure),
    ("starts", starts::measure),
];

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(pipe::FLAG) {
        return match pipe::play() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    refunction_bench::run(measure)
}

fn measure() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let extent = Extent {
        is_quick: arguments.iter().any(|it| it == "--quick"),
    };
    let named: Vec<&String> = arguments
        .iter()
        .filter(|it| !it.starts_with("--"))
        .collect();
    for name in &named {
        if !SUBJECTS.iter().any(|(subject, _)| subject == name) {
            let all = SUBJECTS.map(|(subject, _)| subject).join(", ");
            return Err(format!("there is nothing to measure called {name:?}, only {all}").into());
        }
    }
    for (subject, measure) in SUBJECTS {
        if !named.is_empty() && !named.iter().any(|it| *it == subject) {
            continue;
        }
        let mut report = Report {
            conditions: table::conditions(),
            ..Report::default()
        };
        match node::missing("python") {
            Some(reason) => drop(report.not_run.insert(subject.into(), reason)),
            None => measure(extent, &mut report)?,
        }
        report.publish(env!("CARGO_TARGET_TMPDIR"), &format!("node-{subject}"))?;
    }
    Ok(())
}
