//! Makes one page and one file of all reports in a directory, which is the argument.

use std::path::Path;
use std::process::ExitCode;

use refunction_bench::Failure;
use refunction_bench::report::{PAGE, Run};

fn main() -> ExitCode {
    match write() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-report: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write() -> Result<(), Failure> {
    let directory = std::env::args_os().nth(1).ok_or("which directory?")?;
    let directory = Path::new(&directory);
    let run = Run::read(directory)?;
    run.write(directory)?;
    let (kept, all) = (
        run.promises.iter().filter(|it| it.it.kept).count(),
        run.promises.len(),
    );
    println!(
        "{kept} of {all} promises kept; {}",
        directory.join(PAGE).display()
    );
    Ok(())
}
