//! What a restore grows with, and what it does not. Arguments are subjects, all if none is
//! named, and `--quick`.

use std::process::ExitCode;

use refunction_bench::Failure;
use refunction_bench::asked::Asked;
use refunction_bench::growth;
use refunction_bench::table::{self, Report};

fn main() -> ExitCode {
    refunction_bench::run(measure)
}

fn measure() -> Result<(), Failure> {
    let asked = Asked::of_arguments(&growth::subjects())?;
    let mut report = Report {
        conditions: table::conditions(),
        ..Report::default()
    };
    growth::measure(&asked, &mut report)?;
    report.publish(env!("CARGO_TARGET_TMPDIR"), "growth")
}
