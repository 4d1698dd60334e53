//! Tenants' turns and nothing else, for a profiler: of the runtime that the first argument
//! names, as many as the second says, each with as many further calls as the third.

use std::process::ExitCode;

use refunction_bench::Failure;
use refunction_bench::runtime::Runtime;
use refunction_bench::stage::Stage;
use refunction_bench::table::{Report, Samples};
use refunction_snapshot::{Scan, block_sigchld};

fn main() -> ExitCode {
    let outcome = refunction_bench::play().unwrap_or_else(turns);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("turns: {error}");
            ExitCode::FAILURE
        }
    }
}

fn turns() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let runtime = arguments
        .next()
        .map_or(Ok(Runtime::Python), |name| name.parse())?;
    let turns = arguments.next().map_or(Ok(1000), |text| text.parse())?;
    let warm = arguments.next().map_or(Ok(0), |text| text.parse())?;
    block_sigchld()?;
    let mut stage = Stage::set(Scan::Auto, runtime)?;
    if let Some(worker) = stage.worker() {
        println!("worker {worker}");
    }
    let mut samples = Samples::default();
    for _ in 0..turns {
        let turn = stage.turn(warm)?;
        samples.add("load", turn.load);
        samples.add("first", turn.first);
        for (number, took) in turn.warm.into_iter().enumerate() {
            samples.add(&format!("call {}", number + 2), took);
        }
        samples.add("rewind", turn.rewind);
        for (phase, took) in turn.rewound.phases.iter() {
            samples.add(phase, took);
        }
    }
    let report = Report {
        results: samples.rows(|_| None),
        ..Report::default()
    };
    println!("{report}");
    stage.strike()
}
